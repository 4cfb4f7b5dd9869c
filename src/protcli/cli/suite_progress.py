"""Progress of a suite in the terminal."""

from collections.abc import Generator
from contextlib import closing
from time import perf_counter

import typer

from protcli.cli.terminal import terminal
from protcli.experiments.studies.run_suite import Begun, Ended, Said
from protcli.experiments.studies.until_decided import Looked


def show_suite(name: str, events: Generator[Begun | Said | Ended | Looked, None, None]) -> None:
    """Print the events of `run_suite` or `run_until_decided`; exit with code 1 if a run failed."""
    console = terminal()
    failed, trained, started = 0, 0, perf_counter()
    run_id, looked = None, None
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
                        looked = event
                        verdict = "decided" if event.is_decided else "not decided"
                        console.print(f"{event.seeds} seeds, {verdict}: {event.sentence}", soft_wrap=True)
    except KeyboardInterrupt:
        typer.echo(f"Stopped: repeat the command to resume suite {name} (run {run_id}).", err=True)
        raise
    if failed:
        typer.echo(f"Error: {failed} training runs failed; repeat the command to retry them.", err=True)
        raise typer.Exit(1)
    state = "complete" if looked is None or not looked.is_decided else f"decided at {looked.seeds} seeds"
    console.print(f"suite {name} is {state}: see the results with `protcli suite report {name}`")
