"""Study A's plain convolutional network: sequence and profile -> 256 points -> their distances."""

from dataclasses import dataclass

import torch
from torch import nn

from protcli.models.layers import ChannelsLastReshape, Dense, PairwiseDistance, batch_norm, convolutions, pad_residues
from protcli.models.recipe import Recipe, count
from protcli.models.spec import ModelSpec, Prediction
from protcli.proteins.batches import Residues
from protcli.proteins.residues import ALPHABET_SIZE


@dataclass(frozen=True)
class SimpleConfig:
    """Attributes:
    length: input length in residues; shorter input is padded, longer input is rejected.
    channels: channels of the successive 3x3 convolutions.
    """

    length: int = count(256)
    channels: tuple[int, ...] = (16, 32, 16)


class Simple(nn.Module):
    """Convolutions over profile and one-hot sequence as two channels, then one dense layer to the points."""

    def __init__(self, config: SimpleConfig) -> None:
        super().__init__()
        self.config = config
        channels = (2, *config.channels)[-1]
        values = config.length * ALPHABET_SIZE * channels
        self.layers = convolutions(2, config.channels)
        for name, layer in (
            ("norm", batch_norm(channels)),
            ("flatten", ChannelsLastReshape(values)),
            ("dense", Dense(values, config.length * 3)),
            ("points", nn.Unflatten(1, (config.length, 3))),
            ("distance", PairwiseDistance()),
        ):
            self.layers.add_module(name, layer)

    def forward(self, residues: Residues) -> Prediction:
        """Prediction for [B, L] residues; raises ValueError if L exceeds `config.length`."""
        length = residues.sequence.shape[1]
        padded = pad_residues(residues, self.config.length)
        stacked = torch.stack([padded.profile, padded.one_hot()], dim=1)  # [B, 2, 256, 21]
        return Prediction(self.layers(stacked)[:, :length, :length])


SPECS = (
    ModelSpec(
        name="simple",
        network=Simple,
        config=SimpleConfig(),
        recipe=Recipe(
            epochs=25,
            batch_size=16,
            lr=1e-2,
            note="Study A used batch 512, which on a hundred proteins is one step per epoch: on the sample (seed 0) it "
            "gives a validation MSE of 472 Å² after 10 epochs, batch 16 gives 143, and 88 after 25. At lr 1e-3 it "
            "stays at 471: the weights grow too little for batch norm's slow running variance (momentum 0.01).",
        ),
        summary="study A: three convolutions over sequence and profile, then a dense layer to 256 points",
    ),
)
