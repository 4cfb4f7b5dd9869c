"""Coordinates from distances: exact ones give the chain back, with its hand."""

from pathlib import Path

import biotite.structure as structure
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from protcli.proteins.coordinates import trace
from protcli.proteins.formats.proteinnet import read_proteinnet


def distances(coords: np.ndarray) -> np.ndarray:
    return np.linalg.norm(coords[:, None] - coords[None], axis=-1)


def helix(length: int, hand: int = 1) -> np.ndarray:
    """C-alpha atoms of an alpha helix: 100 degrees and 1.5 A a residue at a radius of 2.3 A."""
    angle = np.deg2rad(100) * np.arange(length) * hand
    return np.stack([2.3 * np.cos(angle), 2.3 * np.sin(angle), 1.5 * np.arange(length)], axis=1)


def apart(found: np.ndarray, true: np.ndarray) -> float:
    """RMSD in A after superposition, without mirroring; by biotite."""
    fitted, _ = structure.superimpose(true, found)
    return float(structure.rmsd(true, fitted))


def test_a_helix_is_right_handed_whatever_its_distances_came_from() -> None:
    for hand in (1, -1):
        found = trace(distances(helix(30, hand)))
        assert found.handedness == 1
        assert found.stress < 1e-4
        assert apart(found.coords, helix(30)) < 1e-3


@given(arrays(np.float64, (6, 3), elements=st.floats(-20, 20)))
def test_exact_distances_give_the_points_back(points: np.ndarray) -> None:
    found = trace(distances(points), np.ones((6, 6)))
    np.testing.assert_allclose(distances(found.coords), distances(points), atol=0.05)
    np.testing.assert_allclose(found.coords.mean(axis=0), 0, atol=1e-6)
    assert np.linalg.norm(np.diff(trace(np.array([[0, 3.8], [3.8, 0]])).coords, axis=0)) == pytest.approx(3.8)
    flat = trace(distances(np.array([[0.0, 0, 0], [3.8, 0, 0], [3.8, 3.8, 0]])))
    assert np.isnan(flat.handedness)
    assert flat.stress < 1e-6


def test_doubtful_distances_count_less_and_infinite_ones_are_refused() -> None:
    true = helix(40)
    wrong = np.random.default_rng(0).random((40, 40)) < 0.2
    wrong |= wrong.T
    noisy = np.where(wrong, distances(true) + 15, distances(true))
    np.fill_diagonal(noisy, 0)
    assert apart(trace(noisy, np.ones((40, 40))).coords, true) > 1
    assert apart(trace(noisy, np.where(wrong, 30, 1)).coords, true) < 0.1
    with pytest.raises(ValueError, match="finite"):
        trace(np.full((2, 2), np.nan))


@pytest.mark.slow
def test_twenty_real_chains_are_rebuilt_from_their_true_distances(real_data: Path) -> None:
    for protein in list(read_proteinnet(real_data / "validation"))[:20]:
        known = protein.atom("ca")[protein.resolved("ca")].astype(float)
        found = trace(distances(known))
        assert apart(found.coords, known) < 0.05, protein.id
        assert found.handedness > 0.3, protein.id
