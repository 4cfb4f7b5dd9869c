"""A figure with its 95 % interval."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import chi2
from scipy.stats import t as student

LEVEL = 0.95
OUTSIDE = (1 - LEVEL) / 2  # on either side


@dataclass(frozen=True)
class Estimate:
    """A figure and its 95 % interval; `low` and `high` are NaN if there is one measurement only."""

    value: float
    low: float
    high: float

    def scaled(self, factor: float) -> "Estimate":
        """The estimate times `factor`; a negative factor swaps the ends, so that `low` stays the lower one."""
        low, high = sorted((self.low * factor, self.high * factor))
        return Estimate(self.value * factor, low, high)


def over_seeds(values: Sequence[float]) -> Estimate:
    """Mean of errors over seeds, with Student's t interval of its logarithm, n - 1 degrees of freedom.

    The standard error of the logarithm is that of the mean over the mean (delta method), as in `contrasts`: an error is
    never negative.
    """
    mean = float(np.mean(values))
    if len(values) < 2:
        return Estimate(mean, np.nan, np.nan)
    half = float(student.ppf((1 + LEVEL) / 2, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5)
    ratio = float(np.exp(half / mean)) if half else 1.0
    return Estimate(mean, mean / ratio, mean * ratio)


def deviation(value: float, count: int) -> Estimate:
    """A standard deviation of `count` normal values with its exact interval, from the chi-square distribution."""
    low, high = (value * ((count - 1) / float(chi2.ppf(tail, count - 1))) ** 0.5 for tail in (1 - OUTSIDE, OUTSIDE))
    return Estimate(value, low, high)
