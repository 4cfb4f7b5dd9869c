"""Devices, precisions and seeds."""

import os
import random
import subprocess
import sys

import numpy as np
import pytest
import torch

from protcli.errors import ProtcliError
from protcli.training.engine import PRECISIONS, find_device, peak_memory, seed_everything, start_engine


def test_devices(monkeypatch):
    for count, names in ((0, {"auto": "cpu", "cpu": "cpu"}), (2, {"auto": "cuda", "cpu": "cpu", "cuda:1": "cuda:1"})):
        monkeypatch.setattr(torch.cuda, "is_available", lambda count=count: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda count=count: count)
        for name, device in names.items():
            assert find_device(name) == torch.device(device)
        missing = "cuda:2" if count else "cuda"
        said = f"^{missing} does not exist: there are {count} CUDA devices here; try --device cpu$"
        with pytest.raises(ProtcliError, match=said):
            find_device(missing)


def test_unknown_names():
    for name in ("gpu", "", "cuda:x", "mps", "meta", "CPU"):
        with pytest.raises(ProtcliError, match=f"^unknown device '{name}': give --device auto, cpu, cuda or cuda:N$"):
            find_device(name)
    with pytest.raises(ProtcliError, match=r"^unknown precision '16': choose one of 32, tf32, bf16 with --precision$"):
        start_engine(torch.device("cpu"), "16")


@pytest.mark.parametrize("precision", PRECISIONS)
def test_engine(precision):
    fabric = start_engine(torch.device("cpu"), precision)
    assert (fabric.device, fabric.world_size) == (torch.device("cpu"), 1)
    assert torch.are_deterministic_algorithms_enabled()
    assert torch.backends.cuda.matmul.allow_tf32 == torch.backends.cudnn.allow_tf32 == (precision == "tf32")
    assert not torch.backends.cudnn.benchmark
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"


@pytest.mark.slow
def test_the_engine_says_nothing():
    code = (
        "import torch\nfrom protcli.training.engine import start_engine\n"
        "start_engine(torch.device('cuda' if torch.cuda.is_available() else 'cpu'), 'bf16')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout + done.stderr == ""


def test_seeds():
    def draw() -> tuple[float, float, float]:
        return random.random(), float(np.random.random()), float(torch.rand(()))  # noqa: NPY002

    seed_everything(3)
    first = draw()
    assert draw() != first
    seed_everything(3)
    assert draw() == first
    seed_everything(4)
    assert all(a != b for a, b in zip(draw(), first, strict=True))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts the process that another was forked from")
def test_peak_memory_is_that_of_this_process_alone():
    size = 1 << 30
    filled = torch.ones(size, dtype=torch.uint8)
    assert peak_memory(torch.device("cpu")) > size
    program = (
        "import torch\nfrom protcli.training.engine import peak_memory\ncpu = torch.device('cpu')\n"
        "before = peak_memory(cpu)\nfilled = torch.ones(1 << 28, dtype=torch.uint8)\nprint(before, peak_memory(cpu))"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    before, after = map(int, answer.stdout.split())
    assert before < size  # it holds torch, but not what fills this process
    assert after - before > 0.9 * (1 << 28)
    del filled
