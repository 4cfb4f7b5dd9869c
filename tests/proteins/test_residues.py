"""Letters and numbers of residues."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protcli.proteins.residues import ALPHABET_SIZE, AMINO_ACIDS, GAP_INDEX, encode, sequence_profile


def test_the_twenty_in_alphabetical_order():
    assert "".join(sorted(AMINO_ACIDS)) == AMINO_ACIDS
    assert encode(AMINO_ACIDS).tolist() == list(range(20))
    assert encode("ACYX-").tolist() == [0, 1, 19, GAP_INDEX, GAP_INDEX]
    assert encode("").shape == (0,)


@pytest.mark.parametrize(
    ("sequence", "letter", "position"),
    [("ACB", "B", 3), ("aC", "a", 1), ("AC DE", " ", 3), ("AUO", "U", 2), ("Aé", "é", 2), ("AC\N{SNOWMAN}Z", "☃", 3)],
)
def test_other_letters_are_named(sequence, letter, position):
    with pytest.raises(ValueError, match=f"^'{letter}' at position {position} is not one of ACDEFGHIKLMNPQRSTVWY or X"):
        encode(sequence)
    with pytest.raises(ValueError, match=f"^'{letter}' at position {position}"):
        sequence_profile(sequence)


@given(st.text(AMINO_ACIDS + "X"))
def test_profile_of_a_sequence_is_its_one_hot(sequence):
    profile = sequence_profile(sequence)
    assert profile.dtype == np.float32
    assert profile.shape == (len(sequence), ALPHABET_SIZE)
    for letter, row in zip(sequence, profile, strict=True):
        assert row.tolist() == [*(letter == other for other in AMINO_ACIDS), letter != "X"]  # information content last
