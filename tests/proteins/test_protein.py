"""The record type: which atom lies where, and what is unknown; letters of residues, and profiles of alignments."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from biotite.structure import angle, rmsd
from biotite.structure.io.pdbx import CIFFile, get_structure
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from protcli.proteins.formats.proteinnet import read_proteinnet
from protcli.proteins.profiles import alignment_profile, position_weights, with_information
from protcli.proteins.protein import Protein, virtual_cbeta
from protcli.proteins.residues import ALPHABET_SIZE, AMINO_ACIDS, GAP_INDEX, encode, sequence_profile

# one residue of ideal geometry (Engh and Huber): N-CA 1.458 A, CA-C' 1.525 A, angle N-CA-C' 111.0 degrees
TAU = np.radians(111.0)
RESIDUE = np.array([[[1.458, 0, 0], [0, 0, 0], [1.525 * np.cos(TAU), 1.525 * np.sin(TAU), 0]]], dtype=np.float32)


def test_cbeta_of_an_ideal_residue_and_by_hand():
    n, ca, c = RESIDUE[0]
    cbeta = virtual_cbeta(RESIDUE)
    assert (cbeta.dtype, cbeta.shape) == (np.float32, (1, 3))
    assert np.linalg.norm(cbeta[0] - ca) == pytest.approx(1.53, abs=0.01)
    # tetrahedral, and L-handed by the CORN rule: seen from the hydrogen, CO, R and N turn clockwise
    assert np.degrees(angle(n, ca, cbeta[0])) == pytest.approx(110.5, abs=1.0)
    assert np.degrees(angle(c, ca, cbeta[0])) == pytest.approx(110.1, abs=1.0)
    assert np.dot(np.cross(n - ca, c - ca), cbeta[0] - ca) > 0
    # b = CA - N = -x, c = C' - CA = y: cross(b, c) = -z
    backbone = np.array([[[1, 0, 0], [0, 0, 0], [0, 1, 0]]], dtype=np.float32)
    assert_allclose(virtual_cbeta(backbone), [[-0.56802827, -0.54067466, 0.58273431]], rtol=1e-6)


@given(st.integers(0, 2**32 - 1))
def test_cbeta_moves_with_its_residue(seed):
    rng = np.random.default_rng(seed)
    rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    rotation *= np.linalg.det(rotation)  # a rotation, no mirror image
    shift = rng.uniform(-50, 50, 3)
    moved = (RESIDUE @ rotation.T + shift).astype(np.float32)
    assert_allclose(virtual_cbeta(moved), virtual_cbeta(RESIDUE) @ rotation.T + shift, atol=5e-5)


def test_cbeta_of_a_real_chain(real_data):
    atoms = get_structure(CIFFile.read(real_data / "raw_structures" / "1aki.cif"), model=1)
    atoms = atoms[(atoms.chain_id == "A") & ~atoms.hetero]
    residues = [atoms[atoms.res_id == number] for number in np.unique(atoms.res_id[atoms.atom_name == "CB"])]
    coord = {name: np.stack([r.coord[r.atom_name == name][0] for r in residues]) for name in ("N", "CA", "C", "CB")}
    assert len(residues) == 117  # hen egg-white lysozyme: 129 residues, 12 of them glycine
    built = virtual_cbeta(np.stack([coord["N"], coord["CA"], coord["C"]], axis=1))
    assert rmsd(coord["CB"], built) < 0.3  # no superposition
    assert np.linalg.norm(coord["CB"] - built, axis=1).max() < 0.6


def protein(length: int = 4) -> Protein:
    coords = np.arange(length * 9, dtype=np.float32).reshape(length, 3, 3) ** 1.5
    return Protein("p", "ACDE"[:length], np.zeros((length, 21), np.float32), coords, np.ones(length, dtype=bool))


def test_unknown_atoms_are_nan_and_zero_is_a_place():
    whole = protein()
    coords = whole.coords.copy()
    coords[1, 0] = np.nan  # no N
    coords[2, 1] = np.nan  # no CA
    some = replace(whole, coords=coords, mask=np.array([True, True, True, False]))
    assert_array_equal(some.resolved("ca"), [True, True, False, False])
    assert_array_equal(some.resolved("cb"), [True, False, False, False])
    assert_array_equal(some.atom("ca"), [*coords[:2, 1], *np.full((2, 3), np.nan)])
    assert_array_equal(some.atom("cb"), [virtual_cbeta(coords)[0], *np.full((3, 3), np.nan)])
    assert some.atom("ca").dtype == some.atom("cb").dtype == np.float32
    # the record itself is left alone: the masked residue's coordinates are still there
    assert_array_equal(some.coords[3], whole.coords[3])
    at_origin = replace(protein(1), coords=np.array([[[1, 0, 0], [0, 0, 0], [0, 1, 0]]], dtype=np.float32))
    assert at_origin.resolved("ca").all()
    assert at_origin.resolved("cb").all()


def test_categories_families_and_what_does_not_fit(chain):
    for identity, category in (("TBM-hard#T0949", "TBM-hard"), ("30#1ABC_1_A", "30"), ("1ABC_1_A", ""), ("#x", "")):
        assert replace(protein(), id=identity).category == category
    assert chain(4, 7).family == "chain7"  # without relatives its own
    assert replace(chain(4, 7), family="globins").family == "globins"
    assert len(protein()) == 4
    for name, shape, expected in (
        ("profile", (4, 20), (4, 21)), ("coords", (3, 3, 3), (4, 3, 3)), ("mask", (5,), (4,)),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=re.escape(f"p: {name} has shape {shape}, expected {expected}")):
            replace(protein(), **{name: np.zeros(shape, np.float32)})
    with pytest.raises(ValueError, match="unknown atom 'CA': expected one of ca, cb"):
        protein().atom("CA")


def test_the_twenty_in_alphabetical_order():
    assert "".join(sorted(AMINO_ACIDS)) == AMINO_ACIDS
    assert encode(AMINO_ACIDS).tolist() == list(range(20))
    assert encode("ACYX-").tolist() == [0, 1, 19, GAP_INDEX, GAP_INDEX]
    assert encode("").shape == (0,)


def test_other_letters_are_named():
    for sequence, position in (("ACB", 3), ("aC", 1), ("AC DE", 3), ("AUO", 2), ("Aé", 2), ("AC\N{SNOWMAN}Z", 3)):
        letter = sequence[position - 1]
        for read in (encode, sequence_profile):
            with pytest.raises(
                ValueError, match=f"^'{letter}' at position {position} is not one of {AMINO_ACIDS} or X"
            ):
                read(sequence)


@given(st.text(AMINO_ACIDS + "X"))
def test_profile_of_a_sequence_is_its_one_hot(sequence):
    profile = sequence_profile(sequence)
    assert profile.dtype == np.float32
    assert profile.shape == (len(sequence), ALPHABET_SIZE)
    for letter, row in zip(sequence, profile, strict=True):
        assert row.tolist() == [*(letter == other for other in AMINO_ACIDS), letter != "X"]  # information content last


def rows(*sequences: str) -> np.ndarray:
    return np.stack([encode(sequence) for sequence in sequences])


def test_weights_of_the_paper_and_of_a_fragment() -> None:
    """The example of Henikoff and Henikoff 1994; a fragment counts as much as a whole sequence."""
    found = position_weights(rows("GYVGS", "GFDGF", "GYDGF", "GYQGG"))
    np.testing.assert_allclose(found, [0.8 / 3, 0.8 / 3, 0.2, 0.8 / 3])
    whole, fragment = (0.5 + 1 + 1 + 1) / 4, 0.5
    expected = np.array([whole, fragment]) / (whole + fragment)
    np.testing.assert_allclose(position_weights(rows("AAAA", "C---")), expected)
    np.testing.assert_allclose(position_weights(rows("XX", "--")), [0.5, 0.5])  # nothing to tell them apart


def test_a_profile_by_hand() -> None:
    """A column of one kind, of two, of one and a gap, and of none; and one of all kinds, which tells nothing."""
    aligned = rows("AAAX", "AC--")
    whole, fragment = (1 / 2 + 1 / 2 + 1) / 3, (1 / 2 + 1 / 2) / 2
    first = whole / (whole + fragment)
    np.testing.assert_allclose(position_weights(aligned), [first, 1 - first])
    profile = alignment_profile(aligned)
    assert (profile.dtype, profile.shape) == (np.float32, (4, 21))
    entropy = -(first * np.log2(first) + (1 - first) * np.log2(1 - first))
    expected = [[1, first, 1, 0], [0, 1 - first, 0, 0], [1, 1 - entropy / np.log2(20), 1, 0]]
    np.testing.assert_allclose(profile[:, [AMINO_ACIDS.index("A"), AMINO_ACIDS.index("C"), 20]].T, expected, rtol=1e-6)
    np.testing.assert_allclose(alignment_profile(encode(AMINO_ACIDS)[:, None])[0], [0.05] * 20 + [0], atol=1e-7)


@given(st.lists(st.text(AMINO_ACIDS + "-", min_size=7, max_size=7), min_size=1, max_size=9))
def test_frequencies_add_up_and_a_second_copy_changes_nothing(sequences: list[str]) -> None:
    aligned = rows(*sequences)
    profile = alignment_profile(aligned)
    np.testing.assert_allclose(profile[:, :20].sum(axis=1), (aligned != 20).any(axis=0), atol=1e-6)
    assert (profile >= -1e-6).all()
    assert (profile <= 1 + 1e-6).all()
    np.testing.assert_allclose(alignment_profile(np.concatenate([aligned, aligned])), profile, atol=1e-6)


@pytest.mark.parametrize("name", ["text_sample", "openprotein_testfile.txt", "proteinnetpy_5_records.txt"])
def test_information_content_is_proteinnets(real_data: Path, name: str) -> None:
    """The last row of ProteinNet's own profiles, which has few decimals, follows from the others."""
    apart = []
    for protein in read_proteinnet(real_data / "genuine_proteinnet" / name):
        frequency = protein.profile[:, :20].astype(float)
        known = np.isclose(frequency.sum(axis=1), 1, atol=0.02)
        assert known.mean() > 0.9
        frequency[known] /= frequency[known].sum(axis=1, keepdims=True)
        apart.append(np.abs(with_information(frequency)[known, 20] - protein.profile[known, 20]))
    assert np.mean(np.concatenate(apart) < 5e-3) > 0.99  # a residue of openprotein_testfile.txt is 0.04 apart
