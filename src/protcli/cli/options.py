"""Options that several commands share."""

import shlex
import sys
from typing import Annotated

import typer

from protcli.errors import without_passwords

Data = Annotated[str, typer.Option(help="`sample` or a store folder.")]
TrainSplit = Annotated[str | None, typer.Option(help="Training split, if there are several; or several, with commas.")]
Atom = Annotated[str, typer.Option(help="Atoms to measure distances between: ca or cb.")]
Precision = Annotated[str, typer.Option(help="Precision: 32, tf32 or bf16.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda:N.")]
Workers = Annotated[int, typer.Option(help="Training runs in parallel; they share the CPU threads.")]
Storage = Annotated[
    str | None,
    typer.Option(help="Database of the trials (default: sweeps.db beside the MLflow store).", metavar="URL"),
]
Refit = Annotated[
    int,
    typer.Option(help="Then train the best recipe on the whole training split with so many seeds.", metavar="SEEDS"),
]


def this_command() -> str:
    """The command line that was given, for the record."""
    return without_passwords(shlex.join(["protcli", *sys.argv[1:]]))
