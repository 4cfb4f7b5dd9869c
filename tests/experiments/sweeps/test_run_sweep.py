"""Sweeps: stopped, killed, shared and continued; what their runs hold; what is promoted."""

import math
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from optuna.trial import TrialState
from typer.testing import CliRunner

from protcli.cli import app
from protcli.errors import ProtcliError
from protcli.experiments.config import RunConfig, read_config
from protcli.experiments.configuration import finished_runs
from protcli.experiments.promoting.promote import promote
from protcli.experiments.sweeps.run import SweepStarted, TrialFinished, report_sweep, run_sweeps, trials_of
from protcli.experiments.sweeps.space import Sweep, Tuning, make_sweeps
from protcli.experiments.sweeps.trials import mse_of, number_of, open_storage, report
from protcli.experiments.tasks import OutputLine, Train
from protcli.models.zoo import find_model
from protcli.tracking.keys import Tag
from protcli.tracking.run import Run, find_run, find_runs

pytestmark = pytest.mark.usefixtures("mlflow_store")
SHORT = Tuning(trials=3, lr=(1e-3, 1e-2), batch_size=(4,), steps=(12, 24), held_out=0.2)


def make_sweep(data: Path, model: Path, tuning: Tuning | None = None, **recipe: float) -> Sweep:
    config = RunConfig(spec=find_model("tiny", model), model_file=model).with_settings(source=str(data), **recipe)
    (sweep,) = make_sweeps("s", [("tiny", config)], tuning or Tuning(trials=6, held_out=0.2))
    return sweep


def children(parent: str) -> list[Run]:
    return find_runs(tags={Tag.PARENT: parent})


def check_trials(interrupted: str) -> None:
    """All three trials count, with what their runs measured; the second went on in its own run."""
    ((parent, queue),) = report_sweep("s")
    assert (queue.counted, parent.status) == (3, "FINISHED")
    counted = [row for row in queue.rows if row.state == TrialState.COMPLETE]
    assert [number_of(row) for row in counted] == [0, 1, 2]
    assert interrupted in {row.user_attrs["run"] for row in counted}
    for row in counted:
        run = find_run(row.user_attrs["run"])
        assert (run.params["run.seed"], run.params["data.held_out"]) == (str(number_of(row)), "0.2")
        assert (float(run.params["recipe.lr"]), run.metrics["best/valid_mse"]) == (row.params["lr"], row.value)
        assert list(run.history("valid/mse")) == list(range(1, row.user_attrs["epochs"] + 1))
        assert int(run.params["run.steps"]) == row.user_attrs["steps"] == 4 * row.user_attrs["epochs"]


def test_stopped_continued_and_refitted(family_data: Path, tiny_model: Path, train_here: Train) -> None:
    sweep = make_sweep(family_data, tiny_model, SHORT)
    events = run_sweeps([sweep], train=train_here)
    begun = next(events)
    parent_id = begun.run_ids["tiny"]
    assert begun == SweepStarted({"tiny": parent_id}, 3, 0, sweep.space)
    for event in events:
        if isinstance(event, OutputLine) and (event.name, event.line) == ("tiny, trial 1", "epoch 2/"):
            break
    events.close()
    assert find_run(parent_id).status == "KILLED"
    (interrupted,) = (run for run in children(parent_id) if run.tags[Tag.SWEEP_TRIAL] == "1")
    assert interrupted.status == "KILLED"

    begun, *lines = run_sweeps([sweep], refit=1, train=train_here)
    assert begun == SweepStarted({"tiny": parent_id}, 3, 1, sweep.space)
    ended = [event for event in lines if isinstance(event, TrialFinished)]
    assert [(event.name, event.state, event.counted, event.total) for event in ended] == [
        ("tiny, trial 1", "COMPLETE", 2, 3), ("tiny, trial 2", "COMPLETE", 3, 3),
        ("tiny, refit, seed 0", "COMPLETE", 1, 1),
    ]  # fmt: skip
    check_trials(interrupted.id)

    ((parent, queue),) = report_sweep("s")
    counted = [row for row in queue.rows if row.state == TrialState.COMPLETE]
    table = pd.read_csv(parent.path("sweep/trials.csv"))
    assert list(table) == [
        *("number", "state", "lr", "batch_size", "epochs", "steps", "steps_chosen", "valid_mse", "run_id"),
    ]  # fmt: skip
    assert list(zip(table.number, table.state, strict=True)) == [
        *((0, "COMPLETE"), (1, "FAIL"), (1, "COMPLETE"), (2, "COMPLETE"))
    ]
    assert table[table.state == "COMPLETE"].valid_mse.tolist() == pytest.approx([mse_of(row) for row in counted])
    assert table.epochs.tolist() == [row.user_attrs["epochs"] for row in queue.rows]
    for figure in ("history.png", "importances.png"):
        assert parent.path(f"sweep/{figure}").read_bytes()[:4] == b"\x89PNG"
    best = queue.best
    assert (parent.tags[Tag.SWEEP_BEST], parent.tags[Tag.SWEEP_COUNTED]) == (str(number_of(best)), "3")
    assert f"**Best: trial {number_of(best)}, MSE {best.value:.2f} Å²" in parent.tags["mlflow.note.content"]

    # the runs on held-out families are no candidates: the refit is, and a run of best_config.yaml like it
    promoted = promote(experiment="sweep-s").candidate.run
    assert promoted.params["data.held_out"] == "0.0"
    assert promoted.tags[Tag.SWEEP_REFIT] == parent.tags[Tag.SWEEP_BEST]
    tiny_model.unlink()  # the sweep's run has its own copy
    config = parent.path("best_config.yaml")
    assert read_config(config).spec.recipe.lr == best.params["lr"]
    result = CliRunner().invoke(app, ["train", "--config", str(config), "--experiment", "again"])
    assert result.exit_code == 0, result.output
    (again,) = find_runs("again")
    assert again.metrics["best/valid_mse"] == pytest.approx(promoted.metrics["best/valid_mse"], rel=1e-6)


@pytest.mark.slow
def test_killed_and_shared_it_counts_each_trial_once(family_data: Path, tiny_model: Path, train_here: Train) -> None:
    """Real processes: one is killed, and two go on at the same time."""
    command = [
        *(sys.executable, "-m", "protcli", "sweep", "tiny", "--model-file", str(tiny_model), "--name", "s"),
        *("--data", str(family_data), "--trials", "3", "--steps", "60:120", "--lr", "1e-3:1e-2", "--batch-size", "4"),
        *("--held-out", "0.2", "--refit", "1"),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as killed:
        assert any("trial 0: epoch 2/" in line for line in killed.stdout)
        killed.kill()
    (parent,) = (run for run in find_runs(tags={Tag.SWEEP: "s"}) if Tag.PARENT not in run.tags)
    (left,) = children(parent.id)
    sweep = make_sweep(family_data, tiny_model, Tuning(**{**vars(SHORT), "steps": (60, 120)}))
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as other:
        list(run_sweeps([sweep], train=train_here))
        output, _ = other.communicate()
    assert other.returncode == 0, output
    assert "tiny: 3 of 3 trials, best is trial" in output
    assert "search space: learning rate 0.001 to 0.01, batch size 4" in output
    assert re.search(r"tiny, refit, seed 0: COMPLETE, MSE [\d.]+ Å² on the validation split", output)
    ((_, queue),) = report_sweep("s")
    # it went on in its own run, unless that was still being trained when it was given to another process
    went_on = [row.user_attrs["run"] for row in queue.rows if row.state == TrialState.COMPLETE]
    check_trials(left.id if left.id in went_on else went_on[0])


def test_a_pruned_trial_is_a_run_that_nobody_takes_for_a_finished_one(
    family_data: Path, tiny_model: Path, train_here: Train
) -> None:
    sweep = make_sweep(family_data, tiny_model, epochs=100)
    runner = trials_of(sweep, open_storage())
    for _ in range(5):  # as if five trials had been perfect
        trial = runner.queue.claim(sweep.space, sweep.own_recipe, 0)
        for key, value in {"run": "run", "epochs": 9, "steps": 9, "refit_epochs": 9}.items():
            trial.set_user_attr(key, value)
        report(trial, dict.fromkeys(range(1, 20), 0.1))
        trial.study.tell(trial, 0.1)
    begun, *_, ended, _ = run_sweeps([sweep], workers=2, train=train_here)
    assert begun == SweepStarted({"tiny": runner.parent.id}, 6, 5, sweep.space)
    assert (ended.name, ended.state, ended.counted) == ("tiny, trial 5", "PRUNED", 6)
    (run,) = children(runner.parent.id)
    assert (run.status, run.tags[Tag.PRUNED], run.tags[Tag.SWEEP_TRIAL]) == ("KILLED", "True", "5")
    assert 2 <= len(run.history("valid/mse")) < 200
    finished, others = finished_runs(find_runs("sweep-s"))
    assert finished == []
    assert [why.partition(";")[0] for why in others.values()] == [
        "it holds the trials of sweep s", "it is a trial of a sweep that was pruned",
    ]  # fmt: skip
    with pytest.raises(ProtcliError, match="no finished training run"):
        promote(experiment="sweep-s")


def test_a_trial_that_diverges_is_a_result(family_data: Path, tiny_model: Path, train_here: Train) -> None:
    sweep = make_sweep(family_data, tiny_model, Tuning(trials=1, held_out=0.2), lr=1e30)
    _, *_, ended, swept = run_sweeps([sweep], refit=1, train=train_here)
    assert (ended.state, ended.mse, ended.counted) == ("COMPLETE", math.inf, 1)
    ((parent, queue),) = swept.sweeps
    assert queue.best is None  # so nothing is refitted
    with pytest.raises(ProtcliError, match="the trials of sweep s are in another database: name it with --storage"):
        report_sweep("s", "sqlite:///other.db")
    assert "best_config.yaml" not in parent.files()
    assert "1 of 1 trials count: 1 finished (1 of them diverged), 0 pruned" in parent.tags["mlflow.note.content"]
    (run,) = children(parent.id)
    assert run.status == "FAILED"


def test_a_trial_that_always_fails_stops_the_sweep(family_data: Path, tiny_model: Path, train_here: Train) -> None:
    text = tiny_model.read_text(encoding="utf-8")
    tiny_model.write_text(text.replace("each = self", 'raise ValueError("no such luck")\n        each = self'))
    sweep = make_sweep(family_data, tiny_model)
    with pytest.raises(ProtcliError, match=r"tiny, trial 0 failed 3 times: .*no such luck"):
        list(run_sweeps([sweep], train=train_here))
    ((parent, queue),) = report_sweep("s")
    assert (parent.status, queue.counted) == ("FAILED", 0)
    assert [(number_of(row), row.state.name) for row in queue.rows] == [(0, "FAIL")] * 3
