"""protcli runs: what is there, what was lost, and what killed processes leave."""

import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from protcli.cli import app
from protcli.process import scratch_folder, this_process
from protcli.tracking.run import find_run, find_runs


@pytest.fixture(autouse=True)
def _temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROTCLI_CACHE", str(tmp_path / "cache"))
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr(tempfile, "tempdir", None)


def call(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["runs", *arguments])
    assert result.exit_code == 0, result.output
    return result.output


def test_a_lost_training_is_shown_and_continued(mlflow_store: Path, tiny_data: Path, tiny_model: Path) -> None:
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
    said = call()
    (run,) = find_runs()
    assert run.id in said
    assert "LOST" in said
    assert f"its process ({run.tags['run.process']}) was killed" in said
    assert "lost trainings: 1; `protcli runs --resume` continues them" in said
    assert f"run {run.id}, continued after " in call("--resume")
    assert (find_run(run.id).status, find_run(run.id).is_lost) == ("FINISHED", False)
    assert list(find_run(run.id).history("valid/mse")) == list(range(1, 301))
    assert "LOST" not in call()
    assert call("--resume") == "no training is lost\n"


def test_the_latest_are_shown(mlflow_store: Path) -> None:
    from protcli.tracking.run import create_run

    for number in range(32):
        create_run(f"number {number}", "e").end("FINISHED")
    assert "number 1 " not in call()
    assert "2 older runs are not shown: --all shows them" in call()
    assert "number 0 " in call("--all")
    assert "number 0 " in call("--experiment", "e", "--all")


def test_scratch_folders_of_killed_processes_are_removed(tmp_path: Path, mlflow_store: Path) -> None:
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
        assert call("--clean") == "folders of killed processes removed on this machine: 0\n"
        assert own.is_dir()
    assert not folders()
    subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert call("--clean") == "folders of killed processes removed on this machine: 1\n"
