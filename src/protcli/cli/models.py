"""`protcli models`: what there is to train, and what it is made of."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="The models: list them, show one.", no_args_is_help=True)

ModelFile = Annotated[
    Path | None, typer.Option("--model-file", help="A Python file that defines models of your own.", metavar="FILE.py")
]


@app.command("list")
def list_models(model_file: ModelFile = None) -> None:
    """Every model by name, with its size and how it is trained."""
    from rich.table import Column, Table

    from protcli.cli.terminal import terminal
    from protcli.models.summary import parameter_count
    from protcli.models.zoo import known_models

    table = Table(Column("model", style="bold"), "what it is", box=None, pad_edge=False)
    for title in ("parameters", "epochs", "batch", "lr"):
        table.add_column(title, justify="right")
    for name, spec in known_models(model_file).items():
        recipe = spec.recipe
        trained = ["-", "fitted", "-", "-"]
        if not spec.is_fitted:
            trained = [f"{parameter_count(spec):,}", str(recipe.epochs), str(recipe.batch_size), f"{recipe.lr:g}"]
        source = spec.source
        what = f"{spec.summary} ({source.name})" if source else spec.summary
        table.add_row(name, what, *trained)
    terminal().print(table)


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="Its name, as `protcli models list` has it.")],
    model_file: ModelFile = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Replace one of its settings.", metavar="NAME=VALUE")
    ] = None,
    length: Annotated[int, typer.Option(min=1, help="Residues of the protein sent through it.")] = 256,
    depth: Annotated[int, typer.Option(min=1, help="How far layers inside layers are shown.")] = 2,
) -> None:
    """The layers of one model with output shapes and parameters, its cost, its settings and its recipe."""
    from rich.table import Table

    from protcli.cli.terminal import terminal
    from protcli.errors import ProtcliError
    from protcli.models.external import is_lack_of_memory
    from protcli.models.settings import describe, setting_types
    from protcli.models.summary import shape_text, summarize
    from protcli.models.zoo import configure, find_model

    spec = configure(find_model(name, model_file), settings or [])
    try:
        summary = summarize(spec, length, depth)
    except ValueError as error:
        raise ProtcliError(f"{spec.name}: {error}") from error
    except (MemoryError, RuntimeError) as error:
        if not is_lack_of_memory(error):
            raise
        raise ProtcliError(f"{spec.name} does not fit in memory: give a --length below {length}") from error
    console = terminal()
    console.print(f"{spec.name}: {spec.summary}\n", style="bold")
    table = Table("layer", "kind", "output", box=None, pad_edge=False)
    table.add_column("parameters", justify="right")
    for row in summary.layers:
        table.add_row(row.name, row.kind, shape_text(row.shape), f"{row.parameters:,}")
    console.print(table)
    console.print(f"\n{summary.totals()}")
    if types := setting_types(spec.config):
        table = Table("setting", "type", "value" if settings else "default", box=None, pad_edge=False)
        for key, annotation in types.items():
            table.add_row(key, describe(annotation), _typed(getattr(spec.config, key)))
        console.print()
        console.print(table)
        console.print()
    recipe = spec.recipe
    console.print(
        "recipe: fitted in one pass"
        if spec.is_fitted
        else f"recipe: {recipe.epochs} epochs, batch {recipe.batch_size}, {recipe.optimizer}, lr {recipe.lr:g}, "
        f"loss {recipe.loss}, crop {recipe.crop}"
    )
    console.print(recipe.note, style="dim")


def _typed(value: object) -> str:
    """A setting as --set takes it."""
    if isinstance(value, tuple):
        return ",".join(map(_typed, value))
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)
