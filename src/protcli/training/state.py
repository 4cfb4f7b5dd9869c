"""The complete state of a training run at one moment, and how it is saved in one file."""

import copy
import json
import random
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from lightning_fabric import Fabric
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import get_ema_multi_avg_fn

from protcli.errors import ProtcliError
from protcli.proteins.metrics import PairErrors, PairSums
from protcli.training.checkpoint import write_tensors

COMPACT = 64  # batches after which sums are merged into one tensor, which keeps reading them cheap in a long epoch


@dataclass(frozen=True)
class EpochMse:
    """MSE of one epoch in A^2: training during the epoch, validation after it."""

    train: float
    valid: float


@dataclass(frozen=True)
class Best:
    """The epoch with the lowest validation MSE so far, and its errors on every validation protein."""

    epoch: int
    valid: PairErrors


@dataclass
class EpochSums:
    """Sums over the batches of an epoch so far, on the device: nothing waits for it until a figure is read.

    Attributes:
        losses, weights: scalars of each batch.
        errors: errors of each batch's proteins.
        samples: number of proteins so far.
        seconds: time spent on them.
        lr: learning rate of the last step.
    """

    losses: list[Tensor] = field(default_factory=list)
    weights: list[Tensor] = field(default_factory=list)
    errors: list[PairSums] = field(default_factory=list)
    samples: int = 0
    seconds: float = 0.0
    lr: float = 0.0

    def add(self, loss: Tensor, weight: Tensor, errors: PairSums, samples: int) -> None:
        """Add one batch."""
        self.losses.append(loss.detach())
        self.weights.append(weight.detach())
        self.errors.append(errors)
        self.samples += samples
        if len(self.errors) > COMPACT:
            self.errors = [PairSums.concatenate(self.errors)]

    @property
    def mse(self) -> float:
        """Pooled MSE so far, in A^2. Waits for the device."""
        return PairSums.concatenate(self.errors).fetch().mse

    def fetch(self) -> tuple[list[float], list[float], PairErrors]:
        """Loss and weight of each batch, and errors of each protein. Waits for the device."""
        losses, weights = (torch.stack(each).tolist() for each in (self.losses, self.weights))
        return losses, weights, PairSums.concatenate(self.errors).fetch()


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
        sums: sums over those batches.
        history: MSE of the completed epochs.
        best: the best of them; None before the first is complete.
    """

    model: nn.Module
    optimizer: Optimizer
    schedule: LRScheduler
    average: nn.Module | None = None
    decay: float = 0.0
    epoch: int = 1
    batch: int = 0
    sums: EpochSums = field(default_factory=EpochSums)
    history: list[EpochMse] = field(default_factory=list)
    best: Best | None = None

    @property
    def validated(self) -> nn.Module:
        """The network to validate: the average if there is one, else the model."""
        return self.model if self.average is None else self.average

    @property
    def network(self) -> nn.Module:
        """The validated network without Fabric's wrapper: its weights are saved."""
        return _inside(self.validated)

    @torch.no_grad()
    def step_average(self) -> None:
        """Update the average with the current weights after an optimiser step; the first step copies them."""
        if self.average is None:
            return
        decay = self.decay if self.schedule.last_epoch > 1 else 0.0
        average, network = _inside(self.average), _inside(self.model)
        get_ema_multi_avg_fn(decay)(list(average.parameters()), list(network.parameters()), 0)
        for kept, current in zip(average.buffers(), network.buffers(), strict=True):
            kept.copy_(current)


def _inside(wrapper: nn.Module) -> nn.Module:
    """The module inside Fabric's wrapper."""
    return cast(nn.Module, wrapper.module)


def make_average(fabric: Fabric, network: nn.Module, decay: float) -> nn.Module | None:
    """A copy of a network to hold the average of its weights, ready to predict; None for a decay of 0."""
    if not decay:
        return None
    return fabric.setup_module(copy.deepcopy(network).requires_grad_(False))


def save_state(path: Path, state: TrainState) -> None:
    """Write a state as one safetensors file with JSON in its header, complete or not at all; no pickle."""
    tensors = {f"model.{key}": value for key, value in state.model.state_dict().items()}
    if state.average is not None:
        tensors |= {f"average.{key}": value for key, value in state.average.state_dict().items()}
    optimizer = state.optimizer.state_dict()
    scalars: dict[str, dict[str, Any]] = {}
    for index, values in optimizer["state"].items():
        for name, value in values.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer.{index}.{name}"] = value
            else:
                scalars.setdefault(str(index), {})[name] = value
    for key, parameter in state.model.named_parameters():
        if parameter.grad is not None:  # of a step still being accumulated
            tensors[f"gradient.{key}"] = parameter.grad
    for name, column in (("losses", state.sums.losses), ("weights", state.sums.weights)):
        if column:
            tensors[f"sums.{name}"] = torch.stack(column)
    if state.sums.errors:
        tensors |= {f"sums.{key}": value for key, value in vars(PairSums.concatenate(state.sums.errors)).items()}
    if state.best is not None:
        tensors |= {f"best.{key}": torch.from_numpy(value) for key, value in vars(state.best.valid).items()}
    tensors |= {f"generator.{key}": value for key, value in _generators().items()}
    about = {
        "epoch": state.epoch,
        "batch": state.batch,
        "samples": state.sums.samples,
        "seconds": state.sums.seconds,
        "lr": state.sums.lr,
        "history": [asdict(each) for each in state.history],
        "best_epoch": state.best.epoch if state.best else None,
        "groups": [_without(group, "params") for group in optimizer["param_groups"]],
        "scalars": scalars,
        "schedule": _without(state.schedule.state_dict(), "lr_lambdas"),
        "python": random.getstate(),
        "numpy": list(np.random.get_state())[2:],  # noqa: NPY002  a user's model may use the global generator
    }
    write_tensors(path, tensors, about)


def load_state(path: Path, state: TrainState) -> None:
    """Restore a fresh state of the same configuration, and the generators, to where `save_state` was called.

    Raises:
        ProtcliError: the file is damaged, or belongs to another model or optimiser.
    """
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads(file.metadata()["about"])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  not a dictionary
        _restore(state, about, tensors)
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ProtcliError(f"{path} is not a state that this training can continue from ({reason})") from error


def _restore(state: TrainState, about: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    state.model.load_state_dict(_under("model.", tensors))
    if state.average is not None:
        state.average.load_state_dict(_under("average.", tensors))
    for key, value in _under("gradient.", tensors).items():
        parameter = dict(state.model.named_parameters())[key]
        parameter.grad = torch.empty_like(parameter).copy_(value)
    _restore_optimizer(state.optimizer, about, _under("optimizer.", tensors))
    state.schedule.load_state_dict(about["schedule"] | {"lr_lambdas": [None]})
    sums, best = _under("sums.", tensors), _under("best.", tensors)
    device = next(state.model.parameters()).device
    state.epoch, state.batch = about["epoch"], about["batch"]
    state.sums = EpochSums(samples=about["samples"], seconds=about["seconds"], lr=about["lr"])
    if state.batch:
        on_device = {key: value.to(device) for key, value in sums.items()}
        state.sums.losses, state.sums.weights = (list(on_device.pop(key).unbind()) for key in ("losses", "weights"))
        state.sums.errors = [PairSums(**on_device)]
    state.history = [EpochMse(**each) for each in about["history"]]
    if best:
        state.best = Best(about["best_epoch"], PairErrors(**{key: value.numpy() for key, value in best.items()}))
    version, values, gauss = about["python"]
    random.setstate((version, tuple(values), gauss))
    numpy_state = ("MT19937", tensors["generator.numpy"].numpy(), *about["numpy"])
    np.random.set_state(numpy_state)  # noqa: NPY002
    torch.set_rng_state(tensors["generator.torch"])
    if "generator.cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["generator.cuda"])


def _restore_optimizer(optimizer: Optimizer, about: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    current = optimizer.state_dict()
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    restored: dict[int, dict[str, Any]] = {}
    for key, value in tensors.items():
        index, _, name = key.partition(".")
        parameter = parameters[int(index)]
        if value.shape == parameter.shape:
            # fused steps walk through memory: a moment needs the layout of its parameter (e.g. channels last)
            value = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
        restored.setdefault(int(index), {})[name] = value
    for index, values in about["scalars"].items():
        restored.setdefault(int(index), {}).update(values)
    groups = [
        {key: tuple(value) if isinstance(value, list) else value for key, value in saved.items()}
        | {"params": group["params"]}
        for saved, group in zip(about["groups"], current["param_groups"], strict=True)
    ]
    optimizer.load_state_dict({"state": restored, "param_groups": groups})


def _without(values: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key != name}


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def _generators() -> dict[str, Tensor]:
    _, keys, *_ = np.random.get_state()  # noqa: NPY002
    found = {"torch": torch.get_rng_state(), "numpy": torch.from_numpy(np.asarray(keys))}
    if torch.cuda.is_available():
        found["cuda"] = torch.cuda.get_rng_state()
    return found
