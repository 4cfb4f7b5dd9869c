"""Profiles of alignments, by hand and against ProteinNet's own."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protcli.proteins.formats.proteinnet import read_proteinnet
from protcli.proteins.profiles import alignment_profile, position_weights, with_information
from protcli.proteins.residues import AMINO_ACIDS, encode


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
