"""The trivial predictor: the mean distance at each index separation, the best that |i - j| alone allows."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from protcli.models.spec import ModelSpec, Prediction, Recipe
from protcli.proteins.batches import Batch, Residues
from protcli.proteins.maps import distances, separation, upper_pairs


@dataclass(frozen=True)
class SepMeanConfig:
    """Attributes:
    separations: table size, and so the longest map it can be fitted on; longer maps reuse its last value.
    """

    separations: int = 1024


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
        device, size = self.mean.device, self.config.separations
        total = torch.zeros(size, dtype=torch.float64, device=device)
        count = torch.zeros(size, dtype=torch.int64, device=device)
        for batch in batches:
            length = batch.coords.shape[1]
            if length > size:
                raise ValueError(f"maps of {length} residues need --set separations={length} (now {size})")
            pairs = upper_pairs(batch.mask.to(device))  # [B, L, L]
            distance = distances(batch.coords.to(device)).double() * pairs
            diagonal = separation(length, device).flatten()  # [L * L]
            total.index_add_(0, diagonal, distance.sum(0).flatten())
            count.index_add_(0, diagonal, pairs.sum(0).flatten())
        seen = count > 0
        if not seen.any():
            raise ValueError("there is no pair of resolved residues to compute a mean distance from")
        seen[0] = True  # the diagonal, 0 by definition
        index = torch.arange(size, device=device)
        source = torch.where(seen, index, 0).cummax(0).values
        self.mean.copy_((total / count.clamp_min(1))[source])

    def forward(self, residues: Residues) -> Prediction:
        batch, length = residues.sequence.shape
        diagonal = separation(length, self.mean.device).clamp_max(self.config.separations - 1)
        return Prediction(self.mean[diagonal].expand(batch, length, length))


SPECS = (
    ModelSpec(
        name="sepmean",
        network=SepMean,
        config=SepMeanConfig(),
        recipe=Recipe(epochs=1, batch_size=32, note="Fitted in one pass over the training split, not trained."),
        summary="baseline: fitted mean distance at each |i-j|; every model is compared with it",
    ),
)
