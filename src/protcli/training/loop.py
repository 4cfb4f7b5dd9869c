"""The training loop: a generator of events. It only handles tensors; the caller logs, saves and stops."""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import count
from operator import add

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from protcli.errors import ProtcliError
from protcli.models.spec import Prediction
from protcli.process import uninterrupted
from protcli.proteins.batches import Batch, Batches, on_device
from protcli.proteins.maps import distances, upper_pairs
from protcli.proteins.metrics import PairErrors, PairSums
from protcli.training.engine import seed_everything
from protcli.training.losses import Loss, local_loss
from protcli.training.process_group import ALONE, ProcessGroup, unreduced_gradients, unsharded
from protcli.training.state import EpochErrors, EpochSums, TrainState, unwrap

LEAST_WEIGHT = 1e-12  # divides the sums of a step in which nothing counts


class Diverged(ProtcliError):
    """The loss or a metric is no longer finite."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what}: try a lower --lr, or --max-grad-norm 1")


@dataclass(frozen=True)
class Step:
    """The model was trained on one batch.

    Attributes:
        epoch: epoch number, from 1.
        number, total: number of the batch and of all batches in the epoch.
        sums: sums of the epoch so far in this process; they are on the device and change with the next step.
        samples_per_second: rate over the epoch so far.
        saves, stops: whether several processes have agreed to save their state now, and to stop.
    """

    epoch: int
    number: int
    total: int
    sums: EpochSums
    samples_per_second: float
    saves: bool = False
    stops: bool = False

    @property
    def mse(self) -> float:
        """Pooled MSE of the epoch so far, in Å². Reading it waits for the device: do so only to show progress."""
        return self.sums.mse


@dataclass(frozen=True)
class Epoch:
    """One epoch has ended: errors on both splits, and its cost.

    Attributes:
        number: epoch number, from 1.
        train_mse: training MSE in Å², measured while the weights changed.
        valid: validation errors after the epoch.
        loss: pooled training loss.
        lr: learning rate of the last step.
        seconds: training time, without validation.
        samples_per_second: training proteins per second of it.
    """

    number: int
    train_mse: float
    valid: PairErrors
    loss: float
    lr: float
    seconds: float
    samples_per_second: float


@torch.inference_mode()
def evaluate(model: nn.Module, batches: Batches, device: torch.device, group: ProcessGroup = ALONE) -> PairErrors:
    """Errors of a model in evaluation mode on every protein of the batches, in order.

    Several processes take whole batches in turn, so that the errors are those of one process to the bit.
    """
    training = model.training
    model.eval()
    parts = {}
    own = on_device(batches.epoch(1, group.rank, group.size), device)
    for number, batch in zip(count(group.rank, group.size), own, strict=False):
        pairs = upper_pairs(batch.mask)
        error, _ = model(batch.residues).errors(distances(batch.coords), pairs)
        parts[number] = PairSums.over(pairs, error)
    model.train(training)
    return PairSums.concatenate(group.gather(parts, batches.length(), device)).fetch()


def fit(
    fabric: Fabric,
    state: TrainState,
    loss: Loss,
    *,
    train: Batches,
    valid: Batches,
    epochs: int,
    accumulate: int = 1,
    max_grad_norm: float | None = None,
    group: ProcessGroup = ALONE,
    seed: int = 0,
) -> Iterator[Step | Epoch]:
    """Train from a state, yielding a Step per batch and an Epoch after each validation; the state is up to date then.

    Ctrl-C and SIGTERM wait for the end of a step, so the state is one to continue from then as well. Nothing within an
    epoch waits for the device, except reading the figures of a Step.

    Args:
        fabric: Fabric that has set up the state's model and optimiser.
        state: fresh or loaded.
        loss: see `losses`.
        train, valid: the splits.
        epochs: total number of epochs.
        accumulate: batches whose gradients make one step, pooled exactly as if they were one batch.
        max_grad_norm: norm that the gradient is clipped to.
        group: the processes that train together, each on its share of every batch.
        seed: of what several processes draw in each batch, such as dropout.

    Raises:
        Diverged: a loss or validation error is not finite, checked at the end of an epoch; the model is then unusable.
    """
    model = state.model
    batch_is_step = accumulate == 1 and not group.is_distributed
    while state.epoch <= epochs:
        batches = train.length(state.epoch)
        model.train()
        sums, started = state.sums, time.perf_counter() - state.sums.seconds
        window = torch.zeros((), device=fabric.device)
        for weight in sums.columns["weights"][state.batch // accumulate * accumulate :]:
            window += weight  # of a step already begun
        for batch in on_device(train.epoch(state.epoch, state.batch), fabric.device):
            with uninterrupted():
                state.stepping = True
                if group.is_distributed:
                    seed_everything(group.batch_seed(seed, state.epoch, state.batch))
                steps = (state.batch + 1) % accumulate == 0 or state.batch + 1 == batches
                with fabric.no_backward_sync(model, enabled=not steps):  # type: ignore[arg-type]
                    done = _backward(fabric, model, loss, batch, mean=batch_is_step)
                if not batch_is_step:
                    window += done[1]
                state.batch += 1
                if steps:
                    sums.lr = state.optimizer.param_groups[0]["lr"]
                    _step(fabric, state, group, None if batch_is_step else window, max_grad_norm)
                sums.add(done, len(batch))
                sums.seconds = time.perf_counter() - started
                state.stepping = False
                saves, stops = group.sync_flags() if steps else (False, False)
            yield Step(state.epoch, state.batch, batches, sums, sums.samples * group.size / sums.seconds, saves, stops)
        sums = sums.over(group, fabric.device)
        losses, weights = sums.fetch()
        seconds = time.perf_counter() - started  # includes pending work of the device
        for number, value in enumerate(losses, start=1):
            if not math.isfinite(value):
                raise Diverged(f"the training loss is {value} at batch {number} of epoch {state.epoch}")
        group.broadcast(state.network.buffers())
        with unsharded(state.network):
            valid_errors = evaluate(state.validated, valid, fabric.device, group)
        if not valid_errors.is_finite():
            raise Diverged(f"the validation error is not finite after epoch {state.epoch}")
        over = Epoch(
            state.epoch, sums.mse, valid_errors, _sum(losses) / _sum(weights), sums.lr, seconds,
            sums.samples / seconds,
        )  # fmt: skip
        with uninterrupted():
            state.end_epoch(EpochErrors(over.train_mse, valid_errors))
        yield over


def fit_in_one_pass(
    state: TrainState, *, train: Batches, valid: Batches, device: torch.device
) -> Iterator[Step | Epoch]:
    """Fit a model that has a method `fit`, and yield that as the only epoch of its training, which has no steps."""
    if state.epoch > 1:
        return
    started = time.perf_counter()
    state.network.fit(on_device(train.epoch(1), device))  # type: ignore[operator]
    seconds = time.perf_counter() - started
    errors, valid_errors = (evaluate(state.model, batches, device) for batches in (train, valid))
    state.end_epoch(EpochErrors(errors.mse, valid_errors))
    yield Epoch(1, errors.mse, valid_errors, errors.mse, 0.0, seconds, len(errors) / seconds)


def _backward(fabric: Fabric, model: nn.Module, loss: Loss, batch: Batch, *, mean: bool) -> tuple[Tensor, ...]:
    """Add the gradients of a batch's loss, or of its mean, and return what `EpochSums` holds of it.

    Its maps are freed on return: the next batch finds their memory in the cache.
    """
    prediction: Prediction = model(batch.residues)
    true, pairs = distances(batch.coords), upper_pairs(batch.mask)
    total, weight = loss(prediction, true, pairs)
    if prediction.local is not None:
        total = total + weight * local_loss(prediction.local, true, pairs, batch.secondary)
    if not total.requires_grad:
        raise ProtcliError("the prediction does not depend on any parameter: does the model detach it?")
    error, count = prediction.errors(true, pairs)
    squared = torch.linalg.vector_norm(error.detach(), dtype=torch.float64).square()
    # a mean at once, where the step's weight is known, saves `_step` a pass over all gradients
    fabric.backward(total / weight.clamp(min=LEAST_WEIGHT) if mean else total)
    return total, weight, squared, count


def _step(
    fabric: Fabric, state: TrainState, group: ProcessGroup, weight: Tensor | None, max_grad_norm: float | None
) -> None:
    """Step by the gradients, of a mean, or of a sum to be divided by this weight, which is 0 then."""
    if group.is_distributed and (
        idle := [name for name, each in unwrap(state.model).named_parameters() if each.grad is None]
    ):
        raise ProtcliError(
            "several processes need a model whose prediction depends on all its parameters, but it does not on "
            f"{', '.join(idle)}: remove them"
        )
    for gradient in unreduced_gradients(unwrap(state.model)):
        group.all_reduce(gradient).div_(group.size)
    if weight is not None:
        # dividing here makes a step over several batches equal one large batch, and one of several processes, whose
        # mean the gradients are, too
        scale = group.size / group.all_reduce(weight).clamp(min=LEAST_WEIGHT)
        torch._foreach_mul_([each.grad for each in state.model.parameters() if each.grad is not None], scale)
        weight.zero_()
    if max_grad_norm is not None:
        # checking that the norm is finite would wait for the device; the loss is checked at the end of the epoch
        fabric.clip_gradients(state.model, state.optimizer, max_norm=max_grad_norm, error_if_nonfinite=False)
    state.optimizer.step()
    state.optimizer.zero_grad()
    state.schedule.step()
    state.step_average()


def _sum(values: Sequence[float]) -> float:
    """Sum in order: the built-in sum compensates since Python 3.12, so its last digits differ between versions."""
    return reduce(add, values, 0.0)
