"""Trainings that collapse are counted apart: averaged in, a rare failure would drown every other difference."""

from collections.abc import Sequence

from scipy.stats import binomtest

from protcli.experiments.statistics.estimates import LEVEL

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


def failures(failed: int, runs: int) -> str:
    """`1 of 5 (up to 66 %)`: runs that collapsed or diverged, and the failure rate that this leaves possible."""
    return f"{failed} of {runs} (up to {100 * failure_bound(failed, runs):.0f} %)"
