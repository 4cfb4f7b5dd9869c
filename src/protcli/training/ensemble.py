"""Several networks that predict as one."""

from collections.abc import Sequence

import torch
from torch import nn

from protcli.models.spec import Prediction
from protcli.proteins.batches import Residues


class Ensemble(nn.Module):
    """The mean of its members' predictions: of their distances, and of their probabilities if they have a distogram.

    Its squared error is never larger than the mean of theirs.
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        """The members are of one model, so that their distograms have the same bins."""
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, residues: Residues) -> Prediction:
        distance, logits, bins = None, None, None
        for member in self.members:
            prediction = member(residues)
            own = prediction.distance.float()
            distance = own if distance is None else distance + own
            if prediction.logits is not None:
                own = prediction.logits.float().log_softmax(dim=-1)
                logits = own if logits is None else torch.logaddexp(logits, own)
                bins = prediction.bins
        assert distance is not None  # an ensemble has members
        return Prediction(distance / len(self.members), logits, bins)
