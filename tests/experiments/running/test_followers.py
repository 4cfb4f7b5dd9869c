"""Two processes train one model as one does, stop and continue together, and end together."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from safetensors.torch import load_file

from protcli.experiments.evaluate import validation_of
from protcli.experiments.scores import epochs_of
from protcli.tracking.keys import File, weights_path
from protcli.tracking.run import Run, find_run, find_runs

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.usefixtures("mlflow_store")]

RECIPE = """Recipe(
    epochs=4, batch_size=4, accumulate=2, lr=1e-2, crop=32, random_crop=True, schedule="cosine", warmup=0.1, ema=0.8
)"""


@pytest.fixture
def training(tiny_model: Path, tiny_data: Path) -> list[str]:
    """Arguments of a training with crops, accumulation, a schedule and an average of the weights; ten proteins."""
    text = tiny_model.read_text()
    tiny_model.write_text(re.sub(r"Recipe\(epochs=.*?\)", RECIPE, text))
    return ["train", "tiny", "--model-file", str(tiny_model), "--data", str(tiny_data), "--threads", "1"]


def start(arguments: Sequence[str]) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "protcli", *arguments], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )  # fmt: skip


def trained(arguments: Sequence[str]) -> Run:
    """The run of a training that ends well."""
    process = start(arguments)
    said = process.communicate(timeout=400)[0]
    assert process.returncode == 0, said
    return find_run(said.partition("\nrun ")[2].split()[0].rstrip(","))


def read_until(process: subprocess.Popen, begins: str) -> str:
    """The first line of the output that begins so."""
    assert process.stdout is not None
    read = []
    for line in process.stdout:
        read.append(line)
        if line.startswith(begins):
            return line
    raise AssertionError("".join(read))


def weights(run: Run, name: str = File.LAST) -> dict[str, torch.Tensor]:
    folder = run.folder
    return load_file(folder / weights_path(name))


def points(run: Run) -> dict[str, dict[int, float]]:
    return {
        key: run.history(key) for key in run.metrics if key.startswith(("valid/", "best/", "train/mse", "train/lo"))
    }


def test_processes_train_as_one(training: list[str]) -> None:
    """Whether each has a copy of the weights, or a part of them; two, or three for five batches of validation."""
    without = [*training, "--set", "dropout=0", "--max-grad-norm", "1"]
    alone = trained(without)
    for devices, strategy in (("2", "ddp"), ("2", "fsdp"), ("3", "fsdp")):
        together = trained([*without, "--devices", devices, "--strategy", strategy])
        assert (together.params["run.devices"], together.params["run.strategy"]) == (devices, strategy)
        mine, ours = points(alone), points(together)
        assert mine.keys() == ours.keys()
        for key, values in mine.items():
            assert ours[key] == pytest.approx(values, rel=1e-4), (key, strategy)
        for key, value in weights(alone).items():
            torch.testing.assert_close(weights(together)[key], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_a_validation_is_that_of_one_process_to_the_bit(training: list[str], strategy: str) -> None:
    run = trained([*training, "--devices", "2", "--strategy", strategy])
    measured = validation_of(run).errors  # by this process alone, of the stored weights
    assert measured.mse == min(run.history("valid/mse").values())
    recorded = epochs_of(run)
    np.testing.assert_array_equal(recorded[int(run.metrics["best/epoch"]) - 1].squared, measured.squared)


@pytest.mark.parametrize(
    ("stop", "strategy"),
    [(signal.SIGTERM, "ddp"), (signal.SIGINT, "ddp"), (signal.SIGKILL, "ddp"), (signal.SIGTERM, "fsdp")],
)
def test_they_stop_and_continue_together_to_the_bit(training: list[str], stop: signal.Signals, strategy: str) -> None:
    longer = [*training, "--devices", "2", "--strategy", strategy, "--epochs", "40", "--checkpoint-every", "2"]
    whole = trained(longer)
    process = start(longer)
    run_id = read_until(process, "run ").split()[1].rstrip(",\n")
    read_until(process, "epoch 2/")
    others = psutil.Process(process.pid).children(recursive=True)
    assert len(others) == 1
    process.send_signal(stop)
    process.communicate(timeout=400)
    assert process.returncode == {signal.SIGTERM: 143, signal.SIGINT: 130, signal.SIGKILL: -9}[stop]
    assert psutil.wait_procs(others, timeout=60)[1] == []
    resumed = trained(["train", "--resume", run_id])
    assert resumed.id == run_id
    assert points(resumed) == points(whole)
    for name in (File.BEST, File.LAST):
        for key, value in weights(whole, name).items():
            assert torch.equal(weights(resumed, name)[key], value)


def test_a_process_that_dies_ends_the_run(training: list[str]) -> None:
    process = start([*training, "--devices", "2", "--epochs", "5000"])
    run_id = read_until(process, "run ").split()[1].rstrip(",\n")
    read_until(process, "epoch 2/")
    (other,) = psutil.Process(process.pid).children(recursive=True)
    other.kill()
    began = time.monotonic()
    said = process.communicate(timeout=400)[0]
    assert time.monotonic() - began < 200  # and not for ever
    assert process.returncode == 1
    assert said.strip().splitlines()[-1] == "Error: process 1 of 2 (from 0) was killed by signal 9"
    run = find_run(run_id)
    assert run.status == "FAILED"
    assert "was killed by signal 9" in run.tags["error"]


def test_a_model_with_a_parameter_that_nothing_depends_on(training: list[str], tiny_model: Path) -> None:
    text = tiny_model.read_text()
    tiny_model.write_text(
        text.replace("self.slope =", "self.unused = nn.Parameter(torch.zeros(3))\n        self.slope =")
    )
    process = start([*training, "--devices", "2"])
    said = process.communicate(timeout=400)[0]
    assert process.returncode == 1
    assert said.strip().splitlines()[-1] == (
        "Error: several processes need a model whose prediction depends on all its parameters, but it does not on "
        "unused: remove them"
    )


def test_two_nodes_train_as_one(training: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", str(port))
    nodes = [start([*training, "--set", "dropout=0", "--nodes", "2"]) for _ in range(2)]
    said = [node.communicate(timeout=400)[0] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], said
    monkeypatch.delenv("MASTER_ADDR")
    (run,) = find_runs()
    assert (run.status, run.params["run.devices"]) == ("FINISHED", "2")
    alone = trained([*training, "--set", "dropout=0"])
    for key, values in points(alone).items():
        assert points(run)[key] == pytest.approx(values, rel=1e-4), key


def test_nodes_that_do_not_know_where_to_meet(training: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_JOB_NODELIST", raising=False)
    process = start([*training, "--nodes", "2"])
    said = process.communicate(timeout=400)[0]
    assert process.returncode == 1
    assert said.startswith("Error: --nodes 2: set MASTER_ADDR")
    assert find_runs() == []
