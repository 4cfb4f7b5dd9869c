"""The command line: parse, call, print. Heavy modules are imported inside the commands to keep --help instant."""

import os
import signal
from contextlib import suppress
from types import FrameType
from typing import Annotated

import typer
from typer.core import TyperGroup

from protcli.cli import data, models, suite
from protcli.cli.compare import compare, promote
from protcli.cli.evaluate import evaluate
from protcli.cli.predict import predict
from protcli.cli.runs import runs, sync, ui
from protcli.cli.streams import keep_printing
from protcli.cli.suite import sweep
from protcli.cli.train import train
from protcli.errors import ProtcliError, Terminated, escape, full_disk, quote
from protcli.process import handled
from protcli.version import VERSION


class Commands(TyperGroup):
    """Prints an error that is no defect as one sentence and exits with code 1; with 130 on Ctrl-C."""

    def invoke(self, ctx: typer.Context) -> object:  # type: ignore[override]
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as stop:
            raise typer.Exit(143 if isinstance(stop, Terminated) else 130) from stop
        except typer.BadParameter as error:
            if errors := getattr(error.__cause__, "errors", None):  # pydantic's words leave out the value
                error.message = f"{error.message.partition(',')[0]}, not {quote(errors()[0]['input'])}"
            raise
        except Exception as error:
            sentence = _sentence(error)
            if sentence is None:
                raise
            typer.echo(f"Error: {escape(sentence)}", err=True)
            if "MLFLOW_RUN_ID" in os.environ:
                _record_failure(sentence)
            raise typer.Exit(1) from error


def _sentence(error: BaseException) -> str | None:
    """What the user can do about an error; None if it is a defect."""
    if isinstance(error, ProtcliError):
        return str(error)
    if isinstance(error, MemoryError):
        return f"not enough memory: {error}"
    if reason := full_disk(error):
        return f"a disk is full ({reason}): make room there, then repeat the command"
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename} cannot be used: {error.strerror}"
    return None


def _record_failure(sentence: str) -> None:
    """Record the failure on the run that `mlflow run` started; it may have failed before anything else was logged."""
    from protcli.tracking.keys import Tag
    from protcli.tracking.run import project_run

    with suppress(ProtcliError):
        run = project_run()
        if run is not None:
            run.set_tags({Tag.ERROR: sentence})


app = typer.Typer(
    cls=Commands,
    help="Predict a protein's inter-residue distance matrix: train, evaluate and compare models in MLflow.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"protcli {VERSION}")
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
app.command()(sweep)
app.command()(predict)
app.command()(runs)
app.command()(sync)
app.command()(ui)
app.add_typer(models.app, name="models", help="List the models and show their layers.")
app.add_typer(suite.app, name="suite")
app.add_typer(data.app, name="data", help="Import, inspect, fetch and generate protein data.")


def main() -> None:
    """Entry point of `protcli`."""
    if os.name == "posix":
        keep_printing()
    # set before torch is imported: OpenMP threads that spin make steps several times slower on a busy machine, but for
    # some 20 microseconds, which save most of the time that it takes to wake them up, a tenth of a small step
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    with handled(_interrupt):
        # a shell lets what it starts with `&` ignore this signal, and a training could not be told to stop
        signal.signal(signal.SIGINT, signal.default_int_handler)
        app(prog_name="protcli")


def _interrupt(signum: int, frame: FrameType | None) -> None:
    raise Terminated
