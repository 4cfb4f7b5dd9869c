"""What every setting of a run is by its declaration alone."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from protcli.cli.options import with_settings
from protcli.errors import ProtcliError
from protcli.experiments.config import RunConfig, RunOptions, read_config
from protcli.models.recipe import OMITTED, at_least, check_ranges, setting
from protcli.models.zoo import find_model


@dataclass(frozen=True, kw_only=True)
class ToyOptions(RunOptions):
    """Two settings more: one line each."""

    toys: int = setting(2, "How many toys there are.", range=at_least(1))
    shelf: str | None = setting(None, "Where they are kept.", option="--place", identity=OMITTED)


@dataclass(frozen=True, kw_only=True)
class ToyConfig(RunConfig):
    """A run with those."""

    run: ToyOptions = field(default_factory=ToyOptions)


def test_a_new_setting_is_one_line(tmp_path: Path) -> None:
    given: dict[str, Any] = {}
    app = typer.Typer(rich_markup_mode=None)

    def train(model: str, *, experiment: str | None = None, **settings: Any) -> None:
        given.update({name: value for name, value in settings.items() if value is not None})

    app.command()(with_settings(train, ToyConfig))
    shown = " ".join(CliRunner().invoke(app, ["--help"]).stdout.split())
    assert "--toys <int> How many toys there are." in shown
    assert "--place <str> Where they are kept." in shown
    assert CliRunner().invoke(app, ["psp1", "--toys", "3", "--place", "floor", "--lr", "0.1"]).exit_code == 0
    assert given == {"toys": 3, "shelf": "floor", "lr": 0.1}

    config = ToyConfig(spec=find_model("psp1"))
    changed = config.with_settings(**given)
    assert (changed.run.toys, changed.run.shelf, changed.spec.recipe.lr) == (3, "floor", 0.1)
    (path := tmp_path / "config.yaml").write_text(changed.to_yaml())
    assert "  toys: 3\n" in path.read_text()
    assert read_config(path, ToyConfig) == changed
    assert (changed.parameters["run.toys"], changed.parameters["run.shelf"]) == (3, "floor")
    assert config.with_settings(shelf="floor").identity == config.identity != config.with_settings(toys=3).identity
    with pytest.raises(ProtcliError, match="--toys is 0: give 1 or more"):
        check_ranges(config.with_settings(toys=0).run)

    path.write_text(RunConfig(spec=find_model("psp1")).to_yaml())  # a file that was written before
    assert read_config(path, ToyConfig) == config


def test_what_decides_no_result_is_not_in_the_identity() -> None:
    config = RunConfig(spec=find_model("psp1"))
    alike: dict[str, Any] = {
        "source": "/elsewhere", "device": "cpu", "threads": 2, "devices": 2, "strategy": "fsdp",
        "activation_checkpointing": True, "compile": True,
    }  # fmt: skip
    other: dict[str, Any] = {
        "seed": 1, "precision": "bf16", "atom": "cb", "train_split": "t", "evaluate_length": 9, "digest": "d",
        "held_out": 0.1, "lr": 0.5, "train_share": 0.5,
    }  # fmt: skip
    assert replace(config.with_settings(**alike), made_with={"run.device_name": "x"}).identity == config.identity
    assert len({config.with_settings(**{name: value}).identity for name, value in other.items()}) == len(other)
    assert config.identity not in {config.with_settings(**{name: value}).identity for name, value in other.items()}
    with pytest.raises(TypeError, match="a run has no settings colour"):
        config.with_settings(colour="red")
