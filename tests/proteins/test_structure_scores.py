"""Scores of structures against biotite's formulas and known cases."""

import os
from itertools import pairwise
from pathlib import Path

import biotite.structure as structure
import numpy as np
import pytest

from protcli.proteins.structure_scores import gdt_ts, superpose, tm_scale, tm_score


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


def test_the_scale_is_the_published_one() -> None:
    assert tm_scale(100) == pytest.approx(1.24 * 85 ** (1 / 3) - 1.8)
    assert tm_scale(15) == tm_scale(20) == 0.5


def test_a_moved_structure_is_the_same() -> None:
    rng, true = np.random.default_rng(0), walk(80, 1)
    assert tm_score(moved(true, rng), true) == pytest.approx(1)
    assert gdt_ts(moved(true, rng), true) == 1
    np.testing.assert_allclose(superpose(moved(true, rng), true), true, atol=1e-9)
    assert tm_score(true * [1, 1, -1], true) < 0.5  # its mirror image is not


def test_the_superposition_and_the_formula_are_biotites() -> None:
    true, other = walk(60, 2), walk(60, 3)
    fitted, _ = structure.superimpose(atoms(true), atoms(other))
    np.testing.assert_allclose(superpose(other, true), fitted.coord, atol=1e-3)
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


def test_unlike_and_short_ones() -> None:
    with pytest.raises(ValueError, match="three or more residues"):
        tm_score(walk(2, 0), walk(2, 0))
    with pytest.raises(ValueError, match="three or more residues"):
        gdt_ts(walk(4, 0), walk(5, 0))
    assert 0 < tm_score(walk(3, 0), walk(3, 1)) <= 1


@pytest.mark.skipif("PROTCLI_REAL_DATA" not in os.environ, reason="PROTCLI_REAL_DATA names no folder of real data")
def test_unrelated_real_chains_are_about_as_alike_as_published() -> None:
    """Zhang and Skolnick 2004: 0.17 for unrelated structures, compared residue by residue."""
    from protcli.proteins.formats.proteinnet import read_proteinnet

    proteins = list(read_proteinnet(Path(os.environ["PROTCLI_REAL_DATA"]) / "validation"))
    chains = [protein.atom("ca")[protein.resolved("ca")] for protein in proteins]
    chains = [chain[:120] for chain in chains if len(chain) >= 120][:12]
    found = [tm_score(first, second) for first, second in pairwise(chains)]
    assert 0.12 < np.mean(found) < 0.25
