"""The trivial predictors: the mean distance at each index separation, and at each separation and chain length."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from protcli.models.recipe import NOT_NEGATIVE, POSITIVE, Recipe, count, setting
from protcli.models.spec import ModelSpec, Prediction
from protcli.proteins.batches import Batch, Residues
from protcli.proteins.maps import distances, separation, sums_by_separation, upper_pairs

SHORTEST, STEP, LENGTHS = 8, 0.05, 128  # the table's first length, and its logarithmic step, which reaches 4,500


@dataclass(frozen=True)
class SepMeanConfig:
    """Attributes:
    separations: table size, and so the longest map it can be fitted on; longer maps reuse its last value.
    """

    separations: int = count(1024)


class SepMean(nn.Module):
    """E[d | |i - j|] over the resolved pairs i < j of the training split, in angstrom.

    `mean` [separations] is NaN until fitted, so that an unfitted table cannot pass for a result.
    """

    mean: Tensor

    def __init__(self, config: SepMeanConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("mean", torch.full((config.separations,), torch.nan))

    @torch.no_grad()
    def fit(self, batches: Iterable[Batch]) -> None:
        """Fit the table in one pass, on the device of this module; sums in float64.

        A separation without pairs takes the value of the previous one, as do all beyond the last one seen.

        Raises:
            ValueError: no batch has a resolved pair, or a map is larger than the table.
        """
        total, count = torch.zeros((2, *self.mean.shape), dtype=torch.float64, device=self.mean.device)
        for _, sums, pairs in _measured(batches, self.mean):
            length = sums.shape[1]
            total[:length] += sums.sum(0)
            count[:length] += pairs.sum(0)
        self.mean.copy_(_means(total, count))

    def forward(self, residues: Residues) -> Prediction:
        return Prediction(_map(self.mean, residues).expand(len(residues.sequence), -1, -1))


def _measured(batches: Iterable[Batch], table: Tensor) -> Iterator[tuple[Batch, Tensor, Tensor]]:
    """Each batch with the sums of its chains' distances at each separation and the numbers of pairs: float64 [B, L].

    Raises:
        ValueError: a map has more residues than the table [..., separations] has separations.
    """
    for batch in batches:
        length, size = batch.coords.shape[1], table.shape[-1]
        if length > size:
            raise ValueError(f"maps of {length} residues need --set separations={length} (now {size})")
        pairs = upper_pairs(batch.mask.to(table.device))
        measured = torch.where(pairs, distances(batch.coords.to(table.device)), 0)
        yield batch, sums_by_separation(measured), sums_by_separation(pairs)


def _means(total: Tensor, count: Tensor) -> Tensor:
    """Mean distances [separations] from sums and numbers of pairs; one without pairs takes the value before it.

    Raises:
        ValueError: there is no pair at all.
    """
    seen = count > 0
    if not seen.any():
        raise ValueError("there is no pair of resolved residues to compute a mean distance from")
    seen[0] = True  # the diagonal, 0 by definition
    index = torch.arange(len(total), device=total.device)
    source = torch.where(seen, index, 0).cummax(0).values
    return (total / count.clamp_min(1))[source]


@dataclass(frozen=True)
class SepMeanLengthConfig:
    """Attributes:
    separations: as in `SepMeanConfig`.
    width: of the kernel, in the natural logarithm of the length.
    prior: pairs at each separation that the mean over all lengths stands for.
    """

    separations: int = count(1024)
    width: float = setting(0.1, range=POSITIVE)
    prior: float = setting(200.0, range=NOT_NEGATIVE)


class SepMeanLength(nn.Module):
    """E[d | |i - j|, L]: as `SepMean`, weighing training chains by how near their length is, on a logarithmic scale.

    The length is that of the chain in its crop, which is what a network sees. `mean` [lengths, separations] is NaN
    until fitted; between two lengths of the table it is interpolated.
    """

    mean: Tensor

    def __init__(self, config: SepMeanLengthConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("mean", torch.full((LENGTHS, config.separations), torch.nan))

    @torch.no_grad()
    def fit(self, batches: Iterable[Batch]) -> None:
        """Fit the table in one pass, on the device of this module; sums in float64. Raises as `SepMean.fit` does."""
        device = self.mean.device
        total, count = torch.zeros((2, *self.mean.shape), dtype=torch.float64, device=device)
        for batch, sums, pairs in _measured(batches, self.mean):
            row, length = _row(batch.residues).round().long().to(device), sums.shape[1]
            total[:, :length].index_add_(0, row, sums)
            count[:, :length].index_add_(0, row, pairs)
        kernel = torch.exp(-((STEP * separation(LENGTHS, device).double()) ** 2) / (2 * self.config.width**2))
        prior = self.config.prior
        means = _means(total.sum(0), count.sum(0))
        self.mean.copy_((kernel @ total + prior * means) / (kernel @ count + prior))

    def forward(self, residues: Residues) -> Prediction:
        row = _row(residues)
        low = row.floor().long().clamp(max=LENGTHS - 2)
        share = (row - low)[:, None]
        means = torch.lerp(self.mean[low], self.mean[low + 1], share.to(self.mean.dtype))  # [B, separations]
        return Prediction(_map(means, residues))


def _map(means: Tensor, residues: Residues) -> Tensor:
    """Maps [..., L, L] of mean distances [..., separations]; separations beyond the last one have its mean."""
    return means[..., separation(residues.sequence.shape[1], means.device).clamp_max(means.shape[-1] - 1)]


def _row(residues: Residues) -> Tensor:
    """Where each chain's length is in the table: float [B], 0 to LENGTHS - 1."""
    length = residues.mask.sum(dim=1).clamp(min=SHORTEST).double()
    return (torch.log(length / SHORTEST) / STEP).clamp(max=LENGTHS - 1)


_RECIPE = Recipe(epochs=1, batch_size=32, note="Fitted in one pass over the training split, not trained.")

SPECS = (
    ModelSpec(
        name="sepmean",
        network=SepMean,
        config=SepMeanConfig(),
        recipe=_RECIPE,
        summary="baseline: fitted mean distance at each |i-j|; every model is compared with it",
    ),
    ModelSpec(
        name="sepmean-length",
        network=SepMeanLength,
        config=SepMeanLengthConfig(),
        recipe=_RECIPE,
        summary="baseline for models that see the padding: fitted mean distance at each |i-j| and chain length",
    ),
)
