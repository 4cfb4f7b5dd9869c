"""Distance maps and their masks, computed on the device of the coordinates."""

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor


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


def sums_by_separation(maps: Tensor) -> Tensor:
    """Sum of each diagonal above the main one and of the main one: float64 [..., L] from [..., L, L], zero below it."""
    length = maps.shape[-1]
    # read in rows of L + 1, element k of row i is (i, i + k), or below the diagonal of the next row
    skewed = torch.nn.functional.pad(maps.flatten(-2), (0, length)).unflatten(-1, (length, length + 1))
    return skewed.sum(dim=-2, dtype=torch.float64)[..., :length]


def symmetrize(raw: Tensor) -> Tensor:
    """Mean of a map and its transpose, with a zero diagonal: [..., L, L]."""
    mean = (raw + raw.mT) / 2
    eye = torch.eye(raw.shape[-1], dtype=torch.bool, device=raw.device)
    return mean.masked_fill(eye, 0)
