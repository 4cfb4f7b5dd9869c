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
    lines = {line.split()[0]: line for line in run("list").splitlines()}
    assert set(ZOO) <= set(lines)
    recipe = ZOO["improved"].recipe
    assert lines["improved"].split()[-4:] == ["40,897", "25", str(recipe.batch_size), f"{recipe.lr:g}"]
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
    assert "settings: length=256 negative_slope=0.1 attention_dropout=0.3 points_dropout=0.2" in text
    assert f"recipe: {ZOO['improved'].recipe.epochs} epochs" in text
    assert "recipe: fitted in one pass" in run("show", "sepmean")


def test_show_with_settings(run):
    assert "channels=8,8" in run("show", "simple", "--set", "channels=8,8", "--length", 64)


def test_errors_are_sentences(run):
    with pytest.raises(ProtcliError, match="there is no model 'pps1'"):
        run("show", "pps1")
    with pytest.raises(ProtcliError, match="simple: this network sees 256 residues and was given 300"):
        run("show", "simple", "--length", 300)
    with pytest.raises(ProtcliError, match="improved: the reshapes of this network do not fit length=100"):
        run("show", "improved", "--set", "length=100")
