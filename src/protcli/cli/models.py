"""`protcli models`: list the models and show their layers."""

from typing import Annotated

import typer

from protcli.cli.options import ModelFile, Overrides

app = typer.Typer(help="List the models and show their layers.", no_args_is_help=True)


@app.command("list")
def list_models(model_file: ModelFile = None) -> None:
    """List all models with their size and recipe."""
    from protcli.cli.terminal import print_table, terminal
    from protcli.experiments.pages import Table
    from protcli.models.summary import parameter_count
    from protcli.models.zoo import known_models

    rows = []
    for name, spec in known_models(model_file).items():
        recipe = spec.recipe
        training = ("-", "fitted", "-", "-")
        if not spec.is_fitted:
            training = (f"{parameter_count(spec):,}", str(recipe.epochs), str(recipe.batch_size), f"{recipe.lr:g}")
        rows.append((name, *training, f"{spec.summary} ({spec.source.name})" if spec.source else spec.summary))
    print_table(terminal(), Table("", ("model", "parameters", "epochs", "batch", "lr", "description"), tuple(rows)))


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="Model name from `protcli models list`.")],
    model_file: ModelFile = None,
    settings: Overrides = None,
    length: Annotated[
        int, typer.Option(min=1, help="Length of the protein sent through the model, in residues.")
    ] = 256,
    depth: Annotated[int, typer.Option(min=1, help="Levels of nested layers to show.")] = 2,
) -> None:
    """Show a model's layers with output shapes and parameters, its cost, settings and recipe."""
    from protcli.cli.terminal import print_table, terminal
    from protcli.errors import ProtcliError
    from protcli.experiments.pages import Table
    from protcli.models.external import is_lack_of_memory
    from protcli.models.settings import setting_types
    from protcli.models.summary import summarize
    from protcli.models.zoo import configure, find_model
    from protcli.yaml_file import describe

    spec = configure(find_model(name, model_file), settings or [])
    try:
        summary = summarize(spec, length, depth)
    except ValueError as error:
        raise ProtcliError(f"{spec.name}: {error}") from error
    except (MemoryError, RuntimeError) as error:
        if not is_lack_of_memory(error):
            raise
        raise ProtcliError(f"{spec.name} does not fit in memory: use a --length below {length}") from error
    console, recipe = terminal(), spec.recipe
    console.print(f"{spec.name}: {spec.summary}\n", style="bold")
    layers = tuple((*row[:3], f"{row.parameters:,}") for row in summary.layers)
    print_table(console, Table("", ("layer", "kind", "output", "parameters"), layers))
    console.print(summary.totals())
    types = setting_types(spec.config)
    rows = tuple((key, describe(kind), _to_text(getattr(spec.config, key))) for key, kind in types.items())
    if rows:
        print_table(console, Table("", ("setting", "type", "value" if settings else "default"), rows))
    further = {
        "schedule": recipe.schedule, "warm-up": recipe.warmup, "weight decay": recipe.weight_decay, "ema": recipe.ema,
        "accumulate": recipe.accumulate, "largest gradient norm": recipe.max_grad_norm,
    }  # fmt: skip
    console.print(
        "recipe: fitted in one pass"
        if spec.is_fitted
        else f"recipe: {recipe.epochs} epochs, batch {recipe.batch_size}, {recipe.optimizer}, lr {recipe.lr:g}, "
        f"loss {recipe.loss}, crop {recipe.crop}"
        + "".join(f", {name} {value}" for name, value in further.items() if value not in (0, 1, None))
    )
    console.print(recipe.note, style="dim")


def _to_text(value: object) -> str:
    """A setting in the form that --set accepts."""
    if isinstance(value, tuple):
        return ",".join(map(_to_text, value))
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)
