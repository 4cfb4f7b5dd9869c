"""Scores of structures against biotite's formulas and known cases."""

from itertools import pairwise

import biotite.structure as structure
import numpy as np
import pytest

from protcli.proteins.structure_scores import STEP, gdt_ts, radius_of_gyration, random_chain, tm_scale, tm_score


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
