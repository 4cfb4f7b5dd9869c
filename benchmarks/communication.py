"""What each of eight GPUs sends in a training step, counted and on paper, and how long that takes beside the step.

Counted: this process is the first of eight, of which the others are not there; torch's fake group answers at once. The
bytes are those of a ring: 7/8 of a tensor to gather or to scatter it, twice that to sum it. On paper, `ddp` sums the
gradients: 2 x 7/8 x their bytes. `fsdp` sends as many: `process_group.shard` divides a network as a whole, so that its
parameters are gathered once, for the forward pass, and kept for the backward pass (7/8), and its gradients scattered
(7/8). It counts more than on paper, as it fills each first dimension up to a multiple of eight. Buffers, sent once an
epoch, and scalars, of which these models have none, are not divided. In bf16 both send float32, too.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import torch
import torch.testing._internal.distributed.fake_pg  # which adds the backend "fake"
from row import Row, Setting
from timing import in_fresh_process
from torch import Tensor, distributed
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from training_step import LR, batches_of, made_up, make_network

from protcli.models.zoo import find_model
from protcli.training.engine import start_engine
from protcli.training.loop import fit
from protcli.training.losses import find_loss
from protcli.training.optimizers import make_optimizer, make_schedule
from protcli.training.process_group import ProcessGroup
from protcli.training.state import TrainState

GPUS, LENGTH = 8, 64  # the length of the proteins changes no volume
LINKS = {"NVLink 4": 450, "PCIe 5 x16": 50}  # GB/s in each direction: the data sheet of an H200; what is left of 63
# ms of a step in float32 in results/2026-11-27-cuda.md, at the batch nearest to an eighth of the recipe's:
# that of one protein of 256 residues, or that of the loop, at batch 8 (simple, improved) or 2 (psp2)
STEPS = {"simple": 4.68, "improved": 9.51, "psp1": 20.2, "psp1-profile": 24.2, "psp2": 54.4, "pairmix": 58.6}


def rows(setting: Setting) -> Iterator[Row]:
    names = ("improved",) if setting.smallest else tuple(STEPS)
    for (name, strategy), (sent, parameters) in in_fresh_process(sent_in_a_step, names).items():
        what, paper = f"{name}, {strategy}", 2 * (GPUS - 1) / GPUS * 4 * parameters
        yield Row.of(f"{what}: sent by each of {GPUS} GPUs a step, on paper {paper / 1e6:.3g}", "MB", [sent / 1e6])
        for link, speed in LINKS.items():
            ms = sent / speed / 1e6
            part = f"{ms:.2g} ms by {link} / step of {STEPS[name]} ms"
            yield Row.of(f"{what}: {part}", "%", [100 * ms / STEPS[name]])


class Sent(TorchDispatchMode):
    """Adds up the bytes that a process of a ring sends in its block."""

    bytes = 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if any(issubclass(each, DTensor) for each in types):
            return NotImplemented  # it comes back as operations on the parts
        name = func._opname.replace("_", "") if "c10d" in func.namespace else ""
        if "reduce" in name or "gather" in name:
            whole = max(each.nbytes for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor))
            self.bytes += whole * (GPUS - 1) / GPUS * (2 if "allreduce" in name else 1)
        return func(*args, **(kwargs or {}))


def sent_in_a_step(names: Sequence[str]) -> dict[tuple[str, str], tuple[float, int]]:
    """Bytes that the first of eight sends, and parameters, by model and strategy; for a process of its own."""
    os.environ |= {"WORLD_SIZE": str(GPUS), "LOCAL_WORLD_SIZE": str(GPUS)}
    os.environ |= {"RANK": "0", "LOCAL_RANK": "0", "GROUP_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    distributed.init_process_group("fake", store=distributed.HashStore(), rank=0, world_size=GPUS)
    batches = replace(batches_of(made_up(3 * GPUS, LENGTH), GPUS, LENGTH), ranks=GPUS)
    answer = {}
    for name, strategy in product(names, ("ddp", "fsdp")):
        network, recipe = make_network(name), find_model(name).recipe
        parameters = sum(each.numel() for each in network.parameters())
        fabric = start_engine(torch.device("cpu"), "32", GPUS, strategy)
        model = fabric.setup_module(network)
        for module in model.modules():
            if isinstance(module, DistributedDataParallel):
                module.register_comm_hook(None, _sum)
        optimizer: Any = fabric.setup_optimizers(make_optimizer(recipe.optimizer, model.parameters(), LR))
        steps = fit(
            fabric, TrainState(model, optimizer, make_schedule("constant", optimizer, batches.length())),
            find_loss(recipe.loss), train=batches, valid=batches, epochs=1, max_grad_norm=recipe.max_grad_norm,
            group=ProcessGroup(0, GPUS),
        )  # fmt: skip
        for _ in range(2):  # in the second one DDP agrees on an order of gradients, once
            next(steps)
        with Sent() as sent:
            next(steps)
        answer[name, strategy] = sent.bytes, parameters
    return answer


def _sum(_: object, bucket: distributed.GradBucket) -> torch.futures.Future[Tensor]:
    """Sum a bucket of gradients as DDP does by itself; the fake group's answer does not hold them, as DDP expects."""
    distributed.all_reduce(bucket.buffer())
    done: torch.futures.Future[Tensor] = torch.futures.Future()
    done.set_result(bucket.buffer())
    return done


if __name__ == "__main__":
    from bench import alone

    alone(__file__)
