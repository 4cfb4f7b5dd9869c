"""Study A's further work."""

import dataclasses
import math

import torch

from protcli.models.crossattn import position_encoding
from protcli.models.layers import pad_residues
from protcli.models.zoo import ZOO


def test_positions_by_hand() -> None:
    encoding = position_encoding(torch.tensor([[0, 5]]), 4)
    at_five = [math.sin(5), math.cos(5), math.sin(0.05), math.cos(0.05)]  # wavelengths 2 pi and 200 pi
    torch.testing.assert_close(encoding[0], torch.tensor([[0, 1, 0, 1], at_five]))


def test_padding_and_either_branch_alone(residues) -> None:
    """Padding changes nothing; the sequence and the profile each do."""
    torch.manual_seed(0)
    model = ZOO["crossattn"].build().eval()
    short = residues([30], 30)
    long = pad_residues(short, 64)
    with torch.no_grad():
        found = model(short).distance
        torch.testing.assert_close(model(long).distance[:, :30, :30], found, rtol=1e-4, atol=1e-3)
        for changed in (
            dataclasses.replace(short, sequence=short.sequence.flip(1)),
            dataclasses.replace(short, profile=short.profile.flip(1)),
        ):
            assert (model(changed).distance - found).abs().max() > 1e-3
