"""Scores of a predicted structure against the true one, and random chains to compare them with."""

from collections.abc import Iterator

import numpy as np

SHORTEST_FRAGMENT = 4  # residues
ROUNDS = 20  # of superposing the pairs that are near
NEAR = 4.5  # Å: pairs that are superposed again, if d0 is not larger
GDT_CUTOFFS = (1.0, 2.0, 4.0, 8.0)  # Å
STEP = 3.8  # Å between C-alpha atoms that follow each other
PULLS = np.linspace(-1.5, 1.5, 61)  # of a random chain towards its middle, in units of the random step


def tm_scale(length: int) -> float:
    """d0 in Å: the distance at which a pair counts half, for a chain of `length` residues.

    Source: Zhang and Skolnick 2004, Proteins 57:702; at least 0.5 Å, as their program has it.
    """
    return max(0.5, 1.24 * max(length - 15, 0) ** (1 / 3) - 1.8)


def tm_score(coords: np.ndarray, true: np.ndarray) -> float:
    """TM-score, 0 to 1: the highest mean over residues of 1 / (1 + (d / d0)^2) over superpositions.

    Above 0.5 two structures mostly have the same fold; unrelated ones have about 0.17. The search is the authors':
    superpositions of fragments, each improved by superposing the pairs that are near; it finds a value a little below
    the highest in rare cases. (biotite's `tm_score` scores one given superposition of atoms with residue names.)

    Args:
        coords, true: C-alpha atoms in Å, [L, 3], residue by residue; a mirror image is not the same structure.

    Raises:
        ValueError: there are fewer than three residues, or the shapes differ.
    """
    scale = tm_scale(len(true))
    return float(max((1 / (1 + (apart / scale) ** 2)).mean() for apart in _superposed(coords, true, max(scale, NEAR))))


def gdt_ts(coords: np.ndarray, true: np.ndarray) -> float:
    """GDT_TS, 0 to 1: the highest share of residues within 1, 2, 4 and 8 Å, mean over these.

    Each share is maximised by itself. Arguments and errors are those of `tm_score`.

    Source: Zemla 2003, Nucleic Acids Res. 31:3370.
    """
    shares = [max((apart <= cutoff).mean() for apart in _superposed(coords, true, cutoff)) for cutoff in GDT_CUTOFFS]
    return float(np.mean(shares))


def _superposed(coords: np.ndarray, true: np.ndarray, near: float) -> Iterator[np.ndarray]:
    """Distances [L] of the pairs after superposing fragments, and then again and again the pairs nearer than `near`."""
    from biotite.structure import superimpose  # here, because it delays the start of a training

    length = len(true)
    if coords.shape != true.shape or length < 3:
        raise ValueError(f"three or more residues are needed in both structures, not {len(coords)} and {length}")
    for fragment in _fragments(length):
        fitted = np.zeros(length, dtype=bool)
        fitted[fragment] = True
        for _ in range(ROUNDS):
            apart = np.linalg.norm(superimpose(true, coords, fitted)[0] - true, axis=1)
            yield apart
            closer = apart <= near
            if closer.sum() < 3 or (closer == fitted).all():
                break
            fitted = closer


def _fragments(length: int) -> Iterator[slice]:
    """The whole chain, then halves, quarters and so on, each shifted by half of its length."""
    size = length
    while size >= min(SHORTEST_FRAGMENT, length):
        for first in range(0, length - size + 1, max(size // 2, 1)):
            yield slice(first, first + size)
        size //= 2


def radius_of_gyration(coords: np.ndarray) -> float:
    """Root mean square distance from the centre, in the unit of the coordinates [L, 3]."""
    return float(np.sqrt(((coords - coords.mean(axis=0)) ** 2).sum(axis=1).mean()))


def random_chain(length: int, radius: float, rng: np.random.Generator) -> np.ndarray:
    """A random walk with a given radius of gyration in Å: float64 [length, 3], centred.

    It shows what a structure is worth that knows only the size of the protein. Its steps are drawn towards the middle,
    or away from it, as much as it takes; then it is scaled to the very radius, so that they are about STEP long. It may
    cross itself.
    """
    steps = rng.normal(size=(length, 3))
    walks = np.zeros((length, len(PULLS), 3))
    for number, step in enumerate(steps[:-1]):
        drawn = step - PULLS[:, None] * walks[number] / max(radius, STEP)
        walks[number + 1] = walks[number] + STEP * drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    best = min(walks.swapaxes(0, 1), key=lambda walk: abs(np.log(radius_of_gyration(walk) / radius)))
    return (best - best.mean(axis=0)) * (radius / radius_of_gyration(best))
