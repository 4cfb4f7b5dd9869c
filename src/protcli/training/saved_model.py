"""A trained model on disk, and how to load its network."""

from dataclasses import dataclass
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import nn

from protcli.models.external import as_user_error
from protcli.models.spec import ModelSpec
from protcli.proteins.confidence import Calibration
from protcli.training.checkpoint import load_weights
from protcli.training.ensemble import Ensemble


@dataclass(frozen=True)
class SavedModel:
    """Attributes:
    spec: the model as trained.
    weights: its safetensors file.
    precision: training precision, a name known to `training.engine`.
    calibration: of its confidence; None if it has none.
    others: weights of further networks of the same model, whose mean it predicts with them.
    """

    spec: ModelSpec
    weights: Path
    precision: str
    calibration: Calibration | None = None
    others: tuple[Path, ...] = ()

    def network(self, fabric: Fabric) -> nn.Module:
        """Load the network, or the ensemble, in evaluation mode, on the device and at the precision of the engine.

        Raises:
            ProtcliError: the weights are damaged or do not fit the model, or a user's model does not build.
        """
        networks = []
        for weights in (self.weights, *self.others):
            with as_user_error(self.spec):
                network = self.spec.build()
            load_weights(network, weights)
            networks.append(network.to(memory_format=torch.channels_last))
        return fabric.setup(Ensemble(networks) if self.others else networks[0]).eval()
