"""Peak memory of training, by model and batch, and what accumulation, bf16 and activation checkpointing save.

Each case takes two steps of the loop, the first with one protein so that the optimiser has its state. On a GPU it is
the peak of tensors; on a CPU, where each case is a process of its own, that of its resident memory, Python and torch
included.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch
from row import Row, Setting
from timing import in_fresh_process
from training_step import Repeated, batches_of, loop, made_up, make_network

from protcli.training.engine import checkpoint_activations, keep_memory, peak_memory

GB = 1e9


@dataclass(frozen=True)
class Case:
    """A training: `accumulate` batches of `size` proteins make one step; blocks may be computed `again`."""

    model: str
    size: int
    accumulate: int = 1
    precision: str = "32"
    again: bool = False
    at_most: float | None = None  # GB

    def __str__(self) -> str:
        accumulated = f" x {self.accumulate} accumulated" if self.accumulate > 1 else ""
        again = ", activation checkpointing" if self.again else ""
        return f"{self.model}, batch {self.size}{accumulated}{', bf16' if self.precision == 'bf16' else ''}{again}"


CASES = [
    Case("simple", 64),
    Case("simple", 64, precision="bf16"),
    Case("simple", 64, accumulate=8),
    Case("simple", 512, at_most=7.0),
    Case("improved", 64),
    Case("improved", 64, precision="bf16"),
    Case("improved", 64, accumulate=8),
    Case("improved", 512, at_most=7.0),
    Case("psp1", 10),
    Case("psp1", 5, accumulate=2),
    Case("psp1", 10, precision="bf16"),
    Case("psp1-profile", 10),
    Case("psp1-profile", 5, accumulate=2),
    Case("psp1-profile", 10, again=True),
    Case("pairmix", 8),
    Case("pairmix", 8, again=True),
]
# minutes on a CPU that does not have bfloat16
GPU = [Case(name, size, precision="bf16") for name, size in (("simple", 512), ("improved", 512), ("psp1-profile", 10))]
SMALLEST = [Case("improved", 2, accumulate=2), Case("improved", 2, precision="bf16")]


def rows(setting: Setting) -> Iterator[Row]:
    cases = CASES + GPU if setting.device == "cuda" else CASES
    peak_of = train if setting.device == "cuda" else partial(in_fresh_process, train)
    for case in SMALLEST if setting.smallest else cases:
        peak = peak_of(case, setting.device) / GB
        yield Row.of(str(case), "GB", [peak], at_most=case.at_most)


def train(case: Case, device: str) -> int:
    """Bytes at the peak of two steps."""
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    keep_memory()
    length = 256
    (first,) = batches_of(made_up(1, length), 1, length).epoch()
    (batch,) = batches_of(made_up(case.size, length), case.size, length).epoch()
    batches = Repeated([first] * case.accumulate + [batch] * case.accumulate, 2)
    network = make_network(case.model)
    if case.again:
        checkpoint_activations(network)
    events = loop(network, batches, device, precision=case.precision, accumulate=case.accumulate)
    for _ in range(2 * case.accumulate):
        next(events)
    return peak_memory(torch.device(device))


if __name__ == "__main__":
    from bench import alone

    alone(__file__)
