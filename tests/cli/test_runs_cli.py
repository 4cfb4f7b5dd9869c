"""protcli runs: what is there, what was lost, and what killed processes leave."""

import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from protcli.process import scratch_folder, this_process
from protcli.tracking.run import create_run, find_run, find_runs

pytestmark = pytest.mark.usefixtures("mlflow_store")


@pytest.fixture(autouse=True)
def _temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROTCLI_CACHE", str(tmp_path / "cache"))
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr(tempfile, "tempdir", None)


def test_a_lost_training_is_shown_and_continued(said, tiny_data: Path, tiny_model: Path) -> None:
    arguments = ["tiny", "--model-file", str(tiny_model), "--data", str(tiny_data), "--epochs", "300"]
    job = subprocess.Popen(
        [sys.executable, "-m", "protcli", "train", *arguments, "--checkpoint-every", "2"],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert job.stdout is not None
    for line in job.stdout:
        if line.startswith("epoch 3/"):
            break
    job.send_signal(signal.SIGKILL)
    job.wait()
    shown = said("runs")
    (run,) = find_runs()
    assert run.id in shown
    assert "LOST" in shown
    assert f"its process ({run.tags['run.process']}) was killed" in shown
    assert "lost trainings: 1; `protcli runs --resume` continues them" in shown
    assert f"run {run.id}, continued after " in said("runs", "--resume")
    assert (find_run(run.id).status, find_run(run.id).is_lost) == ("FINISHED", False)
    assert list(find_run(run.id).history("valid/mse")) == list(range(1, 301))
    assert "LOST" not in said("runs")
    assert said("runs", "--resume") == "no training is lost"


def test_the_latest_are_shown(said) -> None:
    for number in range(32):
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
