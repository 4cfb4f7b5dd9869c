"""The processes that train one model: what they add up, when they save and stop, and what each holds of the weights."""

import os
import signal
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache

import numpy as np
import torch
from torch import Tensor, distributed, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from protcli.errors import ProtcliError
from protcli.models.spec import Prediction
from protcli.process import handled
from protcli.proteins.metrics import PairSums

LONGEST_TEXT = 4096  # bytes: of a path
TIMEOUT = timedelta(minutes=30)  # for what another process has to do alone, such as storing a checkpoint far away
BACKENDS = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"


@dataclass
class ProcessGroup:
    """The processes of a training; by default this one alone.

    Its collectives are torch's own: Fabric's `all_reduce` waits for the device, and its `broadcast` unpickles.

    Attributes:
        rank: this one's number; the first, 0, logs and saves.
        size: how many there are.
        save_requested: whether this process wishes all to save their state, see `sync_flags`.
        stop_signal: the signal that told this process to stop, which all are to do then; 0 if none has.
        parent: the process that has started this one.
    """

    rank: int = 0
    size: int = 1
    save_requested: bool = False
    stop_signal: int = 0
    parent: int = field(default_factory=os.getppid)

    @property
    def is_distributed(self) -> bool:
        """Whether there is more than one."""
        return self.size > 1

    def sync_flags(self) -> tuple[bool, bool]:
        """Whether any process wishes all to save, and to stop; the wish to save is then granted."""
        if not self.is_distributed:
            return False, False
        if os.getppid() != self.parent:
            self.stop_signal = signal.SIGTERM  # who started the processes is gone
        flags = torch.tensor([self.save_requested, self.stop_signal], dtype=torch.uint8)  # on the CPU: nothing waits
        distributed.all_reduce(flags, distributed.ReduceOp.MAX)
        saves, self.stop_signal = flags.tolist()
        self.save_requested = False
        return bool(saves), bool(self.stop_signal)

    def all_reduce(self, tensor: Tensor) -> Tensor:
        """The sum of a tensor over all processes, in its place."""
        if self.is_distributed:
            distributed.all_reduce(tensor)
        return tensor

    def broadcast(self, tensors: Iterable[Tensor]) -> None:
        """Give every process the first one's values, in place."""
        if self.is_distributed:
            for tensor in tensors:
                distributed.broadcast(tensor, 0)

    def broadcast_text(self, text: str = "") -> str:
        """The first process's text, in every process."""
        content = torch.frombuffer(bytearray(text.encode().ljust(LONGEST_TEXT, b"\0")), dtype=torch.uint8)
        self.broadcast([content])
        return bytes(content.tolist()).rstrip(b"\0").decode()

    def gather(self, parts: Mapping[int, PairSums], count: int, device: torch.device) -> list[PairSums]:
        """All `count` parts in order, of which this process has those with these numbers and the others the rest."""
        if not self.is_distributed:
            return [parts[number] for number in range(count)]
        sizes = torch.zeros(count, dtype=torch.int64, device=device)
        for number, part in parts.items():
            sizes[number] = len(part.count)
        ends = self.all_reduce(sizes).cumsum(0).tolist()
        columns = []
        for name, kind in (("count", torch.int64), ("squared", torch.float64), ("absolute", torch.float64)):
            column = torch.zeros(ends[-1], dtype=kind, device=device)
            for number, part in parts.items():
                values = getattr(part, name)
                column[ends[number] - len(values) : ends[number]] = values
            columns.append(self.all_reduce(column))  # exact: each value is added to zeros
        return [PairSums(*each) for each in zip(*(column.split(sizes.tolist()) for column in columns), strict=True)]

    def batch_seed(self, seed: int, epoch: int, batch: int) -> int:
        """Of this process for one batch: where each is seeded anew, no generator has a state to be saved."""
        return int(np.random.SeedSequence([seed, epoch, batch, self.rank]).generate_state(1)[0])


ALONE = ProcessGroup()


def rank_here() -> int:
    """This process's rank as torchrun or `protcli train --devices` says; 0 if neither does."""
    return int(os.environ.get("RANK", 0))


def size_here() -> int:
    """How many processes torchrun, or `protcli train --devices`, has started; 0 if neither has."""
    return int(os.environ.get("WORLD_SIZE", 0))


@contextmanager
def joined() -> Iterator[ProcessGroup]:
    """The processes that torchrun, or `protcli train --devices`, has started; this one alone if neither has.

    Signals become a wish: if one process stopped alone, the others would wait for it.

    Raises:
        ProtcliError: another process has ended in the block.
    """
    if size_here() < 2:
        yield ALONE
        return
    group = ProcessGroup(rank_here(), size_here())
    if group.rank:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # while it waits for the first one, it has nothing to save
    distributed.init_process_group(BACKENDS, timeout=TIMEOUT)
    try:
        with handled(lambda number, _: setattr(group, "stop_signal", number)):
            yield group
    except RuntimeError as error:
        if "gloo" in str(error) or isinstance(error, distributed.DistError):
            raise ProtcliError("another process of the training has ended: see what it says, or its log") from error
        raise
    finally:
        distributed.destroy_process_group()


def shard(network: nn.Module, mesh: DeviceMesh) -> nn.Module:
    """Leave each process its part of every parameter of a network, in place; a scalar, which has none, stays whole.

    Its parameters are gathered for a forward and backward pass, as a network is small beside its maps.
    """
    _register_prediction()
    network.to(memory_format=torch.contiguous_format)  # the only layout that can be divided
    scalars = {parameter for parameter in network.parameters() if parameter.dim() == 0}
    fully_shard(network, mesh=mesh["data_parallel"], ignored_params=scalars)
    return network


@cache
def _register_prediction() -> None:
    """Sharding prepares a backward pass at the tensors of a module's output, and looks for them in known classes."""
    torch.export.register_dataclass(Prediction)


def full_tensor(tensor: Tensor) -> Tensor:
    """A tensor with all its parts; all processes take part."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def shard_like(own: Tensor, tensor: Tensor) -> Tensor:
    """This process's part of a complete tensor, if `own` is sharded; else the tensor."""
    return distribute_tensor(tensor, own.device_mesh, own.placements) if isinstance(own, DTensor) else tensor


def unreduced_gradients(network: nn.Module) -> Iterator[Tensor]:
    """Gradients of a sharded network that nothing has averaged over the processes."""
    if isinstance(network, FSDPModule):
        yield from (each.grad for each in network.parameters() if each.grad is not None and each.dim() == 0)


@contextmanager
def unsharded(network: nn.Module) -> Iterator[None]:
    """Let every process have all parameters in a block, where each predicts on its own."""
    if not isinstance(network, FSDPModule):
        yield
        return
    network.unshard()
    try:
        yield
    finally:
        network.reshard()
