"""Several processes that train one model: what they add up, and when they save and stop."""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import torch
from torch import Tensor, distributed

from protcli.proteins.metrics import PairSums
from protcli.training.engine import seed_everything

PATIENCE = timedelta(minutes=30)  # for what another process has to do alone, such as storing a checkpoint far away
BACKENDS = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"


@dataclass
class Ranks:
    """The processes of a training; by default this one alone.

    Attributes:
        rank: this one's number; the first, 0, logs and saves.
        size: how many there are.
        saves: whether this process wishes all to save their state, see `agree`.
        told: the signal that told this process to stop, which all are to do then; 0 if none has.
    """

    rank: int = 0
    size: int = 1
    saves: bool = False
    told: int = 0

    @property
    def are_several(self) -> bool:
        """Whether there is more than one."""
        return self.size > 1

    def agree(self) -> tuple[bool, bool]:
        """Whether any process wishes all to save, and to stop; the wish to save is then granted."""
        if not self.are_several:
            return False, False
        wishes = torch.tensor([self.saves, self.told], dtype=torch.uint8)  # on the CPU: no device is waited for
        distributed.all_reduce(wishes, distributed.ReduceOp.MAX)
        saves, self.told = wishes.tolist()
        self.saves = False
        return bool(saves), bool(self.told)

    def add(self, tensor: Tensor) -> Tensor:
        """The sum of a tensor over all processes, in its place."""
        if self.are_several:
            distributed.all_reduce(tensor)
        return tensor

    def share(self, tensors: Iterable[Tensor]) -> None:
        """Give every process the first one's values, in place."""
        if self.are_several:
            for tensor in tensors:
                distributed.broadcast(tensor, 0)

    def tell(self, text: str = "") -> str:
        """The first process's text, in every process."""
        if not self.are_several:
            return text
        content = torch.tensor(list(text.encode()), dtype=torch.uint8)
        length = torch.tensor([len(content)])
        self.share([length])
        if self.rank:
            content = torch.empty(int(length), dtype=torch.uint8)
        self.share([content])
        return bytes(content.tolist()).decode()

    def gather(self, parts: Mapping[int, PairSums], count: int, device: torch.device) -> PairSums:
        """All `count` parts in order, of which this process has those with these numbers and the others the rest."""
        if not self.are_several:
            return PairSums.concatenate([parts[number] for number in range(count)])
        sizes = torch.zeros(count, dtype=torch.int64, device=device)
        for number, part in parts.items():
            sizes[number] = len(part.count)
        ends = self.add(sizes).cumsum(0).tolist()
        columns = []
        for name, kind in (("count", torch.int64), ("squared", torch.float64), ("absolute", torch.float64)):
            whole = torch.zeros(ends[-1], dtype=kind, device=device)
            for number, part in parts.items():
                column = getattr(part, name)
                whole[ends[number] - len(column) : ends[number]] = column
            columns.append(self.add(whole))  # exact: each value is added to zeros
        return PairSums(*columns)

    def begin_batch(self, seed: int, epoch: int, batch: int) -> None:
        """Seed the generators of several processes for one batch, so that none of them has a state to be saved."""
        if self.are_several:
            seed_everything(int(np.random.SeedSequence([seed, epoch, batch, self.rank]).generate_state(1)[0]))


def rank_here() -> int:
    """This process's rank as torchrun or `protcli train --devices` says; 0 if neither does."""
    return int(os.environ.get("RANK", 0))


def size_here() -> int:
    """How many processes torchrun, or `protcli train --devices`, has started; 0 if neither has."""
    return int(os.environ.get("WORLD_SIZE", 0))


@contextmanager
def joined(rank: int, size: int) -> Iterator[Ranks]:
    """This process as one of several, which meet at MASTER_ADDR and MASTER_PORT."""
    distributed.init_process_group(BACKENDS, rank=rank, world_size=size, timeout=PATIENCE)
    try:
        yield Ranks(rank, size)
    finally:
        distributed.destroy_process_group()
