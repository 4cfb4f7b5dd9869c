"""Which epoch of a run counts, chosen on some proteins and measured on others, and which runs have collapsed."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy.stats import binomtest

from protcli.errors import ProtcliError
from protcli.experiments.statistics.estimates import LEVEL
from protcli.proteins.metrics import PairErrors


def halves(count: np.ndarray, families: Sequence[str] | np.ndarray) -> np.ndarray:
    """Divide proteins into two halves with nearly as many pairs, whole families together: bool [N].

    Families go to the lighter half, the largest first; families of one size are in the order of their names.

    Args:
        count: pairs of each protein [N].
        families: the family of each protein.

    Raises:
        ProtcliError: there are resolved pairs in a single family only.
    """
    names, members = np.unique(np.asarray(families), return_inverse=True)
    pairs = np.bincount(members, count)
    if np.count_nonzero(pairs) < 2:
        raise ProtcliError("proteins cannot be divided into halves: they have resolved pairs in a single family only")
    in_second, weights = np.zeros(len(names), dtype=bool), [0.0, 0.0]
    for family in np.argsort(-pairs, kind="stable"):
        lighter = weights[1] < weights[0]
        in_second[family] = lighter
        weights[int(lighter)] += pairs[family]
    return in_second[members]


def cross_fitted(epochs: Sequence[PairErrors], half: np.ndarray) -> PairErrors:
    """The errors of a run whose epoch is chosen on one half of the proteins and measured on the other, both in turn.

    Args:
        epochs: the errors on all proteins after each epoch.
        half: which half each protein is in, bool [N].
    """
    squared, absolute = (np.empty_like(epochs[0].squared) for _ in range(2))
    for measured in (half, ~half):
        others = np.flatnonzero(~measured)
        best = min(epochs, key=lambda errors: errors.select(others).mse)
        squared[measured], absolute[measured] = best.squared[measured], best.absolute[measured]
    return replace(epochs[0], squared=squared, absolute=absolute)


def at_chosen_epoch(epochs: Sequence[PairErrors], families: Sequence[str] | np.ndarray) -> PairErrors:
    """Errors on every validation protein at the epoch that is best for the other half of the families.

    Where all resolved pairs are in one family no other family can choose: the epoch is that of the lowest MSE.

    Args:
        epochs: errors after each epoch; one epoch leaves nothing to choose.
        families: of the proteins.
    """
    if len(epochs) == 1:
        return epochs[0]
    if len(set(np.asarray(families)[epochs[0].count > 0])) < 2:
        return min(epochs, key=lambda errors: errors.mse)
    return cross_fitted(epochs, halves(epochs[0].count, families))


COLLAPSED = 2.0  # times the MSE of the best seed
RULE = (
    f"A run has collapsed if its MSE is more than {COLLAPSED:g} times that of the best seed of the same model, or if "
    "it diverged."
)


def collapsed(mse: Sequence[float]) -> list[bool]:
    """For each run of one model, whether it has collapsed by `RULE`; the best seed's MSE is the yardstick."""
    return [value > COLLAPSED * min(mse) for value in mse]


def failure_bound(failed: int, runs: int) -> float:
    """The highest failure rate that so few failures leave possible: the exact one-sided 95 % bound.

    Source: Clopper and Pearson 1934.
    """
    return float(binomtest(failed, runs, alternative="less").proportion_ci(LEVEL).high)
