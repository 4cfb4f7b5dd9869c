"""protcli suite: run, list, report."""

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Studies: many models and seeds, one question.")
Name = Annotated[str, typer.Argument(help="A suite of protcli's (`protcli suite list`), or a YAML file of your own.")]


@app.command()
def run(
    name: Name,
    seeds: Annotated[
        int | None, typer.Option(help="Runs of each model, seeds 0, 1, ... (default: the suite's).")
    ] = None,
    data: Annotated[str, typer.Option(help="`sample`, or the folder of imported data.")] = "sample",
    train_split: Annotated[str | None, typer.Option(help="Training split, where there are several.")] = None,
    atom: Annotated[str, typer.Option(help="ca or cb.")] = "ca",
    epochs: Annotated[int | None, typer.Option(help="Instead of each recipe's own.")] = None,
    crop: Annotated[int | None, typer.Option(help="Residues, instead of each recipe's own.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Instead of each recipe's own.")] = None,
    precision: Annotated[str, typer.Option(help="32, tf32 or bf16.")] = "32",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda:N.")] = "auto",
    jobs: Annotated[int, typer.Option(help="Trainings at the same time; they share the processor's threads.")] = 1,
) -> None:
    """Train what is missing of a suite; what was stopped goes on, and nothing that is finished is repeated."""
    from protcli.cli.progress import show_suite
    from protcli.experiments.studies.run_suite import run_suite
    from protcli.experiments.studies.suite import find_suite

    suite = find_suite(name).with_recipe(epochs=epochs, crop=crop, batch_size=batch_size)
    events = run_suite(
        suite, seeds=seeds, data=data, train_split=train_split, atom=atom, precision=precision, device=device,
        jobs=jobs, command=shlex.join(["protcli", *sys.argv[1:]]),
    )  # fmt: skip
    show_suite(name, events)


@app.command("list")
def list_suites() -> None:
    """The suites that come with protcli, with their questions and models."""
    from protcli.cli.terminal import terminal
    from protcli.experiments.studies.suite import find_suite, suite_names

    console = terminal()
    for name in suite_names():
        suite = find_suite(name)
        console.print(f"{name}: {suite.question}")
        console.print(f"  {suite.seeds} seeds of each of")
        for cell in suite.cells:
            mark = " (the others are compared with it)" if cell.name == suite.reference else ""
            console.print(f"    {cell.name}{mark}")


@app.command()
def report(
    name: Name,
    run_id: Annotated[
        str | None, typer.Option(help="The suite's own run (default: the latest of that name).", metavar="RUN")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Write report.html, report.md and the pictures there too.", metavar="DIR")
    ] = None,
) -> None:
    """Tell what a suite says: tables, figures and conclusions, kept with the suite's run in MLflow.

    A suite that is not complete is told of as far as it went. The test split is never opened.
    """
    from protcli.cli.terminal import print_table, terminal, watched
    from protcli.experiments.comparing.trained_runs import read_runs
    from protcli.experiments.studies.report import Report, publish
    from protcli.experiments.studies.suite_runs import find_suite_runs
    from protcli.tracking.keys import Tag

    console = terminal()
    found = find_suite_runs(name, run_id)
    result = Report(found, watched(console, read_runs(found.runs), "reading runs", len(found.runs)))
    written = publish(result, out)
    console.print(f"{found.suite.name}: {found.suite.question}")
    print_table(console, result.comparison.results)
    for sentence in result.conclusions:
        console.print(f"- {sentence}")
    for sentence in found.missing:
        console.print(f"missing: {sentence}", style="dim", soft_wrap=True)
    for run in found.others:
        console.print(
            f"not told of here: run {run.id}, {run.tags.get(Tag.COMMAND)}; --run-id tells of it", style="dim",
            soft_wrap=True,
        )  # fmt: skip
    where = f"{written} and " if written else ""
    console.print(
        f"the whole report: {where}artifact report/report.html of run {found.parent.id}",
        soft_wrap=True,
    )  # fmt: skip
