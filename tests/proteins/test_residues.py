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
