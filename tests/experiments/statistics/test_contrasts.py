"""The contrast of log errors: against hand-worked cases and SciPy."""

import numpy as np
import pytest
from scipy import stats

from protcli.errors import ProtcliError
from protcli.experiments.statistics.contrasts import Contrast, contrast, probability_of_improvement
from protcli.experiments.statistics.estimates import Estimate, over_seeds
from protcli.proteins.metrics import PairErrors


def errors(count, mse) -> PairErrors:
    count = np.asarray(count, dtype=np.int64)
    squared = np.asarray(mse) * count
    return PairErrors(count, squared, np.sqrt(np.abs(squared)))


def ratio(first, second, families=None) -> Contrast:
    return contrast([first, second], [1.0, -1.0], list(range(len(first[0]))) if families is None else families)


def test_over_seeds_is_students_interval():
    low, high = stats.t.interval(0.95, 2, loc=np.log(5.0), scale=stats.sem([3.0, 4.0, 8.0]) / 5)  # of the logarithm
    found, single = over_seeds([3.0, 4.0, 8.0]), over_seeds([3.0])
    assert (found.value, found.low, found.high) == pytest.approx((5.0, np.exp(low), np.exp(high)))
    assert single.value == 3.0
    assert np.isnan([single.low, single.high]).all()
    scores = [0.1, 0.4, 0.2]  # shares: an interval of the logit, which stays between 0 and 1
    share = over_seeds(scores, are_shares=True)
    mean, error = 0.7 / 3, stats.sem(scores)
    middle, scale = np.log(mean / (1 - mean)), error / (mean * (1 - mean))
    low, high = 1 / (1 + np.exp(-np.array(stats.t.interval(0.95, 2, loc=middle, scale=scale))))
    assert (share.value, share.low, share.high) == pytest.approx((mean, low, high))
    assert Estimate(2.0, 1.0, 4.0).scaled(-0.5) == Estimate(-1.0, -2.0, -0.5)  # in order


def test_by_hand():
    """Two families of one protein with 10 and 30 pairs: MSE 4 and 8, against 8 and 8.

    The pooled MSE are 280 / 40 = 7 and 8. Without the first family they are 8 and 8, without the second 4 and 8. The
    families hold 1/7 and 6/7 of the first model's error, 1/4 and 3/4 of the second's, on average 11/56 and 45/56.
    """
    found = ratio([errors([10, 30], [4, 8])], [errors([10, 30], [8, 8])])
    without_first, without_second = np.log(8 / 7) ** 2, np.log(4 / 7) ** 2  # squared deviations from log(7 / 8)
    variance = (without_first + without_second) / 2
    assert (found.value, found.family_variance) == (pytest.approx(np.log(7 / 8)), pytest.approx(variance))
    assert found.df == pytest.approx(56**2 / (11**2 + 45**2) - 1)
    half = stats.t.ppf(0.975, found.df) * variance**0.5
    assert found.interval().low == pytest.approx(np.log(7 / 8) - half)
    assert found.p == pytest.approx(2 * stats.t.sf(np.log(8 / 7) / variance**0.5, found.df))
    assert found.improvement().value == pytest.approx(100 / 8)
    assert found.improvement().high == pytest.approx(100 * (1 - np.exp(found.interval().low)))
    assert found.shares == pytest.approx({0: without_first / variance / 2, 1: without_second / variance / 2})


def test_seeds_alone_are_welchs_test():
    """Where every protein has the same error, only seeds vary."""
    first, second = [10.0, 10.2, 10.7], [9.9, 10.0, 10.1, 10.2]
    count = np.array([10, 20, 30])
    runs = ([errors(count, np.full(3, value)) for value in values] for values in (first, second))
    found = ratio(*runs)
    expected = stats.ttest_ind(np.log(first), np.log(second), equal_var=False)
    assert found.p == pytest.approx(expected.pvalue, rel=0.02)  # the delta method's log is that of the mean
    assert found.df == pytest.approx(expected.df, rel=0.05)
    assert found.seed_variances[0] == pytest.approx(np.var(first, ddof=1) / np.mean(first) ** 2)


def test_a_family_counts_as_one_protein():
    """Twins of every protein change nothing if they are known to be twins, and nearly halve the variance if not."""
    rng = np.random.default_rng(2)
    count = np.arange(10, 40)
    first, second = rng.gamma(4, 10, 30), rng.gamma(4, 9, 30)
    single = ratio([errors(count, first)], [errors(count, second)])
    twins = [[errors(np.tile(count, 2), np.tile(values, 2))] for values in (first, second)]
    known = ratio(*twins, families=[*range(30), *range(30)])
    assert (known.value, known.standard_error) == pytest.approx((single.value, single.standard_error))
    assert known.p == pytest.approx(single.p)
    unknown = ratio(*twins)
    assert unknown.family_variance == pytest.approx(single.family_variance / 2, rel=0.1)


def test_a_contrast_is_weighted():
    count = np.array([10, 30])
    models = [[errors(count, np.full(2, value))] for value in (4.0, 9.0, 3.0)]
    found = contrast(models, [0.5, 0.5, -1.0], [0, 1])
    assert found.value == pytest.approx(np.log(2))  # the geometric mean 6 against 3
    assert (found.family_variance, found.p) == pytest.approx((0, 0), abs=1e-12)
    assert contrast([models[0], models[0]], [1, -1], [0, 1]).p == 1


def test_a_long_chain_that_decides_has_the_share_of_it():
    """Nine chains of 10 pairs on which the models are level, and one of 30 on which they are not: by hand.

    The errors are 9 x 50 + 270 = 720 and 600: without the long chain 450 and 450, without a short one 670 and 550.
    """
    count = [*[10] * 9, 30]
    found = ratio([errors(count, [*[5] * 9, 9])], [errors(count, [5] * 10)])
    long, short = np.log(1.2), np.log(67 / 55) - np.log(1.2)
    assert found.shares[9] == pytest.approx(long**2 / (long**2 + 9 * short**2))
    assert sum(found.shares.values()) == pytest.approx(1)


def test_a_protein_without_a_pair_changes_nothing_and_other_pairs_are_not_compared():
    rng = np.random.default_rng(2)
    first, second = rng.gamma(4, 10, 30), rng.gamma(4, 9, 30)
    count = np.arange(1, 31)
    with_empty = [errors([*count, 0], [*values, 0.0]) for values in (first, second)]
    found, expected = ratio([with_empty[0]], [with_empty[1]]), ratio([errors(count, first)], [errors(count, second)])
    assert found.interval() == expected.interval()
    for one, two, families, said in (
        ([5, 6], [5, 7], None, "same pairs"),
        ([5, 0], [5, 0], None, "at least two protein families"),
        ([5, 6], [5, 6], ["f", "f"], "at least two protein families"),
    ):
        with pytest.raises(ProtcliError, match=said):
            ratio([errors(one, [1, 1])], [errors(two, [1, 1])], families=families)


def test_equality_takes_two_one_sided_tests():
    """Schuirmann's p is the larger of two one-sided t-tests, of a ratio below 1 + margin and above 1 / (1 + margin)."""
    count = np.array([10, 20, 30])
    first, second = ([errors(count, np.full(3, v)) for v in values] for values in ([10, 10.1, 10.2], [10, 10, 10.3]))
    found = ratio(first, second)
    t = [(np.log(1.05) - found.value) / found.standard_error, (np.log(1.05) + found.value) / found.standard_error]
    assert found.p_outside(0.05) == pytest.approx(max(stats.t.sf(each, found.df) for each in t))
    assert found.p_outside(0.05) < 0.05 < found.p_outside(0.005)


def test_probability_of_improvement_is_mann_whitneys_u():
    first, second = [3.0, 1.0, 4.0, 2.0], [5.0, 4.0, 0.5]
    u = stats.mannwhitneyu(second, first).statistic
    assert probability_of_improvement(first, second) == pytest.approx(u / 12)
    assert probability_of_improvement([1.0], [1.0]) == 0.5
