"""protcli suite: run, tune, list, plan, report."""

from collections.abc import Generator
from contextlib import closing
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from protcli.cli.options import SHARED, Refit, Storage, Workers, this_command, with_settings

if TYPE_CHECKING:
    from protcli.experiments.suites.analysis import Analysis
    from protcli.experiments.suites.run import SuiteEvent
    from protcli.experiments.suites.suite import SuiteRuns

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Studies: answer one question with many models and seeds."
)
SuiteRun = Annotated[
    str | None, typer.Option("--run-id", help="The suite's run ID (default: its latest run).", metavar="RUN")
]
Name = Annotated[str, typer.Argument(help="A built-in suite (`protcli suite list`) or your own YAML file.")]


@app.command()
@partial(with_settings, only=(*SHARED, "epochs", "batch_size"))
def run(
    name: Name,
    seeds: Annotated[
        int | None, typer.Option(help="Number of seeds (0, 1, ...) per model (default: the suite's).")
    ] = None,
    *,
    jobs: Workers = 1,
    until_decided: Annotated[
        bool, typer.Option("--until-decided", help="Stop at the first of the suite's looks that decides it.")
    ] = False,
    **settings: Any,
) -> None:
    """Train a suite's missing runs; interrupted runs resume and finished runs are not repeated."""
    from protcli.experiments.suites.run import run_suite, run_until_decided, suite_configs
    from protcli.experiments.suites.suite import find_suite

    if until_decided and seeds is not None:
        raise typer.BadParameter("give --seeds or --until-decided, not both: the suite's looks are numbers of seeds")
    suite = find_suite(name).with_recipe(**{each: settings.pop(each) for each in ("epochs", "crop", "batch_size")})
    configs = suite_configs(suite, **settings)
    if until_decided:
        events = run_until_decided(suite, name, configs, jobs=jobs, command=this_command())
    else:
        events = run_suite(suite, configs, seeds=seeds, jobs=jobs, command=this_command())
    show_suite(name, events)


def show_suite(name: str, events: Generator["SuiteEvent", None, None]) -> None:
    """Print the events of `run_suite` or `run_until_decided`; exit with code 1 if a run failed."""
    from protcli.cli.terminal import terminal
    from protcli.experiments.suites.run import InterimAnalysis, SuiteStarted
    from protcli.experiments.tasks import OutputLine, RunFinished

    console = terminal()
    failed, trained, begun = 0, 0, perf_counter()
    run_id, total, over, state = "", 0, 0, "complete"
    try:
        with closing(events):
            for event in events:
                match event:
                    case SuiteStarted(run_id, total, over):
                        console.print(
                            f"suite {name}: {total} training runs, {over} already finished\nrun {run_id}",
                            soft_wrap=True,
                        )
                    case OutputLine() if event.line.startswith(("epoch", "Error")):
                        console.print(f"{event.name}: {event.line}", soft_wrap=True)
                    case RunFinished():
                        trained, over, failed = trained + 1, over + 1, failed + event.is_failure
                        remaining = (perf_counter() - begun) / trained * (total - over)
                        result = event.reason or f"best validation MSE {event.best_mse:.2f} Å²"
                        console.print(
                            f"[{over}/{total}] {event.name}: {event.status}, {result}; {remaining / 60:.0f} min left",
                            soft_wrap=True,
                        )
                    case InterimAnalysis():
                        verdict = "decided" if event.is_decided else "not decided"
                        state = f"decided at {event.seeds} seeds" if event.is_decided else "complete"
                        console.print(f"{event.seeds} seeds, {verdict}: {event.sentence}", soft_wrap=True)
    except KeyboardInterrupt:
        typer.echo(f"Stopped: repeat the command to resume suite {name} (run {run_id or None}).", err=True)
        raise
    if failed:
        typer.echo(f"Error: {failed} training runs failed; repeat the command to retry them.", err=True)
        raise typer.Exit(1)
    console.print(f"suite {name} is {state}: see the results with `protcli suite report {name}`")


@app.command()
@partial(with_settings, only=SHARED)
def tune(
    name: Name,
    *,
    workers: Workers = 1,
    storage: Storage = None,
    refit: Refit = 0,
    **settings: Any,
) -> None:
    """Tune the recipes of all of a suite's models, with equal trials, on families held out of the training split.

    `protcli suite run` takes them if the suite says `tuned: true`. The same command continues a sweep, and joins one
    that runs elsewhere.
    """
    from protcli.cli.sweep import show_sweep
    from protcli.experiments.suites.run import suite_configs, suite_sweeps
    from protcli.experiments.suites.suite import find_suite
    from protcli.experiments.sweeps.run import run_sweeps

    suite = find_suite(name).with_recipe(crop=settings.pop("crop"))
    sweeps = suite_sweeps(suite, suite_configs(suite, **settings))
    events = run_sweeps(sweeps, storage=storage, workers=workers, refit=refit, command=this_command())
    show_sweep(suite.name, events)


@app.command("list")
def list_suites() -> None:
    """List the built-in suites with their questions and models."""
    from protcli.cli.terminal import terminal
    from protcli.experiments.suites.suite import find_suite, suite_names

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
    run_id: SuiteRun = None,
) -> None:
    """Say how many seeds would show an improvement with 80 % power, from the runs there are."""
    from protcli.cli.terminal import print_table, terminal
    from protcli.experiments.suites.report import plan_table

    if not 0 < improvement < 100:
        raise typer.BadParameter(f"--improvement is {improvement:g}: give per cent between 0 and 100")
    _, analysis = _analysis(name, run_id)
    print_table(terminal(), plan_table(analysis, improvement))


@app.command()
def report(
    name: Name,
    run_id: SuiteRun = None,
    out: Annotated[
        Path | None, typer.Option(help="Also write report.html, report.md and the figures here.", metavar="DIR")
    ] = None,
) -> None:
    """Report a suite's results: tables, figures and conclusions, stored with its run in MLflow.

    An incomplete suite is reported as far as it ran. The test split is never opened.
    """
    from protcli.cli.terminal import print_table, terminal
    from protcli.experiments.suites.report import Report, publish
    from protcli.tracking.keys import Tag

    console = terminal()
    suite_runs, analysis = _analysis(name, run_id)
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
    console.print(f"full report: {where}artifact report/report.html of run {suite_runs.parent.id}", soft_wrap=True)


def _analysis(name: str, run_id: str | None) -> tuple["SuiteRuns", "Analysis"]:
    """The runs of a suite, and what they say."""
    from protcli.cli.terminal import terminal, watched
    from protcli.experiments.configuration import read_runs
    from protcli.experiments.suites.analysis import Analysis
    from protcli.experiments.suites.suite import find_suite_runs

    suite_runs = find_suite_runs(name, run_id)
    watched(terminal(), read_runs(suite_runs.configurations), "reading runs", len(suite_runs.runs))
    return suite_runs, Analysis(suite_runs)
