"""Coordinates of a chain's C-alpha atoms from the distances between them."""

from dataclasses import dataclass

import numpy as np
from scipy.linalg import eigh, inv
from scipy.sparse.csgraph import shortest_path
from scipy.spatial.distance import cdist

ROUNDS = 300  # of majorisation at most
ALLOWED = 1.05  # times the stress, for a stretch of the chain in its other hand
EXACT = 1e-12  # of the squared distances: a stress that is none
ENOUGH = 1e-5  # relative improvement of the stress at which it ends
DIMENSIONS = 6  # of the space that it begins in: there a part of the chain can turn into its mirror image
LEAST_ERROR = 0.3  # A: no distance is known better than that
TURN = 6.5  # A: residues i and i + 3 are nearer than this in a helical turn; in a strand they are 8 A apart or more


@dataclass(frozen=True, eq=False)
class Trace:
    """C-alpha atoms in space.

    Attributes:
        coords: float64 [L, 3] in A, centred.
        stress: weighted root mean square difference in A between their distances and the given ones.
        handedness: right-handed helical turns less left-handed ones, per helical turn: near 1 as in proteins, near 0
            where the choice between the two mirror images is a guess. NaN without any helical turn.
    """

    coords: np.ndarray
    stress: float
    handedness: float


def trace(distance: np.ndarray, weight: np.ndarray | None = None) -> Trace:
    """Place the atoms of a chain so that their distances are as near as possible to the given ones.

    The distances of mirror images are the same: the one with more right-handed helical turns is returned.

    Args:
        distance: float [L, L] in A, symmetric, zero on the diagonal.
        weight: of each squared difference, [L, L], such as one over its variance; None weighs all alike. 0 where the
            distance is not known.

    Raises:
        ValueError: there are fewer than two residues, values that are not finite or negative, or residues that no known
            distance ties to the others.

    Source: Torgerson 1952 for the start in six dimensions, and from there weighted majorisation (SMACOF; de Leeuw 1977)
    in one dimension less each time.
    """
    distance = np.asarray(distance, dtype=np.float64)
    length = len(distance)
    weight = np.ones((length, length)) if weight is None else np.array(weight, dtype=np.float64)
    if length < 2 or distance.shape != (length, length) or weight.shape != distance.shape:
        raise ValueError(
            f"distances and weights of two or more residues are needed, [L, L], not {list(distance.shape)}"
        )
    for values in (distance, weight):
        if not (np.isfinite(values).all() and (values >= 0).all()):
            raise ValueError("distances and weights must be finite and not negative")
    np.fill_diagonal(weight, 0)
    weight = (weight + weight.T) / 2
    paths = shortest_path(np.where(weight > 0, np.maximum(distance, 1e-6), 0), directed=False)
    if not np.isfinite(paths).all():
        raise ValueError("no known distance ties some residues to the others")
    coords = _scaled(np.where(weight > 0, distance, paths))
    for dimensions in range(coords.shape[1], 2, -1):
        coords = _majorised(_principal(coords, dimensions), distance, weight / weight.max())
    if _turns(coords).sum() < 0:
        coords = coords * [1, 1, -1]
    coords = _mended(coords, distance, weight / weight.max())
    turns = _turns(coords)
    stress = float(np.sqrt(_stress(coords, distance, weight) / weight.sum()))
    return Trace(coords, stress, float(turns[turns != 0].mean()) if turns.any() else float("nan"))


def predicted_trace(distance: np.ndarray, deviation: np.ndarray | None = None) -> Trace:
    """The trace of predicted distances, each weighted by one over its variance; negative ones count as 0.

    Args:
        distance: float [L, L] in A.
        deviation: standard deviation of each in A; None takes a quarter of the distance.
    """
    distance = np.maximum(distance, 0)
    error = distance / 4 if deviation is None else deviation
    return trace(distance, 1 / np.maximum(error, LEAST_ERROR) ** 2)


def _scaled(distance: np.ndarray) -> np.ndarray:
    """Classical scaling: float64 [L, DIMENSIONS]."""
    length = len(distance)
    centring = np.eye(length) - 1 / length
    gram = -centring @ distance**2 @ centring / 2
    values, vectors = eigh(gram, subset_by_index=(max(length - DIMENSIONS, 0), length - 1))
    coords = vectors * np.sqrt(np.maximum(values, 0))
    return np.pad(coords, ((0, 0), (0, DIMENSIONS - coords.shape[1])))


def _principal(coords: np.ndarray, dimensions: int) -> np.ndarray:
    """Centred coordinates along their main axes, the longest first: [L, dimensions]."""
    centred = coords - coords.mean(axis=0)
    axes = eigh(centred.T @ centred)[1][:, ::-1]
    return centred @ axes[:, :dimensions]


def _majorised(coords: np.ndarray, distance: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """The coordinates with the stress lowered by majorisation, centred; it never rises."""
    length = len(coords)
    laplacian = np.diag(weight.sum(axis=1)) - weight
    inverse = inv(laplacian + 1 / length)  # the mean of all atoms stays at the origin
    coords = coords - coords.mean(axis=0)
    before, size = np.inf, float((weight * distance**2).sum())
    for _ in range(ROUNDS):
        now = _distances(coords)
        stress = float((weight * (now - distance) ** 2).sum())
        if stress >= (1 - ENOUGH) * before or stress <= EXACT * size:
            break
        before = stress
        ratio = np.divide(weight * distance, now, out=np.zeros_like(now), where=now > 1e-9)
        # einsum, because BLAS takes all threads for these small products, and waits for them on a busy machine
        pulled = ratio.sum(axis=1)[:, None] * coords - np.einsum("ij,jk", ratio, coords)
        coords = np.einsum("ij,jk", inverse, pulled)
    return coords - coords.mean(axis=0)


def _mended(coords: np.ndarray, distance: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """The coordinates with stretches of left-handed turns mirrored, each if the distances allow it as well.

    A helix can end as its own mirror image: its distances are the same, and only those at its ends resist.
    """
    stress = _stress(coords, distance, weight)
    wrong = np.flatnonzero(_turns(coords) < 0)
    for stretch in np.split(wrong, np.flatnonzero(np.diff(wrong) > 3) + 1):
        if not stretch.size:
            continue
        window = slice(stretch[0], stretch[-1] + 4)
        middle = coords[window].mean(axis=0)
        flat = eigh(np.cov((coords[window] - middle).T))[1][:, 0]  # the direction in which mirroring moves least
        mirrored = coords.copy()
        mirrored[window] -= 2 * ((coords[window] - middle) @ flat)[:, None] * flat
        mirrored = _majorised(mirrored, distance, weight)
        lower = _stress(mirrored, distance, weight)
        if lower <= ALLOWED * stress and (_turns(mirrored) < 0).sum() < (_turns(coords) < 0).sum():
            coords, stress = mirrored, min(stress, lower)
    return coords


def _stress(coords: np.ndarray, distance: np.ndarray, weight: np.ndarray) -> float:
    return float((weight * (_distances(coords) - distance) ** 2).sum())


def _distances(coords: np.ndarray) -> np.ndarray:
    return cdist(coords, coords)


def _turns(coords: np.ndarray) -> np.ndarray:
    """For each residue but the last three 1 if a right-handed helical turn begins there, -1 a left-handed one, else 0:
    the sign of the dihedral of four C-alpha atoms."""
    if len(coords) < 4:
        return np.zeros(0)
    bonds = np.diff(coords, axis=0)
    triple = np.einsum("ij,ij->i", bonds[:-2], np.cross(bonds[1:-1], bonds[2:]))
    near = np.linalg.norm(coords[3:] - coords[:-3], axis=1) < TURN
    return np.sign(triple) * near
