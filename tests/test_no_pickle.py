"""Nothing is unpickled by any command, and pickles planted where it reads are refused without being opened."""

import json
import os
import pickle
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PythonModel
from typer.testing import CliRunner

from protcli.cli import app
from protcli.tracking.keys import File, weights_path
from protcli.tracking.registry import Registry
from protcli.tracking.run import create_run, find_run
from protcli.tracking.store import open_store

# Python runs it in every process that has its folder on the path
NO_PICKLE = """
import _pickle, os, pickle, sys

def refuse(*arguments, **settings):
    raise RuntimeError("something was unpickled")

class Refuses(_pickle.Unpickler):
    load = refuse

class RefusesInPython(pickle._Unpickler):
    load = refuse

pickle.load = pickle.loads = _pickle.load = _pickle.loads = refuse
pickle.Unpickler = _pickle.Unpickler = Refuses
pickle._Unpickler = RefusesInPython
import torch
torch.load = torch.serialization.load = refuse
with open(os.environ["WITHOUT_PICKLE"], "a") as file:
    file.write(" ".join(sys.orig_argv) + "\\n")
"""


@pytest.fixture
def without_pickle(tmp_path: Path) -> dict[str, str]:
    """An environment whose Python processes cannot unpickle, and say that they began."""
    (folder := tmp_path / "site").mkdir()
    (folder / "sitecustomize.py").write_text(NO_PICKLE, encoding="utf-8")
    path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    return os.environ | {
        "PYTHONPATH": path, "WITHOUT_PICKLE": str(tmp_path / "processes.txt"),
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    }  # fmt: skip


def command(environment: dict[str, str], *arguments: object) -> str:
    """The output of `protcli` with these arguments."""
    program = [sys.executable, "-m", "protcli", *map(str, arguments)]
    done = subprocess.run(program, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def stopped(environment: dict[str, str], line: str, *arguments: object) -> tuple[str, int]:
    """The same of a training that is asked to end once it has printed such a line, and its exit code."""
    program = [sys.executable, "-u", "-m", "protcli", *map(str, arguments)]
    with subprocess.Popen(program, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = ""
        while not said.rpartition("\n")[2].startswith(line):
            said += "\n" + next(process.stdout).strip()
        process.send_signal(signal.SIGTERM)
        process.stdout.read()
    return said, process.returncode


@pytest.mark.slow
def test_the_environment_refuses_pickles(without_pickle: dict[str, str]) -> None:
    for program in ("import pickle; pickle.loads(pickle.dumps(1))", "import torch; torch.load('none')"):
        done = subprocess.run([sys.executable, "-c", program], env=without_pickle, capture_output=True, text=True)
        assert "something was unpickled" in done.stderr


@pytest.mark.slow
@pytest.mark.timeout(900)  # a dozen processes, one after the other
def test_every_command_does_without_pickle(
    without_pickle: dict[str, str], served, mlflow_store: Path, tiny_data: Path, tiny_model: Path, tmp_path: Path
) -> None:
    training = ["train", "tiny", "--model-file", tiny_model, "--data", tiny_data, "--checkpoint-every", "1"]
    said, code = stopped(without_pickle, "epoch 2/", *training, "--epochs", "500")
    assert code == 143
    run_id = said.partition("run ")[2].split()[0]
    assert any("state" in name for name in find_run(run_id).files("checkpoints"))
    # stopped, for the rest of the training is 500 epochs
    assert "continued after" in stopped(without_pickle, "epoch ", "train", "--resume", run_id)[0]
    for seed in (1, 2):
        said = command(without_pickle, *training, "--seed", seed, "--experiment", "both")
    run_id = said.partition("run ")[2].split()[0]
    champion = "models:/protein-distance@champion"
    for arguments in (
        ("evaluate", "--run-id", run_id, "--split", "valid"), ("compare", "--experiment", "both"),
        ("promote", "--experiment", "both"), ("evaluate", "--model", champion, "--split", "test"),
        ("predict", "--model", champion, "--sequence", "MKVLA", "--out", tmp_path / "maps"),
    ):  # fmt: skip
        command(without_pickle, *arguments)
    with served(champion, without_pickle) as address:
        body = json.dumps({"dataframe_records": [{"sequence": "MKV"}]}).encode()
        request = urllib.request.Request(address, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert len(json.load(answer)["predictions"][0]["distance"]) == 3
    began = (tmp_path / "processes.txt").read_text()
    for part in ("train", "--resume", "evaluate", "promote", "predict", "uvicorn"):
        assert part in began


class Malice:
    """Leaves a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.mark),)


class Malicious(PythonModel):
    """A model that MLflow keeps as a pickle."""

    def __init__(self, malice: Malice) -> None:
        self.malice = malice

    def predict(self, context, model_input: list[str]) -> list[str]:
        return model_input


def refused(*arguments: object) -> str:
    """The one sentence that `protcli` refuses with."""
    result = CliRunner().invoke(app, [str(each) for each in arguments])
    assert result.exit_code == 1, result.output
    sentence = result.stderr.strip()
    assert sentence.startswith("Error: ")
    assert "\n" not in sentence
    return sentence


def test_a_planted_pickle_is_no_checkpoint(finished, tmp_path: Path) -> None:
    mark = tmp_path / "opened"
    folder = find_run(finished.run_id).folder
    planted = pickle.dumps(Malice(mark))
    (folder / weights_path(File.BEST)).write_bytes(planted)
    said = refused("evaluate", "--run-id", finished.run_id, "--split", "test")
    assert "best.safetensors is not a readable safetensors file" in said
    run = find_run(finished.run_id)
    run.end("KILLED")
    (folder / File.STATE).write_bytes(planted)
    said = refused("train", "--resume", finished.run_id)
    assert "is not a state that this training can continue from" in said
    assert not mark.exists()
    pickle.loads(planted)
    assert mark.exists()  # it would have been


def test_a_registered_model_that_holds_a_pickle_is_refused(
    mlflow_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = tmp_path / "opened"
    client = open_store()
    model = Malicious(Malice(mark))
    begun = create_run("theirs", "Default")
    with mlflow.start_run(begun.id):
        mlflow.pyfunc.log_model(name="theirs", python_model=model, registered_model_name="theirs", pip_requirements=[])
    assert not mark.exists()
    client.set_registered_model_alias("theirs", "champion", "1")
    for command in (
        ("predict", "--model", "models:/theirs@champion", "--sequence", "MKV", "--out", tmp_path / "maps"),
        ("evaluate", "--model", "models:/theirs/1", "--split", "test"),
    ):
        assert "models:/theirs/1 does not hold a model registered by protcli promote" in refused(*command)
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    with pytest.raises(MlflowException, match=r"(?i)pickle"):
        mlflow.pyfunc.load_model("models:/theirs@champion").predict(pd.DataFrame({"x": ["MKV"]}))
    assert not mark.exists()
    assert Registry().find("models:/theirs@champion").run_id == begun.id
