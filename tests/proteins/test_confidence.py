"""What is read from distograms, by hand and against sampled distances; its calibration against a known curve."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from protcli.proteins.confidence import (
    LEAST_RESIDUES,
    MOST_GROUPS,
    Calibration,
    deviation,
    expected_lddt,
    probability_below,
    reliability,
)

EDGES = np.array([2.0, 4.0, 8.0, 16.0])


def overconfident(count: int = 20_000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Residues whose lDDT is on average the square of what is expected of them."""
    rng = np.random.default_rng(seed)
    expected = rng.random(count)
    return expected, expected**2 + rng.normal(0, 0.1, count)


def test_the_curve_is_the_one_that_the_residues_follow() -> None:
    curve = Calibration.fit(reliability(*overconfident()), 12)
    asked = np.linspace(0.1, 0.9, 9)
    np.testing.assert_allclose(curve(asked), asked**2, atol=0.02)
    expected, found = overconfident(seed=1)  # others
    assert reliability(expected, found).error > 0.15  # a sixth is the mean of x - x^2
    assert reliability(curve(expected), found).error < 0.015


def test_groups_by_hand() -> None:
    expected = np.repeat([0.2, 0.6], 60)
    found = np.concatenate([np.tile([0.1, 0.3], 30), np.full(60, 0.9)])
    groups = reliability(expected[::-1], found[::-1])
    assert groups.count.tolist() == [60, 60]
    np.testing.assert_allclose([groups.expected, groups.found], [[0.2, 0.6], [0.2, 0.9]])
    assert groups.error == pytest.approx(0.15)
    with pytest.raises(ValueError, match="no residue has both"):
        reliability(np.empty(0), np.empty(0))


@given(arrays.arrays(np.float64, st.integers(1, 600), elements=st.floats(0, 1)), st.integers(0, 1000))
def test_any_residues_give_a_rising_curve_that_is_kept_as_text(expected: np.ndarray, seed: int) -> None:
    found = np.random.default_rng(seed).random(len(expected))
    groups = reliability(expected, found)
    assert groups.count.sum() == len(expected)
    assert len(groups.count) <= MOST_GROUPS
    assert len(groups.count) == 1 or groups.count.min() >= LEAST_RESIDUES
    curve = Calibration.fit(groups, 12)
    asked = np.linspace(0, 1, 50)
    assert (np.diff(curve(asked)) >= 0).all()
    assert np.isnan(curve(np.array([0.5, np.nan]))).tolist() == [False, True]
    read = Calibration.from_json(curve.to_json())
    np.testing.assert_array_equal(read(asked), curve(asked))
    assert read.about == "calibrated on 12 validation chains, fewer than 30: rough"


@pytest.mark.parametrize(("text", "said"), [
    ("", "Expecting value"),
    ("[]", "no calibration"),
    ('{"expected": [0.1]}', "no calibration"),
    ('{"expected": [0.5, 0.1], "found": [0, 1]}', "no rising curve"),
    ('{"expected": [], "found": []}', "no rising curve"),
    ('{"expected": [0.1, 0.2], "found": [0]}', "no rising curve"),
    ('{"expected": [0.1], "found": [0], "chains": []}', "no calibration"),
])  # fmt: skip
def test_other_text_is_refused(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Calibration.from_json(text)


def test_a_calibration_says_what_it_rests_on() -> None:
    assert Calibration.fit(reliability(*overconfident()), 30).about == "calibrated on 30 validation chains"
    of_0_1_0 = Calibration.from_json('{"expected": [0.1], "found": [0.2]}')
    assert of_0_1_0.about == "calibrated on an unknown number of validation chains"


def test_probabilities_below_a_distance_by_hand_and_deviations_of_sampled_distances() -> None:
    one = np.array([0.5, 0.25, 0.25])
    for distance, expected in ((1, 0), (2, 0), (3, 0.25), (4, 0.5), (5, 0.5625), (8, 0.75), (12, 0.875), (99, 1)):
        assert probability_below(one, EDGES, distance) == pytest.approx(expected)
    both = np.array([one, one[::-1]])
    np.testing.assert_allclose(probability_below(both, EDGES, np.array([3.0, 8.0])), [0.25, 0.5])
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet([1, 1, 1], size=4)
    for one, found in zip(probabilities, deviation(probabilities, EDGES), strict=True):
        bins = rng.choice(3, size=200_000, p=one)
        assert found == pytest.approx(rng.uniform(EDGES[bins], EDGES[bins + 1]).std(), rel=0.01)


def test_lddt_is_that_of_sampled_maps_and_of_certain_and_far_pairs() -> None:
    """The expected share agrees with that of many maps drawn from the distributions, scored as lDDT defines it."""
    rng, length, edges = np.random.default_rng(1), 6, np.arange(0.0, 31.0)
    probabilities = rng.dirichlet(np.full(30, 0.3), size=(length, length))
    probabilities = (probabilities + probabilities.transpose(1, 0, 2)) / 2
    distance = probabilities @ (edges[1:] - 0.5)
    kept, near = np.zeros(length), np.zeros(length)
    cumulative = probabilities.cumsum(axis=-1)
    for _ in range(4000):
        bins = (rng.random((length, length, 1)) > cumulative).sum(axis=-1).clip(max=29)
        true = edges[bins] + rng.random((length, length))
        counted = (true < 15) & ~np.eye(length, dtype=bool)
        within = sum((np.abs(true - distance) < tolerance) & counted for tolerance in (0.5, 1, 2, 4)) / 4
        kept, near = kept + within.sum(axis=1), near + counted.sum(axis=1)
    np.testing.assert_allclose(expected_lddt(probabilities, edges, distance), kept / near, atol=0.01)
    edges, certain = np.array([0.0, 5.0, 5.2, 40.0, 40.2]), np.zeros((3, 3, 4))
    certain[..., 1] = 1
    certain[2, :, :], certain[:, 2, :] = [0, 0, 0, 1], [0, 0, 0, 1]
    found = expected_lddt(certain, edges, certain @ ((edges[1:] + edges[:-1]) / 2))
    np.testing.assert_allclose(found, [1, 1, np.nan])  # nothing is near the last
