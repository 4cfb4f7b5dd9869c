"""The command line: parse, call, print. Anything heavy is imported inside the commands, so that --help is instant."""

import os
import signal
from contextlib import suppress
from types import FrameType
from typing import Annotated

import typer
from typer.core import TyperGroup

from protcli import __version__
from protcli.cli import data, models, suite
from protcli.cli.compare import compare
from protcli.cli.evaluate import evaluate
from protcli.cli.predict import predict
from protcli.cli.promote import promote
from protcli.cli.train import train
from protcli.cli.ui import ui
from protcli.errors import ProtcliError


class Commands(TyperGroup):
    """Prints a ProtcliError, or that memory ran out, as one sentence and exits with code 1."""

    def invoke(self, ctx: typer.Context) -> object:  # type: ignore[override]
        try:
            return super().invoke(ctx)
        except (ProtcliError, MemoryError) as error:
            sentence = str(error) if isinstance(error, ProtcliError) else f"not enough memory: {error}"
            typer.echo(f"Error: {sentence}", err=True)
            if "MLFLOW_RUN_ID" in os.environ:
                _explain_to_mlflow(sentence)
            raise typer.Exit(1) from error


def _explain_to_mlflow(sentence: str) -> None:
    """Say on the run that `mlflow run` has begun why it failed: it may have failed before anything else was said."""
    from protcli.tracking.keys import Tag
    from protcli.tracking.runs import project_run

    with suppress(ProtcliError):
        run = project_run()
        if run is not None:
            run.tags({Tag.ERROR: sentence})


app = typer.Typer(
    cls=Commands,
    help="Predict a protein's inter-residue distance matrix: train, compare and measure named models in MLflow.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"protcli {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


app.command()(train)
app.command()(evaluate)
app.command()(compare)
app.command()(promote)
app.command()(predict)
app.command()(ui)
app.add_typer(models.app, name="models", help="The models there are, and their layers.")
app.add_typer(suite.app, name="suite")
app.add_typer(data.app, name="data", help="Import, inspect, fetch and synthesise proteins.")


def main() -> None:
    """Entry point of `protcli`."""
    # before torch is imported: waiting OpenMP threads that spin make a step on a busy machine several times slower
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    signal.signal(signal.SIGTERM, _interrupt)
    app(prog_name="protcli")


def _interrupt(signum: int, frame: FrameType | None) -> None:
    # a job that a scheduler ends is closed like one that is stopped by hand: run KILLED, checkpoint kept
    raise KeyboardInterrupt
