"""Training progress: a bar on a terminal, plain lines elsewhere."""

import os
from collections import deque
from collections.abc import Generator
from contextlib import closing
from time import perf_counter

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from protcli.cli.terminal import ProgressLine, terminal
from protcli.errors import full_disk
from protcli.experiments.pages import Progress as Searched
from protcli.experiments.train import Finished, Started
from protcli.training.loop import Epoch, Step
from protcli.training.process_group import rank_here

REFRESH = 0.25  # seconds; reading the metrics of an unfinished epoch waits for the device


def show_training(events: Generator[Started | Searched | Step | Epoch | Finished, None, None]) -> None:
    """Show the events of `experiments.train`, in the first of its processes. Ctrl-C ends the run as KILLED."""
    if rank_here():
        deque(events, maxlen=0)
        os._exit(0)  # all is done, and a thread of gloo was seen to abort Python while it ended
    console = terminal()
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(), console=console, transient=True, disable=not console.is_terminal,
    )  # fmt: skip
    lines, searching = ProgressLine(console), bar.add_task("", visible=False, rate="")
    run_id = None
    try:
        with bar, closing(events):
            task, epochs, done, started, refreshed = None, 1, 0, perf_counter(), 0.0
            for event in events:
                match event:
                    case Started():
                        run_id, done, started = event.run_id, event.done, perf_counter()
                        epochs = event.training.config.spec.recipe.epochs
                        for line in _introduction(event):
                            console.print(line, soft_wrap=True)
                        sepmean = event.sepmean_mse
                    case Searched(label, count, total, unit):
                        lines.show(label, count, total, unit)
                        bar.update(searching, completed=count, total=total, description=label, visible=count != total)
                        started = perf_counter()
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
                            f"epoch {event.number}/{epochs}: train MSE {event.train_mse:.2f} Å², validation MSE "
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
    except Exception as error:
        if run_id and full_disk(error):
            typer.echo(
                f"Stopped: run {run_id} is marked FAILED; make room, then `protcli train --resume {run_id}` continues "
                "it from its last saved state.",
                err=True,
            )
        raise
    except KeyboardInterrupt as stop:
        about = "no run was started"
        if begun := getattr(stop, "__notes__", ()):  # see `start_run`
            about = f"run {begun[0]} is marked KILLED; its training had not begun, so start it again"
        if run_id:
            about = (
                f"run {run_id} is marked KILLED; `protcli train --resume {run_id}` continues it where it was stopped"
            )
        typer.echo(f"Stopped: {about}.", err=True)
        raise


def _introduction(event: Started) -> list[str]:
    training, config, data = event.training, event.training.config, event.training.data
    kind = " (SYNTHETIC proteins, generated by protcli)" if data.store.synthetic else ""
    resumed = f", continued after epoch {event.done}" if event.done else ""
    if event.batches:
        resumed = f", continued after batch {event.batches} of epoch {event.done + 1}"
    processes = f", {config.run.devices} processes" if config.run.devices > 1 else ""
    share = f"{training.proteins} of " if config.spec.recipe.train_share < 1 else ""
    return [
        f"{config.spec.name}: {training.summary.parameters:,} parameters on {training.fabric.device}{processes}, seed "
        f"{config.run.seed}",
        f"run {event.run_id}{resumed}",
        *([f"Warning: {event.warning}"] if event.warning else []),
        f"data {data.store.name}{kind}: {share}{len(data.train)} proteins of {data.train.name}, {len(data.valid)} of "
        f"{data.valid.name}, {data.atom.upper()}, crop {config.spec.recipe.crop}, first "
        f"{data.evaluated_length} residues evaluated",
        f"sepmean (the mean distance at each separation) has a validation MSE of {event.sepmean_mse:.2f} Å²",
    ]
