"""Search spaces: what is asked for, and what is made of it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from protcli.cli import app
from protcli.errors import ProtcliError
from protcli.experiments.config import RunConfig
from protcli.experiments.sweeps.space import Hyperparameters, Space, Tuning, make_sweeps, parse_choices, parse_range
from protcli.experiments.train import steps_per_epoch, total_steps, with_steps
from protcli.models.zoo import find_model
from protcli.proteins.dataset import open_dataset
from protcli.tracking.keys import Tag
from protcli.tracking.run import find_runs


def test_ranges_and_choices_are_read_as_they_are_typed() -> None:
    assert (parse_range("--lr", "1e-4:1e-1", float), parse_range("--steps", "500", int)) == ((1e-4, 1e-1), (500, 500))
    assert parse_choices("--batch-size", "4,8, 16") == (4, 8, 16)
    for text, kind in (("1e-4-1e-1", float), ("1e3:2e3", int)):
        with pytest.raises(ProtcliError, match=f"--x {text}: expected two numbers"):
            parse_range("--x", text, kind)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"trials": 0}, "trials is 0"),
        ({"lr": (0.1, 0.01)}, "lr is 0.1 to 0.01"),
        ({"lr": (0.0, 0.01)}, "lr is 0 to 0.01"),
        ({"steps": (0, 5)}, "steps is 0 to 5"),
        ({"batch_size": ()}, "batch_size is"),
        ({"batch_size": (4, 4)}, "batch_size is"),
        ({"held_out": 0.0}, "held_out is 0"),
        ({"held_out": 1.0}, "held_out is 1"),
    ],
)
def test_settings_that_describe_no_search_are_refused(settings: dict, sentence: str) -> None:
    assert sentence in next(Tuning(**settings).contradictions())


def test_one_space_holds_every_models_own_recipe() -> None:
    own = [Hyperparameters(1e-5, 8, 300), Hyperparameters(1e-2, 32, 100)]
    tuning = Tuning(lr=(1e-4, 1e-1), batch_size=(16, 4))
    assert Space.around(tuning, own) == Space((1e-5, 1e-1), (4, 8, 16, 32), (50, 600))
    assert Space.around(Tuning(steps=(200, 250)), own).steps == (200, 250)


def test_steps_become_the_fewest_whole_epochs(tiny_data: Path, tiny_model: Path) -> None:
    config = RunConfig(spec=find_model("tiny", tiny_model), model_file=tiny_model).with_settings(source=str(tiny_data))
    data = open_dataset(config.data.source, train_split=None, atom="ca", evaluated_length=32)
    assert steps_per_epoch(config, data) == 3  # 10 proteins, 4 in a batch
    assert steps_per_epoch(config.with_settings(accumulate=2), data) == 2
    for steps, epochs in ((1, 1), (3, 1), (4, 2), (300, 100)):
        made = with_steps(config, data, steps)
        assert (made.spec.recipe.epochs, total_steps(made, data)) == (epochs, 3 * epochs)


def test_a_trial_differs_from_the_own_recipe_in_what_is_tuned(family_data: Path, tiny_model: Path) -> None:
    config = RunConfig(spec=find_model("tiny", tiny_model), model_file=tiny_model).with_settings(
        source=str(family_data)
    )
    (sweep,) = make_sweeps("s", [("tiny", config)], Tuning(held_out=0.2))
    assert sweep.own_recipe == Hyperparameters(1e-2, 4, 15)  # 3 epochs of 20 proteins, 4 in a batch
    trial = sweep.trial(Hyperparameters(0.05, 8, 7), 3)
    assert (trial.data.held_out, trial.run.seed) == (0.2, 3)
    # 16 proteins are left, 8 in a batch; 20 without a hold-out
    assert (trial.spec.recipe.epochs, total_steps(trial, sweep.reduced)) == (4, 8)
    refit = sweep.refit(Hyperparameters(0.05, 8, 7))
    assert (refit.spec.recipe.epochs, refit.data.held_out, refit.run.seed) == (3, 0.0, 0)
    assert refit.data.digest != trial.data.digest
    assert sweep.refit(sweep.own_recipe).with_settings(epochs=3) == sweep.config

    def identity(seed: int = 0, optimizer: str = "adam", **tuning: Any) -> str:
        models = [("tiny", config.with_settings(optimizer=optimizer))]
        (other,) = make_sweeps("s", models, Tuning(**{"held_out": 0.2, **tuning}), seed=seed)
        return other.identity

    assert identity(trials=99) == sweep.identity  # more trials continue it
    others = {identity(1), identity(optimizer="sgd"), identity(held_out=0.3), identity(batch_size=(4,))}
    assert len(others - {sweep.identity}) == 4
    with pytest.raises(ProtcliError, match="nothing to tune"):
        make_sweeps("s", [("sepmean", replace(config, spec=find_model("sepmean"), model_file=None))], Tuning())


@pytest.mark.usefixtures("mlflow_store")
@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--lr", "fast"], "Error: --lr fast: expected two numbers"),
        (["--batch-size", "some"], "Error: --batch-size some: expected whole numbers"),
        (["--trials", "0"], "Error: trials is 0"),
        (["--seed", "-1"], "Error: --seed is -1: give a number from 0 to"),
        (["--workers", "0"], "Error: --workers is 0"),
        (["--precision", "16"], "Error: unknown precision '16'"),
        (["--storage", "nosuch://x"], "Error: the database nosuch://x cannot be opened"),
    ],
)
def test_wrong_options_are_one_sentence_and_make_no_run(
    options: list[str], sentence: str, family_data: Path, tiny_model: Path
) -> None:
    command = ["sweep", "tiny", "--model-file", str(tiny_model), "--data", str(family_data), *options]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 1
    assert result.output.startswith(sentence), result.output
    assert not find_runs(tags={Tag.SWEEP: "tiny"})
