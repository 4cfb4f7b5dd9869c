"""Layer tables against the studies' own, and against counting."""

import dataclasses
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from protcli.models import ModelSpec, Prediction, Recipe
from protcli.models.summary import LayerRow, parameter_count, summarize
from protcli.models.zoo import ZOO


@pytest.mark.parametrize("name", ZOO)
def test_rows_add_up(name):
    summary = summarize(ZOO[name], length=64)
    assert sum(row.parameters for row in summary.layers) == summary.parameters == parameter_count(ZOO[name])
    assert all(row.shape != "-" for row in summary.layers)


@pytest.mark.parametrize(("name", "gmac"), [("psp0", 5.5), ("psp1", 6.0)])
def test_cost_and_shapes_of_the_psp_nets(name, gmac):
    summary = summarize(ZOO[name])
    assert summary.gmac == pytest.approx(gmac, abs=0.1)
    shapes = {row.name: row.shape for row in summary.layers}
    assert (shapes["backbone.layer4"], shapes["tail.output"]) == ("2048 x 8 x 8", "1 x 256 x 256")


def test_improved_is_the_table_of_the_study():
    rows = [row for row in summarize(ZOO["improved"]).layers if row.parameters]
    assert [row.parameters for row in rows] == [320, 18_496, 320, 18_496, 588, 1_900, 273, 12, 12, 480]
    assert [row.shape for row in rows[:4]] == ["32 x 128 x 11", "64 x 64 x 6", "32 x 127 x 10", "64 x 63 x 4"]


@dataclass(frozen=True)
class Config:
    width: int = 5


class Odd(nn.Module):
    """Weights of its own, a layer used twice, one shared, one never called, one that gives a tuple."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(config.width))
        self.embed = nn.Linear(21, config.width)
        self.twice = nn.Linear(config.width, config.width, bias=False)
        self.again = self.twice
        self.idle = nn.Linear(2, 2)
        self.recurrent = nn.GRU(config.width, 3, batch_first=True)
        self.frozen = nn.Linear(3, 3).requires_grad_(False)
        self.register_buffer("table", torch.zeros(4))

    def forward(self, residues):
        x = self.twice(self.again(self.embed(residues.profile) * self.scale))
        points = self.frozen(self.recurrent(x)[0])
        return Prediction(torch.cdist(points, points))


ODD = ModelSpec("odd", Odd, Config(), Recipe(epochs=1, batch_size=1), "odd")


def test_any_network():
    summary = summarize(ODD, length=10)
    gru = 3 * 3 * 5 + 3 * 3 * 3 + 2 * 3 * 3
    assert set(summary.layers) == {
        LayerRow("(itself)", "Odd", "10 x 10", 5),
        LayerRow("embed", "Linear", "10 x 5", 110),
        LayerRow("twice", "Linear", "10 x 5", 25),
        LayerRow("recurrent", "GRU", "10 x 3", gru),
        LayerRow("frozen", "Linear", "10 x 3", 0),
        LayerRow("idle", "Linear", "-", 6),
    }
    assert summary.layers[-1].name == "idle"
    assert summary.parameters == 5 + 110 + 25 + gru + 6
    assert summary.buffers == 4
    assert {"| embed | Linear | 10 x 5 | 110 |", "| idle | Linear | - | 6 |"} <= set(summary.to_text().splitlines())
    # Linear 21 -> 5, twice 5 -> 5, the GRU's three gates of 5 + 3 -> 3, 3 -> 3, on 10 residues
    assert round(summary.gmac * 1e9) == 10 * (21 * 5 + 2 * 25 + 3 * 8 * 3 + 9)


def test_random_numbers_stay_as_they_were():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    summarize(dataclasses.replace(ODD, name="same"), length=4)
    parameter_count(ODD)
    assert torch.rand(1) == expected


def test_depth_folds_layers_into_the_one_that_holds_them():
    shallow = summarize(ZOO["psp1"], length=64, depth=1)
    assert [row.name for row in shallow.layers] == ["pairs", "backbone", "dropout", "tail"]
    assert sum(row.parameters for row in shallow.layers) == 25_935_553
