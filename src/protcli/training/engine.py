"""The training environment: device, precision, seeds, and blocks that are computed again to save memory."""

import ctypes
import logging
import os
import random
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments import TorchElasticEnvironment
from lightning_fabric.strategies import DDPStrategy, ModelParallelStrategy, Strategy
from torch import nn
from torch.utils.checkpoint import checkpoint

from protcli.errors import ProtcliError, choose
from protcli.training.process_group import shard

# our names -> Fabric's; tf32 is Fabric's 32-true with TF32 matrix products allowed on recent NVIDIA GPUs
PRECISIONS = {"32": "32-true", "tf32": "32-true", "bf16": "bf16-mixed"}

# how several processes train together: each with a copy of the weights (auto, ddp), or with its part of them (fsdp)
STRATEGIES = ("auto", "ddp", "fsdp")


def find_device(name: str, processes: int = 1) -> torch.device:
    """`auto` (CUDA if there is one), `cpu`, `cuda` or `cuda:N`; the first of several processes' devices.

    Raises:
        ProtcliError: the device does not exist, or there are fewer than `processes`.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise ProtcliError(f"unknown device {name!r}: give --device auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ProtcliError(
            f"{name} does not exist: there are {torch.cuda.device_count()} CUDA devices here; try --device cpu"
        )
    here = min(processes, int(os.environ.get("LOCAL_WORLD_SIZE", processes)))
    if here > 1 and device.type == "cuda" and (device.index is not None or here > torch.cuda.device_count()):
        raise ProtcliError(
            f"--devices {here} with --device {name}: {torch.cuda.device_count()} CUDA devices are here; give --devices "
            "that number or less, and --device cuda"
        )
    return device


def start_engine(device: torch.device, precision: str, processes: int = 1, strategy: str = "auto") -> Fabric:
    """Start Fabric on this process's device, with deterministic algorithms; torch warns where it has none.

    Args:
        device: of this process.
        precision: a name in PRECISIONS.
        processes: how many train together, each with a device of its own; they have joined, see `process_group.joined`.
        strategy: how, a name in STRATEGIES.

    Raises:
        ProtcliError: the precision is unknown.
    """
    choose("precision", precision, PRECISIONS)
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # hide notes on precision, which was asked for
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # needed for deterministic cuBLAS
    torch.use_deterministic_algorithms(True, warn_only=True)
    # filling takes time, and nothing here reads uninitialised memory
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    if device.type == "cpu":
        _multiply_by_onednn()
    if processes > 1:
        here = int(os.environ["LOCAL_WORLD_SIZE"])
        fabric = Fabric(
            accelerator=device.type, devices=here, num_nodes=processes // here, strategy=_strategy(strategy, processes),
            precision=PRECISIONS[precision],  # type: ignore[arg-type]
        )  # fmt: skip
        fabric.launch()
        return fabric
    devices = [device.index or 0] if device.type == "cuda" else 1
    return Fabric(accelerator=device.type, devices=devices, precision=PRECISIONS[precision])  # type: ignore[arg-type]


def _multiply_by_onednn() -> None:
    """Let oneDNN multiply matrices, as long as it keeps single precision: on AMD's processors MKL takes twice as long.

    "medium" allows 16-bit products, which some processors have; no other setting of torch chooses oneDNN.
    """
    torch.set_float32_matmul_precision("medium")
    exact = torch.full((64, 64), 1 + 2.0**-20)
    if not torch.equal(exact @ torch.eye(64), exact):
        torch.set_float32_matmul_precision("highest")


def _strategy(name: str, processes: int) -> Strategy:
    if name == "fsdp":
        strategy: Strategy = ModelParallelStrategy(shard, data_parallel_size=processes, tensor_parallel_size=1)
        strategy.cluster_environment = TorchElasticEnvironment()  # type: ignore[attr-defined]
        return strategy
    # buffers, such as running statistics, are shared when the epoch is over
    return DDPStrategy(cluster_environment=TorchElasticEnvironment(), forward_sync_buffers=False)


def keep_memory() -> None:
    """Let this process keep the memory of freed tensors for new ones, instead of returning it to the system.

    The system clears every page that it hands out: for maps of 100 MB that takes as long as computing them. Without
    effect where the C library is not glibc.
    """
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "mallopt"):
        for setting, value in ((-4, 0), (-1, -1), (-2, 2**28)):  # M_MMAP_MAX, M_TRIM_THRESHOLD, M_TOP_PAD
            library.mallopt(setting, value)


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch (all devices). Data order and crops use separate streams from the same seed.

    `seed` is in 0 .. 2**32 - 1.
    """
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002  a user's model may use the global generator
    torch.manual_seed(seed)


def peak_memory(device: torch.device) -> int:
    """Peak memory in bytes: of tensors on a GPU, or the resident memory of this process on the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if sys.platform == "win32":
        return psutil.Process().memory_info().peak_wset
    if sys.platform == "linux":  # where getrusage counts the process that this one was forked from, too
        status = Path("/proc/self/status").read_text("utf-8")
        if own := re.search(r"^VmHWM:\s*(\d+) kB$", status, re.MULTILINE):
            return 1024 * int(own[1])
    import resource  # not on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak  # Linux reports KiB


def checkpoint_activations(network: nn.Module) -> None:
    """Let every block of a network, see `blocks`, be computed again; its gradients are the same, to the bit."""
    for block in blocks(network):
        norms = [module for module in block.modules() if getattr(module, "track_running_stats", False)]
        # what a block is computed in for the first time, and again
        contexts = partial(lambda norms: (nullcontext(), _without_statistics(norms)), norms)
        block.forward = partial(checkpoint, block.forward, use_reentrant=False, context_fn=contexts)


def blocks(network: nn.Module) -> Iterator[nn.Module]:
    """The modules with parts of their own that lie in lists or sequences of modules, the outermost ones."""
    is_list = isinstance(network, nn.ModuleList | nn.Sequential)
    for child in network.children():
        if is_list and not isinstance(child, nn.ModuleList | nn.Sequential) and any(True for _ in child.children()):
            yield child
        else:
            yield from blocks(child)


@contextmanager
def _without_statistics(norms: Sequence[Any]) -> Iterator[None]:
    """Let running statistics see each batch once."""
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            if norm.training:
                norm.num_batches_tracked.sub_(1)
