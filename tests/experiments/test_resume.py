"""A training that is stopped or killed and goes on: in real processes, to the bit, in the same run."""

import json
import os
import re
import shutil
import subprocess
import sys
from contextlib import chdir
from dataclasses import dataclass, replace
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch
from safetensors import safe_open
from typer.testing import CliRunner

from protcli.cli import app
from protcli.errors import ProtcliError
from protcli.experiments import train as training
from protcli.experiments.config import RunConfig, recorded_config
from protcli.experiments.evaluate import evaluate
from protcli.experiments.predicting.predict import load
from protcli.experiments.scores import read_epochs
from protcli.experiments.train import Finished, Started, resume, train
from protcli.models.zoo import configure as configure_model
from protcli.models.zoo import find_model
from protcli.proteins.confidence import Calibration
from protcli.proteins.dataset import open_dataset
from protcli.tracking.run import Run, find_run, find_runs
from protcli.training.loop import Epoch, Step

pytestmark = pytest.mark.usefixtures("mlflow_store")

# everything that a training has a state of: dropout (the model's), crops, schedule, warm-up, accumulation, an average
RECIPE = {
    "epochs": 4, "batch_size": 2, "accumulate": 2, "crop": 16, "schedule": "cosine", "warmup": 0.2, "ema": 0.7,
    "optimizer": "adamw", "weight_decay": 0.05, "max_grad_norm": 5.0,
}  # fmt: skip
SAVED = {  # epochs in the last state
    "between epochs": 2, "after logging": 1, "in an epoch": 2, "after a checkpoint": 2, "while saving": 2,
    "after the last epoch": 4,
}  # fmt: skip
TIMES = ("seconds", "per_second", "memory", "system/")

MOMENTS = (
    *("at the beginning", "between epochs", "after logging", "in an epoch", "after a checkpoint", "while saving"),
    "after the last epoch",
)
KILLED = """
import os, signal, sys
from pathlib import Path
from protcli.experiments import train as training
from protcli.experiments.config import read_config
from protcli.training import checkpoint
from protcli.training.loop import Epoch, Step

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def train(moment):
    config = read_config(Path(sys.argv[1]))
    if moment == "while saving":
        whole, states = checkpoint.save_file, []
        def half(tensors, path, metadata=None):
            whole(tensors, path, metadata=metadata)
            states.extend([path] if "state" in Path(path).name else [])
            if len(states) == 3:  # the state of the third epoch
                data = Path(path).read_bytes()
                Path(path).write_bytes(data[: len(data) // 2])
                die()
        checkpoint.save_file = half
    if moment == "after logging":
        whole_epoch = training.Record.log_epoch
        def log_epoch(self, epoch, best):
            whole_epoch(self, epoch, best)
            if epoch.number == 2:
                die()
        training.Record.log_epoch = log_epoch
    pace = "3" if moment == "after a checkpoint" else None
    for event in training.train(config, moment, pace):
        if moment == "at the beginning" and isinstance(event, training.Started):
            die()
        in_epoch = moment in ("in an epoch", "after a checkpoint")
        if in_epoch and isinstance(event, Step) and (event.epoch, event.number) == (3, 4):
            die()
        if moment == "between epochs" and isinstance(event, Epoch) and event.number == 2:
            die()
        if moment == "after the last epoch" and isinstance(event, Epoch) and event.number == config.spec.recipe.epochs:
            die()

for moment in sys.argv[2:]:  # forked, so that everything is imported once
    if (pid := os.fork()) == 0:
        train(moment)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, (moment, status)
"""


def configure(model_file: Path, data: Path) -> RunConfig:
    spec = find_model("tiny", model_file)
    return RunConfig(spec=spec, model_file=model_file).with_settings(source=str(data), seed=3, **RECIPE)


@pytest.fixture
def config(tiny_data: Path, tiny_model: Path) -> RunConfig:
    return configure(tiny_model, tiny_data)


def kill(config: RunConfig, folder: Path, *moments: str) -> list[Run]:
    """The runs of trainings that were killed at these moments."""
    path = folder / "to_kill.yaml"
    path.write_text(config.to_yaml(), encoding="utf-8")
    environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    job = subprocess.run(
        [sys.executable, "-c", KILLED, str(path), *moments], capture_output=True, text=True, check=False,
        env=environment,
    )  # fmt: skip
    assert job.returncode == 0, job.stderr
    return [find_runs(moment)[-1] for moment in moments]


def points(run_id: str) -> dict[str, list[tuple[int, float]]]:
    """Every point of every metric but those of time and memory, in the order in which they were logged."""
    client = mlflow.MlflowClient()
    keys = [key for key in client.get_run(run_id).data.metrics if not any(part in key for part in TIMES)]
    return {key: [(point.step, point.value) for point in client.get_metric_history(run_id, key)] for key in keys}


def tensors(run: Run) -> dict[str, bytes]:
    """The bytes of each file of tensors: weights, and the errors of every epoch."""
    names = [*(f"checkpoints/{name}" for name in ("best", "last", "sepmean")), "validation_errors"]
    return {name: run.path(f"{name}.safetensors").read_bytes() for name in names}


@dataclass(frozen=True)
class Undisturbed:
    """What a training that is never stopped leaves."""

    points: dict[str, list[tuple[int, float]]]
    tensors: dict[str, bytes]
    files: set[str]


@pytest.fixture(scope="module")
def undisturbed(
    tmp_path_factory: pytest.TempPathFactory, _empty_store: Path, tiny_data: Path, tiny_model_text: str
) -> Undisturbed:
    folder = tmp_path_factory.mktemp("undisturbed")
    shutil.copy(_empty_store, folder / "mlflow.db")
    (folder / "my_model.py").write_text(tiny_model_text, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        patch.chdir(folder)
        *_, finished = train(configure(folder / "my_model.py", tiny_data), "undisturbed")
        assert isinstance(finished, Finished)
        run = find_run(finished.run_id)
        return Undisturbed(points(run.id), tensors(run), run.files())


@pytest.mark.slow
def test_a_killed_training_goes_on_as_if_nothing_had_been(
    config: RunConfig, undisturbed: Undisturbed, tmp_path: Path
) -> None:
    for moment, killed in zip(MOMENTS, kill(config, tmp_path, *MOMENTS), strict=True):
        assert (killed.status, killed.is_lost) == ("FAILED", True), moment
        done = 0
        saved = Path("mlruns").glob(f"*/{killed.id}/artifacts/checkpoints/state*.safetensors")
        for path in sorted(saved)[-1:]:  # "state-before" is the one before "state"
            with safe_open(path, "pt") as file:
                done = json.loads(file.metadata()["about"])["epoch"] - 1
        assert done == SAVED.get(moment, 0), moment

        events = list(resume(killed.id))
        assert isinstance(events[0], Started)
        assert events[0].done == done, moment
        assert events[0].batches == (3 if moment == "after a checkpoint" else 0), moment
        assert [event.number for event in events if isinstance(event, Epoch)] == list(range(done + 1, 5)), moment
        run = find_run(killed.id)
        assert (run.status, run.tags["run.resumed"], run.tags["error"]) == ("FINISHED", "1", ""), moment
        assert not run.is_lost, moment
        assert events[0].warning == "", moment
        assert points(run.id) == undisturbed.points, moment
        assert tensors(run) == undisturbed.tensors, moment
        assert run.files() == undisturbed.files, moment
        with pytest.raises(ProtcliError, match=f"^run {run.id} is finished: there is nothing to resume$"):
            next(resume(run.id))
    assert not any("state" in path.name or "partial" in path.name for path in Path("mlruns").rglob("*"))


def test_stopped_again_and_again(
    config: RunConfig, undisturbed: Undisturbed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has its own number of threads again each time, and its log says what else has changed."""
    threads = torch.get_num_threads()
    events = train(config)
    started = next(events)
    for _ in range(3):
        for event in events:
            if isinstance(event, Step) and event.number == 2 and event.epoch > 1:
                break
        events.close()
        run = find_run(started.run_id)
        assert run.status == "KILLED"
        epochs = read_epochs(run.path("validation_errors.safetensors"))
        assert [errors.mse for errors in epochs] == [mse for _, mse in points(run.id)["valid/mse"]]
        torch.set_num_threads(threads + 1)
        events = resume(run.id)
        assert isinstance(next(events), Started)
        assert torch.get_num_threads() == threads
    events.close()
    now = training.conditions
    monkeypatch.setattr(training, "conditions", lambda device: now(device) | {"version.torch": "9.9"})
    *_, finished = resume(run.id)
    assert finished.run_id == started.run_id
    assert points(finished.run_id) == undisturbed.points
    assert tensors(find_run(finished.run_id)) == undisturbed.tensors
    assert find_run(finished.run_id).tags["run.resumed"] == "4"
    log = find_run(finished.run_id).path("log.txt").read_text()
    assert "resumed after epoch 1" in log
    (warning,) = (line for line in log.splitlines() if " WARNING " in line)
    assert re.search(r"figures may differ in their last digits: version\.torch is 9\.9, was \S+$", warning)


def test_a_network_that_keeps_training_proteins(tiny_data: Path, tmp_path: Path) -> None:
    """The flagship's memory is in its state: resumed it goes on to the bit, and a finished run finds its templates."""
    small = ["channels=16", "heads=2", "blocks=1", "pair_channels=8", "pair_blocks=2", "bottleneck=4", "triangle=4"]
    config = RunConfig(spec=configure_model(find_model("pairmix"), small)).with_settings(
        source=str(tiny_data), epochs=3, batch_size=4, crop=32, padded_lengths=(32,)
    )
    *_, whole = train(config)
    events = train(config)
    started = next(events)
    for event in events:
        if isinstance(event, Step) and event.epoch == 2:
            break
    events.close()
    *_, finished = resume(started.run_id)
    first, second = (find_run(each.run_id) for each in (whole, finished))
    assert points(second.id) == points(first.id)
    assert tensors(second) == tensors(first)
    protein = open_dataset(str(tiny_data), train_split=None, atom="ca", evaluated_length=32).train[0]
    known = load(second.id).predict(protein.sequence[:32])
    true = np.linalg.norm(protein.coords[:32, None, 1] - protein.coords[None, :32, 1], axis=-1)
    assert np.nanmedian(np.abs(known.distance - true)) < 1  # it has this very chain

    # its confidence is calibrated on validation, where it is then right on average
    result = evaluate(run_id=second.id)
    assert result.scores.reliability.error < 0.05
    picture = find_run(second.id).path(f"evaluation/valid-{result.scores.digest[:8]}/reliability.png")
    assert picture.read_bytes().startswith(b"\x89PNG")
    curve = Calibration.from_json(second.path("calibration.json").read_text())
    assert curve.chains == len(result.scores.proteins)
    as_distributed = replace(known, model=replace(known.model, calibration=None)).confidence
    np.testing.assert_allclose(known.confidence, curve(as_distributed), rtol=1e-5)


def test_a_store_of_artifacts_that_is_elsewhere(
    config: RunConfig, undisturbed: Undisturbed, tmp_path: Path, monkeypatch
) -> None:
    """The files of a run wait in the cache, become its artifacts when it is stopped, and are fetched from there."""
    monkeypatch.setenv("PROTCLI_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("protcli.tracking.run.Run.is_local", False)
    events = train(config)
    started = next(events)
    for event in events:
        if isinstance(event, Epoch) and event.number == 2:
            break
    waiting = tmp_path / "cache" / "runs" / started.run_id
    assert (waiting / "checkpoints" / "state.safetensors").is_file()
    events.close()
    assert not waiting.exists()
    assert "checkpoints" in find_run(started.run_id).files()
    *_, finished = resume(started.run_id)
    assert points(finished.run_id) == undisturbed.points
    assert tensors(find_run(finished.run_id)) == undisturbed.tensors
    assert not waiting.exists()
    assert not [name for name in find_run(finished.run_id).files("checkpoints") if "state" in name]


def test_what_cannot_be_resumed_is_one_sentence(config: RunConfig, tmp_path: Path, monkeypatch) -> None:
    events = train(config)
    run_id = next(events).run_id
    with pytest.raises(ProtcliError, match=rf"^run {run_id} is being trained by process .*: stop it first$"):
        next(resume(run_id))
    for event in events:
        if isinstance(event, Epoch) and event.number == 2:
            break
    events.close()
    find_run(run_id).set_tags({"evaluated.valid.digest": "of the second epoch"})
    with pytest.raises(ProtcliError, match="no run 0123"):
        next(resume("0123"))
    with pytest.raises(ProtcliError, match=r"has no file config\.yaml"):
        next(resume(mlflow.MlflowClient().create_run("0").info.run_id))
    moved = tmp_path / "moved"
    shutil.copytree(config.data.source, moved)
    monkeypatch.setattr(training, "recorded_config", lambda run, data: config)
    (state,) = Path("mlruns").rglob("state.safetensors")
    whole = state.read_bytes()
    state.unlink()
    (before,) = Path("mlruns").rglob("state-before.safetensors")
    before.unlink()
    with pytest.raises(ProtcliError, match=rf"^run {run_id} has 2 epochs, but its checkpoints/.* is gone"):
        list(resume(run_id))
    state.write_bytes(whole[:200])
    with pytest.raises(ProtcliError, match=r"state\.safetensors is not a state that this training can continue from"):
        list(resume(run_id))
    assert find_run(run_id).status == "FAILED"
    state.write_bytes(whole)
    list(resume(run_id))
    assert find_run(run_id).tags["evaluated.valid.digest"] == ""  # measured again when it is asked for


def test_the_command(config: RunConfig, tmp_path: Path) -> None:
    (killed,) = kill(config, tmp_path, "in an epoch")
    result = CliRunner().invoke(app, ["train", "--resume", killed.id])
    assert result.exit_code == 0, result.output
    assert f"run {killed.id}, continued after epoch 2" in result.output
    assert "epoch 3/4:" in result.output
    assert "epoch 2/4:" not in result.output
    for arguments in (["tiny", "--resume", killed.id], ["--resume", killed.id, "--epochs", "9"], []):
        refused = CliRunner().invoke(app, ["train", *arguments])
        assert refused.exit_code == 2, refused.output
    assert "leave out --set" in CliRunner().invoke(app, ["train", "--resume", killed.id, "--set", "scale=2"]).output
    assert "leave out --epochs" in CliRunner().invoke(app, ["train", "--resume", killed.id, "--epochs", "9"]).output


def test_data_that_were_moved(config: RunConfig, tiny_data: Path, family_data: Path, tmp_path: Path) -> None:
    """They are found in the working folder by the end of their path, or named; a digest says whether it is they."""
    shutil.copytree(tiny_data, was := tmp_path / "was" / "proj" / "data")
    events = train(config.with_settings(source=str(was)))
    while not isinstance(next(events), Epoch):
        pass
    events.close()
    (run,) = find_runs()
    shutil.move(was, tmp_path / "elsewhere")
    with pytest.raises(ProtcliError, match=f"{was}: there is no such folder; if it was moved, name its new place"):
        list(resume(run.id))
    shutil.copytree(family_data, data := tmp_path / "data")
    with pytest.raises(
        ProtcliError, match=f"was made for data {run.params['data.digest']}, but {data} is [0-9a-f]{{32}}"
    ):
        list(resume(run.id))
    shutil.rmtree(data)
    *_, finished = resume(run.id, data=str(tmp_path / "elsewhere"))
    assert isinstance(finished, Finished)
    assert recorded_config(run).data.source == str(tmp_path / "elsewhere")
    assert recorded_config(run).model_file == run.path("model.py")
    shutil.copytree(tiny_data, data := tmp_path / "elsewhere" / "elsewhere")
    with chdir(tmp_path / "elsewhere"):  # a copy is read where the copied project is
        assert recorded_config(run).data.source == str(data)
    assert evaluate(run_id=run.id).scores.prefix == "best/valid_"
