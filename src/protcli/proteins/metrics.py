"""Errors of predicted distance maps, as sums per protein from which every pooled figure follows."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from protcli.proteins.maps import distances, upper_pairs

PM2_PER_A2 = 1e4


def mean_of_known(values: np.ndarray) -> float:
    """Mean over the proteins that have the quantity, that is, of values that are not NaN; NaN where none has."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")


@dataclass(frozen=True)
class PairSums:
    """`PairErrors` that are still on the device they were taken on: to make them costs no wait for it.

    Attributes:
        count, squared, absolute: tensors [N] of the same types.
    """

    count: Tensor
    squared: Tensor
    absolute: Tensor

    @classmethod
    def over(cls, pairs: Tensor, error: Tensor) -> "PairSums":
        """Sums of an error [B, L, L] in A, zero off the pairs bool [B, L, L] that count."""
        return cls(
            pairs.sum(dim=(1, 2)),
            error.square().sum(dim=(1, 2), dtype=torch.float64),
            error.abs().sum(dim=(1, 2), dtype=torch.float64),
        )

    @classmethod
    def concatenate(cls, parts: Sequence["PairSums"]) -> "PairSums":
        """The proteins of all parts, in order; there is one part or more."""
        return cls(
            torch.cat([part.count for part in parts]),
            torch.cat([part.squared for part in parts]),
            torch.cat([part.absolute for part in parts]),
        )

    def fetch(self) -> "PairErrors":
        """The sums in the host's memory; waits for the device."""
        return PairErrors(*(column.cpu().numpy() for column in (self.count, self.squared, self.absolute)))


@dataclass(frozen=True)
class PairErrors:
    """Sums over the resolved pairs i < j of each of N proteins; nothing here depends on padding or batch size.

    Attributes:
        count: int64 [N], pairs.
        squared: float64 [N], sum of (predicted - true)^2 in A^2.
        absolute: float64 [N], sum of |predicted - true| in A.
    """

    count: np.ndarray
    squared: np.ndarray
    absolute: np.ndarray

    @classmethod
    def of(cls, predicted: Tensor, coords: Tensor, mask: Tensor) -> "PairErrors":
        """Compare predicted maps [B, L, L] in A with the distances of points [B, L, 3] under a mask [B, L]."""
        pairs = upper_pairs(mask)
        return PairSums.over(pairs, torch.where(pairs, predicted.float() - distances(coords), 0)).fetch()

    @classmethod
    def concatenate(cls, parts: Iterable["PairErrors"]) -> "PairErrors":
        """The proteins of all parts, in order."""
        columns = list(zip(*((p.count, p.squared, p.absolute) for p in parts), strict=True))
        count, squared, absolute = (np.concatenate(column) for column in columns)
        return cls(count, squared, absolute)

    def select(self, chosen: np.ndarray) -> "PairErrors":
        """Some of the proteins: bool [N], or their indices."""
        return PairErrors(self.count[chosen], self.squared[chosen], self.absolute[chosen])

    def __len__(self) -> int:
        return len(self.count)

    @property
    def mse(self) -> float:
        """Mean squared error in A^2, pooled over all pairs of all proteins; NaN where there is no pair."""
        with np.errstate(invalid="ignore"):
            return float(self.squared.sum() / self.count.sum())

    @property
    def rmse(self) -> float:
        """Root of the pooled mean squared error, in A."""
        return self.mse**0.5

    @property
    def mae(self) -> float:
        """Mean absolute error in A, pooled over all pairs of all proteins; NaN where there is no pair."""
        with np.errstate(invalid="ignore"):
            return float(self.absolute.sum() / self.count.sum())

    @property
    def legacy_sse_pm2(self) -> float:
        """What the two studies call MSE: squared error in pm^2 summed over the full L x L map, mean over proteins.

        The full map holds every pair i < j twice and a diagonal without error.
        """
        return float(2 * PM2_PER_A2 * self.squared.mean())

    @property
    def drmsd(self) -> float:
        """Distance RMSD in A, sqrt(mean (predicted - true)^2) of a protein: mean over those with a resolved pair."""
        return mean_of_known(self.protein_mse**0.5)

    @property
    def protein_mse(self) -> np.ndarray:
        """Mean squared error of each protein in A^2: float64 [N], NaN for one without a resolved pair."""
        with np.errstate(invalid="ignore"):
            return self.squared / self.count

    @property
    def protein_mae(self) -> np.ndarray:
        """Mean absolute error of each protein in A: float64 [N], NaN for one without a resolved pair."""
        with np.errstate(invalid="ignore"):
            return self.absolute / self.count

    def is_finite(self) -> bool:
        """Whether every sum is a finite number."""
        return bool(np.isfinite(self.squared).all())
