"""Intervals: against hand-worked cases and SciPy, and how often they are right on simulated runs."""

import numpy as np
import pytest
from scipy import stats

from protcli.errors import ProtcliError
from protcli.experiments.statistics.intervals import Estimate, contrast, difference, over_seeds
from protcli.proteins.metrics import PairErrors


def errors(count, mse) -> PairErrors:
    count = np.asarray(count, dtype=np.int64)
    squared = np.asarray(mse) * count
    return PairErrors(count, squared, np.sqrt(np.abs(squared)))


def test_over_seeds_is_students_interval():
    values = [3.0, 4.0, 8.0]
    expected = stats.t.interval(0.95, 2, loc=5.0, scale=stats.sem(values))
    found = over_seeds(values)
    assert (found.value, found.low, found.high) == pytest.approx((5.0, *expected))


def test_one_seed_has_no_interval():
    found = over_seeds([3.0])
    assert found.value == 3.0
    assert np.isnan([found.low, found.high]).all()
    assert not found.excludes_zero


def test_proteins_alone_are_the_paired_t_test_where_all_have_as_many_pairs():
    rng = np.random.default_rng(1)
    first, second = rng.gamma(4, 10, 200), rng.gamma(4, 9, 200)
    found = difference([errors(np.full(200, 50), first)], [errors(np.full(200, 50), second)])
    expected = stats.ttest_rel(first, second).confidence_interval()
    assert found.value == pytest.approx(np.mean(first - second))
    assert found.high - found.low == pytest.approx(expected.high - expected.low, rel=0.04)  # of resampling
    assert found.value - found.low == pytest.approx(found.high - found.value)


def test_seeds_alone_are_welchs_test():
    """Where every protein has the same error, only seeds vary."""
    first, second = [10.0, 12.0, 17.0], [9.0, 9.5, 11.0, 12.0]
    count = np.array([10, 20, 30])
    found = difference(
        [errors(count, np.full(3, value)) for value in first], [errors(count, np.full(3, value)) for value in second]
    )
    expected = stats.ttest_ind(first, second, equal_var=False).confidence_interval()
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_a_contrast_is_weighted():
    count = np.array([10, 30])
    models = [[errors(count, np.full(2, value))] for value in (4.0, 6.0, 10.0)]
    assert contrast(models, [0.5, 0.5, -1.0]) == Estimate(-5.0, -5.0, -5.0)


def test_a_protein_without_a_pair_changes_nothing():
    rng = np.random.default_rng(2)
    first, second = rng.gamma(4, 10, 30), rng.gamma(4, 9, 30)
    count = np.arange(1, 31)
    with_empty = [errors([*count, 0], [*values, 0.0]) for values in (first, second)]
    assert difference([with_empty[0]], [with_empty[1]]) == difference([errors(count, first)], [errors(count, second)])


def test_other_pairs_are_not_compared():
    with pytest.raises(ProtcliError, match="same pairs"):
        difference([errors([5, 6], [1, 1])], [errors([5, 7], [1, 1])])
    with pytest.raises(ProtcliError, match="at least two proteins"):
        difference([errors([5, 0], [1, 1])], [errors([5, 0], [1, 1])])


def test_scaling_keeps_the_order():
    assert Estimate(2.0, 1.0, 4.0).scaled(-0.5) == Estimate(-1.0, -2.0, -0.5)


def simulated(rng, *, seeds: int, effect: float) -> tuple[list[PairErrors], list[PairErrors]]:
    """Runs of two models on 100 proteins: hard and easy proteins, long and short, that the models find hard alike but
    not equally; seeds that train to different levels and err differently on each protein."""
    length = rng.integers(40, 250, 100)
    count = length * (length - 1) // 2
    hardness = rng.gamma(4, 10, 100)
    models = []
    for shift in (effect, 0.0):
        own = hardness + rng.normal(0, 6, 100)
        models.append([errors(count, shift + own + rng.normal(0, 2.0) + rng.normal(0, 4, 100)) for _ in range(seeds)])
    return models[0], models[1]


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [3, 5])
def test_intervals_cover_as_often_as_they_say(seeds):
    """A known difference is in the interval 93 to 97 % of the time; of no difference "better" is said in at most 5 %.

    Of 3000 simulated comparisons: the frequency of a true 95 % is known to within 0.8 %.
    """
    rng = np.random.default_rng(seeds)
    known = [difference(*simulated(rng, seeds=seeds, effect=3.0)) for _ in range(3000)]
    covered = np.mean([found.low <= 3.0 <= found.high for found in known])
    assert 0.93 <= covered <= 0.97
    none = [difference(*simulated(rng, seeds=seeds, effect=0.0)) for _ in range(3000)]
    assert np.mean([found.high < 0 for found in none]) <= 0.05
