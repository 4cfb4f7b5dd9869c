"""A suite at each model's tuned recipe: where the recipes come from, and what is refused."""

from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from typer.testing import CliRunner

from protcli.cli import app
from protcli.errors import ProtcliError
from protcli.experiments.config import RunConfig
from protcli.experiments.suites.run import run_suite, suite_configs, suite_sweeps, tuned_configs
from protcli.experiments.suites.suite import Suite, find_suite
from protcli.experiments.sweeps.record import publish
from protcli.experiments.sweeps.run import trials_of
from protcli.experiments.sweeps.space import Hyperparameters
from protcli.experiments.sweeps.trials import number_of, open_storage
from protcli.tracking.keys import Tag
from protcli.tracking.run import find_run, find_runs

SUITE = """
question: Which of these, each at its best?
reference: one
seeds: 1
tuned: true
tuning: {trials: 2, lr: [1e-4, 1e-1], batch_size: [2, 4], held_out: 0.2}
cells:
  - {name: one, model: tiny, file: my_model.py}
  - {name: two, model: tiny, file: my_model.py, set: {scale: 2.0}}
  - model: sepmean
recipe: {crop: 32}
"""


@pytest.fixture
def suite(mlflow_store: Path, tiny_model: Path, tmp_path: Path) -> Suite:
    return write(tmp_path, SUITE)


def write(folder: Path, text: str) -> Suite:
    path = folder / "tuned.yaml"
    path.write_text(text, encoding="utf-8")
    return find_suite(str(path))


def with_trials(suite: Suite, trials: int) -> Suite:
    return replace(suite, tuning=replace(suite.tuning, trials=trials))


def configs_of(suite: Suite, data: Path) -> list[RunConfig]:
    return suite_configs(suite, source=str(data), device="cpu")


def sweep_by_hand(suite: Suite, data: Path) -> dict[str, list]:
    """Record trials of each cell as if they had been trained, the last the best; returns what they tried."""
    tried: dict[str, list] = {}
    for sweep in suite_sweeps(suite, configs_of(suite, data)):
        runner = trials_of(sweep, open_storage())
        while trial := runner.queue.claim(sweep.space, sweep.own_recipe, sweep.seed):
            chosen = Hyperparameters(**trial.params)
            note(trial, sweep.trial(chosen, 0).spec.recipe.epochs, sweep.refit(chosen).spec.recipe.epochs)
            trial.study.tell(trial, 10.0 - number_of(trial))
            tried.setdefault(sweep.model, []).append(chosen)
        publish(runner.parent, runner.queue)
    return tried


def note(trial: optuna.Trial, epochs: int, refit_epochs: int) -> None:
    for key, value in {"run": "a run", "epochs": epochs, "steps": 1, "refit_epochs": refit_epochs}.items():
        trial.set_user_attr(key, value)


def test_the_recipes_are_those_that_were_best(suite: Suite, family_data: Path) -> None:
    configs = configs_of(suite, family_data)
    with pytest.raises(ProtcliError, match=r"suite tuned takes its recipes from its sweep, and one has none: run"):
        tuned_configs(suite, configs)
    tried = sweep_by_hand(suite, family_data)
    assert list(tried) == ["one", "two"]
    assert tried["one"] == tried["two"]  # the same own recipe, then the same random one
    tuned, about = tuned_configs(suite, configs)
    assert about == {Tag.TUNED_TRIALS: 2, Tag.TUNED_HELD_OUT: 0.2}
    best = tried["one"][1]
    for config in tuned[:2]:
        recipe = config.spec.recipe
        assert (recipe.lr, recipe.batch_size) == (best.lr, best.batch_size)
        assert recipe.epochs == -(-best.steps // (20 // best.batch_size))  # 20 proteins
        assert config.data.held_out == 0
    assert tuned[2] == configs[2]
    begun = next(run_suite(suite, configs_of(suite, family_data)))
    tags = find_run(begun.run_id).tags
    assert (tags["suite.tuned_trials"], tags["suite.tuned_held_out"]) == ("2", "0.2")

    suite = with_trials(suite, 3)
    with pytest.raises(ProtcliError, match="has 2 of the 3 trials that suite tuned asks for: run `protcli suite tune"):
        tuned_configs(suite, configs)
    sweep_by_hand(suite, family_data)  # other recipes: another suite
    again = next(run_suite(suite, configs_of(suite, family_data)))
    assert again.run_id != begun.run_id


def test_unequal_or_unfinished_sweeps_are_refused(suite: Suite, family_data: Path) -> None:
    sweep_by_hand(suite, family_data)
    configs = configs_of(suite, family_data)
    first, _ = suite_sweeps(with_trials(suite, 3), configs)
    runner = trials_of(first, open_storage())
    trial = runner.queue.claim(first.space, first.own_recipe, 0)
    note(trial, 1, 1)
    publish(runner.parent, runner.queue)
    with pytest.raises(ProtcliError, match=r"the sweep of one has 2 of the 3 trials"):
        tuned_configs(with_trials(suite, 3), configs)
    trial.study.tell(trial, 1.0)
    publish(runner.parent, runner.queue)
    with pytest.raises(ProtcliError, match=r"unequal numbers of trials \(one 3, two 2\)"):
        tuned_configs(suite, configs)


def test_equal_steps_for_every_model(suite: Suite, family_data: Path, tmp_path: Path) -> None:
    suite = write(tmp_path, SUITE.replace("tuned: true", "tuned: true\nsteps: 12"))
    configs = configs_of(suite, family_data)
    assert [config.spec.recipe.epochs for config in configs] == [3, 3, 1]  # 5 batches of 4 in an epoch
    (tried, *_) = sweep_by_hand(suite, family_data).values()
    assert {chosen.steps for chosen in tried} == {12}
    tuned, _ = tuned_configs(suite, configs)
    assert tuned[0].spec.recipe.epochs == -(-12 // (20 // tried[1].batch_size))


def test_options_that_the_sweep_decides_are_refused(suite: Suite, family_data: Path, tmp_path: Path) -> None:
    command = ["suite", "run", str(tmp_path / "tuned.yaml"), "--data", str(family_data)]
    for option, value in (("--epochs", "2"), ("--batch-size", "2")):
        result = CliRunner().invoke(app, [*command, option, value])
        assert result.exit_code == 1
        assert f"Error: its sweep decides that of suite tuned: leave out {option}" in result.output
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 1
    assert "one has none: run `protcli suite tune`" in result.output
    assert not find_runs(tags={Tag.SUITE: "tuned"})
