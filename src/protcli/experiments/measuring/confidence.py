"""What a network expects of its residues and what is found: its calibration on validation, and how reliable it is."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from protcli.models.spec import Prediction
from protcli.proteins.batches import Batch, Batches
from protcli.proteins.confidence import Calibration, expected_lddt
from protcli.proteins.map_scores import residue_lddt
from protcli.proteins.maps import distances


@dataclass(frozen=True, eq=False)
class ResidueScores:
    """The lDDT that distograms expect and that is found, of every resolved residue that has near pairs: float64 [R]."""

    expected: np.ndarray
    found: np.ndarray

    @classmethod
    def of(cls, prediction: Prediction, batch: Batch) -> "ResidueScores":
        """Those of a batch; none where the model predicts distances alone."""
        parts = [cls(np.empty(0), np.empty(0))]
        if prediction.logits is not None and prediction.bins is not None:
            edges = prediction.bins.double().cpu().numpy()
            for row, length in enumerate(batch.residues.mask.sum(dim=1).tolist()):
                own = row, slice(length), slice(length)
                distance, mask = prediction.distance[own].float(), batch.mask[row, :length]
                found = residue_lddt(distance[None], distances(batch.coords[row, :length])[None], mask[None])[0]
                probabilities = prediction.logits[own].float().softmax(dim=-1).cpu().numpy()
                expected = expected_lddt(probabilities, edges, distance.cpu().numpy())
                known = mask.cpu().numpy() & ~found.isnan().cpu().numpy() & ~np.isnan(expected)
                parts.append(cls(expected[known].astype(np.float64), found.cpu().numpy()[known]))
        return cls.concatenate(parts)

    @classmethod
    def concatenate(cls, parts: Sequence["ResidueScores"]) -> "ResidueScores":
        """The residues of all parts, in order."""
        return cls(np.concatenate([part.expected for part in parts]), np.concatenate([part.found for part in parts]))

    def __len__(self) -> int:
        return len(self.expected)


@torch.inference_mode()
def calibrate(network: nn.Module, batches: Batches, device: torch.device) -> Calibration | None:
    """The calibration of a network's confidence on some proteins; None if no residue of theirs has a score."""
    network.eval()
    moved = (batch.to(device) for batch in batches.epoch(1))
    scores = ResidueScores.concatenate([ResidueScores.of(network(batch.residues), batch) for batch in moved])
    return Calibration.fit(scores.expected, scores.found) if len(scores) else None
