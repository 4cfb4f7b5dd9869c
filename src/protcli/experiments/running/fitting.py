"""A training's data, its state before its first step or where it was stopped, and its steps; in every process alike."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from lightning_fabric import Fabric
from torch import nn
from torch.optim import Optimizer

from protcli.experiments.config import RunConfig
from protcli.experiments.running.baseline import BATCH
from protcli.experiments.running.steps import total_steps, trained_on, training_batches
from protcli.proteins.batches import kept_on
from protcli.proteins.dataset import Dataset, open_dataset
from protcli.tracking.keys import File
from protcli.training.activation_checkpointing import checkpoint_activations
from protcli.training.checkpoint import save_checkpoint
from protcli.training.engine import seed_everything
from protcli.training.loop import Epoch, Step, fit, fit_in_one_pass
from protcli.training.losses import find_loss
from protcli.training.optimizers import make_optimizer, make_schedule
from protcli.training.process_group import ProcessGroup
from protcli.training.state import Best, TrainState, full_weights, load_state, make_average, saved_states


def open_data(config: RunConfig) -> Dataset:
    """The data of a configuration. Raises ProtcliError as `open_dataset` does."""
    return open_dataset(
        config.data.source,
        train_split=config.data.train_split,
        atom=config.data.atom,
        evaluated_length=config.evaluated_length,
        held_out=config.data.held_out,
    )


def build(config: RunConfig, data: Dataset, saved: Path) -> nn.Module:
    """The network with its initial weights, and with what it prepares of the training proteins."""
    seed_everything(config.run.seed)
    network = config.spec.build().to(memory_format=torch.channels_last)
    if hasattr(network, "prepare") and not saved_states(saved):  # a state holds what it has prepared
        network.prepare(trained_on(config, data), data.atom)  # type: ignore[operator]
    return network


def begin(
    network: nn.Module, config: RunConfig, data: Dataset, fabric: Fabric, group: ProcessGroup, saved: Path
) -> tuple[TrainState, str]:
    """The state before the first step, or the one that was saved; and a sentence if that is not the latest one.

    Raises:
        ProtcliError: no saved state can be continued from.
    """
    recipe = config.spec.recipe
    if group.is_distributed and fabric.device.type == "cuda":
        network = nn.SyncBatchNorm.convert_sync_batchnorm(network)  # there is none for the CPU
    average = make_average(fabric, network, recipe.ema)  # of the whole network
    if config.run.activation_checkpointing:
        checkpoint_activations(network)
    if config.run.compile:
        network.compile()
    model = fabric.setup_module(network)
    if config.spec.is_fitted:
        return TrainState.without_steps(model), ""
    optimizer = make_optimizer(recipe.optimizer, model.parameters(), recipe.lr, recipe.weight_decay)
    optimizer = cast(Optimizer, fabric.setup_optimizers(optimizer))
    schedule = make_schedule(recipe.schedule, optimizer, total_steps(config, data), recipe.warmup)
    state = TrainState(model, optimizer, schedule, average, recipe.ema)
    warning = load_state(saved, state) if saved_states(saved) else ""
    state.sums = state.sums.part_of(group)
    return state, warning


def keep_best(folder: Path, config: RunConfig, state: TrainState, group: ProcessGroup) -> None:
    """Write the weights of the epoch that is over if it is the best one so far; all processes take part."""
    best = Best.of(state.history)
    if best.epoch == len(state.history):
        about = {"model": config.spec.name, "epoch": best.epoch, "valid_mse": best.valid.mse}
        _keep(folder, File.BEST, about, state, group)


def keep_last(folder: Path, config: RunConfig, state: TrainState, group: ProcessGroup) -> None:
    """Write the weights of the last epoch; all processes take part."""
    _keep(folder, File.LAST, {"model": config.spec.name, "epoch": len(state.history)}, state, group)


def _keep(folder: Path, name: str, about: Mapping[str, Any], state: TrainState, group: ProcessGroup) -> None:
    weights = full_weights(state.network)
    if group.rank == 0:
        save_checkpoint(folder / File.CHECKPOINTS, name, weights, about)


def steps(
    state: TrainState, config: RunConfig, data: Dataset, fabric: Fabric, group: ProcessGroup
) -> Iterator[Step | Epoch]:
    """Train from a state to the end, see `training.loop`."""
    recipe = config.spec.recipe
    if config.spec.is_fitted:
        return fit_in_one_pass(state, train=data.fitting(BATCH), valid=data.validation(BATCH), device=fabric.device)
    return fit(
        fabric,
        state,
        find_loss(recipe.loss),
        train=kept_on(fabric.device, training_batches(config, data, group)),
        valid=kept_on(fabric.device, data.validation(recipe.batch_size)),
        epochs=recipe.epochs,
        accumulate=recipe.accumulate,
        max_grad_norm=recipe.max_grad_norm,
        group=group,
        seed=config.run.seed,
    )
