"""The training loop: a generator of what happened. It knows tensors; whoever iterates logs, saves and stops."""

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from protcli.errors import ProtcliError
from protcli.proteins.batches import Batch
from protcli.proteins.maps import distances, upper_pairs
from protcli.proteins.metrics import PairErrors
from protcli.training.losses import Loss


class Diverged(ProtcliError):
    """The loss or a metric is no longer a finite number."""


@dataclass(frozen=True)
class Step:
    """One batch was trained on.

    Attributes:
        epoch: from 1.
        number, total: of the batches of the epoch.
        mse: of the epoch so far, pooled, in A^2.
        samples_per_second: of the epoch so far.
    """

    epoch: int
    number: int
    total: int
    mse: float
    samples_per_second: float


@dataclass(frozen=True)
class Epoch:
    """One epoch is over: errors on both splits, and what it cost.

    Attributes:
        number: from 1.
        train: errors as they were while training went on.
        valid: errors on validation, after the epoch.
        loss: pooled training loss.
        lr: learning rate of the last step.
        seconds: of training, without validation.
        samples_per_second: training proteins over those seconds.
    """

    number: int
    train: PairErrors
    valid: PairErrors
    loss: float
    lr: float
    seconds: float
    samples_per_second: float


@torch.inference_mode()
def evaluate(model: nn.Module, batches: Iterable[Batch], device: torch.device) -> PairErrors:
    """Errors of a model, in evaluation mode, on every protein of the batches, in order."""
    training = model.training
    model.eval()
    parts = []
    for batch in batches:
        batch = batch.to(device)
        parts.append(PairErrors.of(model(batch.residues).distance, batch.coords, batch.mask))
    model.train(training)
    return PairErrors.concatenate(parts)


def fit(
    fabric: Fabric,
    model: nn.Module,
    optimizer: Optimizer,
    schedule: LRScheduler,
    loss: Loss,
    *,
    train: Callable[[int], Iterable[Batch]],
    valid: Callable[[], Iterable[Batch]],
    batches_per_epoch: int,
    epochs: int,
    accumulate: int = 1,
    clip: float | None = None,
) -> Iterator[Step | Epoch]:
    """Train a network, yielding a Step a batch and an Epoch after each validation.

    Args:
        fabric, model, optimizer: as set up by Fabric.
        schedule: stepped after every optimiser step.
        loss: see `losses`.
        train: batches of an epoch, numbered from 1.
        valid: all batches of validation.
        batches_per_epoch: how many `train` gives.
        epochs: how many to train.
        accumulate: batches whose gradients make one step, pooled exactly as if they were one batch.
        clip: largest norm of the gradient.

    Raises:
        Diverged: a loss or a validation error that is not finite; the model is then of no use.
    """
    for epoch in range(1, epochs + 1):
        model.train()
        started = time.perf_counter()
        parts, losses, weights, samples = [], 0.0, 0.0, 0
        squared, pairs = 0.0, 0
        window = torch.zeros((), device=fabric.device)
        for number, batch in enumerate(train(epoch), start=1):
            batch = batch.to(fabric.device)
            prediction = model(batch.residues)
            total, weight = loss(prediction, distances(batch.coords), upper_pairs(batch.mask))
            loss_sum = float(total.detach())
            if not math.isfinite(loss_sum):
                raise Diverged(_diverged(f"the training loss is {loss_sum} at batch {number} of epoch {epoch}"))
            if not total.requires_grad:
                raise ProtcliError("the prediction does not depend on any parameter: does the model detach it?")
            fabric.backward(total)
            window += weight
            if number % accumulate == 0 or number == batches_per_epoch:
                _step(fabric, model, optimizer, window, clip)
                lr = optimizer.param_groups[0]["lr"]
                schedule.step()
                window.zero_()
            parts.append(PairErrors.of(prediction.distance.detach(), batch.coords, batch.mask))
            losses, weights, samples = losses + loss_sum, weights + float(weight), samples + len(batch)
            squared, pairs = squared + parts[-1].squared.sum(), pairs + parts[-1].count.sum()
            seconds = time.perf_counter() - started
            yield Step(epoch, number, batches_per_epoch, squared / max(pairs, 1), samples / seconds)
        errors = evaluate(model, valid(), fabric.device)
        if not errors.is_finite():
            raise Diverged(_diverged(f"the validation error is no finite number after epoch {epoch}"))
        train_errors = PairErrors.concatenate(parts)
        yield Epoch(epoch, train_errors, errors, losses / weights, lr, seconds, samples / seconds)


def _step(fabric: Fabric, model: nn.Module, optimizer: Optimizer, weight: Tensor, clip: float | None) -> None:
    # gradients are those of a sum over pairs; divided here, a step over several batches is that of one large batch
    scale = 1 / weight.clamp(min=1e-12)
    for parameter in model.parameters():
        if parameter.grad is not None:
            parameter.grad.mul_(scale)
    if clip is not None:
        fabric.clip_gradients(model, optimizer, max_norm=clip)
    optimizer.step()
    optimizer.zero_grad()


def _diverged(what: str) -> str:
    return f"{what}: try a lower --lr, or --clip 1"
