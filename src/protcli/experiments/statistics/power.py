"""How many seeds a comparison needs."""

from dataclasses import replace

import numpy as np
from scipy.stats import nct
from scipy.stats import t as student

from protcli.experiments.statistics.contrasts import FEWEST_SEEDS, Contrast
from protcli.experiments.statistics.multiplicity import ALPHA

POWER = 0.8
MOST_SEEDS = 200


def power(found: Contrast, seeds: int, improvement: float, alpha: float = ALPHA) -> float:
    """The probability that a comparison like this one, with so many seeds of each model, shows a true improvement.

    Args:
        found: a contrast of models with two or more seeds each; a fitted model may have one.
        seeds: of each model.
        improvement: in per cent.
        alpha: p-value that a claim needs.
    """
    planned = replace(found, seeds=tuple(seeds if n > 1 else 1 for n in found.seeds))
    if planned.standard_error == 0:
        return 1.0
    shift = -np.log1p(-improvement / 100) / planned.standard_error
    bound = float(student.isf(alpha / 2, planned.freedom))
    return float(nct.sf(bound, planned.freedom, shift))


def seeds_needed(found: Contrast, improvement: float, alpha: float = ALPHA) -> int | None:
    """The fewest seeds of each model with 80 % power; None if 200 are not enough, because the proteins decide."""
    for seeds in range(FEWEST_SEEDS, MOST_SEEDS + 1):
        if power(found, seeds, improvement, alpha) >= POWER:
            return seeds
    return None
