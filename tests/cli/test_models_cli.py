"""`protcli models`."""

import pytest
from typer.testing import CliRunner

from protcli.cli import app
from protcli.models.zoo import ZOO

OWN = """
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

own = replace(ZOO["improved"], name="own", summary="improved [by me]")
mine = replace(ZOO["sepmean"], name="mine", config=Config())
bare = replace(ZOO["sepmean"], name="bare", network=Fixed, config=Bare())
"""


@pytest.fixture
def rows(printed, monkeypatch):
    """The words of each line."""
    monkeypatch.setenv("COLUMNS", "160")
    return lambda *arguments: [line.split() for line in printed("models", *arguments) if line.split()]


def test_list_and_show(rows, said):
    lines = {line[0]: line for line in rows("list")}
    assert set(ZOO) <= set(lines)
    recipe = ZOO["improved"].recipe
    assert lines["improved"][1:5] == ["40,897", "25", str(recipe.batch_size), f"{recipe.lr:g}"]
    assert "fitted" in lines["sepmean"]
    text = said("models", "show", "improved")
    for told in (
        "64 x 63 x 4",
        "40,897 trained parameters, 0 buffer values, 0.0707 GMAC for one protein of 256 residues",
        "length int 256 negative_slope float 0.1 attention_dropout float 0.3 points_dropout float 0.2",
        f"recipe: {ZOO['improved'].recipe.epochs} epochs",
    ):
        assert told in text
    assert ["setting", "type", "default"] in rows("show", "improved")
    assert "warm-up 0.05, weight decay 0.01, ema 0.995" in said("models", "show", "pairmix")
    assert "recipe: fitted in one pass" in said("models", "show", "sepmean")
    changed = rows("show", "simple", "--set", "channels=8,8", "--length", 64)
    assert ["setting", "type", "value"] in changed
    assert ["channels", "list", "of", "int", "8,8"] in changed


def test_a_model_of_the_users_own(rows, said, tmp_path):
    (path := tmp_path / "mine.py").write_text(OWN)
    assert "improved [by me] (mine.py)" in said("models", "list", "--model-file", path)
    assert "40,897 trained parameters" in said("models", "show", "own", "--model-file", path)
    shown = rows("show", "mine", "--model-file", path)
    for row in ("gated true or false true", "limits list of int or none none"):  # as they are typed
        assert row.split() in shown
    assert "setting " not in said("models", "show", "bare", "--model-file", path)


def test_errors_are_sentences(refused):
    assert "there is no model 'pps1'" in refused("models", "show", "pps1")
    assert "simple: this network takes 256 residues but got 300" in refused("models", "show", "simple", "--length", 300)
    said = refused("models", "show", "improved", "--set", "length=100")
    assert "improved: the reshapes of this network do not fit length=100" in said
    assert refused("models", "show", "crossattn", "--set", "dropout=7").startswith(
        "Error: --set dropout is 7.0: give a"
    )
    result = CliRunner().invoke(app, ["models", "show", "improved", "--length", "1e9"])
    assert result.exit_code == 2
    assert "Invalid value for '--length': Input should be a valid integer, not '1e9'" in result.output
