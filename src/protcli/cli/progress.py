"""Training progress: a bar on a terminal, plain lines elsewhere."""

from collections.abc import Generator
from contextlib import closing
from time import perf_counter

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from protcli.cli.terminal import terminal
from protcli.experiments.running.train import Finished, Started
from protcli.experiments.studies.run_suite import Begun, Ended, Said
from protcli.experiments.studies.until_decided import Looked
from protcli.training.events import Epoch, Step

REFRESH = 0.25  # seconds; reading the metrics of an unfinished epoch waits for the device


def show_training(events: Generator[Started | Step | Epoch | Finished, None, None]) -> None:
    """Show the events of `experiments.running.train`. Ctrl-C ends the run as KILLED and exits with code 130."""
    console = terminal()
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(), console=console, transient=True, disable=not console.is_terminal,
    )  # fmt: skip
    run_id = None
    try:
        with bar, closing(events):
            task, epochs, done, started, refreshed = None, 1, 0, perf_counter(), 0.0
            for event in events:
                match event:
                    case Started():
                        run_id, done, started = event.run_id, event.done, perf_counter()
                        epochs = event.config.spec.recipe.epochs
                        for line in _introduction(event):
                            console.print(line, soft_wrap=True)
                        sepmean = event.sepmean_mse
                    case Step() if console.is_terminal and perf_counter() - refreshed > REFRESH:
                        refreshed = perf_counter()
                        if task is None:
                            task = bar.add_task("", total=event.total * epochs, rate="")
                        bar.update(
                            task, completed=(event.epoch - 1) * event.total + event.number,
                            description=f"epoch {event.epoch}/{epochs}, MSE {event.mse:.1f} Å²", 
                            rate=f"{event.samples_per_second:.1f} samples/s",
                        )  # fmt: skip
                    case Epoch():
                        elapsed = perf_counter() - started
                        remaining = elapsed / (event.number - done) * (epochs - event.number)
                        console.print(
                            f"epoch {event.number}/{epochs}: train MSE {event.train.mse:.2f} Å², validation MSE "
                            f"{event.valid.mse:.2f} Å² ({event.valid.mse / sepmean:.3f} times sepmean's), "
                            f"{event.samples_per_second:.1f} samples/s, {elapsed:.0f} s, {remaining:.0f} s left",
                            soft_wrap=True,
                        )  # fmt: skip
                    case Finished():
                        console.print(
                            f"best: epoch {event.best.epoch}, validation MSE {event.best.valid.mse:.2f} Å², RMSE "
                            f"{event.best.valid.rmse:.2f} Å, {event.best.valid.mse / sepmean:.3f} times sepmean's\n"
                            f"run {event.run_id} is complete: view it with `protcli ui` (or `make ui`), "
                            f"evaluate it with `protcli evaluate --run-id {event.run_id} --split valid`",
                            soft_wrap=True,
                        )  # fmt: skip
    except KeyboardInterrupt as stop:
        about = "no run was started"
        if run_id:
            about = (
                f"run {run_id} is marked KILLED; `protcli train --resume {run_id}` continues it after its last epoch"
            )
        typer.echo(f"Stopped: {about}.", err=True)
        raise typer.Exit(130) from stop


def show_suite(name: str, events: Generator[Begun | Said | Ended | Looked, None, None]) -> None:
    """Print the events of `run_suite` or `run_until_decided`; exit with code 1 if a run failed, 130 on Ctrl-C."""
    console = terminal()
    failed, trained, started = 0, 0, perf_counter()
    run_id = None
    try:
        with closing(events):
            for event in events:
                match event:
                    case Begun():
                        run_id = event.run_id
                        console.print(
                            f"suite {name}: {event.total} training runs, {event.done} already finished\nrun {run_id}",
                            soft_wrap=True,
                        )  # fmt: skip
                    case Said() if event.line.startswith(("epoch", "Error")):
                        console.print(f"{event.cell}, seed {event.seed}: {event.line}", soft_wrap=True)
                    case Ended():
                        trained += 1
                        failed += event.outcome.is_failure
                        remaining = (perf_counter() - started) / trained * (event.total - event.over)
                        result = event.outcome.reason or f"best validation MSE {event.outcome.best_mse:.2f} Å²"
                        console.print(
                            f"[{event.over}/{event.total}] {event.cell}, seed {event.seed}: {event.outcome.status}, "
                            f"{result}; "
                            f"{remaining / 60:.0f} min left",
                            soft_wrap=True,
                        )  # fmt: skip
                    case Looked():
                        verdict = "decided" if event.is_decided else "not decided"
                        console.print(f"{event.seeds} seeds, {verdict}: {event.sentence}", soft_wrap=True)
    except KeyboardInterrupt as stop:
        typer.echo(f"Stopped: repeat the command to resume suite {name} (run {run_id}).", err=True)
        raise typer.Exit(130) from stop
    if failed:
        typer.echo(f"Error: {failed} training runs failed; repeat the command to retry them.", err=True)
        raise typer.Exit(1)
    console.print(f"suite {name} is complete: see the results with `protcli suite report {name}`")


def _introduction(event: Started) -> list[str]:
    config, data = event.config, event.data
    kind = " (SYNTHETIC proteins, generated by protcli)" if data.store.synthetic else ""
    resumed = f", continued after epoch {event.done}" if event.done else ""
    return [
        f"{config.spec.name}: {event.parameters:,} parameters on {event.device}, seed {config.seed}",
        f"run {event.run_id}{resumed}",
        f"data {data.store.name}{kind}: {len(data.train)} proteins of {data.train.name}, {len(data.valid)} of "
        f"{data.valid.name}, {data.atom.upper()}, crop {config.spec.recipe.crop}, first "
        f"{data.evaluated_length} residues evaluated",
        f"sepmean (the mean distance at each separation) has a validation MSE of {event.sepmean_mse:.2f} Å²",
    ]
