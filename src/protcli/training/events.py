"""Training events, yielded by `loop.fit`."""

from dataclasses import dataclass

from protcli.errors import ProtcliError
from protcli.proteins.metrics import PairErrors
from protcli.training.state import EpochSums


class Diverged(ProtcliError):
    """The loss or a metric is no longer finite."""


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
        """Pooled MSE of the epoch so far, in A^2. Reading it waits for the device: do so only to show progress."""
        return self.sums.mse


@dataclass(frozen=True)
class Epoch:
    """One epoch has ended: errors on both splits, and its cost.

    Attributes:
        number: epoch number, from 1.
        train: training errors, measured while the weights changed.
        valid: validation errors after the epoch.
        loss: pooled training loss.
        lr: learning rate of the last step.
        seconds: training time, without validation.
        samples_per_second: training proteins per second of it.
    """

    number: int
    train: PairErrors
    valid: PairErrors
    loss: float
    lr: float
    seconds: float
    samples_per_second: float
