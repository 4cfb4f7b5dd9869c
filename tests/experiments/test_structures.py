"""Coordinates of predictions beside those of the baselines."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from protcli.experiments.evaluate import score_structures
from protcli.models.spec import Prediction
from protcli.proteins.batches import Residues
from protcli.proteins.protein import Protein
from protcli.proteins.residues import AMINO_ACIDS

CPU = torch.device("cpu")


class Known(nn.Module):
    """Predicts the true distances of proteins, found by their letters; perhaps with a distogram around them."""

    def __init__(self, proteins: list[Protein], *, distogram: bool = False) -> None:
        super().__init__()
        self.known = {protein.sequence: torch.from_numpy(np.nan_to_num(protein.atom("ca"))) for protein in proteins}
        self.distogram = distogram

    def forward(self, residues: Residues) -> Prediction:
        (row,) = residues.sequence
        letters = "".join(AMINO_ACIDS[code] for code in row[residues.mask[0]])
        points = next(xyz for name, xyz in self.known.items() if name.startswith(letters))[: len(letters)]
        distance = torch.zeros(1, len(row), len(row))
        distance[0, : len(letters), : len(letters)] = torch.cdist(points, points)
        if not self.distogram:
            return Prediction(distance)
        bins = torch.linspace(0, 100, 401)
        centres = (bins[1:] + bins[:-1]) / 2
        return Prediction(distance, -((distance[..., None] - centres) ** 2) * 8, bins)


@pytest.mark.parametrize("distogram", [False, True])
def test_true_distances_give_the_true_structure_and_a_random_chain_does_not(
    chain: Callable[..., Protein], distogram: bool
) -> None:
    proteins = [chain(40, 1, missing=(3, 4)), chain(70, 2), chain(6, 3, missing=(1, 2))]
    network = Known(proteins, distogram=distogram)
    table = score_structures([network, network], proteins, 50, CPU)
    assert (table["id"].tolist(), table["residues"].tolist()) == ([protein.id for protein in proteins], [40, 70, 6])
    # a random walk has no handedness, so its mirror image may be chosen: then it is scored as the other structure it is
    first = table.iloc[:2]
    assert (first["model_tm_score"] == first["sepmean_tm_score"]).all()
    assert first["model_tm_score"].max() > 0.95
    assert (first["random_tm_score"] < 0.4).all()
    assert table.iloc[2][["model_tm_score", "random_gdt_ts"]].isna().all()
