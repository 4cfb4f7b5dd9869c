"""`protcli models`."""

import pytest
from typer.testing import CliRunner

from protcli.cli.models import app
from protcli.errors import ProtcliError
from protcli.models.zoo import ZOO

OWN = """
from dataclasses import replace
from protcli.models.zoo import ZOO
mine = replace(ZOO["improved"], name="mine", summary="improved [by me]")
"""

SETTINGS = """
from dataclasses import dataclass, replace
from protcli.models.sepmean import SepMean
from protcli.models.zoo import ZOO

@dataclass(frozen=True)
class Config:
    separations: int = 9
    gated: bool = True
    limits: tuple[int, ...] | None = None

@dataclass(frozen=True)
class Bare:
    pass

class Fixed(SepMean):
    def __init__(self, config):
        super().__init__(Config())

mine = replace(ZOO["sepmean"], name="mine", config=Config())
bare = replace(ZOO["sepmean"], name="bare", network=Fixed, config=Bare())
"""


@pytest.fixture
def run(monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")

    def invoke(*arguments: object) -> str:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        if result.exception:
            raise result.exception
        return result.stdout

    return invoke


def test_list_names_every_model_and_its_size(run):
    lines = {line.split()[0]: line for line in run("list").splitlines() if line.split()}
    assert set(ZOO) <= set(lines)
    recipe = ZOO["improved"].recipe
    assert lines["improved"].split()[1:5] == ["40,897", "25", str(recipe.batch_size), f"{recipe.lr:g}"]
    assert "fitted" in lines["sepmean"]


def test_list_and_show_a_model_of_the_users_own(run, tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(OWN)
    assert "improved [by me] (mine.py)" in run("list", "--model-file", path)
    assert "40,897 trained parameters" in run("show", "mine", "--model-file", path)


def test_show_has_layers_totals_settings_and_recipe(run):
    text = run("show", "improved")
    assert "64 x 63 x 4" in text
    assert "40,897 trained parameters, 0 buffer values, 0.0707 GMAC for one protein of 256 residues" in text
    rows = [line.split() for line in text.splitlines() if "─" not in line]
    start = rows.index(["setting", "type", "default"])
    assert rows[start + 1 : start + 5] == [
        ["length", "int", "256"],
        ["negative_slope", "float", "0.1"],
        ["attention_dropout", "float", "0.3"],
        ["points_dropout", "float", "0.2"],
    ]
    assert f"recipe: {ZOO['improved'].recipe.epochs} epochs" in text
    assert "warm-up 0.05, weight decay 0.01, ema 0.995" in " ".join(run("show", "pairmix").split())
    assert "recipe: fitted in one pass" in run("show", "sepmean")


def test_show_with_settings(run):
    rows = [line.split() for line in run("show", "simple", "--set", "channels=8,8", "--length", 64).splitlines()]
    assert ["setting", "type", "value"] in rows
    assert ["channels", "list", "of", "int", "8,8"] in rows


def test_show_writes_settings_as_they_are_typed(run, tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(SETTINGS)
    rows = [line.split() for line in run("show", "mine", "--model-file", path).splitlines()]
    for row in ("gated true or false true", "limits list of int or none none"):
        assert row.split() in rows
    assert "setting " not in run("show", "bare", "--model-file", path)


def test_errors_are_sentences(run):
    with pytest.raises(ProtcliError, match="there is no model 'pps1'"):
        run("show", "pps1")
    with pytest.raises(ProtcliError, match="simple: this network takes 256 residues but got 300"):
        run("show", "simple", "--length", 300)
    with pytest.raises(ProtcliError, match="improved: the reshapes of this network do not fit length=100"):
        run("show", "improved", "--set", "length=100")
