"""A suite that is run: its runs in MLflow, stopped and continued, with trainings that fail."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from protcli.errors import ProtcliError
from protcli.experiments.suites.report import find_suite_report
from protcli.experiments.suites.run import SuiteEvent, SuiteStarted, run_suite, suite_configs
from protcli.experiments.suites.suite import Suite, find_suite
from protcli.experiments.tasks import OutputLine, RunFinished, Train
from protcli.tracking.keys import Tag
from protcli.tracking.run import Run, find_run, find_runs

pytestmark = pytest.mark.usefixtures("mlflow_store")

SUITE = """
question: Which of these?
reference: sepmean
seeds: 2
cells:
  - model: sepmean
  - {model: tiny, file: my_model.py}
recipe: {crop: 32}
"""
TINY = "{model: tiny, file: my_model.py}"
DIVERGING = "{name: diverging, model: tiny, file: my_model.py, recipe: {lr: 1e30}}"


@pytest.fixture
def suite_file(tiny_model: Path, tmp_path: Path) -> Path:
    path = tmp_path / "which.yaml"
    path.write_text(SUITE, encoding="utf-8")
    return path


@pytest.fixture
def suite(suite_file: Path) -> Suite:
    return find_suite(str(suite_file))


def run(suite: Suite, data: Path, precision: str = "32", **options: Any) -> Iterator[SuiteEvent]:
    return run_suite(suite, suite_configs(suite, source=str(data), precision=precision), **options)


def ended(events: list[SuiteEvent]) -> list[tuple[str, str]]:
    return sorted((event.name, event.status) for event in events if isinstance(event, RunFinished))


def children(parent: str) -> list[Run]:
    return find_runs(tags={Tag.PARENT: parent})


def test_a_suite_runs_goes_on_and_repeats_nothing(
    suite_file: Path, family_data: Path, train_here: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    suite_file.write_text(SUITE.replace(TINY, DIVERGING), encoding="utf-8")
    suite, command = find_suite(str(suite_file)), "protcli suite run which.yaml"
    events = list(run(suite, family_data, seeds=1, command=command, train=train_here))
    begun = events[0]
    assert (begun.total, begun.done) == (2, 0)
    assert ended(events) == [("diverging, seed 0", "FAILED"), ("sepmean, seed 0", "FINISHED")]
    (failed,) = (event for event in events if isinstance(event, RunFinished) and event.status == "FAILED")
    assert "--max-grad-norm 1" in failed.reason
    assert not failed.is_failure

    parent = find_run(begun.run_id)
    assert parent.status == "FINISHED"  # that a model diverges is a result
    assert (parent.name, parent.tags["suite.command"]) == ("suite which", command)
    assert "suite.yaml" in parent.files()
    assert {run.params.get("run.seed") for run in children(parent.id)} == {"0"}
    assert {run.experiment_id for run in children(parent.id)} == {parent.experiment_id}
    before = {run.id for run in children(parent.id) if run.status == "FINISHED"}

    begun, *events = run(suite, family_data, train=train_here)  # its own two seeds
    assert begun == SuiteStarted(parent.id, 4, 2)
    assert ended(events) == [("diverging, seed 1", "FAILED"), ("sepmean, seed 1", "FINISHED")]  # it would diverge again
    found = find_suite_report(str(suite_file))
    assert {cell.name: len(cell.diverged) for cell in found.configurations} == {"sepmean": 0, "diverging": 2}
    assert found.missing == ()
    finished = {run.id for run in children(parent.id) if run.status == "FINISHED"}
    assert before < finished
    assert len(finished) == 2
    begun, *_ = run(suite, family_data, seeds=1, jobs=2)  # with other threads
    assert begun == SuiteStarted(parent.id, 2, 2)

    other = next(run(suite, family_data, "bf16", seeds=1))
    assert other.run_id != parent.id  # other results, another parent


def test_a_track_counts_proteins_and_ranks_by_the_area(suite_file: Path, tiny_data: Path, train_here: Train) -> None:
    """More proteins than the store has, in batches that do not divide them; one training is stopped and goes on."""
    suite_file.write_text(SUITE + "samples: 60\n", encoding="utf-8")
    stopped = []

    def stops_once(run: Run, config: Any, on_line: Any, stops: Any) -> int:
        return train_here(run, config, on_line, lambda: (config is not None and on_epoch_7(run)) or stops())

    def on_epoch_7(run: Run) -> bool:
        if len(run.history("valid/mse")) != 7 or run.id in stopped:
            return False
        stopped.append(run.id)
        return True

    suite = find_suite(str(suite_file))
    for _ in range(2):
        list(run(suite, tiny_data, seeds=2, train=stops_once))
    assert len(stopped) == 2
    report = find_suite_report(str(suite_file))
    assert report.missing == ()
    tiny = report.comparison.find("tiny")
    for each in tiny.runs:
        assert each.params["recipe.epoch_samples"] == "3"
        assert int(each.params["run.steps"]) == 20  # three proteins are less than a batch
        assert list(each.history("samples/lddt")) == [3, 6, 15, 30, 60]
        valid = each.history("valid/mse")
        by_samples = each.history("samples/mse")
        assert [by_samples[3 * epoch] for epoch in (1, 2, 5, 10, 20)] == pytest.approx(
            [valid[epoch] for epoch in (1, 2, 5, 10, 20)]
        )
    start, areas = tiny.scores[0].sepmean["lddt"], []
    for each in tiny.runs:
        curve = [start, *each.history("samples/lddt").values()]
        widths = (3, 3, 9, 15, 30)
        areas.append(sum(w * (a + b) / 2 for w, a, b in zip(widths, curve, curve[1:], strict=False)) / 60)
    (lddt, mse), sentence = report.track
    rows = {row[0]: row for row in lddt.rows}
    assert lddt.headings == ("model", "seeds", "area under lDDT", "3", "6", "15", "30", "60")
    assert rows["tiny"][2].startswith(f"{np.mean(areas):.3f} [")
    assert rows["sepmean"][2:] == (f"{start:.3f} [{start:.3f}, {start:.3f}]",) * 6
    best, other = sorted(rows, key=lambda name: -float(rows[name][2].split()[0]))
    assert sentence.startswith(f"Ranked by the area under lDDT over 60 training proteins: 1 {best} ")
    assert f"; 2 {other} " in sentence
    assert [row[0] for row in mse.rows] == [best, other]


@pytest.mark.slow
def test_a_run_of_a_suite_is_repeated_to_the_bit_by_its_configuration(
    suite_file: Path, tiny_data: Path, tmp_path: Path
) -> None:
    """Real processes. Two jobs have half of the threads each; with all of them, sums would round differently."""
    suite_file.write_text(SUITE.replace("sepmean", "psp0"), encoding="utf-8")
    events = list(run(find_suite(str(suite_file)), tiny_data, seeds=1, jobs=2))
    assert ended(events) == [("psp0, seed 0", "FINISHED"), ("tiny, seed 0", "FINISHED")]
    (event,) = (event for event in events if isinstance(event, RunFinished) and event.name == "tiny, seed 0")
    child = find_run(event.run_id)
    assert child.name == "tiny, seed 0"
    assert {"config.yaml", "model.py", "checkpoints", "loss.png"} <= child.files()
    environment = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    command = ["train", "--config", str(child.path("config.yaml")), "--experiment", "alone"]
    subprocess.run([sys.executable, "-m", "protcli", *command], env=environment, check=True, capture_output=True)
    (alone,) = find_runs("alone")
    assert alone.params["run.threads"] == child.params["run.threads"]
    assert alone.metrics["best/valid_mse"] == child.metrics["best/valid_mse"] == event.best_mse
    weights = [each.path("checkpoints/best.safetensors").read_bytes() for each in (child, alone)]
    assert weights[0] == weights[1]
    assert " WARNING " not in alone.path("log.txt").read_text()


@pytest.mark.slow
def test_stopped_in_the_middle_and_continued(suite_file: Path, tiny_data: Path) -> None:
    """A scheduler's SIGTERM: the training is KILLED, and continues in its own run when the suite is run again."""
    long = "{model: tiny, file: my_model.py, recipe: {epochs: 80}}"  # to be met in the middle, before sepmean
    text = SUITE.replace(f"  - {TINY}\n", "").replace("cells:\n", f"cells:\n  - {long}\n")
    suite_file.write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "protcli", "suite", "run", str(suite_file), "--data", str(tiny_data)]
    with subprocess.Popen(
        [*command, "--seeds", "1"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        for line in process.stdout:
            if line.startswith("tiny, seed 0: epoch 3/"):
                break
        with pytest.raises(ProtcliError, match="is being run by process"):
            next(run(find_suite(str(suite_file)), tiny_data, seeds=1))
        process.send_signal(signal.SIGTERM)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 143
    assert "repeat the command to resume suite" in stderr
    (parent,) = find_runs(tags={"suite": "which", "suite.seeds": "1"})
    assert parent.status == "KILLED"
    (stopped,) = children(parent.id)
    assert (stopped.tags["suite.cell"], stopped.status) == ("tiny", "KILLED")
    trained = len(stopped.history("valid/mse"))
    assert 3 <= trained < 80

    events = list(run(find_suite(str(suite_file)), tiny_data, seeds=1))
    assert ended(events) == [("sepmean, seed 0", "FINISHED"), ("tiny, seed 0", "FINISHED")]
    lines = [event.line for event in events if isinstance(event, OutputLine) and event.name == "tiny, seed 0"]
    where = rf"(epoch {trained}|batch \d+ of epoch {trained + 1})"  # no epoch is left half recorded
    assert any(re.fullmatch(rf"run {stopped.id}, continued after {where}", line) for line in lines)
    assert (find_run(stopped.id).status, len(children(parent.id))) == ("FINISHED", 2)
    assert list(find_run(stopped.id).history("valid/mse")) == list(range(1, 81))


def test_what_a_lost_process_left_running_is_taken_up(suite: Suite, tiny_data: Path, train_here: Train) -> None:
    """As after a power cut: parent and child say RUNNING, and their processes are no more."""
    begun, *_ = run(suite, tiny_data, seeds=1, train=train_here)
    parent = find_run(begun.run_id)
    (lost,) = (run for run in children(parent.id) if run.tags["suite.cell"] == "tiny")
    for each in (lost, parent):
        each.set_tags({Tag.PROCESS: f"{os.uname().nodename}:{2**22 + 1}:{time.time():.0f}"})
        each.end("RUNNING")
    begun, *events = run(suite, tiny_data, seeds=1, train=train_here)
    assert begun == SuiteStarted(parent.id, 2, 1)
    assert find_run(lost.id).status == "FINISHED"  # it went on in its own run
    assert (len(children(parent.id)), ended(events)) == (2, [("tiny, seed 0", "FINISHED")])


def test_a_training_that_failed_goes_on_in_its_own_run(
    suite_file: Path, tiny_model: Path, tiny_data: Path, train_here: Train
) -> None:
    """As after a full disk: what the suite has trained is not trained again."""
    broken = tiny_model.parent / "broken"
    text = tiny_model.read_text(encoding="utf-8").replace(
        "    def forward(self, residues):\n",
        "    calls = 0\n\n    def forward(self, residues):\n        Tiny.calls += 1\n"
        f"        if Tiny.calls > 7 and __import__('os').path.exists({str(broken)!r}):\n"
        "            raise ValueError('no room')\n",
    )
    tiny_model.write_text(text, encoding="utf-8")
    suite = find_suite(str(suite_file))
    broken.touch()
    begun, *events = run(suite, tiny_data, seeds=1, train=train_here)
    assert ended(events) == [("sepmean, seed 0", "FINISHED"), ("tiny, seed 0", "FAILED")]
    parent = find_run(begun.run_id)
    assert parent.status == "FAILED"
    assert parent.tags["error"].startswith("tiny, seed 0: ")
    (failed,) = (run for run in children(begun.run_id) if run.tags["suite.cell"] == "tiny")
    assert "no room" in failed.tags["error"]
    broken.unlink()
    assert ended(list(run(suite, tiny_data, seeds=1, train=train_here))) == [("tiny, seed 0", "FINISHED")]
    assert len(children(begun.run_id)) == 2
    again = find_run(failed.id)
    assert (again.status, again.tags["error"]) == ("FINISHED", "")


def test_wrong_settings_make_no_run(suite: Suite, tiny_data: Path) -> None:
    for options, sentence in (({"seeds": 0}, "--seeds is 0"), ({"jobs": 0}, "--jobs is 0")):
        with pytest.raises(ProtcliError, match=sentence):
            list(run(suite, tiny_data, **options))
    for settings, sentence in (
        ({"precision": "16"}, "--precision"),
        ({"device": "tpu"}, "--device"),
        ({"train_split": "training_30"}, "training_30"),
    ):
        with pytest.raises(ProtcliError, match=sentence):
            suite_configs(suite, source=str(tiny_data), **settings)
    assert find_runs() == []


def test_a_fault_in_ones_own_file_is_found_before_others_train(
    suite_file: Path, tiny_data: Path, tiny_model: Path
) -> None:
    text = tiny_model.read_text(encoding="utf-8")
    tiny_model.write_text(
        text.replace("def forward(self, residues):", "def forward(self, residues):\n        self.gone")
    )
    with pytest.raises(ProtcliError, match="gone"):
        suite_configs(find_suite(str(suite_file)), source=str(tiny_data))
