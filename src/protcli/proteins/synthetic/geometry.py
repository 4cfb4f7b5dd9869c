"""Geometry of ideal backbones: rigid motions, atom positions and clashes.

Rotations come from a rounded table of sines and are composed by elementwise products and sums, without BLAS, whose last
bits differ between processors.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np

from protcli.proteins.protein import virtual_cbeta

# Ideal backbone: Engh and Huber 1991, Acta Cryst. A47:392; trans peptide bonds put neighbouring CA 3.80 Å apart.
N_CA, CA_C, C_N = 1.458, 1.525, 1.329  # bond lengths in Å
N_CA_C, CA_C_N, C_N_CA = 111.0, 117.2, 121.7  # bond angles in degrees
CA_CLASH = 4.0  # closest approach of two CA at least three residues apart, in Å
ATOM_CLASH = 2.8  # the same for any two of N, CA, C'


def _rounded(function: Callable[[float], float], degrees: float) -> float:
    """math.cos or math.sin of an angle, rounded so that all machines agree."""
    return round(function(math.radians(degrees)), 12)


def _compose(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Rigid motion b followed by a: [3, 4, ...] from two [3, 4, ...], the fourth column the translation."""
    product = a[:, 0, None] * b[0] + a[:, 1, None] * b[1] + a[:, 2, None] * b[2]
    product[:, 3] += a[:, 3]
    return product


def transform(frames: np.ndarray, point: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
    """A point given in each of the frames [3, 4, ...], by its x, y and z there: [3, ...]."""
    x, y, z = point
    return frames[:, 0] * x + frames[:, 1] * y + frames[:, 2] * z + frames[:, 3]


def _turn(axis: int, cos: np.ndarray | float, sin: np.ndarray | float, shift: float = 0.0) -> np.ndarray:
    """Rotation about the x (0) or z (2) axis, then `shift` along the new x axis: [3, 4, ...]."""
    motion = np.zeros((3, 4, *np.shape(cos)))
    first, second = ((1, 2), (2, 0), (0, 1))[axis]
    motion[axis, axis] = 1
    motion[first, first] = motion[second, second] = cos
    motion[second, first], motion[first, second] = sin, -sin
    motion[:, 3] = motion[:, 0] * shift
    return motion


def _bend(angle: float, bond: float) -> np.ndarray:
    """Motion from one atom's frame to the next: by the supplement of the bond angle, then along the bond."""
    return _turn(2, _rounded(math.cos, 180 - angle), _rounded(math.sin, 180 - angle), bond)[..., None]


def _backbone() -> np.ndarray:
    """N, CA, C' and virtual C-beta in a residue's own frame: [4, 3]."""
    ca = np.array([-CA_C, 0.0, 0.0])
    n = ca + N_CA * np.array([_rounded(math.cos, N_CA_C), _rounded(math.sin, N_CA_C), 0.0])
    atoms = np.stack([n, ca, np.zeros(3)])
    return np.concatenate([atoms, virtual_cbeta(atoms[None])])


# A residue's frame has its origin at C', its x axis along CA -> C', and N in the xy plane.
N, CA, C, CB = _backbone()
_COS, _SIN = (np.array([_rounded(f, degree) for degree in range(360)]) for f in (math.cos, math.sin))
_TORSION = _turn(0, _COS, _SIN)  # [3, 4, 360]
_OMEGA = _turn(0, -1.0, 0.0)[..., None]  # 180 degrees: a trans peptide bond
_PSI = _compose(_compose(_compose(_TORSION, _bend(CA_C_N, C_N)), _OMEGA), _bend(C_N_CA, N_CA))  # C' to the next CA
_PHI = _compose(_TORSION, _bend(N_CA_C, CA_C))  # CA to C' of the same residue


def extend(end: np.ndarray, psi: int, torsions: np.ndarray) -> np.ndarray:
    """Frames of the next n residues for each of K candidates: [3, 4, K, n].

    Args:
        end: frame [3, 4] of the preceding residue.
        psi: psi of that residue in degrees.
        torsions: int [2, K, n], phi and psi of the new residues in degrees.
    """
    phi, psis = torsions % 360
    before = np.insert(psis[:, :-1], 0, psi % 360, axis=1)
    frames = _compose(_PSI[:, :, before], _PHI[:, :, phi])
    step = 1
    while step < frames.shape[-1]:  # products of all prefixes, by doubling
        frames[..., step:] = _compose(frames[..., :-step], frames[..., step:])
        step *= 2
    return _compose(end[:, :, None, None], frames)


def squared_distances(points: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Squared distances in Å^2, without a matrix product: [..., n, m] from points [3, ..., n] and [3, ..., m]."""
    x, y, z = (one[..., :, None] - other[..., None, :] for one, other in zip(points, others, strict=True))
    return x * x + y * y + z * z


def is_clear(frames: np.ndarray, start: int, slack: float = 0.0) -> bool:
    """Whether residues from `start` on do not clash with residues at least three before them.

    Args:
        frames: [3, 4, L] of all residues so far.
        start: the first residue to check.
        slack: extra distance required, in Å.
    """
    index = np.arange(frames.shape[-1])
    ca = transform(frames, CA)
    between = np.where(index[start:, None] - index >= 3, squared_distances(ca[:, start:], ca), np.inf)
    if (between < (CA_CLASH + slack) ** 2).any():
        return False
    new, old = np.nonzero(between < (ATOM_CLASH + slack + 3.1) ** 2)  # no atom is more than 1.53 Å from its CA
    atoms = np.stack([transform(frames, atom) for atom in (N, CA, C)], axis=2)  # [3, L, atoms]
    return not (squared_distances(atoms[:, start + new], atoms[:, old]) < (ATOM_CLASH + slack) ** 2).any()
