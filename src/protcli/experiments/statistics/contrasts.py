"""The one statistic: a contrast of the logarithms of several models' MSE, over protein families and seeds.

A measured MSE varies with two things: the seed of the training and the proteins of the validation split. An interval
for "this architecture is better" has to account for both. Proteins of one family are alike and count together. Errors
are proportional to how hard a protein is, so models are compared by the ratio of their MSE, not by its difference,
which the longest chains alone would decide.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property

import numpy as np
from scipy.optimize import brentq
from scipy.stats import multivariate_normal, nct, norm
from scipy.stats import t as student

from protcli.errors import ProtcliError
from protcli.experiments.statistics.estimates import LEVEL, Estimate
from protcli.proteins.metrics import PairErrors

ALPHA = 0.05  # p-value up to which a difference is claimed
FEWEST_SEEDS = 3  # below, nothing is claimed about an architecture
POWER = 0.8  # wanted of a planned comparison
MOST_SEEDS = 200  # that are tried for it


@dataclass(frozen=True, eq=False)
class Contrast:
    """A weighted sum of the logarithms of several models' MSE: the logarithm of a ratio.

    Attributes:
        value: negative where the models with positive weights have the lower MSE.
        family_variance: the variance of `value` from the choice of protein families.
        family_df: its degrees of freedom: one less than the families if they weigh the same, fewer if a few decide.
        seed_variances: for each model, the variance of the logarithm of one run's MSE; NaN for one seed.
        seeds: for each model, how many.
        weights: of the models.
        shares: for each family, its share of `family_variance`.
    """

    value: float
    family_variance: float
    family_df: float
    seed_variances: tuple[float, ...]
    seeds: tuple[int, ...]
    weights: tuple[float, ...]
    shares: dict[str, float]

    @cached_property
    def _parts(self) -> tuple[list[float], list[float]]:
        """Parts of the variance, and the degrees of freedom of each."""
        parts, dfs = [self.family_variance], [self.family_df]
        for weight, variance, seeds in zip(self.weights, self.seed_variances, self.seeds, strict=True):
            if seeds > 1:
                parts.append(weight**2 * variance / seeds)
                dfs.append(seeds - 1)
        return parts, dfs

    @property
    def standard_error(self) -> float:
        """Of `value`."""
        return sum(self._parts[0]) ** 0.5

    @property
    def df(self) -> float:
        """Degrees of freedom by Welch (1947) and Satterthwaite (1946); infinite without variance."""
        parts, dfs = self._parts
        terms = sum(part**2 / df for part, df in zip(parts, dfs, strict=True))
        return sum(parts) ** 2 / terms if terms else np.inf

    @property
    def p(self) -> float:
        """Two-sided p-value of "the ratio is 1"."""
        return 2 * self._tail(abs(self.value))

    def p_outside(self, margin: float) -> float:
        """The p-value of "the ratio differs by `margin` (0.05: 5 %) or more", from two one-sided tests.

        Source: Schuirmann 1987. Equality within the margin may be claimed where it is small.
        """
        return self._tail(np.log1p(margin) - abs(self.value))

    def interval(self, level: float = LEVEL) -> Estimate:
        """`value` with its interval."""
        half = float(student.ppf((1 + level) / 2, self.df)) * self.standard_error
        return Estimate(self.value, self.value - half, self.value + half)

    def improvement(self, level: float = LEVEL) -> Estimate:
        """By how many per cent the ratio is below 1."""
        ratio = self.interval(level)
        value, high, low = (float(-100 * np.expm1(each)) for each in (ratio.value, ratio.low, ratio.high))
        return Estimate(value, low, high)

    @property
    def reversed(self) -> "Contrast":
        """The same comparison the other way round."""
        return replace(self, value=-self.value, weights=tuple(-weight for weight in self.weights))

    def _tail(self, distance: float) -> float:
        """The probability that an estimate lies by more than `distance` too high."""
        if self.standard_error == 0:
            return float(distance < 0) if distance else 0.5
        return float(student.sf(distance / self.standard_error, self.df))


def contrast(
    models: Sequence[Sequence[PairErrors]], weights: Sequence[float], families: Sequence[str] | np.ndarray
) -> Contrast:
    """Compare the pooled MSE of several models: a ratio (weights 1 and -1), the main effect of a factor.

    Each model stands for the mean over its seeds. The variance has a part from the families, the jackknife's, which
    leaves out one after the other (Tukey 1958), and a part from the seeds of each model, s^2 / (n mean^2). The delta
    method's variance is too small where one family has much of the error. Families with shares a of it count as
    1 / sum a^2 equal ones (Kish 1965), and the degrees of freedom are one less. A model with one seed adds no variance
    for seeds: the interval then holds for these weights, not for the architecture.

    Args:
        models: for each model, the errors of its seeds on the same proteins in the same order.
        weights: one per model; their sum is zero.
        families: the family of each protein.

    Raises:
        ProtcliError: the errors are of different pairs, or of a single family.
    """
    count = models[0][0].count
    if any(not np.array_equal(errors.count, count) for seeds in models for errors in seeds):
        raise ProtcliError("these runs were not measured on the same pairs of the same proteins and cannot be compared")
    counted = count > 0
    names, members = np.unique(np.asarray(families)[counted], return_inverse=True)
    if len(names) < 2:
        raise ProtcliError("an interval over proteins needs resolved pairs in at least two protein families")
    pairs = np.bincount(members, count[counted])
    value, left_out, share, seed_variances = 0.0, np.zeros(len(names)), np.zeros(len(names)), []
    for weight, seeds in zip(weights, models, strict=True):
        squared = np.bincount(members, np.mean([errors.squared[counted] for errors in seeds], axis=0))
        value += weight * np.log(squared.sum() / pairs.sum())
        left_out += weight * np.log((squared.sum() - squared) / (pairs.sum() - pairs))
        share += abs(weight) * squared / squared.sum()
        totals = np.array([errors.squared.sum() for errors in seeds])
        seed_variances.append(float(np.var(totals, ddof=1) / totals.mean() ** 2) if len(seeds) > 1 else np.nan)
    deviations = (left_out - value) ** 2
    spread = float(deviations.sum())
    return Contrast(
        value=float(value),
        family_variance=(1 - 1 / len(names)) * spread,
        family_df=float(np.sum(share) ** 2 / np.sum(share**2)) - 1,
        seed_variances=tuple(seed_variances),
        seeds=tuple(map(len, models)),
        weights=tuple(weights),
        shares=dict(zip(names.tolist(), (deviations / spread).tolist() if spread else [], strict=False)),
    )


def improvement_over_sepmean(
    seeds: Sequence[PairErrors], sepmean: PairErrors, families: Sequence[str] | np.ndarray, *, level: float = LEVEL
) -> Estimate:
    """By how many per cent the MSE of a configuration is below sepmean's on the same proteins, with its interval.

    Args:
        seeds: the errors of its seeds; the interval of a single one holds for these weights only.
        sepmean: the baseline's errors.
        families: of the proteins; where all are of one, there is no interval.
        level: of the interval.
    """
    if len(set(np.asarray(families)[sepmean.count > 0])) > 1:
        return contrast([seeds, [sepmean]], (1, -1), families).improvement(level)
    mse = sum(errors.mse for errors in seeds) / len(seeds)
    return Estimate(100 * (1 - mse / sepmean.mse), math.nan, math.nan)


def probability_of_improvement(first: Sequence[float], second: Sequence[float]) -> float:
    """The probability that a run of the first model has the lower MSE: Vargha and Delaney's A12 (2000)."""
    ours, theirs = np.array(first)[:, None], np.array(second)[None, :]
    return float(np.mean((ours < theirs) + 0.5 * (ours == theirs)))


def power(pilot: Contrast, seeds: int, improvement: float, alpha: float = ALPHA) -> float:
    """The probability that a comparison like this one, with `seeds` seeds of each model, shows a true improvement.

    Args:
        pilot: a contrast of models with two or more seeds each; a fitted model may have one.
        seeds: of each model.
        improvement: in per cent.
        alpha: p-value that a claim needs.
    """
    planned = replace(pilot, seeds=tuple(seeds if n > 1 else 1 for n in pilot.seeds))
    if planned.standard_error == 0:
        return 1.0
    shift = -np.log1p(-improvement / 100) / planned.standard_error
    bound = float(student.isf(alpha / 2, planned.df))
    return float(nct.sf(bound, planned.df, shift))


def seeds_needed(pilot: Contrast, improvement: float, alpha: float = ALPHA) -> int | None:
    """The fewest seeds of each model with 80 % power; None if 200 are not enough, because the proteins decide."""
    for seeds in range(FEWEST_SEEDS, MOST_SEEDS + 1):
        if power(pilot, seeds, improvement, alpha) >= POWER:
            return seeds
    return None


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values: claiming those up to 5 % makes one false claim or more in at most 5 % of cases.

    Source: Holm 1979.
    """
    order = np.argsort(p_values, kind="stable")
    adjusted = np.empty(len(order))
    adjusted[order] = np.maximum.accumulate(np.arange(len(order), 0, -1) * np.array(p_values)[order]).clip(max=1)
    return adjusted.tolist()


def level_of_promotion(number: int) -> float:
    """The p-value that a claim needs which is made again and again on the same proteins, each time of other models.

    All together err with probability ALPHA: the first may with a half of it, the second with a sixth, the n-th with
    1 / (n (n + 1)), whose sum is 1 however many follow.

    Args:
        number: which comparison of a model with a champion it is, from 1.
    """
    return ALPHA / (number * (number + 1))


@cache
def level_of_looks(looks: tuple[int, ...]) -> float:
    """The p-value that a difference needs at each of several looks, so that all together err with probability ALPHA.

    The same at each look (Pocock 1977), for means over the seeds there are; where proteins decide too, which do not
    change from look to look, it is cautious.

    Args:
        looks: number of seeds at each look, ascending.
    """
    if len(looks) == 1:
        return ALPHA
    seeds = np.array(looks, dtype=float)
    correlation = np.sqrt(np.minimum.outer(seeds, seeds) / np.maximum.outer(seeds, seeds))

    def excess(level: float) -> float:
        bound = np.full(len(looks), norm.isf(level / 2))
        inside = multivariate_normal.cdf(bound, cov=correlation, lower_limit=-bound, rng=np.random.default_rng(0))
        return 1 - inside - ALPHA

    return float(brentq(excess, ALPHA / len(looks), ALPHA, xtol=1e-5))
