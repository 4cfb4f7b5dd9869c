"""protcli compare."""

from pathlib import Path
from typing import Annotated

import typer


def compare(
    runs: Annotated[list[str] | None, typer.Argument(help="IDs of finished runs.", metavar="RUN...")] = None,
    experiment: Annotated[
        str | None, typer.Option(help="Compare all finished runs of this MLflow experiment (default: the current one).")
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(
            help="Model to compare the others with: a model name or sepmean. Default: the first of two models, "
            "otherwise sepmean.",
            metavar="MODEL",
        ),
    ] = None,
    csv: Annotated[Path | None, typer.Option(help="Write all numbers to this CSV file.", metavar="FILE")] = None,
    markdown: Annotated[
        Path | None, typer.Option(help="Write the tables and conclusions to this file.", metavar="FILE")
    ] = None,
    figures: Annotated[
        Path | None, typer.Option(help="Write PNG figures of curves, maps and errors here.", metavar="DIR")
    ] = None,
) -> None:
    """Compare finished runs: which model is better, by how much, and could it be chance?

    Without runs or --experiment, the current MLflow experiment is compared: MLFLOW_EXPERIMENT_NAME, else
    MLFLOW_EXPERIMENT_ID, else Default. Runs that differ only in their seed count as one model. Runs
    without an evaluation are evaluated first; the test split is never opened.
    """
    if runs and experiment:
        raise typer.BadParameter("give the ids of runs or an --experiment, not both")
    from protcli.atomic import write_whole
    from protcli.cli.terminal import print_table, terminal, watched
    from protcli.experiments.comparing.comparison import (
        compare_configurations,
        repeated_seeds,
        to_csv,
        to_markdown,
        training_runs,
    )
    from protcli.experiments.comparing.differences import MEANING
    from protcli.experiments.configuration import by_configuration, read_runs
    from protcli.experiments.pages import make_folder
    from protcli.tracking.run import current_experiment

    for file in (csv, markdown):
        if file is not None and (file.is_dir() or not file.name):
            raise typer.BadParameter(f"{file} is a folder: give a file name")
    if figures is not None:
        make_folder(figures)
    console = terminal()
    is_current = not runs and experiment is None
    if is_current:
        experiment = current_experiment()
    recorded, skipped = training_runs(runs or [], experiment)
    if is_current:
        console.print(f"Comparing the finished runs of the current MLflow experiment, {experiment}.", soft_wrap=True)
    configurations = by_configuration(recorded)
    total = sum(len(configuration.runs) for configuration in configurations)
    watched(console, read_runs(configurations), "reading runs", total)
    comparisons = compare_configurations(configurations, reference)
    for notice in (*skipped, *repeated_seeds(configurations)):
        console.print(notice, style="dim")
    for comparison in comparisons:
        section = comparison.section
        console.print(f"\n{' '.join(section.paragraphs)}")
        for table in section.tables:
            print_table(console, table)
        for point in section.points:
            console.print(point)
        trained = [model.name for model in comparison.models if not model.is_fitted]
        if reference is None and len(trained) > 2:
            console.print(
                "The models are compared with sepmean; to compare them with one of themselves, name it: --reference."
            )
    if len(comparisons) > 1:
        console.print("\nThe tables use different data sets: do not compare figures between tables.")
    console.print(f"\n{MEANING}", style="dim")
    if csv is not None:
        write_whole(csv, to_csv(comparisons))
    if markdown is not None:
        write_whole(markdown, to_markdown(comparisons))
    if figures is not None:
        from protcli.experiments.comparing.figures import draw_comparison

        for comparison in comparisons:
            folder = figures if len(comparisons) == 1 else figures / comparison.data.digest[:8]
            for picture in draw_comparison(comparison, folder):
                console.print(f"{picture.path}: {picture.caption}", soft_wrap=True)
