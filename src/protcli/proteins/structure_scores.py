"""Scores of a predicted structure against the true one, after the superposition that suits each score best."""

from collections.abc import Iterator

import numpy as np

SHORTEST_FRAGMENT = 4  # residues
ROUNDS = 20  # of superposing the pairs that are near
NEAR = 4.5  # A: pairs that are superposed again, if d0 is not larger
GDT_CUTOFFS = (1.0, 2.0, 4.0, 8.0)  # A


def tm_scale(length: int) -> float:
    """d0 in A: the distance at which a pair counts half, for a chain of `length` residues.

    Source: Zhang and Skolnick 2004, Proteins 57:702; at least 0.5 A, as their program has it.
    """
    return max(0.5, 1.24 * max(length - 15, 0) ** (1 / 3) - 1.8)


def tm_score(coords: np.ndarray, true: np.ndarray) -> float:
    """TM-score, 0 to 1: the highest mean over residues of 1 / (1 + (d / d0)^2) over superpositions.

    Above 0.5 two structures mostly have the same fold; unrelated ones have about 0.17. The search is the authors':
    superpositions of fragments, each improved by superposing the pairs that are near; it finds a value a little below
    the highest in rare cases.

    Args:
        coords, true: C-alpha atoms in A, [L, 3], residue by residue; a mirror image is not the same structure.

    Raises:
        ValueError: there are fewer than three residues, or the shapes differ.
    """
    scale = tm_scale(len(true))
    return max(float(np.mean(1 / (1 + (apart / scale) ** 2))) for apart in _superposed(coords, true, max(scale, NEAR)))


def gdt_ts(coords: np.ndarray, true: np.ndarray) -> float:
    """GDT_TS, 0 to 1: the highest share of residues within 1, 2, 4 and 8 A, mean over these.

    Each share is maximised by itself. Arguments and errors are those of `tm_score`.

    Source: Zemla 2003, Nucleic Acids Res. 31:3370.
    """
    shares = [
        max(float(np.mean(apart <= cutoff)) for apart in _superposed(coords, true, cutoff)) for cutoff in GDT_CUTOFFS
    ]
    return float(np.mean(shares))


def superpose(coords: np.ndarray, true: np.ndarray) -> np.ndarray:
    """The coordinates [L, 3] after the rotation and shift that bring them nearest to the true ones.

    Source: Kabsch 1976, Acta Cryst. A32:922.
    """
    rotation, shift = _transform(coords, true)
    return coords @ rotation + shift


def _transform(coords: np.ndarray, true: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    middle, true_middle = coords.mean(axis=0), true.mean(axis=0)
    left, _, right = np.linalg.svd((coords - middle).T @ (true - true_middle))
    left[:, -1] *= np.sign(np.linalg.det(left @ right))  # a rotation, not a mirror
    rotation = left @ right
    return rotation, true_middle - middle @ rotation


def _superposed(coords: np.ndarray, true: np.ndarray, near: float) -> Iterator[np.ndarray]:
    """Distances [L] of the pairs after superposing fragments, and then again and again the pairs nearer than `near`."""
    coords, true = np.asarray(coords, dtype=np.float64), np.asarray(true, dtype=np.float64)
    length = len(true)
    if coords.shape != true.shape or length < 3:
        raise ValueError(f"three or more residues are needed in both structures, not {len(coords)} and {length}")
    for fragment in _fragments(length):
        chosen = np.zeros(length, dtype=bool)
        chosen[fragment] = True
        for _ in range(ROUNDS):
            rotation, shift = _transform(coords[chosen], true[chosen])
            apart = np.linalg.norm(coords @ rotation + shift - true, axis=1)
            yield apart
            now = apart <= near
            if now.sum() < 3 or (now == chosen).all():
                break
            chosen = now


def _fragments(length: int) -> Iterator[slice]:
    """The whole chain, then halves, quarters and so on, each shifted by half of its length."""
    size = length
    while size >= min(SHORTEST_FRAGMENT, length):
        step = max(size // 2, 1)
        for first in range(0, length - size + 1, step):
            yield slice(first, first + size)
        size //= 2
