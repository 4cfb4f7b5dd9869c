"""95 % intervals: over seeds, and for differences over seeds and proteins.

A measured MSE varies with two things: the seed of the training and the proteins of the validation split. An interval
for "this architecture is better" has to account for both.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.stats import t as student

from protcli.errors import ProtcliError
from protcli.proteins.metrics import PairErrors

LEVEL = 0.95
RESAMPLES = 4000


@dataclass(frozen=True)
class Estimate:
    """A figure and its 95 % interval; `low` and `high` are NaN if there is one measurement only."""

    value: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether a difference may be claimed."""
        return self.low > 0 or self.high < 0

    def scaled(self, factor: float) -> "Estimate":
        """The estimate times `factor`; a negative factor swaps the ends, so that `low` stays the lower one."""
        low, high = sorted((self.low * factor, self.high * factor))
        return Estimate(self.value * factor, low, high)


def over_seeds(values: Sequence[float]) -> Estimate:
    """Mean over seeds with Student's t interval, n - 1 degrees of freedom."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return Estimate(mean, np.nan, np.nan)
    half = float(student.ppf((1 + LEVEL) / 2, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5)
    return Estimate(mean, mean - half, mean + half)


def difference(first: Sequence[PairErrors], second: Sequence[PairErrors]) -> Estimate:
    """Pooled MSE of the first model minus the second's, in A^2: `contrast` with weights 1 and -1."""
    return contrast([first, second], [1.0, -1.0])


def contrast(models: Sequence[Sequence[PairErrors]], weights: Sequence[float]) -> Estimate:
    """A weighted sum of several models' pooled MSE (a difference, the main effect of a factor), in A^2.

    The variance has a part from the proteins, by a bootstrap that draws proteins with replacement, the same ones for
    all models (Efron and Tibshirani 1993, chapter 6), and a part from each model with several seeds, s^2 / n of their
    pooled MSE. The interval is Student's, with the degrees of freedom of Welch (1947) and Satterthwaite (1946). A model
    with one seed adds no variance for seeds: the interval then holds for these weights, not for the architecture.

    Args:
        models: for each model, the errors of its seeds on the same proteins in the same order.
        weights: one per model.

    Raises:
        ProtcliError: the errors are of different pairs, or of a single protein.
    """
    count = models[0][0].count
    if any(not np.array_equal(errors.count, count) for seeds in models for errors in seeds):
        raise ProtcliError("these runs were not measured on the same pairs of the same proteins and cannot be compared")
    counted = count > 0
    if counted.sum() < 2:
        raise ProtcliError("an interval over proteins needs at least two proteins with a resolved pair")
    per_protein = sum(
        weight * np.mean([errors.squared[counted] for errors in seeds], axis=0)
        for weight, seeds in zip(weights, models, strict=True)
    )
    count = count[counted]
    value = float(np.sum(per_protein) / count.sum())
    draws = _draws(len(count))
    variances = [float(np.var(draws @ per_protein / (draws @ count), ddof=1))]
    freedoms = [len(count) - 1]
    for weight, seeds in zip(weights, models, strict=True):
        if len(seeds) > 1:
            variances.append(weight**2 * float(np.var([errors.mse for errors in seeds], ddof=1)) / len(seeds))
            freedoms.append(len(seeds) - 1)
    variance = sum(variances)
    if variance == 0:
        return Estimate(value, value, value)
    freedom = variance**2 / sum(part**2 / n for part, n in zip(variances, freedoms, strict=True))
    half = float(student.ppf((1 + LEVEL) / 2, freedom)) * variance**0.5
    return Estimate(value, value - half, value + half)


@lru_cache(maxsize=8)
def _draws(proteins: int) -> np.ndarray:
    """How often each bootstrap sample holds each protein: [RESAMPLES, proteins], always the same."""
    uniform = np.full(proteins, 1 / proteins)
    return np.random.default_rng(0).multinomial(proteins, uniform, size=RESAMPLES).astype(np.float64)
