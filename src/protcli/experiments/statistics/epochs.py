"""Which epoch of a run counts, chosen on some proteins and measured on others, and which runs have collapsed."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy.stats import binomtest
from scipy.stats import t as student

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


COLLAPSED = 2.0  # times the MSE of the best seed, at least
CHANCE = 0.005  # that seeds which merely scatter are taken for two groups
GROUP = 3  # runs whose scatter can be known
RULE = (
    f"A run has collapsed if its MSE is more than {COLLAPSED:g} times that of the best seed of the same model and the "
    f"seeds fall into two groups there: {GROUP} runs or more on one side are so close to each other that chance puts "
    f"the next run so far away in {100 * CHANCE:g} of 100 cases (a t-test of the logarithms, adjusted for the number "
    "of runs). A run that diverged has collapsed, too."
)


def collapsed(mse: Sequence[float]) -> list[bool]:
    """For each run of one model, whether it has collapsed by `RULE`.

    The test of one run against a group is that of an outlier by Rosner (1983), from either side: seeds that scatter by
    40 % stay together, and several that collapse, even most of them, are found.
    """
    ordered = sorted(mse)
    logs = np.log(ordered)
    for kept in range(1, len(logs)):
        if logs[kept] - logs[0] > np.log(COLLAPSED) and (
            _is_outlier(logs[kept], logs[:kept]) or _is_outlier(logs[kept - 1], logs[kept:])
        ):
            return [value >= ordered[kept] for value in mse]
    return [False] * len(logs)


def _is_outlier(value: float, group: np.ndarray) -> bool:
    """Whether a value lies farther from a group than chance allows the farthest of them all."""
    runs = len(group)
    if runs < GROUP:
        return False
    spread = np.std(group, ddof=1) * (1 + 1 / runs) ** 0.5
    return abs(value - group.mean()) > student.ppf(1 - CHANCE / (runs + 1), runs - 1) * spread


def failure_bound(failed: int, runs: int) -> float:
    """The highest failure rate that so few failures leave possible: the exact one-sided 95 % bound.

    Source: Clopper and Pearson 1934.
    """
    return float(binomtest(failed, runs, alternative="less").proportion_ci(LEVEL).high)
