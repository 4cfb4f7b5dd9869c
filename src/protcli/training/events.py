"""What happens in a training, as values: whoever iterates over `loop.fit` gets them."""

from dataclasses import dataclass

from protcli.errors import ProtcliError
from protcli.proteins.metrics import PairErrors
from protcli.training.state import EpochSums


class Diverged(ProtcliError):
    """The loss or a metric is no longer a finite number."""


@dataclass(frozen=True)
class Step:
    """One batch was trained on.

    Attributes:
        epoch: from 1.
        number, total: of the batches of the epoch.
        sums: of the epoch so far; they are on the device, and change with the next step.
        samples_per_second: of the epoch so far.
    """

    epoch: int
    number: int
    total: int
    sums: EpochSums
    samples_per_second: float

    @property
    def mse(self) -> float:
        """Of the epoch so far, pooled, in A^2. To read it waits for the device: read it where progress is shown."""
        return self.sums.mse


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
