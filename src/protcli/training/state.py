"""The complete state of a training at one moment: everything that it continues from, in memory and on disk."""

import copy
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import get_ema_multi_avg_fn

from protcli.errors import ProtcliError
from protcli.models.recipe import Recipe
from protcli.proteins.metrics import PairErrors, stack_errors, unstack_errors
from protcli.training.checkpoint import read_tensors, save_checkpoint, write_tensors
from protcli.training.engine import checkpoint_activations
from protcli.training.optimizers import make_optimizer, make_schedule
from protcli.training.process_group import ALONE, ProcessGroup, full_tensor, shard_like

# of each batch: loss, its weight, squared error in Å² over all pairs (float64), number of pairs; of the last two, 0.1.0
# saved one for each protein
SUMS = ("losses", "weights", "squared", "count")


@dataclass(frozen=True)
class EpochErrors:
    """Errors of one epoch: training MSE in Å² during it, those on every validation protein after it."""

    train_mse: float
    valid: PairErrors


@dataclass(frozen=True)
class Best:
    """The epoch with the lowest validation MSE so far, and its errors on every validation protein."""

    epoch: int
    valid: PairErrors

    @classmethod
    def of(cls, history: Sequence[EpochErrors]) -> "Best":
        """The best of at least one epoch; the first of equals."""
        epoch, errors = min(enumerate(history, start=1), key=lambda numbered: numbered[1].valid.mse)
        return cls(epoch, errors.valid)


@dataclass
class EpochSums:
    """Sums over the batches of an epoch so far, on the device: nothing waits for it until a figure is read.

    Attributes:
        columns: scalars of each batch, see SUMS.
        samples: number of proteins so far.
        seconds: time spent on them.
        lr: learning rate of the last step.
    """

    columns: dict[str, list[Tensor]] = field(default_factory=lambda: {name: [] for name in SUMS})
    samples: int = 0
    seconds: float = 0.0
    lr: float = 0.0

    def add(self, batch: Iterable[Tensor], samples: int) -> None:
        """Add one batch: its scalars in the order of SUMS."""
        for column, value in zip(self.columns.values(), batch, strict=True):
            column.append(value.detach())
        self.samples += samples

    def over(self, group: ProcessGroup, device: torch.device) -> "EpochSums":
        """The sums over all processes; those of a batch are added up."""
        if not group.is_distributed:
            return self
        samples = int(group.all_reduce(torch.tensor([self.samples], device=device)))
        columns = {name: list(group.all_reduce(torch.stack(each)).unbind()) for name, each in self.columns.items()}
        return replace(self, columns=columns, samples=samples)

    def part_of(self, group: ProcessGroup) -> "EpochSums":
        """What a process has of these sums over all: the first has the sums of each batch."""
        share = self.samples // group.size
        if group.rank == 0:
            return replace(self, samples=self.samples - share * (group.size - 1))
        columns = {name: [torch.zeros_like(each) for each in column] for name, column in self.columns.items()}
        return replace(self, columns=columns, samples=share)

    @property
    def mse(self) -> float:
        """Pooled MSE so far, in Å²; NaN without pairs. Waits for the device."""
        return (torch.stack(self.columns["squared"]).sum() / torch.stack(self.columns["count"]).sum()).item()

    def fetch(self) -> tuple[list[float], list[float]]:
        """Loss and weight of each batch. Waits for the device."""
        losses, weights = (torch.stack(self.columns[name]).tolist() for name in ("losses", "weights"))
        return losses, weights


@dataclass
class TrainState:
    """A training run between two batches. `fit` updates it, and can resume from any such state.

    The random number generators (Python's, NumPy's, torch's) belong to the process: their states are read when the
    state is saved, and set when it is loaded.

    Attributes:
        model: as set up by Fabric.
        optimizer, schedule: of the model's parameters.
        average: exponential moving average of the weights, as set up by Fabric; None if the recipe has none. Its
            buffers (running statistics) are those of the model.
        decay: decay of the average.
        epoch: current epoch, from 1.
        batch: number of its batches already done.
        stepping: whether a batch is being trained on: it is then no state to continue from.
        sums: sums over those batches.
        history: errors of the completed epochs.
    """

    model: nn.Module
    optimizer: Optimizer
    schedule: LRScheduler
    average: nn.Module | None = None
    decay: float = 0.0
    epoch: int = 1
    batch: int = 0
    stepping: bool = False
    sums: EpochSums = field(default_factory=EpochSums)
    history: list[EpochErrors] = field(default_factory=list)

    @classmethod
    def begin(
        cls,
        fabric: Fabric,
        network: nn.Module,
        recipe: Recipe,
        steps: int,
        *,
        activation_checkpointing: bool = False,
        compiled: bool = False,
    ) -> "TrainState":
        """Of a new network, set up by Fabric, before the first of `steps` optimiser steps (0: fitted in one pass).

        With activation checkpointing its blocks are computed again in the backward pass; `compiled` by torch.compile.
        """
        average = make_average(fabric, network, recipe.ema if steps else 0.0)  # of the whole network
        if activation_checkpointing:
            checkpoint_activations(network)
        if compiled:
            network.compile()
        model = fabric.setup_module(network)
        parameters = list(model.parameters()) or [nn.Parameter(torch.empty(0))]
        optimizer = make_optimizer(recipe.optimizer, parameters, recipe.lr, recipe.weight_decay)
        optimizer = cast(Optimizer, fabric.setup_optimizers(optimizer))
        schedule = make_schedule(recipe.schedule, optimizer, max(steps, 1), recipe.warmup)
        return cls(model, optimizer, schedule, average, recipe.ema)

    @property
    def validated(self) -> nn.Module:
        """The network to validate: the average if there is one, else the model."""
        return self.model if self.average is None else self.average

    @property
    def network(self) -> nn.Module:
        """The validated network without Fabric's wrapper: its weights are saved."""
        return unwrap(self.validated)

    def end_epoch(self, errors: EpochErrors) -> None:
        """Go on to the next epoch."""
        self.history.append(errors)
        self.epoch, self.batch, self.sums = self.epoch + 1, 0, EpochSums()

    @torch.no_grad()
    def step_average(self) -> None:
        """Update the average with the current weights after an optimiser step.

        It reaches back over a ninth of the steps so far at most: the first step copies the weights, and a short
        training does not drag its beginning along.
        """
        if self.average is None:
            return
        done = self.schedule.last_epoch
        decay = min(self.decay, (done - 1) / (done + 8))
        average, network = unwrap(self.average), unwrap(self.model)
        get_ema_multi_avg_fn(decay)(list(average.parameters()), list(network.parameters()), 0)
        for kept, current in zip(average.buffers(), network.buffers(), strict=True):
            kept.copy_(current)


def unwrap(wrapper: nn.Module) -> nn.Module:
    """The module inside Fabric's wrapper."""
    return cast(nn.Module, wrapper.module)


def make_average(fabric: Fabric, network: nn.Module, decay: float) -> nn.Module | None:
    """A copy of a network to hold the average of its weights, ready to predict; None for a decay of 0."""
    if not decay:
        return None
    return fabric.setup_module(copy.deepcopy(network).requires_grad_(fabric.world_size > 1))  # DDP takes no other


def full_weights(network: nn.Module) -> dict[str, Tensor]:
    """The complete weights and buffers of a network, in the first process; all processes take part."""
    # here, because importing it would delay the first step
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    return cast(dict[str, Tensor], get_model_state_dict(network, options=options))


def save_weights(folder: Path, name: str, state: TrainState, group: ProcessGroup, about: Mapping[str, Any]) -> None:
    """Write the weights of the validated network, see `save_checkpoint`; all processes take part."""
    weights = full_weights(state.network)
    if group.rank == 0:
        save_checkpoint(folder, name, weights, about)


def save_state(path: Path, state: TrainState, group: ProcessGroup = ALONE) -> None:
    """Write a state as one safetensors file with JSON in its header, complete or not at all; no pickle.

    The one that was there is kept beside it, see `saved_states`, for a disk may damage what it has. All processes that
    train together take part, after an optimiser step; the first one writes.
    """
    sums = state.sums.over(group, state.sums.columns["losses"][0].device) if state.batch else state.sums
    parts = {"model": full_weights(unwrap(state.model))}
    if state.average is not None:
        parts["average"] = full_weights(unwrap(state.average))
    for index, moments in state.optimizer.state_dict()["state"].items():
        parts[f"optimizer.{index}"] = {name: full_tensor(value) for name, value in moments.items()}
    if group.rank:
        return
    # of a step still being accumulated
    parts["gradient"] = {key: each.grad for key, each in state.model.named_parameters() if each.grad is not None}
    if state.batch:
        parts["sums"] = {name: torch.stack(each) for name, each in sums.columns.items()}
    if state.history:
        history = stack_errors([epoch.valid for epoch in state.history])
        parts["history"] = {key: torch.from_numpy(value) for key, value in history.items()}
    _, numpy_keys, *numpy_rest = np.random.get_state()  # noqa: NPY002  a user's model may use the global generator
    parts["generator"] = {"torch": torch.get_rng_state(), "numpy": torch.from_numpy(np.asarray(numpy_keys))}
    if torch.cuda.is_available():
        parts["generator"]["cuda"] = torch.cuda.get_rng_state()
    about = {
        "epoch": state.epoch,
        "batch": state.batch,
        "samples": sums.samples,
        "seconds": sums.seconds,
        "lr": sums.lr,
        "train_mse": [epoch.train_mse for epoch in state.history],
        "schedule": {key: value for key, value in state.schedule.state_dict().items() if key != "lr_lambdas"},
        "python": random.getstate(),
        "numpy": numpy_rest,
    }
    if path.is_file():
        path.replace(state_paths(path)[1])  # what a process that is killed from here on leaves
    tensors = {f"{part}.{name}": value for part, values in parts.items() for name, value in values.items()}
    write_tensors(path, tensors, about)


def state_paths(path: Path) -> tuple[Path, Path]:
    """Where the latest state is, and the one before it."""
    return path, path.with_name(f"{path.stem}-before{path.suffix}")


def saved_states(path: Path) -> list[Path]:
    """The saved states that exist, the latest first."""
    return [each for each in state_paths(path) if each.is_file()]


def load_state(path: Path, state: TrainState) -> str:
    """Restore a fresh state of the same configuration, and the generators, to where `save_state` was called last.

    Where the latest state is damaged, the one before it is used.

    Returns:
        A sentence that says so; else an empty one.

    Raises:
        ProtcliError: all are damaged, or belong to another model or optimiser.
    """
    damaged = ""
    for saved in saved_states(path):
        try:
            _restore(state, *read_tensors(saved))
            return f"{damaged}: it continues from the state before" if damaged else ""
        except (ValueError, KeyError, TypeError, RuntimeError) as error:
            reason = str(error).strip().partition("\n")[0]
            damaged = damaged or f"{saved} is not a state that this training can continue from ({reason})"
    raise ProtcliError(f"{damaged}, nor is there a whole one before it: train it again as a new run")


def _restore(state: TrainState, tensors: dict[str, Tensor], about: dict[str, Any]) -> None:
    parts: dict[str, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        part, _, name = key.partition(".")
        parts.setdefault(part, {})[name] = value
    for network, part in ((state.model, "model"), (state.average, "average")):
        if network is not None:
            own = network.state_dict()
            network.load_state_dict({name: shard_like(own.get(name, each), each) for name, each in parts[part].items()})
    parameters = dict(state.model.named_parameters())
    for key, value in parts.get("gradient", {}).items():
        parameters[key].grad = torch.empty_like(parameters[key]).copy_(value)
    state.schedule.load_state_dict(about["schedule"] | {"lr_lambdas": [None]})
    _restore_optimizer(state, parts.get("optimizer", {}))
    state.epoch, state.batch = about["epoch"], about["batch"]
    state.sums = EpochSums(samples=about["samples"], seconds=about["seconds"], lr=about["lr"])
    if state.batch:
        device = next(iter(parameters.values())).device
        state.sums.columns = {name: list(parts["sums"][name].to(device).unbind()) for name in SUMS}
    if history := parts.get("history"):
        valid = unstack_errors(**{key: value.numpy() for key, value in history.items()})
        state.history = [EpochErrors(*epoch) for epoch in zip(about["train_mse"], valid, strict=True)]
    version, values, gauss = about["python"]
    random.setstate((version, tuple(values), gauss))
    np.random.set_state(("MT19937", parts["generator"]["numpy"].numpy(), *about["numpy"]))  # noqa: NPY002
    torch.set_rng_state(parts["generator"]["torch"])
    if "cuda" in parts["generator"] and torch.cuda.is_available():
        torch.cuda.set_rng_state(parts["generator"]["cuda"])


def _restore_optimizer(state: TrainState, tensors: dict[str, Tensor]) -> None:
    """Restore moments, named `<index of parameter>.<name>`; the learning rate follows from the schedule."""
    parameters = [parameter for group in state.optimizer.param_groups for parameter in group["params"]]
    moments: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, _, name = key.partition(".")
        parameter = parameters[int(index)]
        if value.shape == parameter.shape:
            # fused steps walk through memory: a moment needs the layout of its parameter (e.g. channels last)
            value = torch.empty_like(parameter, dtype=value.dtype).copy_(shard_like(parameter, value))
        moments.setdefault(int(index), {})[name] = value
    state.optimizer.load_state_dict({"state": moments, "param_groups": state.optimizer.state_dict()["param_groups"]})
    for group, lr in zip(state.optimizer.param_groups, state.schedule.get_last_lr(), strict=True):
        group["lr"] = lr
