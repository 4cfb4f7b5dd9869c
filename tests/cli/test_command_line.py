"""The command line as a person meets it: real processes, wrong input, and what a scheduler does to a job."""

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import mlflow
import pytest
from typer.testing import CliRunner

from protcli.cli import app
from protcli.cli.options import this_command
from protcli.proteins.store import open_store
from protcli.tracking.registry import Registry
from protcli.tracking.run import find_run, find_runs

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.usefixtures("mlflow_store")


def runs() -> list[mlflow.entities.Run]:
    return mlflow.MlflowClient(os.environ["MLFLOW_TRACKING_URI"]).search_runs(["0"])


def test_wrong_input_is_one_sentence(refused, tiny_data, tiny_model, tmp_path, monkeypatch):
    tiny = ("train", "tiny", "--model-file", tiny_model, "--data", tiny_data)
    (other := tmp_path / "other").mkdir()
    manifest = (tiny_data / "manifest.json").read_text()
    (other / "manifest.json").write_text(manifest.replace('"format_version": 1', '"format_version": 99'))
    for said, *arguments in (
        ("psp1", "train", "pps1", "--data", tiny_data),
        ("nowhere", "train", "psp1", "--data", tmp_path / "nowhere"),
        ("it has training", "train", "psp1", "--data", tiny_data, "--train-split", "training_30"),
        ("no run 123", "evaluate", "--run-id", "123"),
        ("--device", "train", "psp1", "--data", tiny_data, "--device", "tpu"),
        ("--precision", "train", "psp1", "--data", tiny_data, "--precision", "16"),
        ("--seed", "train", "psp1", "--data", tiny_data, "--seed", "-1"),
        ("scale", *tiny, "--set", "size=3"),
        ("no model file", "train", "tiny", "--model-file", tmp_path / "no.py"),
        ("99", "train", "psp1", "--data", other),
    ):
        assert said in refused(*arguments)
    assert runs() == []
    sentence = refused("train", "psp1", "--data", "no\x1b[31mwhere")  # a terminal obeys nothing that was typed wrong
    assert "no\\x1b[31mwhere" in sentence
    assert "\x1b" not in sentence
    (tmp_path / "file").touch()
    monkeypatch.setenv("PROTCLI_CACHE", str(tmp_path / "file" / "cache"))
    sentence = refused(*tiny)
    assert f"{tmp_path}/file/cache" in sentence
    assert "name another folder with PROTCLI_CACHE" in sentence


@pytest.mark.parametrize("option", ["--version", "--help"])
def test_what_is_asked_before_anything_imports_nothing_heavy(option: str) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "protcli", option]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    imported = {line.split("|")[-1].strip() for line in result.stderr.splitlines()}
    assert "protcli.cli" in imported
    assert not imported & {"pydantic", "torch", "mlflow", "matplotlib", "yaml", "numpy", "psutil"}
    assert result.stdout.startswith("protcli 0.2.0\n" if option == "--version" else "Usage: ")


def test_wrong_usage_exits_with_2(tmp_path: Path) -> None:
    for arguments in (
        *(["train"], ["train", "psp1", "--epochs", "many"], ["trian", "psp1"], ["evaluate"], ["promote", "now"]),
        *(["evaluate", "--run-id", "a", "--model", "b"], ["predict", "--sequence", "MKV"]),
        *(["train", "psp1", "--config", str(tmp_path / "config.yaml")], ["train", "psp1", "--threads", "100000"]),
    ):
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 2, (arguments, result.output)
        assert "Traceback" not in result.output
    assert f"this machine has {os.cpu_count()} cores" in result.output.replace("\n", " ")


def test_what_a_model_of_any_length_was_trained_and_measured_on(said, tiny_data: Path, tmp_path: Path) -> None:
    small = ("channels=16", "heads=2", "blocks=1", "pair_channels=8", "pair_blocks=1", "templates=0")
    settings = [word for setting in small for word in ("--set", setting)]
    trained = said(
        "train", "pairmix", "--data", tiny_data, *settings, "--epochs", 1, "--crop", 32, "--train-share", "0.5"
    )
    assert "5 of 10 proteins of training, 5 of validation" in trained
    (run,) = runs()
    for length, told in ((32, ""), (33, " (the model was measured on the first 32 of each chain)")):
        predicted = said("predict", "--run-id", run.info.run_id, "--sequence", "M" * length, "--out", tmp_path)
        assert f"sequence, {length} residues{told}:" in predicted
        assert "Confidence: calibrated on 5 validation chains, fewer than 30: rough." in predicted
        assert (
            "From the sequence alone, without relatives: 1 of them; an alignment, or sequences to search" in predicted
        )
    said("promote")
    card = mlflow.MlflowClient().get_model_version("protein-distance", "1").description
    assert "\n\nIts confidence is calibrated on 5 validation chains, fewer than 30: rough.\n\n## How" in card


def test_train_and_evaluate(printed, tiny_data: Path, tiny_model: Path) -> None:
    options = ("--model-file", tiny_model, "--data", tiny_data, "--set", "dropout=0", "--seed", 5)
    lines = printed("train", "tiny", *options)
    assert [line.split(":")[0] for line in lines if line.startswith("epoch")] == ["epoch 1/3", "epoch 2/3", "epoch 3/3"]
    (run,) = runs()
    assert any(f"run {run.info.run_id} is complete" in line for line in lines)
    assert (run.data.params["model.dropout"], run.data.params["run.seed"]) == ("0.0", "5")
    tiny_model.unlink()
    measured = "\n".join(printed("evaluate", "--run-id", run.info.run_id, "--split", "test"))
    (run,) = runs()
    name = f"test-{open_store(tiny_data).split('testing').digest[:8]}"
    assert f"{run.data.metrics[f'{name}/mse']:.4f}" in measured
    assert "testing_0" in measured


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_job_is_killed_in_mlflow_and_keeps_its_checkpoint(
    number: signal.Signals, tiny_data: Path, tiny_model: Path
) -> None:
    command = ["train", "tiny", "--model-file", str(tiny_model), "--data", str(tiny_data), "--epochs", "100000"]
    job = subprocess.Popen(
        [sys.executable, "-m", "protcli", *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),  # as a shell starts it with `&`
    )  # fmt: skip
    assert job.stdout is not None
    next(line for line in job.stdout if line.startswith("epoch 3/"))
    job.send_signal(number)
    _, errors = job.communicate(timeout=60)
    assert job.returncode == 128 + number
    (run,) = runs()
    hint = f"`protcli train --resume {run.info.run_id}` continues it where it was stopped"
    assert errors == f"Stopped: run {run.info.run_id} is marked KILLED; {hint}.\n"
    assert run.info.status == "KILLED"
    for name in ("best", "state"):
        assert find_run(run.info.run_id).path(f"checkpoints/{name}.safetensors").stat().st_size > 0


@pytest.mark.slow
def test_a_job_that_is_stopped_before_it_trains_is_killed_too(tiny_data: Path, tiny_model: Path) -> None:
    command = ["train", "tiny", "--model-file", str(tiny_model), "--data", str(tiny_data)]
    job = subprocess.Popen([sys.executable, "-m", "protcli", *command], stderr=subprocess.PIPE, text=True)
    with closing(sqlite3.connect("mlflow.db")) as connection:
        while not connection.execute("SELECT run_uuid FROM runs").fetchall():
            time.sleep(0.001)
    job.send_signal(signal.SIGTERM)
    _, errors = job.communicate(timeout=60)
    assert job.returncode == 143
    (run,) = runs()
    assert run.info.status == "KILLED"
    assert f"Stopped: run {run.info.run_id} is marked KILLED; its training had not begun, so start it again" in errors


def mlflow_run(*arguments: str) -> subprocess.CompletedProcess:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        [sys.executable, "-m", "mlflow", "run", str(ROOT), "--env-manager", "local", *arguments],
        capture_output=True, text=True, check=False, timeout=280, env=os.environ | {"PATH": path},
    )  # fmt: skip


@pytest.mark.slow
def test_mlflow_run_trains_the_run_that_it_began(tiny_data: Path) -> None:
    options = {"model": "improved", "epochs": "2", "batch-size": "5", "data": str(tiny_data)}
    began = mlflow_run(*(part for item in options.items() for part in ("-P", "=".join(item))))
    assert began.returncode == 0, began.stderr
    (run,) = runs()
    assert (run.info.status, run.info.run_name) == ("FINISHED", "improved seed 0")
    params = run.data.params
    assert (params["model"], params["recipe.epochs"], params["recipe.batch_size"]) == ("improved", "2", "5")
    assert (params["epochs"], params["batch-size"]) == ("2", "5")  # as MLflow logs -P itself
    assert run.data.metrics["best/epoch"] in (1, 2)
    assert run.data.tags["mlflow.project.entryPoint"] == "main"

    measured = mlflow_run("-e", "evaluate", "-P", f"run-id={run.info.run_id}", "-P", "split=test")
    assert measured.returncode == 0, measured.stderr
    trained, evaluation = sorted(runs(), key=lambda run: run.info.start_time)
    name = f"test-{open_store(tiny_data).split('testing').digest[:8]}"
    assert trained.data.metrics[f"{name}/mse"] == evaluation.data.metrics[f"{name}/mse"]
    assert evaluation.data.tags["evaluated.run_id"] == trained.info.run_id

    promoted = mlflow_run("-e", "promote", "-P", "experiment=Default")
    assert promoted.returncode == 0, promoted.stderr
    (promotion,) = [run for run in find_runs() if run.name == "promote improved"]
    assert (promotion.status, promotion.tags["promotion.version"]) == ("FINISHED", "models:/protein-distance/1")
    assert Registry().find("models:/protein-distance@champion").run_id == trained.info.run_id

    failed = mlflow_run("-P", "model=nothing")
    assert failed.returncode != 0
    assert "there is no model 'nothing'" in failed.stderr
    assert {run.info.status for run in runs()} == {"FINISHED", "FAILED"}
    (broken,) = [run for run in runs() if run.info.status == "FAILED"]
    assert broken.data.tags["error"].startswith("there is no model 'nothing'")


def test_the_ui_refuses_a_port_that_is_taken(refused) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert "--port" in refused("ui", "--port", str(taken.getsockname()[1]))


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(28, "No space left on device", "weights"), "[Errno 28] No space left on device: 'weights'"),
        (RuntimeError("database or disk is full\n[SQL: INSERT ...]"), "database or disk is full"),
    ],
)
def test_a_full_disk_is_one_sentence(error: Exception, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object, **settings: object) -> None:
        raise error

    monkeypatch.setattr("protcli.tracking.run.find_runs", full)
    result = CliRunner().invoke(app, ["runs"])
    assert result.exit_code == 1
    assert result.stderr == f"Error: a disk is full ({reason}): make room there, then repeat the command\n"


def test_a_recorded_command_holds_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    storage = "postgresql+psycopg2://me:s3cret@db/sweeps"
    monkeypatch.setattr("sys.argv", ["/bin/protcli", "sweep", "psp1", "--name", "my sweep", "--storage", storage])
    assert this_command() == "protcli sweep psp1 --name 'my sweep' --storage postgresql+psycopg2://me:***@db/sweeps"
