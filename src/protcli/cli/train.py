"""protcli train."""

from pathlib import Path
from typing import Annotated, Any, cast

import typer

from protcli.cli.options import TrainSplit

Setting = Annotated[list[str] | None, typer.Option("--set", help="Override a model setting, e.g. --set dropout=0.3.")]

OPTIONS = {"settings": "--set", "model": "MODEL"}  # as they are typed, where that is not their name


def train(
    context: typer.Context,
    model: Annotated[str | None, typer.Argument(help="A model from `protcli models list`.")] = None,
    config: Annotated[Path | None, typer.Option(help="Repeat the run that wrote this config.yaml.")] = None,
    resume: Annotated[
        str | None, typer.Option(help="Continue this stopped or killed run with its own options.", metavar="RUN_ID")
    ] = None,
    model_file: Annotated[Path | None, typer.Option(help="Python file that defines your own models.")] = None,
    data: Annotated[str | None, typer.Option(help="`sample` (built in, the default) or a store folder.")] = None,
    train_split: TrainSplit = None,
    held_out: Annotated[
        float | None,
        typer.Option(
            help="Validate on this share of the training proteins, held out by whole families, instead of the "
            "validation split.",
            metavar="SHARE",
        ),
    ] = None,
    train_share: Annotated[
        float | None,
        typer.Option(help="Train on this share of the training proteins, whole families that the seed chooses."),
    ] = None,
    atom: Annotated[
        str | None, typer.Option(help="Atoms to measure distances between: ca (the default) or cb.")
    ] = None,
    crop: Annotated[int | None, typer.Option(help="Maximum residues per chain in training.")] = None,
    evaluate_length: Annotated[
        int | None, typer.Option(help="Residues per chain that are evaluated (default: the crop).")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training split.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Proteins per batch.")] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate.")] = None,
    optimizer: Annotated[str | None, typer.Option(help="Optimizer: adam, adamw, sgd or rmsprop.")] = None,
    loss: Annotated[
        str | None, typer.Option(help="mse, mae, huber, log-cosh, mse-inverse-distance, distogram or distogram-mse.")
    ] = None,
    schedule: Annotated[str | None, typer.Option(help="Learning-rate schedule: constant, linear or cosine.")] = None,
    warmup: Annotated[float | None, typer.Option(help="Share of steps over which the learning rate warms up.")] = None,
    weight_decay: Annotated[float | None, typer.Option(help="Weight decay of the optimizer.")] = None,
    ema: Annotated[float | None, typer.Option(help="Decay of a moving average of the weights, e.g. 0.999.")] = None,
    accumulate: Annotated[int | None, typer.Option(help="Batches per optimizer step.")] = None,
    max_grad_norm: Annotated[float | None, typer.Option(help="Clip the gradient to this norm.")] = None,
    precision: Annotated[str | None, typer.Option(help="Precision: 32 (the default), tf32 or bf16.")] = None,
    device: Annotated[str | None, typer.Option(help="auto (the default: CUDA if available), cpu or cuda:N.")] = None,
    devices: Annotated[
        int | None,
        typer.Option(help="Train with so many processes, each on a GPU of its own, or with its share of the cores."),
    ] = None,
    nodes: Annotated[
        int | None,
        typer.Option(
            help="Train on so many machines, with --devices processes on each: give the same command on each of them, "
            "with MASTER_ADDR set, or by srun."
        ),
    ] = None,
    strategy: Annotated[
        str | None,
        typer.Option(help="How several processes train: ddp (auto) copies the weights to each, fsdp divides them."),
    ] = None,
    activation_checkpointing: Annotated[
        bool | None,
        typer.Option(
            "--activation-checkpointing",
            help="Compute each block again in the backward pass: less memory, about a third more time.",
        ),
    ] = None,
    compile: Annotated[
        bool | None, typer.Option("--compile", help="Let torch.compile make kernels for the model; needs a compiler.")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(help="CPU threads (default: as many as torch takes); they decide the last digits.")
    ] = None,
    checkpoint_every: Annotated[
        str | None,
        typer.Option(
            help="Save the state after so many minutes (10m, the default) or batches (500), and after every epoch."
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Seed of weights, dropout, data order and crops (default: 0).")
    ] = None,
    settings: Setting = None,
    experiment: Annotated[str | None, typer.Option(help="MLflow experiment for the run.")] = None,
    offline: Annotated[
        bool,
        typer.Option(
            "--offline", help="Write the run to ./mlflow.db; `protcli sync` copies it to MLFLOW_TRACKING_URI later."
        ),
    ] = False,
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

        train_on_nodes(sys.argv[1:], nodes, devices, resume)
        return

    from protcli.models.zoo import configure, find_model

    if sum(given is not None for given in (model, config, resume)) != 1:
        raise typer.BadParameter("give exactly one of MODEL (see `protcli models list`), --config and --resume")
    if offline:
        from protcli.tracking.store import use_local_store

        use_local_store()
    if resume is not None:
        others = set(context.params) - {"resume", "checkpoint_every", "offline", "nodes"}
        if changed := sorted(name for name in others if context.params[name] not in (None, [], ())):
            option = OPTIONS.get(changed[0], "--" + changed[0].replace("_", "-"))
            raise typer.BadParameter(f"--resume uses the run's own options: leave out {option}")
        from protcli.cli.progress import show_training
        from protcli.experiments.running.train import resume as resume_run

        show_training(resume_run(resume, checkpoint_every))
        return
    if config is not None and model_file is not None:
        raise typer.BadParameter("--model-file cannot be combined with --config, which names its own")
    spec = find_model(model, model_file) if model is not None else None  # report a misspelt name before loading more

    from protcli.cli.progress import show_training
    from protcli.experiments.running.train import train
    from protcli.experiments.runs.config import RunConfig, read_config

    run = RunConfig(spec=spec, model_file=model_file) if spec is not None else read_config(cast(Path, config))
    if threads is not None and threads > (cores := os.cpu_count() or threads):
        raise typer.BadParameter(f"--threads is {threads}, but this machine has {cores} cores")
    if settings:
        run = replace(run, spec=configure(run.spec, settings))
    run = run.with_recipe(
        crop=crop, epochs=epochs, batch_size=batch_size, lr=lr, optimizer=optimizer, loss=loss,
        schedule=schedule, warmup=warmup, weight_decay=weight_decay, ema=ema, accumulate=accumulate,
        max_grad_norm=max_grad_norm, train_share=train_share,
    )  # fmt: skip
    if any(value is not None for value in (data, train_split, held_out, atom, crop, evaluate_length)):
        run = replace(run, digest=None)  # the configuration's digest does not apply to other data
    overrides: dict[str, Any] = {
        "data": data,
        "train_split": train_split,
        "held_out": held_out,
        "atom": atom,
        "evaluate_length": evaluate_length,
        "precision": precision,
        "device": device,
        "devices": devices,
        "strategy": strategy,
        "activation_checkpointing": activation_checkpointing,
        "compile": compile,
        "threads": threads,
        "seed": seed,
    }
    run = replace(run, **{name: value for name, value in overrides.items() if value is not None})
    show_training(train(run, experiment, checkpoint_every, offline=offline))
