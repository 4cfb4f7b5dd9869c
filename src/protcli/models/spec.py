"""What a model is: a name, a network class, its frozen configuration and its training recipe."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from protcli.models.recipe import Recipe
from protcli.proteins.map_scores import CONTACT

SYMMETRIC, ZERO = 1e-3, 5e-2  # relative to the largest distance; above the rounding of torch.cdist in float32


@dataclass  # not frozen: Fabric rebuilds it field by field when it casts a model's outputs
class Prediction:
    """A model's prediction for B proteins.

    Attributes:
        distance: float [B, L, L] in angstrom, symmetric, zero on the diagonal.
        logits: float [B, L, L, K], of the K bins of a distogram; None if the model predicts only distances.
        bins: float [K + 1], increasing bin edges in angstrom. The first bin includes all smaller distances, the last
            one all larger ones.
        local: float [B, L, F], predicted features of residues alone: those of `maps.local_structure`, and perhaps a
            logit for each letter of `residues.DSSP`. None if the model predicts none. Only training uses them.
        at: int64 [N], the numbers i * L + j, i <= j, of the pairs that are predicted; None for all. In training, a
            model may leave pairs out: its distance is [B, N] then, and its logits [B, N, K].
    """

    distance: Tensor
    logits: Tensor | None = None
    bins: Tensor | None = None
    local: Tensor | None = None
    at: Tensor | None = None
    _errors: tuple[Tensor, ...] | None = field(default=None, init=False, repr=False)

    def errors(self, true: Tensor, pairs: Tensor) -> tuple[Tensor, Tensor]:
        """Predicted minus true distance, float32 as `distance`, 0 outside the pairs, and the number of pairs.

        Kept for the next call with the same tensors: loss and metrics of a training step ask for the same.
        """
        if self._errors is None or self._errors[0] is not true or self._errors[1] is not pairs:
            # masked first, so that a NaN outside the pairs reaches neither sum nor gradient
            counted = self.of(pairs)
            error = torch.where(counted, self.distance.float() - self.of(true), 0)
            self._errors = true, pairs, error, counted.sum()
        return self._errors[2], self._errors[3]

    def of(self, whole: Tensor) -> Tensor:
        """What a map [B, L, L] says of the predicted pairs: the map, or [B, N]."""
        return whole if self.at is None else whole.flatten(1).index_select(1, self.at)

    def contact_order(self) -> Tensor:
        """What contacts are ranked by, the likeliest being the lowest: float [B, L, L].

        It is the logarithm of the odds against a distance below CONTACT, with all distances in a bin equally likely;
        the distance itself where there is no distogram.
        """
        if self.logits is None or self.bins is None:
            return self.distance
        low, high = self.bins[:-1], self.bins[1:]
        near = ((CONTACT - low) / (high - low)).clamp(0, 1)  # share of each bin
        logits = self.logits.float()
        return (logits + torch.log1p(-near)).logsumexp(dim=-1) - (logits + near.log()).logsumexp(dim=-1)

    def check(self, batch: int, length: int, *, fitted: bool = True) -> None:
        """Check that this is a valid prediction for `batch` proteins padded to `length`.

        Rounding errors are accepted: a thousandth of the largest distance between [i, j] and [j, i], a twentieth on
        the diagonal. A model that is not yet `fitted` may predict NaN.

        Raises:
            ValueError: the message describes the first problem.
        """
        distance, shape = self.distance, (batch, length, length)
        if not isinstance(distance, Tensor) or not distance.is_floating_point():
            kind = distance.dtype if isinstance(distance, Tensor) else type(distance).__name__
            raise ValueError(f"its distance must be a floating-point tensor, not {kind}")
        if tuple(distance.shape) != shape:
            raise ValueError(f"its distance must be [B, L, L] = {list(shape)}, not {list(distance.shape)}")
        if fitted and not torch.isfinite(distance).all():
            raise ValueError("its distance is not finite everywhere, padding included")
        distance = distance.detach().float().nan_to_num()
        scale = max(1.0, distance.abs().max().item())
        apart = (distance - distance.mT).abs().max().item()
        if apart > SYMMETRIC * scale:
            raise ValueError(f"its distance is not symmetric: [i, j] and [j, i] are up to {apart:.3g} angstrom apart")
        diagonal = distance.diagonal(dim1=1, dim2=2).abs().max().item()
        if diagonal > ZERO * scale:
            raise ValueError(f"its distance is up to {diagonal:.3g} angstrom on the diagonal, which must be zero")
        logits, bins = self.logits, self.bins
        if logits is None and bins is None:
            return
        if logits is None or bins is None:
            raise ValueError("it must have both logits and bins, or neither")
        if bins.ndim != 1 or len(bins) < 3 or not (bins.diff() > 0).all():
            raise ValueError("its bins must be the increasing edges of at least two bins, [K + 1]")
        if tuple(logits.shape) != (expected := (*shape, len(bins) - 1)):
            raise ValueError(f"its logits must be [B, L, L, K] = {list(expected)}, not {list(logits.shape)}")


@dataclass(frozen=True)
class ModelSpec:
    """A named model.

    Attributes:
        name: as typed on the command line.
        network: an `nn.Module` class built from `config` alone, with `forward(residues: Residues) -> Prediction`. One
            with a method `fit(batches: Iterable[Batch]) -> None` is fitted in one pass instead of being trained. One
            with a method `prepare(proteins: Sequence[Protein], atom: str) -> None` is given the training proteins
            before its first step; what it keeps of them is in its buffers. One with `any_length = True` predicts
            chains of any length, also one with a gap in its `Residues.index`, and padding changes nothing. One with
            `reads_features = True` has a setting `features: int | bool` and reads so many `Residues.features`; training
            replaces True by the number that the data have.
        config: frozen dataclass of the network's settings; `--set name=value` overrides one.
        recipe: how it is trained.
        summary: one line for `protcli models list`.
        source: Python file that a user's model was loaded from; None for built-in models.
    """

    name: str
    network: type[nn.Module]
    config: Any
    recipe: Recipe
    summary: str
    source: Path | None = None

    @property
    def is_fitted(self) -> bool:
        """Whether the network is fitted in closed form rather than trained by gradient descent."""
        return hasattr(self.network, "fit")

    @property
    def takes_any_length(self) -> bool:
        """Whether the network says that it predicts chains of any length."""
        return bool(getattr(self.network, "any_length", False))

    @property
    def features(self) -> int:
        """How many numbers from elsewhere the network reads for each residue; True for as many as the data have."""
        return self.config.features if getattr(self.network, "reads_features", False) else 0

    def build(self) -> nn.Module:
        """A freshly initialised network."""
        return self.network(self.config)
