"""Distance maps and their masks, computed on the device of the coordinates."""

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

AHEAD = ((2, 6.0, 0.8), (3, 7.5, 2.0), (4, 9.5, 3.0))  # residues further, usual distance and its deviation in Å
RADIUS, USUAL, DEVIATION = 10.0, 14.0, 6.0  # Å; residues within it, their usual number and its deviation
LOCAL_FEATURES = len(AHEAD) + 1


def distances(points: Tensor) -> Tensor:
    """Pairwise Euclidean distances: [..., L, L] from points [..., L, 3]; the gradient at distance 0 is 0.

    The matrix-product shortcut of `cdist` is disabled: it loses half the digits for neighbouring residues.
    """
    if points.device.type == "cuda":
        # 16-bit points are computed in float32, as autocast does for `cdist`
        return Distances.apply(points if points.dtype.itemsize > 2 else points.float())
    return torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")


class Distances(torch.autograd.Function):
    """What `cdist` computes, for a GPU, where its kernel takes a block of threads for each pair of points."""

    @staticmethod
    def forward(ctx: Any, points: Tensor) -> Tensor:
        distance = torch.linalg.vector_norm(points[..., :, None, :] - points[..., None, :, :], dim=-1)
        ctx.save_for_backward(points, distance)
        return distance

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        points, distance = ctx.saved_tensors
        share = torch.where(distance > 0, gradients[0] / distance, 0)
        return ((share + share.mT)[..., None] * (points[..., :, None, :] - points[..., None, :, :])).sum(dim=-2)


def pair_mask(mask: Tensor) -> Tensor:
    """Outer product of a residue mask: bool [..., L, L] from bool [..., L]."""
    bits = mask.view(torch.uint8)  # ten times as fast as on a bool
    return (bits[..., :, None] & bits[..., None, :]).view(torch.bool)


def upper_pairs(mask: Tensor) -> Tensor:
    """The pairs i < j that count in losses and metrics: bool [..., L, L] from a residue mask bool [..., L]."""
    bits = mask.view(torch.uint8)  # as in `pair_mask`
    return (bits[..., :, None] & (bits[..., None, :] & _later(mask.shape[-1], mask.device))).view(torch.bool)


@lru_cache(maxsize=8)  # a step on a GPU waits for the CPU to start its kernels, so each counts
def _later(length: int, device: torch.device) -> Tensor:
    """Whether i < j: uint8 [L, L]."""
    index = torch.arange(length, device=device)
    return (index[:, None] < index).view(torch.uint8)


def separation(length: int, device: torch.device | str | None = None) -> Tensor:
    """Index separation |i - j|: int64 [L, L]."""
    index = torch.arange(length, device=device)
    return (index[:, None] - index[None, :]).abs()


def sums_by_separation(upper: Tensor) -> Tensor:
    """Sums of the pairs j - i = 0 to L - 1: float64 [..., L] from [..., L, L], which is zero below the diagonal.

    Read in rows of L + 1 instead of L, the entries of an upper triangle move to column j - i without overlap.
    """
    length = upper.shape[-1]
    sheared = pad(upper.flatten(-2), (0, length)).unflatten(-1, (length, length + 1))
    return sheared.sum(dim=-2, dtype=torch.float64)[..., :length]


def symmetrize(raw: Tensor) -> Tensor:
    """Mean of a map and its transpose, with a zero diagonal: [..., L, L]."""
    mean = (raw + raw.mT) / 2
    return mean.masked_fill(torch.eye(raw.shape[-1], dtype=torch.bool, device=raw.device), 0)


def local_structure(true: Tensor, pairs: Tensor) -> tuple[Tensor, Tensor]:
    """What the distances say of each residue alone: features [B, L, LOCAL_FEATURES], and which are known, bool.

    Distances to the residues two, three and four further tell helices, strands and turns apart (they are a dihedral
    angle, but for its sign, which no distance shows); the number of residues nearby tells the core from the surface.
    Each feature is about 0 on average, with deviation 1.

    Args:
        true: distances [B, L, L] in Å.
        pairs: bool [B, L, L], the resolved pairs i < j.
    """
    values, known = [], []
    for further, usual, deviation in AHEAD:
        missing = (0, min(further, true.shape[1]))
        values.append(pad((true.diagonal(further, 1, 2) - usual) / deviation, missing))
        known.append(pad(pairs.diagonal(further, 1, 2), missing))
    near = pairs & (true < RADIUS)
    values.append(((near.sum(dim=1) + near.sum(dim=2)) - USUAL) / DEVIATION)
    known.append(pairs.any(dim=1) | pairs.any(dim=2))
    return torch.stack(values, dim=-1), torch.stack(known, dim=-1)
