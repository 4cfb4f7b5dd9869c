"""The complete state of a training at one moment: everything that it continues from."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import cast

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import get_ema_multi_avg_fn

from protcli.proteins.metrics import PairErrors, PairSums
from protcli.training.ranks import Ranks

COMPACT = 64  # batches after which sums are merged into one tensor, which keeps reading them cheap in a long epoch


@dataclass(frozen=True)
class EpochErrors:
    """Errors of one epoch: training MSE in A^2 during it, those on every validation protein after it."""

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

    def over(self, ranks: Ranks, device: torch.device) -> "EpochSums":
        """The sums over all processes; those of a batch are added up."""
        if not ranks.are_several:
            return self
        samples = ranks.add(torch.tensor([self.samples], device=device))
        losses, weights = (list(ranks.add(torch.stack(each)).unbind()) for each in (self.losses, self.weights))
        return EpochSums(
            losses, weights, [ranks.gather({ranks.rank: PairSums.concatenate(self.errors)}, ranks.size, device)],
            int(samples), self.seconds, self.lr,
        )  # fmt: skip

    def left_to(self, ranks: Ranks) -> "EpochSums":
        """What a process has of these sums over all: the first has them, the others only their share of the samples."""
        share = self.samples // ranks.size
        if ranks.rank == 0:
            return replace(self, samples=self.samples - share * (ranks.size - 1))
        losses, weights = ([torch.zeros_like(each) for each in column] for column in (self.losses, self.weights))
        empty = [PairSums(*(column[:0] for column in vars(each).values())) for each in self.errors]
        return EpochSums(losses, weights, empty, share, self.seconds, self.lr)

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

    @property
    def validated(self) -> nn.Module:
        """The network to validate: the average if there is one, else the model."""
        return self.model if self.average is None else self.average

    @property
    def network(self) -> nn.Module:
        """The validated network without Fabric's wrapper: its weights are saved."""
        return inside(self.validated)

    @torch.no_grad()
    def step_average(self) -> None:
        """Update the average with the current weights after an optimiser step; the first step copies them."""
        if self.average is None:
            return
        decay = self.decay if self.schedule.last_epoch > 1 else 0.0
        average, network = inside(self.average), inside(self.model)
        get_ema_multi_avg_fn(decay)(list(average.parameters()), list(network.parameters()), 0)
        for kept, current in zip(average.buffers(), network.buffers(), strict=True):
            kept.copy_(current)


def inside(wrapper: nn.Module) -> nn.Module:
    """The module inside Fabric's wrapper."""
    return cast(nn.Module, wrapper.module)


def make_average(fabric: Fabric, network: nn.Module, decay: float) -> nn.Module | None:
    """A copy of a network to hold the average of its weights, ready to predict; None for a decay of 0."""
    if not decay:
        return None
    return fabric.setup_module(copy.deepcopy(network).requires_grad_(fabric.world_size > 1))  # DDP takes no other
