"""protcli suite (run, tune, list, plan, report) and sweep."""

from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from protcli.cli.options import SHARED, ModelFile, Overrides, Refit, Storage, Workers, this_command, with_settings

if TYPE_CHECKING:
    from protcli.experiments.suites.report import SuiteReport
    from protcli.experiments.suites.run import SuiteEvent
    from protcli.experiments.sweeps.run import SweepEvent
    from protcli.experiments.sweeps.trials import TrialQueue
    from protcli.tracking.run import Run

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
    model_file: ModelFile = None,
    until_decided: Annotated[
        bool, typer.Option("--until-decided", help="Stop at the first of the suite's looks that decides it.")
    ] = False,
    **settings: Any,
) -> None:
    """Train a suite's missing runs; interrupted runs resume and finished runs are not repeated.

    With --model-file your own models take part in a built-in suite.
    """
    from protcli.experiments.suites.run import run_suite, run_until_decided, suite_configs
    from protcli.experiments.suites.suite import find_suite

    if until_decided and seeds is not None:
        raise typer.BadParameter("give --seeds or --until-decided, not both: the suite's looks are numbers of seeds")
    suite = find_suite(name, model_file).with_recipe(
        **{key: settings.pop(key) for key in ("epochs", "crop", "batch_size")}
    )
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

    say = partial(terminal().print, soft_wrap=True)
    failed, trained, begun, state = 0, 0, perf_counter(), "complete"
    with _stoppable(events, f"resume suite {name}"):
        for event in events:
            match event:
                case SuiteStarted(run_id, total, over):
                    say(f"suite {name}: {total} training runs, {over} already finished\nrun {run_id}")
                case OutputLine() if event.line.startswith(("epoch", "Error")):
                    say(f"{event.name}: {event.line}")
                case RunFinished():
                    trained, over, failed = trained + 1, over + 1, failed + event.is_failure
                    minutes = (perf_counter() - begun) / trained * (total - over) / 60
                    result = event.reason or f"best validation MSE {event.best_mse:.2f} Å²"
                    say(f"[{over}/{total}] {event.name}: {event.status}, {result}; {minutes:.0f} min left")
                case InterimAnalysis():
                    state = f"decided at {event.seeds} seeds" if event.is_decided else "complete"
                    say(f"{event.seeds} seeds, {'decided' if event.is_decided else 'not decided'}: {event.sentence}")
    if failed:
        typer.echo(f"Error: {failed} training runs failed; repeat the command to retry them.", err=True)
        raise typer.Exit(1)
    say(f"suite {name} is {state}: see the results with `protcli suite report {name}`")


@contextmanager
def _stoppable(events: Generator[object, None, None], what: str) -> Iterator[None]:
    """A block that reads events; Ctrl-C in it ends what makes them, and says how to go on."""
    try:
        with closing(events):
            yield
    except KeyboardInterrupt:
        typer.echo(f"Stopped: repeat the command to {what}.", err=True)
        raise


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
            console.print(f"    {cell.name}{' (reference)' if cell.name == suite.reference else ''}")


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
    from protcli.experiments.suites.page import plan_table

    if not 0 < improvement < 100:
        raise typer.BadParameter(f"--improvement is {improvement:g}: give per cent between 0 and 100")
    print_table(terminal(), plan_table(_read(name, run_id), improvement))


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
    from protcli.experiments.suites.page import publish
    from protcli.tracking.keys import Tag

    console = terminal()
    say = partial(console.print, soft_wrap=True)
    results = _read(name, run_id)
    written = publish(results, out)
    console.print(f"{results.suite.name}: {results.suite.question}")
    print_table(console, results.comparison.results)
    for sentence in results.conclusions:
        console.print(f"- {sentence}")
    for sentence in results.missing:
        say(f"missing: {sentence}", style="dim")
    for run in results.others:
        say(f"not included: run {run.id}, {run.tags.get(Tag.COMMAND)}; select it with --run-id", style="dim")
    where = f"{written} and " if written else ""
    say(f"full report: {where}artifact report/report.html of run {results.parent.id}")


def _read(name: str, run_id: str | None) -> "SuiteReport":
    """The report of a suite, whose runs have been read."""
    from protcli.cli.terminal import terminal, watched
    from protcli.experiments.configuration import read_runs
    from protcli.experiments.suites.report import find_suite_report

    results = find_suite_report(name, run_id)
    watched(terminal(), read_runs(results.configurations), "reading runs", len(results.runs))
    return results


@partial(with_settings, only=SHARED)
def sweep(
    model: Annotated[str | None, typer.Argument(help="A model from `protcli models list`.")] = None,
    report: Annotated[
        str | None,
        typer.Option(help="Only write the table and figures of this sweep, as far as it is.", metavar="NAME"),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the sweep (default: the model's).")] = None,
    trials: Annotated[int, typer.Option(help="Trials that count: finished, diverged or pruned.")] = 20,
    lr: Annotated[str, typer.Option(help="Lowest and highest learning rate.", metavar="LOW:HIGH")] = "1e-4:1e-1",
    batch_size: Annotated[str, typer.Option(help="Batch sizes to choose from.", metavar="N,N,...")] = "4,8,16",
    steps: Annotated[
        str | None,
        typer.Option(
            help="Fewest and most optimizer steps, or one number (default: half to twice the recipe's).",
            metavar="LOW:HIGH",
        ),
    ] = None,
    held_out: Annotated[
        float, typer.Option(help="Share of the training split whose families measure the trials.")
    ] = 0.15,
    seed: Annotated[int, typer.Option(help="Seed of the sampler; trial N always trains with seed N.")] = 0,
    *,
    workers: Workers = 1,
    storage: Storage = None,
    refit: Refit = 0,
    model_file: ModelFile = None,
    overrides: Overrides = None,
    **settings: Any,
) -> None:
    """Tune MODEL's learning rate, batch size and steps on families held out of the training split.

    The same command continues a sweep that was stopped, and joins one that runs elsewhere.
    """
    if (model is None) == (report is None):
        raise typer.BadParameter("give a MODEL (see `protcli models list`) or --report NAME")
    if report is not None:
        from protcli.experiments.sweeps.run import report_sweep

        show_results(report_sweep(report, storage))
        return
    from protcli.models.zoo import configure, find_model

    spec = configure(find_model(model or "", model_file), overrides or [])

    from protcli.experiments.config import RunConfig, check_recipe
    from protcli.experiments.sweeps.run import run_sweeps
    from protcli.experiments.sweeps.space import Tuning, make_sweeps, parse_choices, parse_range

    given = {key: value for key, value in settings.items() if value is not None}
    config = RunConfig(spec=spec, model_file=model_file.absolute() if model_file else None).with_settings(**given)
    check_recipe(config.spec)
    tuning = Tuning(
        trials=trials, lr=parse_range("--lr", lr, float), batch_size=parse_choices("--batch-size", batch_size),
        steps=parse_range("--steps", steps, int) if steps else None, held_out=held_out,
    )  # fmt: skip
    name = name or spec.name
    sweeps = make_sweeps(name, [(spec.name, config)], tuning, seed=seed)
    show_sweep(name, run_sweeps(sweeps, storage=storage, workers=workers, refit=refit, command=this_command()))


def show_sweep(name: str, events: Generator["SweepEvent", None, None]) -> None:
    """Print the events of `run_sweeps`; they may be stopped by Ctrl-C."""
    from protcli.cli.terminal import terminal
    from protcli.experiments.sweeps.run import SweepFinished, SweepStarted, TrialFinished
    from protcli.experiments.tasks import OutputLine

    say = partial(terminal().print, soft_wrap=True)
    with _stoppable(events, f"go on with sweep {name}"):
        for event in events:
            match event:
                case SweepStarted():
                    say(f"sweep {name}: {event.total} trial{'s' * (event.total > 1)}, {event.counted} already done")
                    say(f"search space: {event.space.sentence}")
                    for model, run_id in event.run_ids.items():
                        say(f"{model}: run {run_id}")
                case OutputLine() if event.line.startswith(("epoch", "Error")):
                    say(f"{event.name}: {event.line}")
                case TrialFinished(tried=tried):
                    values, where = "", "the validation split"
                    if tried:
                        values = f" (lr {tried.lr:.3g}, batch {tried.batch_size}, {event.steps} steps)"
                        where = "families held out"
                    result = f"MSE {event.mse:.2f} Å² on {where}" if event.state == "COMPLETE" else event.reason
                    outcome = ", ".join(filter(None, (event.state, result)))
                    say(f"[{event.counted}/{event.total}] {event.name}{values}: {outcome}")
                case SweepFinished():
                    show_results(event.sweeps)


def show_results(sweeps: list[tuple["Run", "TrialQueue"]]) -> None:
    """Print the best trial of each model of a sweep."""
    from protcli.cli.terminal import terminal
    from protcli.tracking.keys import File, Tag

    console = terminal()
    for parent, queue in sweeps:
        result = "no trial has finished yet"
        if best := queue.best:
            result = (
                f"best is trial {best.user_attrs['number']}, MSE {best.value:.2f} Å² on families held out: lr "
                f"{best.params['lr']:.3g}, batch size {best.params['batch_size']}, {best.user_attrs['steps']} steps"
            )
        console.print(
            f"{parent.tags[Tag.SWEEP_MODEL]}: {queue.counted} of {queue.wanted} trial{'s' * (queue.wanted > 1)}, "
            f"{result}; {File.BEST_CONFIG}, {File.SWEEP}/trials.csv and figures are files of run {parent.id}",
            soft_wrap=True,
        )
