"""One figure of the table of benchmarks, and what all measurements are told."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Setting:
    """How to measure.

    Attributes:
        device: `cpu` or `cuda`.
        seconds: that one comparison may take, about.
        smallest: once, and in the smallest sizes: to see that all of it works, not to know how fast it is.
    """

    device: str = "cpu"
    seconds: float = 8.0
    smallest: bool = False


@dataclass(frozen=True)
class Row:
    """A figure: median, lowest and highest of its repetitions.

    Attributes:
        what: is measured.
        unit: of all three; empty for a ratio.
        at_least, at_most: the goal; None if there is none.
    """

    what: str
    unit: str
    figure: float
    low: float
    high: float
    at_least: float | None = None
    at_most: float | None = None

    @classmethod
    def of(
        cls,
        what: str,
        unit: str,
        values: Sequence[float],
        *,
        at_least: float | None = None,
        at_most: float | None = None,
    ) -> "Row":
        """The row of repeated measurements."""
        return cls(what, unit, statistics.median(values), min(values), max(values), at_least, at_most)

    @property
    def goal(self) -> str:
        """As text; empty if there is none."""
        if self.at_least is not None:
            return f">= {self.at_least:g}"
        return f"<= {self.at_most:g}" if self.at_most is not None else ""

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; None if there is none."""
        if self.at_least is not None:
            return self.figure >= self.at_least
        return self.figure <= self.at_most if self.at_most is not None else None


class LeftOut(Exception):
    """Why nothing is measured here: a clause."""
