"""A trained model on disk, and the one way from there to a network."""

from dataclasses import dataclass
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import nn

from protcli.models.external import as_user_error
from protcli.models.spec import ModelSpec
from protcli.training.checkpoint import load_weights


@dataclass(frozen=True)
class SavedModel:
    """Attributes:
    spec: the model as it was trained.
    weights: its safetensors file.
    precision: that it was trained at, a name known to `training.engine`.
    """

    spec: ModelSpec
    weights: Path
    precision: str

    def network(self, fabric: Fabric) -> nn.Module:
        """The network with its weights, in evaluation mode, on the device and at the precision of the engine.

        Raises:
            ProtcliError: the weights are damaged or not this model's, or a model of the user's own does not build.
        """
        with as_user_error(self.spec):
            network = self.spec.build()
        load_weights(network, self.weights)
        return fabric.setup(network.to(memory_format=torch.channels_last)).eval()
