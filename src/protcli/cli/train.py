"""protcli train."""

from pathlib import Path
from typing import Annotated, Any, cast

import typer

from protcli.cli.options import ModelFile, Overrides, with_settings
from protcli.experiments.config import RunConfig
from protcli.process import importing

DATA_DEPENDS = ("source", "train_split", "held_out", "atom", "crop", "evaluate_length")


@with_settings
def train(
    context: typer.Context,
    model: Annotated[str | None, typer.Argument(help="A model from `protcli models list`.")] = None,
    config: Annotated[Path | None, typer.Option(help="Repeat the run that wrote this config.yaml.")] = None,
    resume: Annotated[
        str | None, typer.Option(help="Continue this stopped or killed run with its own options.", metavar="RUN_ID")
    ] = None,
    model_file: ModelFile = None,
    *,
    checkpoint_every: Annotated[
        str | None,
        typer.Option(
            help="When to save the state besides the end of an epoch: minutes (10m, the default) or batches (500)."
        ),
    ] = None,
    overrides: Overrides = None,
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
    import sys
    from dataclasses import replace

    with importing():
        from protcli.models.zoo import configure, find_model

    if sum(given is not None for given in (model, config, resume)) != 1:
        raise typer.BadParameter("give exactly one of MODEL (see `protcli models list`), --config and --resume")
    if offline:
        from protcli.tracking.store import use_local_store

        use_local_store()
    if resume is not None:
        for option in context.command.params:
            is_own = option.name in ("resume", "checkpoint_every", "offline", "source")
            if not is_own and context.params.get(str(option.name)) not in (None, [], ()):
                raise typer.BadParameter(f"--resume uses the run's own options: leave out {_typed(option)}")
    if config is not None and model_file is not None:
        raise typer.BadParameter("--model-file cannot be combined with --config, which names its own")
    spec = find_model(model, model_file) if model is not None else None  # report a misspelt name before loading more

    with importing():
        from protcli.cli.progress import show_training
        from protcli.experiments import train as training
        from protcli.experiments.config import read_config

    if resume is not None:
        processes = training.processes_to_start(run_id=resume)
        events = training.resume(resume, checkpoint_every, settings["source"])
    else:
        run = RunConfig(spec=spec, model_file=model_file) if spec is not None else read_config(cast(Path, config))
        given = {name: value for name, value in settings.items() if value is not None}
        if (threads := settings["threads"] or 0) > (cores := os.cpu_count() or threads):
            raise typer.BadParameter(f"--threads is {threads}, but this machine has {cores} cores")
        if overrides:
            run = replace(run, spec=configure(run.spec, overrides))
        if any(name in given for name in DATA_DEPENDS):
            given["digest"] = None  # the configuration's digest does not apply to other data
        run = run.with_settings(**given)
        if (processes := training.processes_to_start(run.run.devices)) > 1:
            training.check(run)
        events = training.train(run, experiment, checkpoint_every, offline=offline)
    if processes > 1:
        raise typer.Exit(training.launch(sys.argv[1:], processes))
    show_training(events)
    if offline:
        typer.echo("`protcli sync` copies it to MLFLOW_TRACKING_URI")


def _typed(option: Any) -> str:
    """An option or argument as it is typed."""
    return option.opts[0] if option.param_type_name == "option" else option.human_readable_name
