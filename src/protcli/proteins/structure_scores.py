"""Scores of a predicted structure against the true one, and random chains to compare them with."""

from collections.abc import Iterator

import numpy as np

SHORTEST_FRAGMENT = 4  # residues
ROUNDS = 20  # of superposing the pairs that are near
NEAR, FAR = 4.5, 8.0  # Å: least and largest d0 of the search for pairs that are superposed again
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

    Above 0.5 two structures mostly have the same fold; unrelated ones have about 0.17. The search is that
    of the authors' program: all fragments of a half, a quarter and so on of the chain are superposed, and then the
    pairs that are near. (biotite's `tm_score` scores one given superposition of atoms with residue names.)

    Args:
        coords, true: C-alpha atoms in Å, [L, 3], residue by residue; a mirror image is not the same structure.

    Raises:
        ValueError: there are fewer than three residues, or the shapes differ.
    """
    scale = tm_scale(len(true))
    found = _superposed(coords, true, min(max(scale, NEAR), FAR), 1.0)
    return float(max((1 / (1 + squared / scale**2)).mean(axis=1).max() for squared in found))


def gdt_ts(coords: np.ndarray, true: np.ndarray) -> float:
    """GDT_TS, 0 to 1: the highest share of residues within 1, 2, 4 and 8 Å, mean over these.

    Each share is maximised by itself. Arguments and errors are those of `tm_score`.

    Source: Zemla 2003, Nucleic Acids Res. 31:3370.
    """
    shares = [
        max((squared <= cutoff**2).mean(axis=1).max() for squared in _superposed(coords, true, cutoff))
        for cutoff in GDT_CUTOFFS
    ]
    return float(np.mean(shares))


def _superposed(coords: np.ndarray, true: np.ndarray, near: float, step: float = 0.0) -> Iterator[np.ndarray]:
    """Squared distances [S, L] of the pairs after S superpositions at a time: of all fragments of a length, then of the
    pairs within `near - step`, then again and again of those within `near + step`; of the three nearest at least."""
    length = len(true)
    if coords.shape != true.shape or length < 3:
        raise ValueError(f"three or more residues are needed in both structures, not {len(coords)} and {length}")
    size = length
    while size >= min(SHORTEST_FRAGMENT, length):
        shape = length - size + 1, length
        fitted = np.tri(*shape, size - 1) > np.tri(*shape, -1)  # [S, L]
        for cutoff in (near - step, *ROUNDS * [near + step]):
            yield (squared := _after_fit(coords, true, fitted))
            closer = squared <= np.maximum(cutoff**2, np.partition(squared, 2)[:, 2:3])
            fitted = closer[(closer != fitted).any(axis=1)]
            if not len(fitted):
                break
        size //= 2


def _after_fit(coords: np.ndarray, true: np.ndarray, fitted: np.ndarray) -> np.ndarray:
    """Squared distances [S, L] after superposing the pairs in each row of `fitted`, bool [S, L].

    Source: Kabsch 1976, Acta Cryst. A32:922.
    """
    share = fitted[:, None] / fitted.sum(axis=1)[:, None, None]  # [S, 1, L]
    a, b = (points - share @ points for points in (coords, true))  # [S, L, 3]
    left, _, right = np.linalg.svd((a.mT * share) @ b)
    left[..., 2] *= np.linalg.det(left @ right)[:, None]  # a rotation, not a mirror image
    return ((a @ left @ right - b) ** 2).sum(axis=-1)


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
