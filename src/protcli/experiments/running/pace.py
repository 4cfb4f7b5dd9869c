"""How often a training saves its state within an epoch."""

import math
import re
import time
from dataclasses import dataclass, field

from protcli.errors import ProtcliError

DEFAULT = "10m"


@dataclass
class Pace:
    """Either a number of batches or one of seconds; the other is infinite.

    Attributes:
        batches, seconds: after which the state is saved again.
        last: when it was saved last, by `time.monotonic`.
        since: batches since then.
    """

    batches: float = math.inf
    seconds: float = math.inf
    last: float = field(default_factory=lambda: time.monotonic())
    since: int = 0

    def is_due(self) -> bool:
        """Whether to save after one more batch."""
        self.since += 1
        return self.since >= self.batches or time.monotonic() - self.last >= self.seconds

    def saved(self) -> None:
        """The state has been saved."""
        self.last, self.since = time.monotonic(), 0


def read_pace(text: str | None) -> Pace:
    """A pace as it is typed: `10m` for minutes (also `0.5m`), `500` for batches. Raises ProtcliError for others."""
    text = DEFAULT if text is None else text
    if re.fullmatch(r"[1-9][0-9]{0,8}", text):
        return Pace(batches=int(text))
    if (minutes := re.fullmatch(r"([0-9]{1,6}(?:\.[0-9]{1,6})?)m", text)) and float(minutes[1]) > 0:
        return Pace(seconds=60 * float(minutes[1]))
    raise ProtcliError(f"--checkpoint-every is {text!r}: give minutes, as 10m, or a number of batches, as 500")
