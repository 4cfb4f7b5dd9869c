"""protcli train."""

from collections.abc import Callable, Iterator
from dataclasses import fields
from inspect import Parameter, signature
from pathlib import Path
from typing import Annotated, Any, cast, get_type_hints

import typer

from protcli.experiments.config import RunConfig
from protcli.models.recipe import Settings, option_of

Setting = Annotated[list[str] | None, typer.Option("--set", help="Override a model setting, e.g. --set dropout=0.3.")]

DATA_DEPENDS = ("source", "train_split", "held_out", "atom", "crop", "evaluate_length")


def with_settings(command: Callable[..., None], kind: type[RunConfig] = RunConfig) -> Callable[..., None]:
    """Give a command the options of all settings of a run that have help, in place of its `**settings`.

    They stand before its keyword-only options.
    """
    own = signature(command)
    *shown, _ = own.parameters.values()
    first = [each for each in shown if each.kind is not Parameter.KEYWORD_ONLY]
    options = [each for _, section in sorted(kind.section_types().items()) for each in _options(section)]
    command.__signature__ = own.replace(parameters=[*first, *options, *shown[len(first) :]])  # type: ignore[attr-defined]
    return command


def _options(section: type[Settings]) -> Iterator[Parameter]:
    """The options of a section, None where they are left out."""
    types = get_type_hints(section)
    for each in fields(section):  # type: ignore[arg-type]
        if help := each.metadata["help"]:
            option = typer.Option(option_of(each), help=help, metavar=each.metadata.get("metavar"))
            annotation: Any = Annotated[types[each.name] | None, option]
            yield Parameter(each.name, Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


@with_settings
def train(
    context: typer.Context,
    model: Annotated[str | None, typer.Argument(help="A model from `protcli models list`.")] = None,
    config: Annotated[Path | None, typer.Option(help="Repeat the run that wrote this config.yaml.")] = None,
    resume: Annotated[
        str | None, typer.Option(help="Continue this stopped or killed run with its own options.", metavar="RUN_ID")
    ] = None,
    model_file: Annotated[Path | None, typer.Option(help="Python file that defines your own models.")] = None,
    *,
    nodes: Annotated[
        int | None,
        typer.Option(
            help="Train on so many machines, with --devices processes on each: give the same command on each of them, "
            "with MASTER_ADDR set, or by srun."
        ),
    ] = None,
    checkpoint_every: Annotated[
        str | None,
        typer.Option(
            help="Save the state after so many minutes (10m, the default) or batches (500), and after every epoch."
        ),
    ] = None,
    overrides: Setting = None,
    experiment: Annotated[str | None, typer.Option(help="MLflow experiment for the run.")] = None,
    offline: Annotated[
        bool,
        typer.Option(
            "--offline", help="Write the run to ./mlflow.db; `protcli sync` copies it to MLFLOW_TRACKING_URI later."
        ),
    ] = False,
    **settings: Any,
) -> None:
    """Train MODEL and log the run to MLflow.

    Options you leave out come from the model's recipe (`protcli models show MODEL`).
    """
    import os
    from dataclasses import replace

    if os.environ.get("RANK", "0") != "0":
        from protcli.experiments.running.followers import follow

        follow()
        return

    if nodes is not None and "WORLD_SIZE" not in os.environ:
        import sys

        from protcli.experiments.running.nodes import train_on_nodes

        train_on_nodes(sys.argv[1:], nodes, settings["devices"], resume)
        return

    from protcli.models.zoo import configure, find_model

    if sum(given is not None for given in (model, config, resume)) != 1:
        raise typer.BadParameter("give exactly one of MODEL (see `protcli models list`), --config and --resume")
    if offline:
        from protcli.tracking.store import use_local_store

        use_local_store()
    if resume is not None:
        for option in context.command.params:
            is_own = option.name in ("resume", "checkpoint_every", "offline", "nodes")
            if not is_own and context.params.get(str(option.name)) not in (None, [], ()):
                raise typer.BadParameter(f"--resume uses the run's own options: leave out {_typed(option)}")
        from protcli.cli.progress import show_training
        from protcli.experiments.running.train import resume as resume_run

        show_training(resume_run(resume, checkpoint_every))
        return
    if config is not None and model_file is not None:
        raise typer.BadParameter("--model-file cannot be combined with --config, which names its own")
    spec = find_model(model, model_file) if model is not None else None  # report a misspelt name before loading more

    from protcli.cli.progress import show_training
    from protcli.experiments.config import read_config
    from protcli.experiments.running.train import train

    run = RunConfig(spec=spec, model_file=model_file) if spec is not None else read_config(cast(Path, config))
    given = {name: value for name, value in settings.items() if value is not None}
    if (threads := settings["threads"] or 0) > (cores := os.cpu_count() or threads):
        raise typer.BadParameter(f"--threads is {threads}, but this machine has {cores} cores")
    if overrides:
        run = replace(run, spec=configure(run.spec, overrides))
    if any(name in given for name in DATA_DEPENDS):
        given["digest"] = None  # the configuration's digest does not apply to other data
    show_training(train(run.with_settings(**given), experiment, checkpoint_every, offline=offline))


def _typed(option: Any) -> str:
    """An option or argument as it is typed."""
    return option.opts[0] if option.param_type_name == "option" else option.human_readable_name
