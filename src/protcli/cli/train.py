"""protcli train."""

from pathlib import Path
from typing import Annotated, Any, cast

import typer

Setting = Annotated[list[str] | None, typer.Option("--set", help="A setting of the model, as in --set dropout=0.3.")]


def train(
    context: typer.Context,
    model: Annotated[str | None, typer.Argument(help="A name from `protcli models list`.")] = None,
    config: Annotated[Path | None, typer.Option(help="Repeat the run of this config.yaml.")] = None,
    resume: Annotated[
        str | None, typer.Option(help="Continue this run, which was stopped or killed, as it was.", metavar="RUN_ID")
    ] = None,
    model_file: Annotated[Path | None, typer.Option(help="A Python file with a model of your own.")] = None,
    data: Annotated[
        str | None, typer.Option(help="`sample` (built in, the default) or a folder made by import.")
    ] = None,
    train_split: Annotated[str | None, typer.Option(help="The split to train on, where there are several.")] = None,
    atom: Annotated[str | None, typer.Option(help="ca (the default) or cb: distances between these atoms.")] = None,
    crop: Annotated[int | None, typer.Option(help="Residues of a chain in a training step.")] = None,
    evaluate_length: Annotated[
        int | None, typer.Option(help="Residues of each chain that are evaluated (default: the crop).")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training split.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Proteins a batch.")] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate.")] = None,
    optimizer: Annotated[str | None, typer.Option(help="adam, adamw, sgd or rmsprop.")] = None,
    loss: Annotated[
        str | None, typer.Option(help="mse, mae, huber, log-cosh, mse-inverse-distance or distogram.")
    ] = None,
    schedule: Annotated[str | None, typer.Option(help="constant, linear or cosine.")] = None,
    warmup: Annotated[float | None, typer.Option(help="Share of the steps in which the learning rate rises.")] = None,
    weight_decay: Annotated[float | None, typer.Option(help="Of the optimizer.")] = None,
    ema: Annotated[float | None, typer.Option(help="Decay of an average of the weights, such as 0.999.")] = None,
    accumulate: Annotated[int | None, typer.Option(help="Batches a step.")] = None,
    max_grad_norm: Annotated[float | None, typer.Option(help="Largest norm of the gradient.")] = None,
    precision: Annotated[str | None, typer.Option(help="32 (the default), tf32 or bf16.")] = None,
    device: Annotated[str | None, typer.Option(help="auto (the default: CUDA if there is one), cpu or cuda:N.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of weights, dropout, data order and crops; 0 by default.")] = None,
    settings: Setting = None,
    experiment: Annotated[str | None, typer.Option(help="The MLflow experiment to put the run in.")] = None,
) -> None:
    """Train MODEL and keep the run in MLflow.

    What is not given is the model's own recipe (`protcli models show MODEL`).
    """
    from dataclasses import replace

    from protcli.models.zoo import configure, find_model

    if sum(given is not None for given in (model, config, resume)) != 1:
        raise typer.BadParameter(
            "name one of: a model (see `protcli models list`), a --config to repeat, a run to --resume"
        )
    if resume is not None:
        others = set(context.params) - {"resume"}
        if changed := sorted(name for name in others if context.params[name] not in (None, [], ())):
            raise typer.BadParameter(f"--resume continues a run as it was: leave out --{changed[0].replace('_', '-')}")
        from protcli.cli.progress import show_training
        from protcli.experiments.running.train import resume as resume_run

        show_training(resume_run(resume))
        return
    if config is not None and model_file is not None:
        raise typer.BadParameter("--model-file does not go with --config, which names its own")
    spec = find_model(model, model_file) if model is not None else None  # a typing error is said before more is loaded

    from protcli.cli.progress import show_training
    from protcli.experiments.running.train import train
    from protcli.experiments.runs.config import RunConfig, read_config

    run = RunConfig(spec=spec, model_file=model_file) if spec is not None else read_config(cast(Path, config))
    if settings:
        run = replace(run, spec=configure(run.spec, settings))
    run = run.with_recipe(
        crop=crop, epochs=epochs, batch_size=batch_size, lr=lr, optimizer=optimizer, loss=loss,
        schedule=schedule, warmup=warmup, weight_decay=weight_decay, ema=ema, accumulate=accumulate,
        max_grad_norm=max_grad_norm,
    )  # fmt: skip
    if any(value is not None for value in (data, train_split, atom, crop, evaluate_length)):
        run = replace(run, digest=None)  # of the configuration's data, and other data is asked for
    given: dict[str, Any] = {
        "data": data,
        "train_split": train_split,
        "atom": atom,
        "evaluate_length": evaluate_length,
        "precision": precision,
        "device": device,
        "seed": seed,
    }
    run = replace(run, **{name: value for name, value in given.items() if value is not None})
    show_training(train(run, experiment))
