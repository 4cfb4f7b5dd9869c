"""protcli sweep."""

from collections.abc import Generator
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from protcli.cli.options import SHARED, ModelFile, Overrides, Refit, Storage, Workers, this_command, with_settings

if TYPE_CHECKING:
    from protcli.experiments.sweeps.run import SweepEvent
    from protcli.experiments.sweeps.trials import TrialQueue
    from protcli.tracking.run import Run


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

    given = {each: value for each, value in settings.items() if value is not None}
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

    console = terminal()
    try:
        with closing(events):
            for event in events:
                match event:
                    case SweepStarted():
                        plural = "s" * (event.total > 1)
                        console.print(f"sweep {name}: {event.total} trial{plural}, {event.counted} already done")
                        console.print(f"search space: {event.space.sentence}", soft_wrap=True)
                        for model, run_id in event.run_ids.items():
                            console.print(f"{model}: run {run_id}", soft_wrap=True)
                    case OutputLine() if event.line.startswith(("epoch", "Error")):
                        console.print(f"{event.name}: {event.line}", soft_wrap=True)
                    case TrialFinished(chosen=chosen):
                        tried = (
                            f" (lr {chosen.lr:.3g}, batch {chosen.batch_size}, {event.steps} steps)" if chosen else ""
                        )
                        where = "families held out" if chosen else "the validation split"
                        result = f"MSE {event.mse:.2f} Å² on {where}" if event.state == "COMPLETE" else event.reason
                        console.print(
                            f"[{event.counted}/{event.total}] {event.name}{tried}: {event.state}"
                            + (f", {result}" if result else ""),
                            soft_wrap=True,
                        )
                    case SweepFinished():
                        show_results(event.sweeps)
    except KeyboardInterrupt:
        typer.echo(f"Stopped: repeat the command to go on with sweep {name}.", err=True)
        raise


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
