"""Coordinates of a chain's C-alpha atoms from the distances between them."""

from dataclasses import dataclass

import numpy as np
from scipy.linalg import eigh, inv
from scipy.spatial.distance import cdist

MOST_ROUNDS = 300  # of majorisation
LEAST_IMPROVEMENT = 1e-5  # of the stress, relative to it, in a round that is followed by another
EXACT = 1e-12  # a stress of this share of the squared distances is none
STRESS_FACTOR = 1.05  # by which the stress may rise when a stretch of the chain is mirrored
DIMENSIONS = 6  # of the space that it begins in: there a part of the chain can turn into its mirror image
LEAST_ERROR = 0.3  # Å: no distance is known better than that
TURN = 6.5  # Å: residues i and i + 3 are nearer than this in a helical turn; in a strand they are 8 Å apart or more


@dataclass(frozen=True, eq=False)
class Trace:
    """C-alpha atoms in space.

    Attributes:
        coords: float64 [L, 3] in Å, centred.
        stress: weighted root mean square difference in Å between their distances and the given ones.
        handedness: right-handed helical turns less left-handed ones, per helical turn: near 1 as in proteins, near 0
            where the choice between the two mirror images is a guess. NaN without any helical turn.
    """

    coords: np.ndarray
    stress: float
    handedness: float


def trace(distance: np.ndarray, deviation: np.ndarray | None = None) -> Trace:
    """Place the atoms of a chain so that their distances are as near as possible to the given ones.

    Each squared difference is weighted by one over the distance's variance. The distances of mirror images are the
    same: the one with more right-handed helical turns is returned.

    Args:
        distance: float [L, L] in Å of two residues or more, symmetric, zero on the diagonal; negative ones count as 0.
        deviation: standard deviation of each in Å; None takes a quarter of the distance.

    Raises:
        ValueError: a value is not finite.

    Source: Torgerson 1952 for the start in six dimensions; then weighted majorisation (SMACOF; de Leeuw 1977) in six,
    five, four and three dimensions.
    """
    distance = np.maximum(distance, 0)
    weight = 1 / np.maximum(distance / 4 if deviation is None else deviation, LEAST_ERROR) ** 2
    distance, weight = distance.astype(np.float64), weight.astype(np.float64)
    if not (np.isfinite(distance) & np.isfinite(weight)).all():
        raise ValueError("distances and their deviations must be finite")
    np.fill_diagonal(weight, 0)
    weight = (weight + weight.T) / 2
    relative = weight / weight.max()
    # once for all rounds: LAPACK takes all threads for it, which cost more than the work; the mean stays at the origin
    inverse = inv(np.diag(relative.sum(axis=1)) - relative + 1 / len(relative))
    coords = _classical_scaling(distance)
    for dimensions in range(DIMENSIONS, 2, -1):
        coords = coords - coords.mean(axis=0)
        axes = eigh(coords.T @ coords)[1][:, ::-1]  # the longest first
        coords = _lower_stress(coords @ axes[:, :dimensions], distance, relative, inverse)
    if _turns(coords).sum() < 0:
        coords = coords * [1, 1, -1]
    coords = _right_handed(coords, distance, relative, inverse)
    turns = _turns(coords)
    stress = float(np.sqrt(_stress(coords, distance, weight) / weight.sum()))
    return Trace(coords, stress, float(turns[turns != 0].mean()) if turns.any() else float("nan"))


def _classical_scaling(distance: np.ndarray) -> np.ndarray:
    """Points whose distances are about the given ones: float64 [L, DIMENSIONS]."""
    length = len(distance)
    centring = np.eye(length) - 1 / length
    values, vectors = eigh(
        -centring @ distance**2 @ centring / 2, subset_by_index=(max(length - DIMENSIONS, 0), length - 1)
    )
    coords = vectors * np.sqrt(np.maximum(values, 0))
    return np.pad(coords, ((0, 0), (0, DIMENSIONS - coords.shape[1])))


def _lower_stress(coords: np.ndarray, distance: np.ndarray, weight: np.ndarray, inverse: np.ndarray) -> np.ndarray:
    """The points [L, D] moved by majorisation until their stress falls no further, centred."""
    coords = coords - coords.mean(axis=0)
    pull = weight * distance
    before, size = np.inf, (pull * distance).sum()
    for _ in range(MOST_ROUNDS):
        current = cdist(coords, coords)
        stress = (weight * (current - distance) ** 2).sum()
        if stress >= (1 - LEAST_IMPROVEMENT) * before or stress <= EXACT * size:
            break
        before = stress
        ratio = np.divide(pull, current, out=np.zeros_like(current), where=current > 1e-9)
        coords = _product(inverse, ratio.sum(axis=1)[:, None] * coords - _product(ratio, coords))
    return coords - coords.mean(axis=0)


def _product(square: np.ndarray, coords: np.ndarray) -> np.ndarray:
    """`square @ coords`, without BLAS, which takes all threads for such small products and lets them wait."""
    return np.einsum("ij,jk", square, np.asfortranarray(coords))  # columns in order: 6 times as fast as rows


def _right_handed(coords: np.ndarray, distance: np.ndarray, weight: np.ndarray, inverse: np.ndarray) -> np.ndarray:
    """The points [L, 3] after each stretch of left-handed turns is mirrored, if the distances allow it as well.

    A helix can end as its own mirror image: its distances are the same, and only those between it and the rest of the
    chain differ.
    """
    stress = _stress(coords, distance, weight)
    left_handed = np.flatnonzero(_turns(coords) < 0)
    for stretch in np.split(left_handed, np.flatnonzero(np.diff(left_handed) > 3) + 1):
        if not stretch.size:
            continue
        window = slice(stretch[0], stretch[-1] + 4)
        centred = coords[window] - coords[window].mean(axis=0)
        flat = eigh(np.cov(centred.T))[1][:, 0]  # the direction in which mirroring moves least
        mirrored = coords.copy()
        mirrored[window] -= 2 * (centred @ flat)[:, None] * flat
        mirrored = _lower_stress(mirrored, distance, weight, inverse)
        lower = _stress(mirrored, distance, weight)
        if lower <= STRESS_FACTOR * stress and (_turns(mirrored) < 0).sum() < (_turns(coords) < 0).sum():
            coords, stress = mirrored, min(stress, lower)
    return coords


def _stress(coords: np.ndarray, distance: np.ndarray, weight: np.ndarray) -> float:
    return float((weight * (cdist(coords, coords) - distance) ** 2).sum())


def _turns(coords: np.ndarray) -> np.ndarray:
    """For each residue but the last three, 1 if a right-handed helical turn begins there, -1 if a left-handed one does,
    else 0: the sign of the dihedral angle of four C-alpha atoms in a row."""
    bonds = np.diff(coords, axis=0)
    triple = np.einsum("ij,ij->i", bonds[:-2], np.cross(bonds[1:-1], bonds[2:]))
    return np.sign(triple) * (np.linalg.norm(coords[3:] - coords[:-3], axis=1) < TURN)
