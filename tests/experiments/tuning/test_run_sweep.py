"""Sweeps in real processes: several at once, stopped, killed and continued; what their runs hold; what is promoted."""

import math
import re
import shutil
import subprocess
import sys
from pathlib import Path
from threading import Event

import pandas as pd
import pytest
from typer.testing import CliRunner

from protcli.cli import app
from protcli.errors import ProtcliError
from protcli.experiments.config import RunConfig, read_config
from protcli.experiments.promoting.promote import promote
from protcli.experiments.runs.finished import finished_runs
from protcli.experiments.tuning.run_sweep import Begun, Swept, report_sweep, run_sweeps, trials_of
from protcli.experiments.tuning.space import Tuning
from protcli.experiments.tuning.storage import open_storage
from protcli.experiments.tuning.sweep import Sweep, make_sweeps
from protcli.experiments.tuning.work import Ended, Said
from protcli.models.zoo import find_model
from protcli.tracking.keys import Tag
from protcli.tracking.run import Run, find_run, find_runs

pytestmark = [pytest.mark.usefixtures("mlflow_store"), pytest.mark.slow]


def make_sweep(data: Path, model: Path, tuning: Tuning | None = None, **recipe: float) -> Sweep:
    config = RunConfig(spec=find_model("tiny", model), model_file=model).with_settings(source=str(data), **recipe)
    (sweep,) = make_sweeps("s", [("tiny", config)], tuning or Tuning(trials=6, held_out=0.2))
    return sweep


def children(parent: str) -> list[Run]:
    return find_runs(tags={Tag.PARENT: parent})


@pytest.mark.timeout(900)
def test_killed_stopped_and_shared_it_counts_each_trial_once(
    family_data: Path, tiny_model: Path, tmp_path: Path
) -> None:
    tiny_model.write_text(tiny_model.read_text(encoding="utf-8").replace("epochs=3", "epochs=20"), encoding="utf-8")
    command = [
        *(sys.executable, "-m", "protcli", "sweep", "tiny", "--model-file", str(tiny_model), "--name", "s"),
        *("--data", str(family_data), "--trials", "3", "--steps", "60:120", "--lr", "1e-3:1e-2", "--batch-size", "4"),
        *("--held-out", "0.2", "--refit", "1"),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as killed:
        assert killed.stdout is not None
        assert any("trial 0: epoch 2/" in line for line in killed.stdout)
        killed.kill()
    (parent,) = (run for run in find_runs(tags={Tag.SWEEP: "s"}) if Tag.PARENT not in run.tags)

    tuning = Tuning(trials=3, lr=(1e-3, 1e-2), batch_size=(4,), steps=(60, 120), held_out=0.2)
    sweep = make_sweep(family_data, tiny_model, tuning)
    events = run_sweeps([sweep])
    assert next(events) == Begun({"tiny": parent.id}, 3, 0, sweep.space)
    for event in events:  # trial 0 is trained again, or goes on
        if isinstance(event, Said) and (event.label, event.line[:8]) == ("trial 1", "epoch 2/"):
            break
    events.close()
    assert find_run(parent.id).status == "KILLED"
    (interrupted,) = (run for run in children(parent.id) if run.tags[Tag.SWEEP_TRIAL] == "1")
    assert interrupted.status == "KILLED"

    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as other:
        *_, swept = run_sweeps([sweep])
        output, _ = other.communicate()
    assert isinstance(swept, Swept)
    assert other.returncode == 0, output
    assert "tiny: 3 of 3 trials, best is trial" in output
    assert "search space: learning rate 0.001 to 0.01, batch size 4" in output
    assert re.search(r"tiny, refit, seed 0: COMPLETE, MSE [\d.]+ Å² on the validation split", output)

    ((parent, ledger),) = report_sweep("s")
    assert (ledger.counted, parent.status) == (3, "FINISHED")
    counted = [row for row in ledger.rows if row.state == "COMPLETE"]
    assert [row.number for row in counted] == [0, 1, 2]
    assert counted[1].run_id == interrupted.id  # it went on in its own run
    for row in counted:
        run = find_run(row.run_id)
        assert (run.params["run.seed"], run.params["data.held_out"]) == (str(row.number), "0.2")
        assert float(run.params["recipe.lr"]) == row.params["lr"]
        assert run.metrics["best/valid_mse"] == row.mse
        assert list(run.history("valid/mse")) == list(range(1, row.about["epochs"] + 1))
        assert int(run.params["run.steps"]) == row.about["steps"] == 4 * row.about["epochs"]

    table = pd.read_csv(parent.path("sweep/trials.csv"))
    assert table[table.state == "COMPLETE"].number.tolist() == [0, 1, 2]
    assert table[table.state == "COMPLETE"].valid_mse.tolist() == pytest.approx([row.mse for row in counted])
    for figure in ("history.png", "importances.png"):
        assert parent.path(f"sweep/{figure}").read_bytes()[:4] == b"\x89PNG"

    # the runs on held-out families are no candidates: the refit is, and a run of best_config.yaml like it
    promoted = promote(experiment="sweep-s")
    assert promoted.best.params["data.held_out"] == "0.0"
    assert promoted.best.tags[Tag.SWEEP_REFIT] == parent.tags[Tag.SWEEP_BEST]
    tiny_model.unlink()  # the sweep's run has its own copy
    shutil.copy(parent.path("model.py"), tmp_path)
    best = Path(shutil.copy(parent.path("best_config.yaml"), tmp_path))
    assert ledger.best is not None
    assert read_config(best).spec.recipe.lr == ledger.best.params["lr"]
    result = CliRunner().invoke(app, ["train", "--config", str(best), "--experiment", "again"])
    assert result.exit_code == 0, result.output
    (again,) = find_runs("again")
    assert again.metrics["best/valid_mse"] == pytest.approx(promoted.best.metrics["best/valid_mse"], rel=1e-6)


def test_a_pruned_trial_is_a_run_that_nobody_takes_for_a_finished_one(family_data: Path, tiny_model: Path) -> None:
    sweep = make_sweep(family_data, tiny_model, epochs=100)
    work = trials_of(sweep, open_storage())
    for _ in range(5):  # as if five trials had been perfect
        claim = work.ledger.claim()
        assert claim is not None
        claim.note("run", epochs=9, steps=9, refit_epochs=9)
        claim.report(dict.fromkeys(range(1, 20), 0.1))
        claim.complete(0.1)
    begun, *_, ended, swept = run_sweeps([sweep], workers=2)
    assert begun == Begun({"tiny": work.parent.id}, 6, 5, sweep.space)
    assert isinstance(ended, Ended)
    assert (ended.label, ended.state, ended.counted) == ("trial 5", "PRUNED", 6)
    assert isinstance(swept, Swept)
    (run,) = children(work.parent.id)
    assert (run.status, run.tags[Tag.PRUNED], run.tags[Tag.SWEEP_TRIAL]) == ("KILLED", "True", "5")
    assert 2 <= len(run.history("valid/mse")) < 200
    finished, others = finished_runs(find_runs("sweep-s"))
    assert finished == []
    assert [why.partition(";")[0] for why in others.values()] == [
        "it holds the trials of sweep s", "it is a trial of a sweep that was pruned",
    ]  # fmt: skip
    with pytest.raises(ProtcliError, match="no finished training run"):
        promote(experiment="sweep-s")


def test_a_trial_that_diverges_is_a_result(family_data: Path, tiny_model: Path) -> None:
    sweep = make_sweep(family_data, tiny_model, lr=1e30)
    work = trials_of(sweep, open_storage())
    claim = work.ledger.claim()
    assert claim is not None
    ended = work.train(claim, 1, lambda event: None, Event())
    assert (ended.state, ended.mse, ended.counted) == ("COMPLETE", math.inf, 1)
    (parent, _), *others = report_sweep("s")
    assert not others
    assert "best_config.yaml" not in parent.files()
    (run,) = children(parent.id)
    assert run.status == "FAILED"


def test_a_trial_that_always_fails_stops_the_sweep(
    family_data: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("protcli.experiments.tuning.run_sweep.MOST_FAILURES", 1)
    text = tiny_model.read_text(encoding="utf-8")
    tiny_model.write_text(text.replace("each = self", 'raise ValueError("no such luck")\n        each = self'))
    sweep = make_sweep(family_data, tiny_model)
    with pytest.raises(ProtcliError, match=r"tiny, trial 0 failed 1 times: .*no such luck"):
        list(run_sweeps([sweep]))
    ((parent, ledger),) = report_sweep("s")
    assert (parent.status, ledger.counted) == ("FAILED", 0)
    assert [(row.number, row.state) for row in ledger.rows] == [(0, "FAIL")]
