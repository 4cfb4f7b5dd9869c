"""A store with as many chains as ProteinNet for CASP12: made, opened, and passed through without a model.

Chains are random walks whose lengths are spread as those of real ones: log-normal with a mean of 210 residues. Memory
is of a process of its own at its peak; the store is mapped into it, so what was read of it counts too, though the
system can take that back.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from row import Row, Setting
from timing import in_fresh_process

from protcli.proteins.batches import ProteinBatches
from protcli.proteins.protein import Protein
from protcli.proteins.residues import AMINO_ACIDS
from protcli.proteins.store import create_store, open_store
from protcli.training.engine import peak_memory

CHAINS, SMALLEST = 104_059, 300
BATCH, CROP = 32, 256
CPU = torch.device("cpu")
GB = 1e9


def rows(setting: Setting) -> Iterator[Row]:
    count = SMALLEST if setting.smallest else CHAINS
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "store"
        started = perf_counter()
        residues = make(store, count)
        taken = perf_counter() - started
        size = sum(path.stat().st_size for path in store.iterdir()) / GB
        yield Row.of(f"{count} chains, {residues} residues: made and written", "s", [taken])
        yield Row.of("size of the store", "GB", [size])
        opened, verified, passes, peak = in_fresh_process(use, store, 1 if setting.smallest else 3)
        yield Row.of("opened", "s", [opened], at_most=1.0)
        yield Row.of("verified by its digest, as every training does first", "s", [verified])
        yield Row.of(f"an epoch of its batches of {BATCH}, cropped to {CROP}", "s", passes)
        yield Row.of("memory after these epochs", "GB", [peak / GB], at_most=4.0)


def make(folder: Path, count: int) -> int:
    """Write a store with one split; the number of its residues."""
    draw = np.random.default_rng(0)
    letters = np.array(list(AMINO_ACIDS))
    lengths = np.clip(draw.lognormal(np.log(210) - 0.18, 0.6, count), 30, 2000).astype(int)
    with create_store(folder) as writer, writer.split("training") as split:
        for number, length in enumerate(lengths.tolist()):
            coords = draw.normal(size=(length, 3, 3)).astype(np.float32).cumsum(axis=0)
            profile = draw.random((length, 21), dtype=np.float32)
            sequence = "".join(letters[draw.integers(20, size=length)])
            split.add(
                Protein(f"c{number}", sequence, profile, coords - coords.mean(axis=(0, 1)), draw.random(length) < 0.95)
            )
    return int(lengths.sum())


def use(folder: Path, epochs: int) -> tuple[float, float, list[float], int]:
    """Seconds to open a store, to verify it, and of each epoch; bytes at the peak."""
    started = perf_counter()
    split = open_store(folder).split("training")
    opened = perf_counter() - started
    split.verify()
    verified = perf_counter() - started - opened
    batches = ProteinBatches(proteins=split, atom="ca", batch_size=BATCH, crop=CROP, seed=0, random_crop=True)
    passes = []
    for number in range(1, epochs + 1):
        started = perf_counter()
        for _ in batches.epoch(number):
            pass
        passes.append(perf_counter() - started)
    return opened, verified, passes, peak_memory(CPU)


if __name__ == "__main__":
    from bench import alone

    alone(__file__)
