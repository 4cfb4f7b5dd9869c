"""Amino acids as letters and numbers."""

import numpy as np

AMINO_ACIDS = "ACDEFGHIKLMNPQRSTVWY"  # alphabetical one-letter order, as in ProteinNet
UNKNOWN = "X"  # a residue without a known parent amino acid
GAP_INDEX = 20  # column of gaps and unknown residues
ALPHABET_SIZE = 21
DSSP = "?HBEGITSC"  # letters of secondary structure: ? unknown, C none of the others

_CODES = np.full(256, 255, dtype=np.uint8)
_CODES[np.frombuffer(AMINO_ACIDS.encode(), dtype=np.uint8)] = np.arange(20)
_CODES[[ord(UNKNOWN), ord("-")]] = GAP_INDEX
_LETTERS = np.frombuffer((AMINO_ACIDS + UNKNOWN).encode(), dtype=np.uint8)


def encode(sequence: str) -> np.ndarray:
    """Encode the letters of a sequence: uint8 [L], 0..19 in the order of AMINO_ACIDS, 20 for X and -.

    Raises:
        ValueError: the message names the first other letter and its position from 1.
    """
    codes = _CODES[np.frombuffer(sequence.encode("latin-1", "replace"), dtype=np.uint8)]
    if (codes == 255).any():
        position = int((codes == 255).argmax())
        raise ValueError(f"{sequence[position]!r} at position {position + 1} is not one of {AMINO_ACIDS} or X")
    return codes


def decode(codes: np.ndarray) -> str:
    """The letters of codes [L]: those of AMINO_ACIDS, and X for 20."""
    return _LETTERS[codes].tobytes().decode("ascii")


def sequence_profile(sequence: str) -> np.ndarray:
    """The profile of a sequence without an alignment, float32 [L, 21]: one-hot with information content 1.

    An unknown residue has a zero row, because nothing is known about its column. Raises ValueError as `encode` does.
    """
    codes = encode(sequence)
    profile = np.zeros((len(codes), ALPHABET_SIZE), dtype=np.float32)
    known = np.flatnonzero(codes != GAP_INDEX)
    profile[known, codes[known]] = 1
    profile[known, 20] = 1
    return profile
