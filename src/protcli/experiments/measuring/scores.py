"""Score networks on batches of proteins: tensors in, figures out."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add

import torch
from torch import Tensor, nn

from protcli.experiments.measuring.confidence import ResidueScores
from protcli.proteins.batches import Batches
from protcli.proteins.map_scores import MapScores, SeparationErrors
from protcli.proteins.maps import distances
from protcli.proteins.metrics import PairErrors
from protcli.proteins.upsampling_patterns import InnerPairs, UpsamplingPatterns

SCORED_AT_ONCE = {"cpu": 1 << 18, "cuda": 1 << 22}  # pairs, so that the maps fit a CPU's cache, or fill a GPU


@dataclass(frozen=True)
class Scores:
    """The scores of one predictor on a split.

    Attributes:
        maps: scores of each protein's map.
        separations: errors by |i - j|, over all proteins.
        patterns: upsampling patterns in the predicted maps.
        residues: expected and found lDDT of residues, of a model that predicts distributions.
    """

    maps: MapScores
    separations: SeparationErrors
    patterns: UpsamplingPatterns
    residues: ResidueScores

    @property
    def metrics(self) -> dict[str, float]:
        """All pooled metrics by name; NaN for one that no protein has."""
        return self.maps.metrics | self.patterns.metrics


@torch.inference_mode()
def score(
    networks: Sequence[nn.Module], batches: Batches, device: torch.device
) -> tuple[list[Scores], UpsamplingPatterns]:
    """Score networks, in evaluation mode, on the same proteins in one pass; also return patterns in the true maps."""
    for network in networks:
        network.eval()
    parts: list[list[_Parts]] = [[] for _ in networks]
    residues: list[list[ResidueScores]] = [[] for _ in networks]
    truth: list[UpsamplingPatterns] = []
    for batch in batches.epoch(1):
        batch = batch.to(device)
        found = [network(batch.residues) for network in networks]
        predictions = [(prediction.distance, prediction.contact_order()) for prediction in found]
        for of_network, prediction in zip(residues, found, strict=True):
            of_network.append(ResidueScores.of(prediction, batch))
        lengths = batch.residues.mask.sum(dim=1)
        chunk = max(SCORED_AT_ONCE[device.type] // batch.mask.shape[1] ** 2, 1)
        for first in range(0, len(batch), chunk):
            chosen = slice(first, first + chunk)
            true, mask = distances(batch.coords[chosen]), batch.mask[chosen]
            inner = InnerPairs(mask, lengths[chosen])
            truth.append(inner.patterns(true))
            for network_parts, (predicted, order) in zip(parts, predictions, strict=True):
                network_parts.append(_score_maps(predicted[chosen], order[chosen], true, mask, inner))
    scores = [
        Scores(*_concatenate(network_parts), ResidueScores.concatenate(of_network))
        for network_parts, of_network in zip(parts, residues, strict=True)
    ]
    return scores, reduce(add, truth)


_Parts = tuple[MapScores, SeparationErrors, UpsamplingPatterns]


def _score_maps(predicted: Tensor, order: Tensor, true: Tensor, mask: Tensor, inner: InnerPairs) -> _Parts:
    return (
        MapScores.of(predicted, true, mask, order),
        SeparationErrors.of(predicted, true, mask),
        inner.patterns(predicted),
    )


def _concatenate(parts: Sequence[_Parts]) -> _Parts:
    """The scores of all parts' proteins, in order."""
    maps, separations, patterns = zip(*parts, strict=True)
    return MapScores.concatenate(maps), reduce(add, separations), reduce(add, patterns)


def beside_sepmean(prefix: str, errors: PairErrors, sepmean: PairErrors) -> dict[str, float]:
    """The metrics of a split by name (`valid/` + `mse`), with sepmean's MSE on the same proteins."""
    return {
        f"{prefix}mse": errors.mse,
        f"{prefix}rmse": errors.rmse,
        f"{prefix}mae": errors.mae,
        f"{prefix}legacy_sse_pm2": errors.legacy_sse_pm2,
        f"{prefix}mse_sepmean": sepmean.mse,
        f"{prefix}mse_over_sepmean": errors.mse / sepmean.mse,
    }
