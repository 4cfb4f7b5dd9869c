"""Errors of predicted distance maps, as per-protein sums from which all pooled metrics follow."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from protcli.proteins.maps import distances, upper_pairs

PM2_PER_A2 = 1e4


def mean_of_known(values: np.ndarray) -> float:
    """Mean over the proteins that have the quantity, i.e. over values that are not NaN; NaN if there are none."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")


@dataclass(frozen=True)
class PairSums:
    """`PairErrors` still on the device: computing them does not wait for it.

    Attributes:
        count, squared, absolute: tensors [N] of the types of `PairErrors`.
    """

    count: Tensor
    squared: Tensor
    absolute: Tensor

    @classmethod
    def over(cls, pairs: Tensor, error: Tensor) -> "PairSums":
        """Sums of an error [B, L, L] in Å that is zero outside the counted pairs, bool [B, L, L]."""
        squared, absolute = (term.flatten(1).sum(dim=1, dtype=torch.float64) for term in (error.square(), error.abs()))
        return cls(pairs.flatten(1).sum(dim=1), squared, absolute)

    @classmethod
    def concatenate(cls, parts: Sequence["PairSums"]) -> "PairSums":
        """The proteins of all parts, in order; there must be at least one part."""
        return cls(*map(torch.cat, zip(*(vars(part).values() for part in parts), strict=True)))

    def fetch(self) -> "PairErrors":
        """Copy the sums to host memory; waits for the device."""
        return PairErrors(*(column.cpu().numpy() for column in vars(self).values()))


@dataclass(frozen=True)
class PairErrors:
    """Sums over the resolved pairs i < j of each of N proteins, independent of padding and batch size.

    Attributes:
        count: int64 [N], pairs.
        squared: float64 [N], sum of (predicted - true)^2 in Å^2.
        absolute: float64 [N], sum of |predicted - true| in Å.
    """

    count: np.ndarray
    squared: np.ndarray
    absolute: np.ndarray

    @classmethod
    def of(cls, predicted: Tensor, coords: Tensor, mask: Tensor) -> "PairErrors":
        """Compare predicted maps [B, L, L] in Å with the distances of points [B, L, 3] under a mask [B, L]."""
        pairs = upper_pairs(mask)
        return PairSums.over(pairs, torch.where(pairs, predicted.float() - distances(coords), 0)).fetch()

    @classmethod
    def concatenate(cls, parts: Iterable["PairErrors"]) -> "PairErrors":
        """The proteins of all parts, in order."""
        return cls(*map(np.concatenate, zip(*(vars(part).values() for part in parts), strict=True)))

    @classmethod
    def from_columns(cls, table: Mapping[str, Any], predictor: str = "", suffix: str = "") -> "PairErrors":
        """The inverse of `columns`, bit for bit."""
        names = (f"pairs{suffix}", f"{predictor}squared{suffix}", f"{predictor}absolute{suffix}")
        return cls(*(np.asarray(table[name]) for name in names))

    def columns(self, predictor: str = "", suffix: str = "") -> dict[str, np.ndarray]:
        """Columns [N] of a table by name: the sums and what follows from them.

        Args:
            predictor: begins all names but that of `pairs`, which predictors of the same proteins have in common.
            suffix: ends all names.
        """
        means = {"mse": self.protein_mse, "rmse": self.protein_mse**0.5, "mae": self.protein_mae}
        values = {"squared": self.squared, "absolute": self.absolute, **means}
        table = {f"{predictor}{name}{suffix}": column for name, column in values.items()}
        return {f"pairs{suffix}": self.count, **table}

    def select(self, chosen: np.ndarray) -> "PairErrors":
        """Some of the proteins: bool [N], or their indices."""
        return PairErrors(*(column[chosen] for column in vars(self).values()))

    def __add__(self, other: "PairErrors") -> "PairErrors":
        """Element by element: the sums of two sets of proteins by separation."""
        return PairErrors(self.count + other.count, self.squared + other.squared, self.absolute + other.absolute)

    def __len__(self) -> int:
        return len(self.count)

    @property
    def mse(self) -> float:
        """Mean squared error in Å^2, pooled over all pairs of all proteins; NaN without pairs."""
        with np.errstate(invalid="ignore"):
            return float(self.squared.sum() / self.count.sum())

    @property
    def rmse(self) -> float:
        """Root of the pooled mean squared error, in Å."""
        return self.mse**0.5

    @property
    def mae(self) -> float:
        """Mean absolute error in Å, pooled over all pairs of all proteins; NaN without pairs."""
        with np.errstate(invalid="ignore"):
            return float(self.absolute.sum() / self.count.sum())

    @property
    def legacy_sse_pm2(self) -> float:
        """The two studies' "MSE": squared error in pm^2 summed over the full L x L map, mean over proteins.

        The full map contains each pair i < j twice, and a diagonal without error.
        """
        return float(2 * PM2_PER_A2 * self.squared.mean())

    @property
    def drmsd(self) -> float:
        """Mean over proteins with a resolved pair of the distance RMSD in Å, sqrt(mean (predicted - true)^2)."""
        return mean_of_known(self.protein_mse**0.5)

    @property
    def protein_mse(self) -> np.ndarray:
        """Mean squared error of each protein in Å^2: float64 [N], NaN for one without a resolved pair."""
        with np.errstate(invalid="ignore"):
            return self.squared / self.count

    @property
    def protein_mae(self) -> np.ndarray:
        """Mean absolute error of each protein in Å: float64 [N], NaN for one without a resolved pair."""
        with np.errstate(invalid="ignore"):
            return self.absolute / self.count

    def is_finite(self) -> bool:
        """Whether all sums are finite."""
        return bool(np.isfinite(self.squared).all())


def stack_errors(several: Sequence[PairErrors]) -> dict[str, np.ndarray]:
    """Errors of E predictors on the same N proteins as arrays: `count` [N], `squared` and `absolute` [E, N]."""
    return {
        "count": several[0].count,
        "squared": np.stack([errors.squared for errors in several]),
        "absolute": np.stack([errors.absolute for errors in several]),
    }


def unstack_errors(count: np.ndarray, squared: np.ndarray, absolute: np.ndarray) -> list[PairErrors]:
    """The inverse of `stack_errors`."""
    return [PairErrors(count, *sums) for sums in zip(squared, absolute, strict=True)]
