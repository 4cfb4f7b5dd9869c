"""Evolutionary profiles: what the columns of an alignment hold."""

import numpy as np

from protcli.proteins.residues import ALPHABET_SIZE, GAP_INDEX


def position_weights(rows: np.ndarray) -> np.ndarray:
    """A weight for each aligned sequence, so that many alike ones do not outvote the others: float64 [N], sum 1.

    In each column the residue kinds share one vote, and the sequences with one kind share that kind's part. A sequence
    has the mean over the columns in which it has a residue, so that fragments count as much as whole sequences.

    Args:
        rows: uint8 [N, L], 0..19 in the order of AMINO_ACIDS, 20 for gaps and unknown residues.

    Source: Henikoff and Henikoff 1994, J. Mol. Biol. 243:574.
    """
    counts = _counts(rows, np.ones(len(rows)))  # [L, 20]
    kinds = (counts > 0).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.nan_to_num(1 / (kinds[:, None] * counts), posinf=0.0)
    votes = np.zeros(len(rows))
    for column, of_kind in zip(rows.T, np.c_[share, np.zeros(len(share))], strict=True):
        votes += of_kind[column]
    votes /= np.maximum((rows != GAP_INDEX).sum(axis=1), 1)
    return votes / votes.sum() if votes.any() else np.full(len(rows), 1 / len(rows))


def alignment_profile(rows: np.ndarray) -> np.ndarray:
    """The profile of an alignment: float32 [L, 21], weighted frequencies of the amino acids and information content.

    Gaps and unknown residues do not count; a column of nothing else is zero. Nothing is added to the frequencies.

    Args:
        rows: as for `position_weights`.
    """
    weighted = _counts(rows, position_weights(rows))
    total = weighted.sum(axis=1, keepdims=True)
    frequency = np.divide(weighted, total, out=np.zeros_like(weighted), where=total > 0)
    return with_information(frequency)


def with_information(frequency: np.ndarray) -> np.ndarray:
    """Frequencies [L, 20], whose rows have the sum 1 or 0, with the column of information content: float32 [L, 21]."""
    return np.c_[frequency, information(frequency)].astype(np.float32)


def information(frequency: np.ndarray) -> np.ndarray:
    """Information content of the columns of an alignment, 0..1, from frequencies: float64 [L] from [L, 20]; 0 if empty.

    It is (log2 20 - H) / log2 20 with H the entropy of the frequencies in bits, as in ProteinNet.
    """
    frequency = frequency.astype(np.float64)
    logs = np.log2(frequency, out=np.zeros_like(frequency), where=frequency > 0)
    return np.where(frequency.any(axis=1), 1 + (frequency * logs).sum(axis=1) / np.log2(20), 0)


def _counts(rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Sum of the weights of each amino acid in each column: float64 [L, 20]."""
    counts = [np.bincount(column, weights, ALPHABET_SIZE)[:GAP_INDEX] for column in rows.T]
    return np.reshape(counts, (-1, GAP_INDEX))
