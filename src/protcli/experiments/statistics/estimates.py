"""A figure with its 95 % interval."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit
from scipy.stats import chi2
from scipy.stats import t as student

LEVEL = 0.95
FEWEST_FAMILIES = 10  # below, the mean of a score has no interval that holds
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
    """Mean over proteins of scores between 0 and 1, [N], NaN left out, with its 95 % interval.

    Proteins of one family count together: the variance is that of the jackknife, which leaves out one family after the
    other, and Student's interval of the logit has one degree of freedom less than the equal families that these are
    worth, as in `contrasts`. `low` and `high` are NaN below FEWEST_FAMILIES families and for a mean of 0 or 1, all are
    if there is no value.
    """
    known = ~np.isnan(values)
    names, family = np.unique(np.asarray(families)[known], return_inverse=True)
    if not len(names):
        return Estimate(np.nan, np.nan, np.nan)
    total, count = np.bincount(family, values[known]), np.bincount(family)
    mean = float(total.sum() / count.sum())
    if len(names) < FEWEST_FAMILIES or not 0 < mean < 1:
        return Estimate(mean, np.nan, np.nan)
    left_out = (total.sum() - total) / (count.sum() - count)
    error = ((1 - 1 / len(names)) * np.sum((left_out - mean) ** 2)) ** 0.5
    df = count.sum() ** 2 / np.sum(count**2) - 1
    return _of_share(mean, float(student.ppf((1 + LEVEL) / 2, df) * error))


def _of_share(mean: float, half: float) -> Estimate:
    """A mean between 0 and 1 with an interval of the logit, whose half is so much of the mean (delta method)."""
    low, high = expit(logit(mean) + np.array([-half, half]) / (mean * (1 - mean))).tolist()
    return Estimate(mean, low, high)


def over_seeds(values: Sequence[float], *, are_shares: bool = False) -> Estimate:
    """Mean of errors over seeds, with Student's t interval of its logarithm, n - 1 degrees of freedom.

    The standard error of the logarithm is that of the mean over the mean (delta method), as in `contrasts`: an error is
    never negative. Scores that are shares, between 0 and 1, have the interval of the logit.
    """
    mean = float(np.mean(values))
    if len(values) < 2:
        return Estimate(mean, np.nan, np.nan)
    half = float(student.ppf((1 + LEVEL) / 2, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5)
    if are_shares and 0 < mean < 1:
        return _of_share(mean, half)
    ratio = float(np.exp(half / mean)) if half else 1.0
    return Estimate(mean, mean / ratio, mean * ratio)


def std(value: float, count: int) -> Estimate:
    """A standard deviation of `count` normal values with its exact interval, from the chi-square distribution."""
    low, high = (value * ((count - 1) / float(chi2.ppf(tail, count - 1))) ** 0.5 for tail in (1 - OUTSIDE, OUTSIDE))
    return Estimate(value, low, high)
