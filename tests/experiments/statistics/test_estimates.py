"""A mean over proteins with the interval of a bootstrap over families."""

import numpy as np

from protcli.experiments.statistics.estimates import Estimate, over_families


def test_over_families_by_hand_and_in_repeats() -> None:
    """Two families: half of the draws take one of them twice, so the interval reaches from mean to mean."""
    found = over_families(np.array([1.0, 3, 8, np.nan]), ["a", "a", "b", "b"])
    assert (found, over_families(np.array([1.0, 3]), ["a", "a"]).value) == (Estimate(4.0, 2.0, 8.0), 2)
    assert np.isnan(over_families(np.array([1.0, 3]), ["a", "a"]).low)
    assert np.isnan(over_families(np.array([np.nan]), ["a"]).value)
    rng = np.random.default_rng(0)
    families = np.repeat(np.arange(60), 3)
    right = 0
    for _ in range(200):  # values that a family shares but for a little
        values = rng.normal(size=60)[families] + 0.3 * rng.normal(size=180)
        estimate = over_families(values, families)
        right += estimate.low <= 0 <= estimate.high
    assert 0.9 < right / 200 < 0.985


def test_intervals():
    assert Estimate(81.666, 80.0, 83.333).format() == "81.67 [80.00, 83.33]"
    assert Estimate(81.666, np.nan, np.nan).format(1) == "81.7"
