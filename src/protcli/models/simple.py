"""Study A's plain convolutional network: sequence and profile -> 256 points -> their distances."""

from collections import OrderedDict
from dataclasses import dataclass

import torch
from torch import nn

from protcli.models.layers import ChannelsLastReshape, Dense, KerasConv2d, PairwiseDistance, batch_norm, pad_residues
from protcli.models.spec import ModelSpec, Prediction, Recipe
from protcli.proteins.batches import Residues
from protcli.proteins.residues import ALPHABET_SIZE


@dataclass(frozen=True)
class SimpleConfig:
    """Attributes:
    length: residues the network always sees; shorter input is padded, longer refused.
    channels: of the 3x3 convolutions, one after another.
    """

    length: int = 256
    channels: tuple[int, ...] = (16, 32, 16)


class Simple(nn.Module):
    """Convolutions over profile and one-hot stacked as two channels, then one dense layer to the points."""

    def __init__(self, config: SimpleConfig) -> None:
        super().__init__()
        self.config = config
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        channels = 2
        for number, width in enumerate(config.channels, start=1):
            layers[f"conv{number}"] = KerasConv2d(channels, width, 3)
            layers[f"relu{number}"] = nn.ReLU()
            channels = width
        layers["norm"] = batch_norm(channels)
        layers["flatten"] = ChannelsLastReshape(config.length * ALPHABET_SIZE * channels)
        layers["dense"] = Dense(config.length * ALPHABET_SIZE * channels, config.length * 3)
        layers["points"] = nn.Unflatten(1, (config.length, 3))
        layers["distance"] = PairwiseDistance()
        self.layers = nn.Sequential(layers)

    def forward(self, residues: Residues) -> Prediction:
        """Prediction for [B, L] residues; raises ValueError where L is more than `config.length`."""
        length = residues.sequence.shape[1]
        padded = pad_residues(residues, self.config.length)
        stacked = torch.stack([padded.profile, padded.one_hot()], dim=1)  # [B, 2, 256, 21]
        return Prediction(self.layers(stacked)[:, :length, :length])


SPECS = (
    ModelSpec(
        name="simple",
        family=Simple,
        config=SimpleConfig(),
        recipe=Recipe(
            epochs=25,
            batch_size=32,
            lr=1e-3,
            note="Study A: Adam, lr 1e-2, batch 512, squared picometres. Here angstrom, and a batch of 512 would be "
            "one or two steps an epoch on data of this size.",
        ),
        summary="study A: three convolutions over sequence and profile, dense layer to 256 points",
    ),
)
