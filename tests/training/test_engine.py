"""Devices, precisions, seeds, and blocks that are computed again: the same gradients, in less memory."""

import copy
import os
import random
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from protcli.errors import ProtcliError
from protcli.models.zoo import find_model
from protcli.proteins.batches import Batch, collate
from protcli.proteins.maps import distances, upper_pairs
from protcli.proteins.protein import Protein
from protcli.training.engine import (
    PRECISIONS,
    blocks,
    checkpoint_activations,
    find_device,
    peak_memory,
    seed_everything,
    start_engine,
)
from protcli.training.losses import find_loss


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
    assert torch.backends.cudnn.allow_tf32 == (precision == "tf32")
    exact = torch.rand(100, 100)  # whoever multiplies, single precision is kept
    assert torch.equal(exact @ torch.eye(100), exact)
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


@pytest.fixture
def batch(chain: Callable[..., Protein]) -> Batch:
    return collate([chain(40, 1), chain(31, 2)], atom="ca", crop=64)


def step(network: nn.Module, batch: Batch) -> float:
    torch.manual_seed(7)  # of dropout
    total, weight = find_loss("mse")(network(batch.residues), distances(batch.coords), upper_pairs(batch.mask))
    (total / weight).backward()
    return total.item()


def both(name: str) -> tuple[nn.Module, nn.Module]:
    """A network plainly, and the same with its activations computed again."""
    torch.manual_seed(0)
    plain = find_model(name).build().train()
    again = copy.deepcopy(plain)
    checkpoint_activations(again)
    return plain, again


@pytest.mark.parametrize("name", ["pairmix", "psp1", "crossattn"])
def test_the_same_to_the_bit(name: str, batch: Batch) -> None:
    plain, again = both(name)
    assert step(again, batch) == step(plain, batch)
    for (key, mine), (_, theirs) in zip(again.named_parameters(), plain.named_parameters(), strict=True):
        assert (mine.grad is None) == (theirs.grad is None)
        assert mine.grad is None or torch.equal(mine.grad, theirs.grad), key
    assert again.state_dict().keys() == plain.state_dict().keys()
    for key, value in plain.state_dict().items():
        assert torch.equal(again.state_dict()[key], value), key  # running statistics too


def test_what_is_kept_for_the_backward_pass(batch: Batch) -> None:
    def kept(network: nn.Module) -> int:
        sizes = []
        count = lambda tensor: sizes.append(tensor.nbytes) or tensor  # noqa: E731
        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            network(batch.residues)
        return sum(sizes)

    plain, again = both("pairmix")
    assert kept(again) < 0.4 * kept(plain)


def test_blocks_by_hand() -> None:
    part = nn.Sequential(nn.Linear(2, 2))
    one, other = nn.TransformerEncoderLayer(4, 2), nn.TransformerEncoderLayer(4, 2)
    network = nn.Sequential(nn.Linear(2, 2), nn.ModuleList([one, nn.ReLU(), nn.Sequential(other)]), part)
    assert list(blocks(network)) == [one, other]
    assert list(blocks(find_model("simple").build())) == []
