"""Standard scores of predicted distance maps: near pairs, lDDT, contact precision, error by separation."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from protcli.proteins.maps import pair_mask, sums_by_separation, upper_pairs
from protcli.proteins.metrics import PairErrors, PairSums, mean_of_known

CUTOFFS = (8, 12, 15)  # Å; pairs with a true distance below a cutoff are its near pairs
CONTACT = 8.0  # Å; closer pairs are contacts
INCLUSION_RADIUS, TOLERANCES = 15, (0.5, 1.0, 2.0, 4.0)  # Å, of lDDT
RANGES: dict[str, tuple[int, int | None]] = {"long": (24, None), "medium": (12, 23), "short": (6, 11)}  # of |i - j|
SHARES = {"L": 1, "L2": 2, "L5": 5}  # the top floor(L / k) pairs


@dataclass(frozen=True)
class MapScores:
    """Sums and scores of each of N proteins, independent of padding and batch size.

    The atom is that of the true maps. Pooled MSE and MAE, of all pairs and of near pairs, are a sum over a count; lDDT,
    dRMSD and precision are, as is standard, means over the proteins that have the quantity.

    Attributes:
        errors: errors of all resolved pairs i < j.
        near: errors of the pairs with a true distance below each of CUTOFFS, by cutoff in Å.
        lddt: float64 [N], 0 to 1, NaN for a protein without a pair below 15 Å; see `lddt`.
        precision: float64 [N], 0 to 1, by range and number of pairs (`long_L5`); see `contact_precision`.
    """

    errors: PairErrors
    near: dict[int, PairErrors]
    lddt: np.ndarray
    precision: dict[str, np.ndarray]

    @classmethod
    def of(cls, predicted: Tensor, true: Tensor, mask: Tensor, contact_order: Tensor | None = None) -> "MapScores":
        """Compare predicted with true maps, both [B, L, L] in Å, under a mask of resolved residues bool [B, L].

        Contacts are ranked by `contact_order` [B, L, L], the likeliest being the lowest; by default by their distances.
        """
        predicted, pairs = predicted.float(), upper_pairs(mask)
        error = torch.where(pairs, predicted - true, 0)
        near = {}
        for cutoff in CUTOFFS:
            inside = pairs & (true < cutoff)
            near[cutoff] = PairSums.over(inside, torch.where(inside, error, 0)).fetch()
        precision = contact_precision(predicted if contact_order is None else contact_order, true, mask)
        return cls(
            PairSums.over(pairs, error).fetch(),
            near,
            lddt(predicted, true, mask).cpu().numpy(),
            {name: score.cpu().numpy() for name, score in precision.items()},
        )

    @classmethod
    def concatenate(cls, parts: Iterable["MapScores"]) -> "MapScores":
        """The proteins of all parts, in order."""
        parts = list(parts)
        return cls(
            PairErrors.concatenate([part.errors for part in parts]),
            {cutoff: PairErrors.concatenate([part.near[cutoff] for part in parts]) for cutoff in CUTOFFS},
            np.concatenate([part.lddt for part in parts]),
            {name: np.concatenate([part.precision[name] for part in parts]) for name in parts[0].precision},
        )

    def __len__(self) -> int:
        return len(self.errors)

    @property
    def metrics(self) -> dict[str, float]:
        """Pooled metrics by name, in Å, Å^2 and shares from 0 to 1; NaN if no protein has the quantity."""
        return {
            "mse": self.errors.mse,
            "rmse": self.errors.rmse,
            "mae": self.errors.mae,
            "legacy_sse_pm2": self.errors.legacy_sse_pm2,
            "drmsd": self.errors.drmsd,
            **{f"mse_{cutoff}": errors.mse for cutoff, errors in self.near.items()},
            **{f"mae_{cutoff}": errors.mae for cutoff, errors in self.near.items()},
            "lddt": mean_of_known(self.lddt),
            **{f"precision_{name}": mean_of_known(score) for name, score in self.precision.items()},
        }

    @classmethod
    def from_columns(cls, table: Mapping[str, Any], predictor: str = "") -> "MapScores":
        """The inverse of `columns`, bit for bit."""
        names = [f"{range_name}_{share}" for range_name in RANGES for share in SHARES]
        return cls(
            PairErrors.from_columns(table, predictor),
            {cutoff: PairErrors.from_columns(table, predictor, f"_{cutoff}") for cutoff in CUTOFFS},
            np.asarray(table[f"{predictor}lddt"]),
            {name: np.asarray(table[f"{predictor}precision_{name}"]) for name in names},
        )

    def columns(self, predictor: str = "") -> dict[str, np.ndarray]:
        """Per-protein values [N] by name, from which all of this follows; see `PairErrors.columns`."""
        scores = {"drmsd": self.errors.protein_mse**0.5, "lddt": self.lddt}
        scores |= {f"precision_{name}": score for name, score in self.precision.items()}
        table = self.errors.columns(predictor) | {f"{predictor}{name}": score for name, score in scores.items()}
        for cutoff, errors in self.near.items():
            table |= errors.columns(predictor, f"_{cutoff}")
        return table


def lddt(predicted: Tensor, true: Tensor, mask: Tensor) -> Tensor:
    """Local distance difference test on maps of one atom per residue: float64 [B], NaN without a near pair.

    The share of resolved pairs with a true distance below 15 Å that are predicted within a tolerance, averaged over the
    tolerances 0.5, 1, 2 and 4 Å. Source: Mariani et al. 2013, Bioinformatics 29:2722, without its stereochemical check.

    Args:
        predicted, true: [B, L, L] in Å.
        mask: bool [B, L], resolved residues.
    """
    near = upper_pairs(mask) & (true < INCLUSION_RADIUS)
    within = _within_tolerance(predicted, true, near)
    return within.sum(dim=(1, 2)).double() / (len(TOLERANCES) * near.sum(dim=(1, 2)))


def residue_lddt(predicted: Tensor, true: Tensor, mask: Tensor) -> Tensor:
    """The same of each residue, over its pairs with all others: float64 [B, L], NaN without a near pair."""
    others = ~torch.eye(mask.shape[1], dtype=torch.bool, device=mask.device)
    near = pair_mask(mask) & others & (true < INCLUSION_RADIUS)
    return _within_tolerance(predicted, true, near).sum(dim=2).double() / (len(TOLERANCES) * near.sum(dim=2))


def _within_tolerance(predicted: Tensor, true: Tensor, near: Tensor) -> Tensor:
    """How many of the tolerances each near pair is within: uint8 [B, L, L]."""
    error = torch.where(near, (predicted.float() - true).abs(), torch.inf)
    within = torch.zeros_like(near, dtype=torch.uint8)
    for tolerance in TOLERANCES:
        within += error < tolerance
    return within


def contact_precision(order: Tensor, true: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """Share of true contacts (d < 8 Å) among the pairs predicted to be the closest, by range and number of pairs.

    For each of CASP's ranges of |i - j| (long from 24, medium 12 to 23, short 6 to 11) the resolved pairs are ranked
    and the first floor(L / k) are taken, with k in {1, 2, 5} and L the number of resolved residues. Pairs that tie for
    the last places contribute their expectation over all orders of the tied pairs, so that the order of residues does
    not matter (a map that depends only on |i - j| ties everywhere). If a range has fewer pairs than floor(L / k), all
    of them are taken; if it has none, or L < k, the precision is NaN. A protein with too few contacts in the range
    cannot reach 1, but counts.

    Args:
        order: what the pairs are ranked by, [B, L, L]; the predicted distance, or anything that is lowest for the
            likeliest contact.
        true: [B, L, L] in Å.
        mask: bool [B, L], resolved residues.

    Returns:
        float64 [B] by name: `long_L`, `long_L2`, `long_L5`, `medium_L`, ...
    """
    size, resolved = mask.shape[1], mask.sum(dim=1)
    precision = {}
    for range_name, (first, last) in RANGES.items():
        i, j = torch.triu_indices(size, size, offset=first, device=mask.device)
        if last is not None:
            inside = j - i <= last
            i, j = i[inside], j[inside]
        pairs = mask[:, i] & mask[:, j]  # [B, P]
        ranked = order[:, i, j].float().masked_fill(~pairs, torch.inf)
        contact = pairs & (true[:, i, j] < CONTACT)
        closest = ranked.topk(min(size, len(i)), largest=False).values  # [B, K], ascending
        for share_name, k in SHARES.items():
            taken = torch.minimum(resolved // k, pairs.sum(dim=1))
            share = torch.full_like(taken, torch.nan, dtype=torch.float64)
            if len(i):
                last_place = closest.gather(1, (taken - 1).clamp_min(0)[:, None])  # [B, 1]
                before, tied = ranked < last_place, pairs & (ranked == last_place)
                tied_share = (taken - before.sum(dim=1)).double() / tied.sum(dim=1)
                hits = (contact & before).sum(dim=1) + tied_share * (contact & tied).sum(dim=1)
                share = torch.where(taken > 0, hits / taken, share)
            precision[f"{range_name}_{share_name}"] = share
    return precision


def separation_errors(predicted: Tensor, true: Tensor, mask: Tensor) -> PairErrors:
    """Sums over the pairs of all proteins, by separation j - i from 0 (no pairs) to L - 1: [L] in place of [N].

    Compares predicted with true maps, both [B, L, L] in Å, under a mask of resolved residues bool [B, L].
    """
    pairs = upper_pairs(mask)
    error = torch.where(pairs, predicted.float() - true, 0)
    count, squared, absolute = (
        sums_by_separation(values.sum(dim=0, dtype=torch.float64)).cpu().numpy()
        for values in (pairs, error.square(), error.abs())
    )
    return PairErrors(count.astype(np.int64), squared, absolute)
