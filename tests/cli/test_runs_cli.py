"""protcli runs: what is there, what was lost, and what killed processes leave."""

import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from protcli.cli.runs import runs
from protcli.experiments.config import RunConfig
from protcli.experiments.train import train
from protcli.models.zoo import find_model
from protcli.process import scratch_folder, this_process
from protcli.tracking.run import create_run, find_run, find_runs
from protcli.training.loop import Epoch

pytestmark = pytest.mark.usefixtures("mlflow_store")


@pytest.fixture(autouse=True)
def _temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROTCLI_CACHE", str(tmp_path / "cache"))
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr(tempfile, "tempdir", None)


def test_a_lost_training_is_shown_and_continued(said, tiny_data: Path, tiny_model: Path) -> None:
    def lose() -> None:
        spec = find_model("tiny", tiny_model)
        config = RunConfig(spec=spec, model_file=tiny_model).with_settings(source=str(tiny_data), epochs=6)
        for event in train(config, checkpoint_every="2"):
            if isinstance(event, Epoch) and event.number == 3:
                os.kill(os.getpid(), signal.SIGKILL)

    job = multiprocessing.get_context("fork").Process(target=lose)
    job.start()
    job.join()
    assert job.exitcode == -signal.SIGKILL
    shown = said("runs")
    (run,) = find_runs()
    lost = "lost trainings: 1; `protcli runs --resume` continues them"
    for told in (run.id, "LOST", f"its process ({run.tags['run.process']}) was killed", lost):
        assert told in shown
    assert f"run {run.id}, continued after " in said("runs", "--resume")
    assert (find_run(run.id).status, find_run(run.id).is_lost) == ("FINISHED", False)
    assert list(find_run(run.id).history("valid/mse")) == list(range(1, 7))
    assert "LOST" not in said("runs")
    assert said("runs", "--resume") == "no training is lost"


def test_the_latest_are_shown(said, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[runs.__module__], "LATEST_RUNS", 3)
    for number in range(5):
        create_run(f"number {number}", "e").end("FINISHED")
    assert "number 1 " not in said("runs")
    assert "2 older runs are not shown: --all shows them" in said("runs")
    assert "number 0 " in said("runs", "--all")
    assert "number 0 " in said("runs", "--experiment", "e", "--all")


def test_scratch_folders_of_killed_processes_are_removed(said, tmp_path: Path) -> None:
    program = (
        "import os, signal\nfrom protcli.process import scratch_folder\n"
        "with scratch_folder() as folder:\n    (folder / 'file').touch()\n    os.kill(os.getpid(), signal.SIGKILL)"
    )

    def folders() -> list[Path]:
        return list((tmp_path / "tmp").iterdir())

    subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    (left,) = folders()
    assert (left / "file").is_file()
    with scratch_folder() as own:
        assert folders() == [own]
        assert this_process().replace(":", "-") in own.name
        assert said("runs", "--clean") == "folders of killed processes removed on this machine: 0"
        assert own.is_dir()
    assert not folders()
    subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert said("runs", "--clean") == "folders of killed processes removed on this machine: 1"
