"""Calibration of confidence: against residues whose lDDT follows a known curve."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from protcli.proteins.confidence import FEWEST, GROUPS, Calibration, reliability


def overconfident(count: int = 20_000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Residues whose lDDT is on average the square of what is expected of them."""
    rng = np.random.default_rng(seed)
    expected = rng.random(count)
    return expected, expected**2 + rng.normal(0, 0.1, count)


def test_the_curve_is_the_one_that_the_residues_follow() -> None:
    curve = Calibration.fit(*overconfident())
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
    np.testing.assert_allclose(groups.expected, [0.2, 0.6])
    np.testing.assert_allclose(groups.found, [0.2, 0.9])
    assert groups.error == pytest.approx(0.15)


@given(
    arrays.arrays(np.float64, st.integers(1, 600), elements=st.floats(0, 1)),
    st.integers(0, 1000),
)
def test_any_residues_give_a_rising_curve_that_is_kept_as_text(expected: np.ndarray, seed: int) -> None:
    found = np.random.default_rng(seed).random(len(expected))
    groups = reliability(expected, found)
    assert groups.count.sum() == len(expected)
    assert len(groups.count) <= GROUPS
    assert len(groups.count) == 1 or groups.count.min() >= FEWEST
    curve = Calibration.fit(expected, found)
    asked = np.linspace(0, 1, 50)
    assert (np.diff(curve(asked)) >= 0).all()
    np.testing.assert_array_equal(Calibration.from_json(curve.to_json())(asked), curve(asked))


def test_unknown_stays_unknown() -> None:
    curve = Calibration.fit(*overconfident(1000))
    assert np.isnan(curve(np.array([0.5, np.nan]))).tolist() == [False, True]


def test_without_residues() -> None:
    with pytest.raises(ValueError, match="no residue has both"):
        Calibration.fit(np.empty(0), np.empty(0))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "Expecting value"),
        ("[]", "no calibration"),
        ('{"expected": [0.1]}', "no calibration"),
        ('{"expected": [0.5, 0.1], "found": [0, 1]}', "no rising curve"),
        ('{"expected": [], "found": []}', "no rising curve"),
        ('{"expected": [0.1, 0.2], "found": [0]}', "no rising curve"),
    ],
)
def test_other_text_is_refused(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Calibration.from_json(text)
