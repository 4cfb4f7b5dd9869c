"""protcli suite: run, list, plan, report."""

from pathlib import Path
from typing import Annotated, Any

import typer

from protcli.cli.options import Atom, Data, Device, Precision, Refit, Storage, TrainSplit, Workers, this_command

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Studies: answer one question with many models and seeds."
)
Name = Annotated[str, typer.Argument(help="A built-in suite (`protcli suite list`) or your own YAML file.")]


@app.command()
def run(
    name: Name,
    seeds: Annotated[
        int | None, typer.Option(help="Number of seeds (0, 1, ...) per model (default: the suite's).")
    ] = None,
    data: Data = "sample",
    train_split: TrainSplit = None,
    atom: Atom = "ca",
    epochs: Annotated[int | None, typer.Option(help="Override each recipe's epochs.")] = None,
    crop: Annotated[int | None, typer.Option(help="Override each recipe's crop, in residues.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Override each recipe's batch size.")] = None,
    precision: Precision = "32",
    device: Device = "auto",
    jobs: Workers = 1,
    until_decided: Annotated[
        bool, typer.Option("--until-decided", help="Stop at the first of the suite's looks that decides it.")
    ] = False,
) -> None:
    """Train a suite's missing runs; interrupted runs resume and finished runs are not repeated."""
    from protcli.cli.suite_progress import show_suite
    from protcli.experiments.studies.run_suite import run_suite
    from protcli.experiments.studies.suite import find_suite
    from protcli.experiments.studies.until_decided import run_until_decided

    suite = find_suite(name).with_recipe(epochs=epochs, crop=crop, batch_size=batch_size)
    options: dict[str, Any] = {
        "data": data, "train_split": train_split, "atom": atom, "precision": precision, "device": device, "jobs": jobs,
        "command": this_command(),
    }  # fmt: skip
    if not until_decided:
        show_suite(name, run_suite(suite, seeds=seeds, **options))
    elif seeds is None:
        show_suite(name, run_until_decided(suite, name, **options))
    else:
        raise typer.BadParameter("give --seeds or --until-decided, not both: the suite's looks are numbers of seeds")


@app.command()
def tune(
    name: Name,
    workers: Workers = 1,
    storage: Storage = None,
    data: Data = "sample",
    train_split: TrainSplit = None,
    atom: Atom = "ca",
    crop: Annotated[int | None, typer.Option(help="Override each recipe's crop, in residues.")] = None,
    precision: Precision = "32",
    device: Device = "auto",
    refit: Refit = 0,
) -> None:
    """Tune the recipes of all of a suite's models, with equal trials, on families held out of the training split.

    `protcli suite run` takes them if the suite says `tuned: true`. The same command continues a sweep, and joins one
    that runs elsewhere.
    """
    from protcli.cli.sweep import show_sweep
    from protcli.experiments.studies.suite import find_suite
    from protcli.experiments.studies.suite_configs import suite_configs, suite_sweeps
    from protcli.experiments.tuning.run_sweep import run_sweeps

    suite = find_suite(name).with_recipe(crop=crop)
    sweeps = suite_sweeps(suite, suite_configs(suite, data, train_split, atom, precision, device))
    events = run_sweeps(
        sweeps, storage=storage, workers=workers, refit=refit,
        command=this_command(),
    )  # fmt: skip
    show_sweep(suite.name, events)


@app.command("list")
def list_suites() -> None:
    """List the built-in suites with their questions and models."""
    from protcli.cli.terminal import terminal
    from protcli.experiments.studies.suite import find_suite, suite_names

    console = terminal()
    for name in suite_names():
        suite = find_suite(name)
        console.print(f"{name}: {suite.question}")
        console.print(f"  {suite.seeds} seeds each:")
        for cell in suite.cells:
            mark = " (reference)" if cell.name == suite.reference else ""
            console.print(f"    {cell.name}{mark}")


@app.command()
def plan(
    name: Name,
    improvement: Annotated[
        float, typer.Option(help="The improvement to show, in per cent of MSE.", metavar="PERCENT")
    ] = 5.0,
    run_id: Annotated[
        str | None, typer.Option(help="The suite's run ID (default: its latest run).", metavar="RUN")
    ] = None,
) -> None:
    """Say how many seeds would show an improvement with 80 % power, from the runs there are."""
    from protcli.cli.terminal import print_table, terminal, watched
    from protcli.experiments.comparing.trained_runs import read_runs
    from protcli.experiments.studies.analysis import Analysis
    from protcli.experiments.studies.plan import plan_table
    from protcli.experiments.studies.suite_runs import find_suite_runs

    if not 0 < improvement < 100:
        raise typer.BadParameter(f"--improvement is {improvement:g}: give per cent between 0 and 100")
    console = terminal()
    suite_runs = find_suite_runs(name, run_id)
    trained = watched(console, read_runs(suite_runs.runs), "reading runs", len(suite_runs.runs))
    print_table(console, plan_table(Analysis(suite_runs, trained), improvement))


@app.command()
def report(
    name: Name,
    run_id: Annotated[
        str | None, typer.Option(help="The suite's run ID (default: its latest run).", metavar="RUN")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Also write report.html, report.md and the figures here.", metavar="DIR")
    ] = None,
) -> None:
    """Report a suite's results: tables, figures and conclusions, stored with its run in MLflow.

    An incomplete suite is reported as far as it ran. The test split is never opened.
    """
    from protcli.cli.terminal import print_table, terminal, watched
    from protcli.experiments.comparing.trained_runs import read_runs
    from protcli.experiments.studies.analysis import Analysis
    from protcli.experiments.studies.report import Report, publish
    from protcli.experiments.studies.suite_runs import find_suite_runs
    from protcli.tracking.keys import Tag

    console = terminal()
    suite_runs = find_suite_runs(name, run_id)
    trained = watched(console, read_runs(suite_runs.runs), "reading runs", len(suite_runs.runs))
    analysis = Analysis(suite_runs, trained)
    written = publish(Report(analysis, suite_runs.parent), out)
    console.print(f"{suite_runs.suite.name}: {suite_runs.suite.question}")
    print_table(console, analysis.comparison.results)
    for sentence in analysis.conclusions:
        console.print(f"- {sentence}")
    for sentence in suite_runs.missing:
        console.print(f"missing: {sentence}", style="dim", soft_wrap=True)
    for run in suite_runs.others:
        console.print(
            f"not included: run {run.id}, {run.tags.get(Tag.COMMAND)}; select it with --run-id", style="dim",
            soft_wrap=True,
        )  # fmt: skip
    where = f"{written} and " if written else ""
    console.print(
        f"full report: {where}artifact report/report.html of run {suite_runs.parent.id}",
        soft_wrap=True,
    )  # fmt: skip
