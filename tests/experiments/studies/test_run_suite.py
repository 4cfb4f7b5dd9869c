"""A suite that is run: its runs in MLflow, stopped and continued, with trainings that fail; in real processes."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from protcli.errors import ProtcliError
from protcli.experiments.studies.run_suite import Begun, Ended, Said, run_suite
from protcli.experiments.studies.suite import Suite, find_suite
from protcli.experiments.studies.suite_runs import find_suite_runs
from protcli.tracking.keys import Tag
from protcli.tracking.run import Run, find_run, find_runs

pytestmark = [pytest.mark.usefixtures("mlflow_store"), pytest.mark.slow]

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


@pytest.fixture
def without_tests(tiny_data: Path, tmp_path: Path) -> Path:
    """A store whose test split cannot be opened."""
    folder = tmp_path / "store"
    shutil.copytree(tiny_data, folder)
    (folder / "testing.arrow").write_bytes(b"nobody reads this")
    return folder


def ended(events: list) -> list[tuple[str, int, str]]:
    return sorted((event.cell, event.seed, event.outcome.status) for event in events if isinstance(event, Ended))


def children(parent: str) -> list[Run]:
    return find_runs(tags={Tag.PARENT: parent})


def test_a_suite_runs_goes_on_and_repeats_nothing(
    suite_file: Path, without_tests: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    suite_file.write_text(SUITE.replace(TINY, DIVERGING), encoding="utf-8")
    suite = find_suite(str(suite_file))
    events = list(run_suite(suite, seeds=1, data=str(without_tests), jobs=2, command="protcli suite run which.yaml"))
    begun = events[0]
    assert isinstance(begun, Begun)
    assert (begun.total, begun.done, begun.continues) == (2, 0, False)
    assert ended(events) == [("diverging", 0, "FAILED"), ("sepmean", 0, "FINISHED")]
    (failed,) = (event for event in events if isinstance(event, Ended) and event.outcome.status == "FAILED")
    assert "--max-grad-norm 1" in failed.outcome.reason

    parent = find_run(begun.run_id)
    assert parent.status == "FINISHED"  # that a model diverges is a result
    assert parent.name == "suite which"
    assert parent.tags["suite.command"] == "protcli suite run which.yaml"
    assert "suite.yaml" in parent.files()
    assert {run.params.get("run.seed") for run in children(parent.id)} == {"0"}
    assert {run.experiment_id for run in children(parent.id)} == {parent.experiment_id}
    before = {run.id for run in children(parent.id) if run.status == "FINISHED"}

    events = list(run_suite(suite, data=str(without_tests), jobs=2))  # its own two seeds
    begun = events[0]
    assert isinstance(begun, Begun)
    assert (begun.run_id, begun.total, begun.done, begun.continues) == (parent.id, 4, 2, True)
    assert ended(events) == [("diverging", 1, "FAILED"), ("sepmean", 1, "FINISHED")]  # it would diverge again
    found = find_suite_runs(str(suite_file))
    assert {cell: len(runs) for cell, runs in found.diverged.items()} == {"sepmean": 0, "diverging": 2}
    assert found.missing == ()
    finished = {run.id for run in children(parent.id) if run.status == "FINISHED"}
    assert before < finished
    assert len(finished) == 2
    threads = {run.params["run.threads"] for run in children(parent.id) if run.status == "FINISHED"}
    assert threads == {"1"}  # two jobs share two
    begun, *_ = run_suite(suite, seeds=1, data=str(without_tests), jobs=1)  # with other threads
    assert begun == Begun(parent.id, 2, 2, True)

    other = next(run_suite(suite, seeds=1, data=str(without_tests), precision="bf16"))
    assert isinstance(other, Begun)
    assert other.run_id != parent.id  # other results, another parent


def test_a_run_of_a_suite_is_repeated_to_the_bit_by_its_configuration(
    suite_file: Path, tiny_data: Path, tmp_path: Path
) -> None:
    """Two jobs have half of the threads each; a process alone would take all, and its sums round differently."""
    suite_file.write_text(SUITE.replace("sepmean", "psp0"), encoding="utf-8")
    events = list(run_suite(find_suite(str(suite_file)), seeds=1, data=str(tiny_data), jobs=2))
    assert ended(events) == [("psp0", 0, "FINISHED"), ("tiny", 0, "FINISHED")]
    for name in ("psp0", "tiny"):
        (event,) = (event for event in events if isinstance(event, Ended) and event.cell == name)
        run = find_run(event.outcome.run_id)
        assert run.name == f"{name}, seed 0"
        assert {"config.yaml", "checkpoints", "loss.png"} <= run.files()
        (folder := tmp_path / name).mkdir()
        for file in {"config.yaml", "model.py"} & run.files():
            shutil.copy(run.path(file), folder)
        environment = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
        subprocess.run(
            [sys.executable, "-m", "protcli", "train", "--config", str(folder / "config.yaml"), "--experiment", name],
            env=environment, check=True, capture_output=True,
        )  # fmt: skip
        (alone,) = find_runs(name)
        assert alone.params["run.threads"] == run.params["run.threads"] == "1"
        assert alone.metrics["best/valid_mse"] == run.metrics["best/valid_mse"] == event.outcome.best_mse
        for each, where in ((run, folder / "suite"), (alone, folder / "alone")):
            where.mkdir()
            shutil.copy(each.path("checkpoints/best.safetensors"), where / "best.safetensors")
        weights = [path.read_bytes() for path in sorted(folder.rglob("best.safetensors"))]
        assert len(weights) == 2
        assert weights[0] == weights[1]
        assert " WARNING " not in alone.path("log.txt").read_text()


def test_stopped_in_the_middle_and_continued(suite_file: Path, tiny_data: Path) -> None:
    """A scheduler's SIGTERM: the training is KILLED, and continues in its own run when the suite is run again."""
    long = "{model: tiny, file: my_model.py, recipe: {epochs: 80}}"  # to be met in the middle, before sepmean
    text = SUITE.replace(f"  - {TINY}\n", "").replace("cells:\n", f"cells:\n  - {long}\n")
    suite_file.write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "protcli", "suite", "run", str(suite_file), "--data", str(tiny_data)]
    with subprocess.Popen(
        [*command, "--seeds", "1"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("tiny, seed 0: epoch 3/"):
                break
        with pytest.raises(ProtcliError, match="is being run by process"):
            next(run_suite(find_suite(str(suite_file)), seeds=1, data=str(tiny_data)))
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

    events = list(run_suite(find_suite(str(suite_file)), seeds=1, data=str(tiny_data)))
    assert ended(events) == [("sepmean", 0, "FINISHED"), ("tiny", 0, "FINISHED")]
    lines = [event.line for event in events if isinstance(event, Said) and event.cell == "tiny"]
    where = rf"(epoch {trained}|batch \d+ of epoch {trained + 1})"  # no epoch is left half recorded
    assert any(re.fullmatch(rf"run {stopped.id}, continued after {where}", line) for line in lines)
    assert find_run(stopped.id).status == "FINISHED"
    assert len(children(parent.id)) == 2
    assert list(find_run(stopped.id).history("valid/mse")) == list(range(1, 81))


def test_what_a_lost_process_left_running_is_taken_up(suite: Suite, tiny_data: Path) -> None:
    """As after a power cut: parent and child say RUNNING, and their processes are no more."""
    *events, _ = run_suite(suite, seeds=1, data=str(tiny_data))
    parent = find_run(events[0].run_id)
    (lost,) = (run for run in children(parent.id) if run.tags["suite.cell"] == "tiny")
    for run in (lost, parent):
        run.set_tags({Tag.PROCESS: f"{os.uname().nodename}:{2**22 + 1}:{time.time():.0f}"})
        run.end("RUNNING")
    events = list(run_suite(suite, seeds=1, data=str(tiny_data)))
    assert events[0] == Begun(parent.id, 2, 1, True)
    assert find_run(lost.id).status == "FINISHED"  # it went on in its own run
    assert len(children(parent.id)) == 2
    assert ("tiny", 0, "FINISHED") in ended(events)


def test_a_training_that_failed_goes_on_in_its_own_run(suite_file: Path, tiny_model: Path, tiny_data: Path) -> None:
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
    events = list(run_suite(suite, seeds=1, data=str(tiny_data)))
    assert ended(events) == [("sepmean", 0, "FINISHED"), ("tiny", 0, "FAILED")]
    (failed,) = (run for run in children(events[0].run_id) if run.tags["suite.cell"] == "tiny")
    assert "no room" in failed.tags["error"]
    broken.unlink()
    events = list(run_suite(suite, seeds=1, data=str(tiny_data)))
    assert ended(events) == [("tiny", 0, "FINISHED")]
    assert len(children(events[0].run_id)) == 2
    run = find_run(failed.id)
    assert (run.status, run.tags["error"]) == ("FINISHED", "")


def test_wrong_settings_make_no_run(suite: Suite, tiny_data: Path) -> None:
    for settings, sentence in (
        ({"seeds": 0}, "--seeds is 0"),
        ({"jobs": 0}, "--jobs is 0"),
        ({"precision": "16"}, "--precision"),
        ({"device": "tpu"}, "--device"),
        ({"train_split": "training_30"}, "training_30"),
    ):
        with pytest.raises(ProtcliError, match=sentence):
            list(run_suite(suite, data=str(tiny_data), **settings))
    assert find_runs() == []
