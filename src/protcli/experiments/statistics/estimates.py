"""A figure with its 95 % interval."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import chi2
from scipy.stats import t as student

LEVEL = 0.95
DRAWS = 2000  # of a bootstrap
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

    def format(self, places: int = 2) -> str:
        """`81.70 [80.10, 83.30]` with `places` decimals, or the figure alone if there is no interval."""
        value, low, high = (f"{each:z.{places}f}" for each in (self.value, self.low, self.high))  # never -0.0
        return value if math.isnan(self.low) else f"{value} [{low}, {high}]"


def per_cent_lower(improvement: Estimate) -> str:
    """`7.1 [0.3, 13.5] % lower`, of an MSE; `higher` where there is no improvement."""
    if improvement.value <= 0:
        return f"{improvement.scaled(-1).format(1)} % higher"
    return f"{improvement.format(1)} % lower"


def over_families(values: np.ndarray, families: Sequence[str] | np.ndarray) -> Estimate:
    """Mean of values [N] over proteins, NaN left out, with the interval of a bootstrap that draws whole families.

    `low` and `high` are NaN if there is one family only, all if there is no value.
    """
    known = ~np.isnan(values)
    names, family = np.unique(np.asarray(families)[known], return_inverse=True)
    if not len(names):
        return Estimate(np.nan, np.nan, np.nan)
    total, count = np.bincount(family, values[known]), np.bincount(family)
    mean = float(total.sum() / count.sum())
    if len(names) == 1:
        return Estimate(mean, np.nan, np.nan)
    drawn = np.random.default_rng(0).integers(len(names), size=(DRAWS, len(names)))
    means = total[drawn].sum(axis=1) / count[drawn].sum(axis=1)
    return Estimate(mean, *np.quantile(means, (OUTSIDE, 1 - OUTSIDE)).tolist())


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


def std(value: float, count: int) -> Estimate:
    """A standard deviation of `count` normal values with its exact interval, from the chi-square distribution."""
    low, high = (value * ((count - 1) / float(chi2.ppf(tail, count - 1))) ** 0.5 for tail in (1 - OUTSIDE, OUTSIDE))
    return Estimate(value, low, high)
