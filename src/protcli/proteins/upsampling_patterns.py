"""Upsampling artefacts in maps: patterns that repeat every s pixels (checkerboard) and steps between blocks."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from protcli.proteins.maps import pair_mask, separation, sums_by_separation
from protcli.proteins.metrics import mean_of_known

PERIODS = (2, 4, 8, 16, 32)  # s, in pixels; each divides the last
BORDER = 16  # pixels at each edge of a chain's map, where padding distorts every map


@dataclass(frozen=True)
class UpsamplingPatterns:
    """Sums over the maps of any number of proteins, by phase: the index of a residue modulo a period.

    Only resolved pairs i != j at least 16 residues from both ends of the chain count, so a chain of 32 residues or
    fewer does not contribute. These are properties of a set of maps: in the map of one protein the fold would outweigh
    any pattern, while over many proteins the folds average out.

    Attributes:
        high_passed: float64 [s, s] by period s, sum over pairs (i, j) of the high-passed map (`InnerPairs.patterns`)
            in Å, by (i mod s, j mod s).
        pairs: float64 [32, 32], number of these pairs.
        steps: float64 [32], sum of squared differences of (i, j) and (i + 1, j) in Å^2, by i mod 32.
        neighbours: float64 [32], number of these differences.
    """

    high_passed: dict[int, np.ndarray]
    pairs: np.ndarray
    steps: np.ndarray
    neighbours: np.ndarray

    def __add__(self, other: "UpsamplingPatterns") -> "UpsamplingPatterns":
        return UpsamplingPatterns(
            {period: table + other.high_passed[period] for period, table in self.high_passed.items()},
            self.pairs + other.pairs,
            self.steps + other.steps,
            self.neighbours + other.neighbours,
        )

    @property
    def checkerboard(self) -> dict[int, float]:
        """A_s in Å, by period s: root mean square over the s x s phases of the mean high-passed map; NaN without pairs.

        0 means none. The value of the true maps shows how much of it remains from their folds.
        """
        with np.errstate(invalid="ignore"):
            means = {s: self.high_passed[s] / _fold(self.pairs, s) for s in PERIODS}  # [s, s], NaN without pairs
        return {s: float(np.sqrt(mean_of_known(np.square(table)))) for s, table in means.items()}

    @property
    def blockiness(self) -> dict[int, float]:
        """G_s by period s: the largest over the mean, across phases, of the mean squared step from i to i + 1.

        1 means none; a map of flat s x s blocks has s. NaN if no pairs of neighbours count, or none differ.
        """
        result = {}
        for s in PERIODS:
            with np.errstate(invalid="ignore"):
                means = _fold(self.steps, s) / _fold(self.neighbours, s)
            means = means[~np.isnan(means)]
            result[s] = float(means.max() / means.mean()) if means.any() else float("nan")
        return result

    @property
    def metrics(self) -> dict[str, float]:
        """Metrics by name: `checkerboard_8` for A_8 in Å, `blockiness_8` for G_8."""
        return {
            **{f"checkerboard_{s}": value for s, value in self.checkerboard.items()},
            **{f"blockiness_{s}": value for s, value in self.blockiness.items()},
        }


class InnerPairs:
    """The pairs of one batch that count; what all maps on them share is computed once.

    Args:
        mask: bool [B, L], resolved residues.
        length: int64 [B], residues of each chain from the first position, resolved or not.
    """

    def __init__(self, mask: Tensor, length: Tensor) -> None:
        size, device = mask.shape[1], mask.device
        index = torch.arange(size, device=device)
        apart = index[:, None] != index
        inside = mask & (index >= BORDER) & (index < length[:, None] - BORDER)
        self.pairs, self.inner = pair_mask(mask) & apart, pair_mask(inside) & apart  # [B, L, L]
        self.neighbours = self.inner[:, 1:] & self.inner[:, :-1]
        self.separation = separation(size, device)
        self.diagonal_counts = sums_by_separation(self.pairs.triu().double())  # [B, L]
        # 1 / pairs in the box around a pair, 0 for pairs that do not count: by period, [B, L - 32, L - 32]
        filled, inner = _BoxSums(self.pairs), self.inner[:, BORDER:-BORDER, BORDER:-BORDER]
        self.weights = {s: inner / filled.around(s).clamp_min(1) for s in PERIODS}

    def patterns(self, maps: Tensor) -> UpsamplingPatterns:
        """Measure the patterns of maps [B, L, L] in Å; values outside the pairs do not matter.

        From each map the mean along every diagonal is subtracted, then, for each period s, the mean of the remainder in
        the (2s + 1) x (2s + 1) box around each pair. All means are over resolved pairs i != j.
        """
        maps = torch.where(self.pairs, maps.float(), 0)
        means = (sums_by_separation(maps.triu()) / self.diagonal_counts.clamp_min(1)).float()  # [B, L]
        rest = torch.where(self.pairs, maps - means[:, self.separation], 0)
        boxes, whole = _BoxSums(rest), (rest * self.inner).sum(dim=0, dtype=torch.float64)  # [L, L]
        high_passed = {}
        for s, weights in self.weights.items():
            low_passed = (weights * boxes.around(s)).sum(dim=0)  # [L - 32, L - 32]
            high_passed[s] = _by_phase(whole, s) - _by_phase(pad(low_passed, [BORDER] * 4), s)
        steps = (maps.diff(dim=1) * self.neighbours).square().sum(dim=(0, 2), dtype=torch.float64)  # [L - 1]
        longest = PERIODS[-1]
        return UpsamplingPatterns(
            {s: table.cpu().numpy() for s, table in high_passed.items()},
            _by_phase(self.inner.sum(dim=0).double(), longest).cpu().numpy(),
            _by_phase(steps, longest).cpu().numpy(),
            _by_phase(self.neighbours.sum(dim=(0, 2)).double(), longest).cpu().numpy(),
        )


class _BoxSums:
    """Sums over boxes of maps [B, L, L], from their two-dimensional running sum; maps are zero beyond their edges."""

    def __init__(self, maps: Tensor) -> None:
        self.inner = max(maps.shape[1] - 2 * BORDER, 0)
        # the running sum up to, not including, row and column index - 16: [B, L + 33, L + 33]
        self.running = pad(maps.double(), (BORDER + 1, BORDER, BORDER + 1, BORDER)).cumsum(dim=1).cumsum(dim=2)

    def around(self, reach: int) -> Tensor:
        """Sums up to `reach` (at most 32) rows and columns around each inner position: [B, L - 32, L - 32]."""
        low, high = (slice(first, first + self.inner) for first in (2 * BORDER - reach, 2 * BORDER + reach + 1))
        rows = self.running[:, high] - self.running[:, low]
        return rows[:, :, high] - rows[:, :, low]


def _by_phase(values: Tensor, period: int) -> Tensor:
    """Sums by index modulo the period along every axis: [s] from [L], [s, s] from [L, L]."""
    for _ in values.shape:
        missing = -values.shape[0] % period
        padded = pad(values.movedim(0, -1), (0, missing))
        values = padded.unflatten(-1, (-1, period)).sum(dim=-2)
    return values


def _fold(table: np.ndarray, period: int) -> np.ndarray:
    """Sums by phase modulo a period that divides the table's period: [s] from [32], [s, s] from [32, 32]."""
    for axis in range(table.ndim):
        table = np.moveaxis(table, axis, -1)
        table = np.moveaxis(table.reshape(*table.shape[:-1], -1, period).sum(axis=-2), -1, axis)
    return table
