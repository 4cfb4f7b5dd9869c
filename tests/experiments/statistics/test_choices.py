"""Intervals, collapsed runs, epochs chosen on other proteins, many comparisons, looks and power."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from protcli.errors import ProtcliError
from protcli.experiments.statistics.contrasts import contrast, holm, level_of_looks, power, seeds_needed
from protcli.experiments.statistics.epochs import at_chosen_epoch, collapsed, cross_fitted, failure_bound, halves
from protcli.experiments.statistics.estimates import Estimate, over_families, std
from protcli.proteins.metrics import PairErrors


def errors(count, mse) -> PairErrors:
    count = np.asarray(count, dtype=np.int64)
    return PairErrors(count, np.asarray(mse, dtype=float) * count, np.sqrt(mse) * count)


@pytest.mark.parametrize(
    ("mse", "marks"),
    [
        ([204, 253, 460, 487, 549, 599], "......"),  # seeds that scatter by 45 % are no two groups
        ([100, 103, 101, 98, 250, 99], "....x."),
        ([100, 250, 101, 600, 99, 98, 103, 102], ".x.x...."),
        ([300, 100, 305, 298, 310, 101], "x.xxx."),  # most of them
        ([100, 103, 500], "..."),  # no three runs whose scatter could be known
        ([100, 103, 101, 190, 99, 98], "......"),  # far out, but not twice the best
        ([100], "."),
    ],
)
def test_a_run_has_collapsed_where_seeds_fall_into_two_groups(mse: list[int], marks: str) -> None:
    assert "".join(".x"[mark] for mark in collapsed(mse)) == marks


def test_how_far_a_run_may_lie_from_the_others_by_hand() -> None:
    """Logarithms 0, 0.1 and 0.2: mean and deviation 0.1. Of four runs, chance has one in 800 for each beyond t of 2.

    Student's t of two degrees of freedom is (2 p - 1) / sqrt(2 p (1 - p)): 19.962 at p = 1 - 0.005 / 4, times 0.1 and
    sqrt(4 / 3) it is 2.305.
    """
    for last, mark in ((0.1 + 2.304, False), (0.1 + 2.306, True)):
        assert collapsed(np.exp([0, 0.1, 0.2, last])) == [False, False, False, mark]


def test_the_bound_on_the_failure_rate_is_exact():
    """With a failure rate at the bound, so few failures happen once in twenty times."""
    assert failure_bound(0, 5) == pytest.approx(1 - 0.05**0.2)  # 45 %
    for failed, runs in ((1, 5), (3, 8)):
        assert stats.binom.cdf(failed, runs, failure_bound(failed, runs)) == pytest.approx(0.05)
    assert failure_bound(4, 4) == 1


def test_the_interval_of_a_standard_deviation():
    """The factors of a textbook's table, for 2, 3 and 10 values."""
    for count, low, high in ((2, 0.446, 31.91), (3, 0.521, 6.285), (10, 0.688, 1.826)):
        found = std(2.0, count)
        assert (found.value, found.low, found.high) == pytest.approx((2.0, 2 * low, 2 * high), rel=1e-3)


@given(st.lists(st.tuples(st.integers(0, 500), st.integers(0, 12)), min_size=2, max_size=60))
def test_halves_keep_families_together_and_are_balanced(proteins):
    count, families = np.array([c for c, _ in proteins]), [f"f{f}" for _, f in proteins]
    pairs = {name: sum(c for c, f in zip(count, families, strict=True) if f == name) for name in families}
    if sum(each > 0 for each in pairs.values()) < 2:
        with pytest.raises(ProtcliError, match="single family"):
            halves(count, families)
        return
    half = halves(count, families)
    assert all(len({half[i] for i, f in enumerate(families) if f == name}) == 1 for name in pairs)
    assert abs(int(count[half].sum()) - int(count[~half].sum())) <= max(pairs.values())
    assert count[half].sum() > 0
    assert count[~half].sum() > 0


def test_an_epoch_is_measured_on_the_half_that_did_not_choose_it():
    """Epoch 1 is best on the first two proteins, epoch 3 on the last two, by hand."""
    count = [10, 10, 10, 10]
    epochs = [errors(count, mse) for mse in ([1, 1, 9, 9], [5, 5, 5, 5], [7, 8, 2, 2])]
    half = np.array([False, False, True, True])
    found = cross_fitted(epochs, half)
    assert (found.squared / found.count).tolist() == [7, 8, 9, 9]
    assert np.array_equal(found.count, count)
    assert found.absolute.tolist() == [epochs[2].absolute[0], epochs[2].absolute[1], 30, 30]


def test_one_family_chooses_its_own_epoch():
    epochs = [errors([10, 10], mse) for mse in ([1, 9], [2, 2], [3, 3])]
    assert at_chosen_epoch(epochs, ["f", "f"]) is epochs[1]
    assert at_chosen_epoch(epochs, ["f", "g"]).protein_mse.tolist() == [2, 9]


def test_holm_by_hand():
    assert (holm([0.01, 0.04, 0.03, 0.005]), holm([0.5, 0.6])) == (pytest.approx([0.03, 0.06, 0.06, 0.02]), [1.0, 1.0])
    assert holm([]) == []


def test_the_level_of_looks_is_pococks():
    """Jennison and Turnbull (2000), table 2.1: critical values 2.178, 2.289, 2.361, 2.413 for 2 to 5 equal looks."""
    for looks, critical in ((2, 2.178), (3, 2.289), (4, 2.361), (5, 2.413)):
        assert level_of_looks(tuple(range(1, looks + 1))) == pytest.approx(2 * stats.norm.sf(critical), rel=2e-3)
    assert level_of_looks((5,)) == 0.05
    assert 0.0125 < level_of_looks((3, 5, 8, 12)) < 0.05


def two_models(scatter: float, seeds: int):
    """Models whose seeds scatter by so much in the logarithm, on proteins that they find equally hard."""
    count = np.full(50, 100)
    values = stats.norm.ppf((np.arange(seeds) + 0.5) / seeds)
    values *= scatter / np.std(values, ddof=1)
    return contrast(
        [[errors(count, np.full(50, 10 * (1 + v))) for v in values] for _ in range(2)], [1, -1], list(range(50))
    )


def test_power_is_that_of_the_t_test():
    """Without a part of the proteins: as an independent implementation by simulation, 8 % at 4 % scatter, 5 seeds."""
    found = two_models(0.04, 5)
    rng = np.random.default_rng(0)
    shift = -np.log(1 - 0.08)
    draws = rng.normal(0, 0.04, (2, 5, 20000))
    p = stats.ttest_ind(draws[0] + shift, draws[1]).pvalue
    assert power(found, 5, 8.0) == pytest.approx(np.mean(p <= 0.05), abs=0.02)


def test_seeds_needed_are_the_fewest_with_that_power():
    found = two_models(0.04, 5)
    needed = seeds_needed(found, 8.0)
    assert power(found, needed, 8.0) >= 0.8 > power(found, needed - 1, 8.0)
    assert seeds_needed(found, 50.0) == 3  # nothing is claimed below
    assert seeds_needed(found, 0.01) is None


def test_over_families_is_students_interval_of_the_logit() -> None:
    """Ten families of one protein: the jackknife's error is that of a mean, and the degrees of freedom are nine."""
    values = np.array([0.1, 0.2, 0.25, 0.3, 0.3, 0.35, 0.4, 0.5, 0.6, 0.7])
    found, mean = over_families(np.append(values, np.nan), list("abcdefghijk")), 0.37
    half = stats.t.ppf(0.975, 9) * stats.sem(values) / (mean * (1 - mean))
    ends = (1 / (1 + np.exp(-np.log(mean / (1 - mean)) - side * half)) for side in (-1, 1))
    assert (found.value, found.low, found.high) == pytest.approx((mean, *ends))
    twins = over_families(np.repeat(values, 2), np.repeat(list("abcdefghij"), 2))
    assert (twins.low, twins.high) == pytest.approx((found.low, found.high))
    for few in (values[:9], np.zeros(20), np.array([np.nan])):  # nothing known of how they scatter
        assert np.isnan(over_families(few, np.arange(len(few))).low)


def test_intervals():
    assert Estimate(81.666, 80.0, 83.333).format() == "81.67 [80.00, 83.33]"
    assert Estimate(81.666, np.nan, np.nan).format(1) == "81.7"
