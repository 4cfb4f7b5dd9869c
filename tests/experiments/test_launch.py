"""`protcli train --devices 2`: processes that train one model, stop and continue together, and end together."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file

from protcli.tracking.keys import File, weights_path
from protcli.tracking.run import Run, find_run, find_runs

pytestmark = [pytest.mark.timeout(900), pytest.mark.usefixtures("mlflow_store")]

RECIPE = """Recipe(
    epochs=4, batch_size=4, accumulate=2, lr=1e-2, crop=32, random_crop=True, schedule="cosine", warmup=0.1, ema=0.8
)"""
TWO = ["--devices", "2"]


@pytest.fixture
def training(tiny_model: Path, tiny_data: Path) -> list[str]:
    """Arguments of a training with crops, accumulation, a schedule and an average of the weights; ten proteins."""
    text = tiny_model.read_text()
    tiny_model.write_text(re.sub(r"Recipe\(epochs=.*?\)", RECIPE, text))
    return ["train", "tiny", "--model-file", str(tiny_model), "--data", str(tiny_data), "--threads", "1"]


def start(arguments: Sequence[str], program: Sequence[str] = ("protcli",)) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", *program, *arguments], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # where pytest ignores it
    )  # fmt: skip


def trained(arguments: Sequence[str], program: Sequence[str] = ("protcli",)) -> Run:
    """The run of a training that ends well."""
    process = start(arguments, program)
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


def begun(arguments: Sequence[str]) -> tuple[subprocess.Popen, str, list[psutil.Process]]:
    """A training in its third epoch or later, its run, and its processes in the order of their ranks."""
    process = start(arguments)
    run_id = read_until(process, "run ").split()[1].rstrip(",\n")
    read_until(process, "epoch 2/")
    ranks = [each for each in psutil.Process(process.pid).children(recursive=True) if "RANK" in each.environ()]
    return process, run_id, sorted(ranks, key=lambda each: int(each.environ()["RANK"]))


def weights(run: Run, name: str = File.LAST) -> dict[str, torch.Tensor]:
    return load_file(run.path(weights_path(name)))


def points(run: Run) -> dict[str, dict[int, float]]:
    return {
        key: run.history(key) for key in run.metrics if key.startswith(("valid/", "best/", "train/mse", "train/lo"))
    }


def test_two_processes_and_torchruns_train_as_one(training: list[str]) -> None:
    without = [*training, "--set", "dropout=0", "--max-grad-norm", "1"]
    alone = trained(without)
    torchrun = ("torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "protcli")
    for run in (trained([*without, *TWO, "--strategy", "fsdp"]), trained(without, torchrun)):
        assert (run.status, run.params["run.devices"]) == ("FINISHED", "2")
        for key, values in points(alone).items():
            assert points(run)[key] == pytest.approx(values, rel=1e-4), key
        for key, value in weights(alone).items():
            torch.testing.assert_close(weights(run)[key], value, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stop", "code", "status"),
    [(signal.SIGTERM, 143, "KILLED"), (signal.SIGINT, 130, "KILLED"), (signal.SIGKILL, -9, "KILLED")],
)
def test_they_stop_and_continue_together_to_the_bit(
    training: list[str], stop: signal.Signals, code: int, status: str
) -> None:
    longer = [*training, *TWO, "--epochs", "20", "--checkpoint-every", "2"]
    whole = trained(longer)
    process, run_id, ranks = begun(longer)
    process.send_signal(stop)
    said = process.communicate(timeout=400)[0]
    assert process.returncode == code, said
    assert psutil.wait_procs(ranks, timeout=60)[1] == []
    assert find_run(run_id).status == status
    resumed = trained(["train", "--resume", run_id])
    assert resumed.id == run_id
    assert points(resumed) == points(whole)
    for name in (File.BEST, File.LAST):
        for key, value in weights(whole, name).items():
            assert torch.equal(weights(resumed, name)[key], value)


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_dies_ends_the_run(training: list[str], rank: int) -> None:
    process, run_id, ranks = begun([*training, *TWO, "--epochs", "5000"])
    ranks[rank].kill()
    began = time.monotonic()
    said = process.communicate(timeout=400)[0]
    assert time.monotonic() - began < 200  # and not for ever
    assert process.returncode == 1
    assert said.strip().splitlines()[-1] == f"Error: process {rank} of 2 (from 0) was killed by signal 9"
    run = find_run(run_id)
    assert run.status == "FAILED"
    assert "was killed by signal 9" in run.tags["error"]
    assert psutil.wait_procs(ranks, timeout=60)[1] == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--data", "nowhere"], "nowhere: there is no such folder"),
        (["--strategy", "mine"], "Error: unknown strategy 'mine': choose one of auto, ddp, fsdp with --strategy"),
    ],
)
def test_what_is_refused_is_said_once(training: list[str], options: list[str], said: str) -> None:
    process = start([*training, *TWO, *options])
    output = process.communicate(timeout=200)[0]
    assert process.returncode == 1
    assert output.count("Error: ") == 1
    assert said in output
    assert find_runs() == []
