"""Options that several commands share."""

import shlex
import sys
from collections.abc import Callable, Container, Iterator
from dataclasses import fields
from inspect import Parameter, signature
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from protcli.errors import without_passwords
from protcli.experiments.config import RunConfig
from protcli.models.recipe import Settings, option_of

Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", help="Override a model setting, e.g. --set dropout=0.3.", metavar="NAME=VALUE"),
]
ModelFile = Annotated[Path | None, typer.Option(help="Python file that defines your own models.", metavar="FILE.py")]
Database = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="FASTA file (.gz) to search for the relatives of chains without a profile."),
]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda:N.")]
SHARED = ("source", "train_split", "atom", "crop", "precision", "device")  # settings of all runs of a suite or a sweep
Workers = Annotated[int, typer.Option(help="Training runs in parallel; they share the CPU threads.")]
Storage = Annotated[
    str | None,
    typer.Option(help="Database of the trials (default: sweeps.db beside the MLflow store).", metavar="URL"),
]
Refit = Annotated[
    int,
    typer.Option(help="Then train the best recipe on the whole split, with this number of seeds.", metavar="SEEDS"),
]


def with_settings(
    command: Callable[..., None], kind: type[RunConfig] = RunConfig, only: Container[str] | None = None
) -> Callable[..., None]:
    """Give a command the options of all settings of a run that have help, or of some, in place of its `**settings`.

    They stand before its keyword-only options.
    """
    own = signature(command)
    *shown, _ = own.parameters.values()
    first = [each for each in shown if each.kind is not Parameter.KEYWORD_ONLY]
    options = [each for _, section in sorted(kind.section_types().items()) for each in _options(section)]
    options = [each for each in options if only is None or each.name in only]
    command.__signature__ = own.replace(parameters=[*first, *options, *shown[len(first) :]])  # type: ignore[attr-defined]
    return command


def _options(section: type[Settings]) -> Iterator[Parameter]:
    """The options of a section, None where they are left out."""
    types = get_type_hints(section)
    for each in fields(section):
        if help := each.metadata["help"]:
            option = typer.Option(option_of(each), help=help, metavar=each.metadata.get("metavar"))
            annotation: Any = Annotated[types[each.name] | None, option]
            yield Parameter(each.name, Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def this_command() -> str:
    """The command line that was given, for the record."""
    return without_passwords(shlex.join(["protcli", *sys.argv[1:]]))
