"""Many questions to the same runs, and the same question asked again: what each answer may claim."""

from collections.abc import Sequence
from functools import cache

import numpy as np
from scipy.optimize import brentq
from scipy.stats import multivariate_normal, norm

ALPHA = 0.05


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values: claiming those up to 5 % makes one false claim or more in at most 5 % of cases.

    Source: Holm 1979.
    """
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(np.argsort(p_values, kind="stable")):
        highest = max(highest, (len(p_values) - rank) * p_values[index])
        adjusted[index] = min(1.0, highest)
    return adjusted


@cache
def level_of_looks(looks: tuple[int, ...], alpha: float = ALPHA) -> float:
    """The p-value that a difference needs at each of several looks, so that all together err with probability `alpha`.

    The same at each look (Pocock 1977), for means over the seeds there are; where proteins decide too, which do not
    change from look to look, it is cautious.

    Args:
        looks: number of seeds at each look, ascending.
        alpha: the probability of a false claim at any of them.
    """
    if len(looks) == 1:
        return alpha
    seeds = np.array(looks, dtype=float)
    correlation = np.sqrt(np.minimum.outer(seeds, seeds) / np.maximum.outer(seeds, seeds))

    def excess(level: float) -> float:
        bound = np.full(len(looks), norm.isf(level / 2))
        inside = multivariate_normal.cdf(bound, cov=correlation, lower_limit=-bound, rng=np.random.default_rng(0))
        return 1 - inside - alpha

    return float(brentq(excess, alpha / len(looks), alpha, xtol=1e-5))
