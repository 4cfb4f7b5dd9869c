"""Coordinates from distances, and scores of structures, against biotite and known cases."""

from itertools import pairwise
from pathlib import Path

import biotite.structure as structure
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from protcli.proteins.coordinates import trace
from protcli.proteins.formats.proteinnet import read_proteinnet
from protcli.proteins.structure_scores import STEP, gdt_ts, radius_of_gyration, random_chain, tm_scale, tm_score


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


def moved(coords: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    rotation[:, 0] *= np.sign(np.linalg.det(rotation))
    return coords @ rotation + rng.normal(size=3) * 20


def walk(length: int, seed: int) -> np.ndarray:
    steps = np.random.default_rng(seed).normal(size=(length, 3))
    return np.cumsum(3.8 * steps / np.linalg.norm(steps, axis=1, keepdims=True), axis=0)


def atoms(coords: np.ndarray) -> structure.AtomArray:
    array = structure.AtomArray(len(coords))
    array.coord, array.atom_name[:], array.res_name[:] = coords.astype(np.float32), "CA", "ALA"
    array.res_id[:], array.chain_id[:] = np.arange(1, len(coords) + 1), "A"
    return array


def test_a_moved_structure_is_the_same_and_a_short_one_has_no_score() -> None:
    assert tm_scale(100) == pytest.approx(1.24 * 85 ** (1 / 3) - 1.8)  # as published
    assert tm_scale(15) == tm_scale(20) == 0.5
    rng, true = np.random.default_rng(0), walk(80, 1)
    assert tm_score(moved(true, rng), true) == pytest.approx(1)
    assert gdt_ts(moved(true, rng), true) == 1
    assert tm_score(true * [1, 1, -1], true) < 0.5  # its mirror image is not
    for score, lengths in ((tm_score, (2, 2)), (gdt_ts, (4, 5))):
        with pytest.raises(ValueError, match="three or more residues"):
            score(*(walk(length, 0) for length in lengths))
    assert 0 < tm_score(walk(3, 0), walk(3, 1)) <= 1


def test_the_formula_is_biotites() -> None:
    true, other = walk(60, 2), walk(60, 3)
    fitted, _ = structure.superimpose(atoms(true), atoms(other))
    index = np.arange(60)
    of_rmsd = structure.tm_score(atoms(true), fitted, index, index)
    assert tm_score(other, true) >= of_rmsd - 1e-6  # the search begins there
    assert tm_score(other, true) < 0.35


def tm_score_step_by_step(coords: np.ndarray, true: np.ndarray) -> float:
    """The search of Zhang and Skolnick's program, TMscore, a superposition of biotite's at a time: fragments of L, L/2,
    ... 4 residues from every start, then 20 times the pairs within d0 of the search, less 1 A first and 1 A more later,
    and 0.5 A more again until there are three."""
    length, best = len(true), 0.0
    d0 = 1.24 * (length - 15) ** (1 / 3) - 1.8
    size = length
    while size >= 4:
        for start in range(length - size + 1):
            fitted = (np.arange(length) >= start) & (np.arange(length) < start + size)
            for turn in range(21):
                apart = np.linalg.norm(structure.superimpose(true, coords, fitted)[0] - true, axis=1)
                best = max(best, float(np.mean(1 / (1 + (apart / d0) ** 2))))
                cutoff = np.clip(d0, 4.5, 8) + (1 if turn else -1)
                while (apart <= cutoff).sum() < 3:
                    cutoff += 0.5
                if ((apart <= cutoff) == fitted).all():
                    break
                fitted = apart <= cutoff
        size //= 2
    return best


@pytest.mark.parametrize("length", [30, 55])
def test_the_search_is_the_published_one(length: int) -> None:
    """Unlike chains, where a start at every half length only found 0.002 to 0.02 less; and a noisy copy."""
    rng, true = np.random.default_rng(length), walk(length, 6)
    for other in (
        random_chain(length, radius_of_gyration(true), rng),
        walk(length, 7),
        true + rng.normal(0, 4, (length, 3)),
    ):
        assert tm_score(moved(other, rng), true) == pytest.approx(tm_score_step_by_step(other, true), abs=1e-3)


def test_half_of_a_chain_that_fits() -> None:
    """One half is exact and the other far away: a superposition of all would fit neither."""
    rng, true = np.random.default_rng(4), walk(100, 5)
    half = true + np.where(np.arange(100) < 50, 0, 300)[:, None]
    found = tm_score(moved(half, rng), true)
    assert 0.5 <= found < 0.51
    assert gdt_ts(moved(half, rng), true) == 0.5


def test_unrelated_chains_are_about_as_alike_as_published() -> None:
    """Zhang and Skolnick 2004: 0.17 for unrelated structures, compared residue by residue."""
    chains = [random_chain(150, 15.0, np.random.default_rng(seed)) for seed in range(6)]
    assert 0.1 < np.mean([tm_score(first, second) for first, second in pairwise(chains)]) < 0.25


@pytest.mark.parametrize(("length", "radius"), [(5, 4.0), (60, 10.5), (150, 15.0), (256, 18.5), (256, 45.0)])
def test_a_random_chain_has_the_radius_and_about_the_steps_of_a_protein(length: int, radius: float) -> None:
    """From as compact as proteins of that length are to as stretched as a long helix."""
    chain = random_chain(length, radius, np.random.default_rng(0))
    assert chain.shape == (length, 3)
    assert radius_of_gyration(chain) == pytest.approx(radius)
    steps = np.linalg.norm(np.diff(chain, axis=0), axis=1)
    np.testing.assert_allclose(steps, steps[0], rtol=1e-6)
    assert steps[0] == pytest.approx(STEP, rel=0.25)
