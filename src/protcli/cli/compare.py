"""protcli compare and promote."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
    csv: Annotated[
        Path | None, typer.Option(help="Write all numbers to this CSV file.", metavar="FILE", dir_okay=False)
    ] = None,
    markdown: Annotated[
        Path | None, typer.Option(help="Write the tables and conclusions here.", metavar="FILE", dir_okay=False)
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
    from protcli.tracking.run import current_experiment

    if figures is not None:
        figures.mkdir(parents=True, exist_ok=True)  # before anything is measured
    console = terminal()
    is_current = not runs and experiment is None
    if is_current:
        experiment = current_experiment()
    finished, notices = training_runs(runs or [], experiment)
    if is_current:
        console.print(f"Comparing the finished runs of the current MLflow experiment, {experiment}.", soft_wrap=True)
    configurations = by_configuration(finished)
    total = sum(len(configuration.runs) for configuration in configurations)
    watched(console, read_runs(configurations), "reading runs", total)
    comparisons = compare_configurations(configurations, reference)
    for notice in (*notices, *repeated_seeds(configurations)):
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


if TYPE_CHECKING:
    from collections.abc import Iterator

    from protcli.experiments.promoting.promote import Promotion


def promote(
    experiment: Annotated[
        str | None, typer.Option(help="Consider only runs of this experiment (default: all).")
    ] = None,
    suite: Annotated[str | None, typer.Option(help="Consider only runs of this suite.")] = None,
    model_name: Annotated[str, typer.Option(help="Name of the registered model.")] = "protein-distance",
    digest: Annotated[str | None, typer.Option(help="Data digest, if the runs used different data.")] = None,
    must_beat: Annotated[
        str | None,
        typer.Option(
            help="Champion only if it is shown to beat sepmean, or protcli: the model that comes with it, which is "
            "flattered on chains that it was trained on.",
            metavar="MODEL",
        ),
    ] = None,
    ensemble: Annotated[
        bool, typer.Option("--ensemble", help="Register the mean of all its seeds instead of the best seed.")
    ] = False,
    force: Annotated[
        str | None, typer.Option(help="Make the best run champion anyway, for this reason.", metavar="REASON")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Report what would happen, without writing anything.")
    ] = False,
) -> None:
    """Register the best finished configuration and make it champion if it beats the current one.

    The best configuration has the lowest validation MSE, each seed at an epoch chosen on other protein families, mean
    over its seeds without those that collapsed. It becomes champion if the interval of the ratio of its MSE to that of
    the champion's configuration, over protein families and seeds, lies below 1: 97.5 % the first time, wider each time
    on the same validation proteins, so that all together err in 5 % of cases. The best weights of its best
    seed are registered, or with --ensemble the mean of its seeds. The test split is not read.
    """
    from protcli.cli.terminal import print_table, terminal
    from protcli.experiments.promoting.promote import promote

    result = promote(
        experiment=experiment, suite=suite, model_name=model_name, digest=digest, must_beat=must_beat,
        ensemble=ensemble, force=force, dry_run=dry_run,
    )  # fmt: skip
    candidate, console = result.candidate, terminal()
    data = candidate.best.data
    console.print(
        f"Data {data.digest} ({data.short}); validation MSE in Å², sepmean {candidate.sepmean.mse:.3f}", soft_wrap=True
    )
    print_table(console, result.table)
    for sentence in _sentences(result, model_name, dry_run):
        console.print(sentence, soft_wrap=True)


def _sentences(result: "Promotion", model_name: str, dry_run: bool) -> "Iterator[str]":
    from protcli.experiments.promoting.model_card import caution

    candidate, is_champion = result.candidate, result.decision.is_champion
    if repeated := sum(len(each.repeated) for each in candidate.configurations):
        yield f"{repeated} runs left out: later runs have the same configuration and seed."
    yield f"Best: {candidate.best.name}, run {candidate.run.id}. {candidate.over_sepmean}"
    yield candidate.served
    yield from filter(None, [caution(candidate)])
    name = result.version.uri if result.version else f"a new version of {model_name}"
    registered = "has been" if result.is_new else "was already"
    becomes = "is" if is_champion else "is challenger, not"
    if dry_run:
        registered = "would be" if result.is_new else "is already"
        becomes = "would be" if is_champion else "would be challenger, not"
    yield f"It {registered} registered as {name} and {becomes} champion: {result.decision.reason}."
    if result.champion is not None and not is_champion:
        yield f"{result.champion.uri} {'would stay' if dry_run else 'stays'} champion."
    if dry_run:
        yield "Dry run: nothing was written."
