"""Cost of the training loop relative to the bare step of the same network, measured in one run.

    python benchmarks/step_speed.py [--device cuda] [--precision bf16] [--batch-size 8] [--length 256] [MODEL...]

The bare step is forward, loss, backward and Adam on one batch that is ready on the device, with its true map. The loop
is `training.loop.fit` as `protcli train` runs it: it also reads and pads every batch, moves it to the device, computes
the true map and the errors of each protein, and follows a schedule. The two take turns, step by step. The ratio is bare
time over loop time, the median over rounds: 1 means that the loop costs nothing. On a GPU, the last column counts the
synchronisations that torch's debug mode reports in the loop's steps.

Needs torch, torchvision, lightning-fabric, safetensors, pydantic and psutil; PYTHONPATH=src is enough, and neither
MLflow nor Arrow is imported.
"""

import argparse
import copy
import os
import platform
import statistics
import sys
import time
import warnings
from collections.abc import Callable

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np
import torch

from protcli.models.zoo import ZOO, find_model
from protcli.proteins.batches import ProteinBatches
from protcli.proteins.maps import distances, upper_pairs
from protcli.proteins.protein import Protein
from protcli.proteins.residues import AMINO_ACIDS
from protcli.training.engine import start_engine
from protcli.training.loop import fit
from protcli.training.losses import find_loss
from protcli.training.optimizers import make_optimizer, make_schedule
from protcli.training.state import TrainState

LR = 1e-5


def made_up(count: int, length: int) -> list[Protein]:
    """Random walks with random profiles."""
    rng = np.random.default_rng(0)
    proteins = []
    for number in range(count):
        coords = rng.normal(size=(length, 3, 3)).astype(np.float32).cumsum(axis=0) * 2
        sequence = "".join(rng.choice(list(AMINO_ACIDS), length))
        profile = rng.random((length, 21)).astype(np.float32)
        proteins.append(Protein(str(number), sequence, profile, coords, rng.random(length) < 0.95))
    return proteins


def loop_step(name: str, network: torch.nn.Module, options: argparse.Namespace, steps: int) -> Callable[[], object]:
    """One step of the loop at each call."""
    fabric = start_engine(torch.device(options.device), options.precision)
    model, optimizer = fabric.setup(network, make_optimizer("adam", network.parameters(), LR))
    proteins = made_up(options.batch_size, options.length) * (
        steps + 1
    )  # so that it never reaches the end of its epoch
    batches = ProteinBatches(
        proteins=proteins, atom="ca", batch_size=options.batch_size, crop=options.length, seed=0, random_crop=True
    )
    state = TrainState(model, optimizer, make_schedule("cosine", optimizer, len(batches)))
    events = fit(fabric, state, find_loss("mse"), train=batches, valid=batches, epochs=1)
    return lambda: next(events)


def bare_step(network: torch.nn.Module, options: argparse.Namespace) -> Callable[[], object]:
    """One step of plain torch at each call."""
    proteins = made_up(options.batch_size, options.length)
    batches = ProteinBatches(proteins=proteins, atom="ca", batch_size=options.batch_size, crop=options.length)
    batch = next(batches.epoch()).to(options.device)
    true, pairs = distances(batch.coords), upper_pairs(batch.mask)
    network = network.to(options.device)
    optimizer, loss = make_optimizer("adam", network.parameters(), LR), find_loss("mse")

    def step() -> None:
        with torch.autocast(torch.device(options.device).type, torch.bfloat16, enabled=options.precision == "bf16"):
            prediction = network(batch.residues)
        total, weight = loss(prediction, true, pairs)
        (total / weight).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def seconds(step: Callable[[], object], device: str) -> float:
    started = time.perf_counter()
    step()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter() - started


def synchronisations(step: Callable[[], object], steps: int) -> float:
    """Those that torch reports, a step."""
    torch.cuda.set_sync_debug_mode("warn")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(steps):
            step()
    torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(warning.message) for warning in caught) / steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", default=[name for name in ZOO if not ZOO[name].is_fitted])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--precision", choices=("32", "bf16"), default="32")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=5)
    options = parser.parse_args()
    cuda = options.device.startswith("cuda")
    where = torch.cuda.get_device_name() if cuda else f"{platform.machine()}, {torch.get_num_threads()} threads"
    print(
        f"{where}; torch {torch.__version__}; precision {options.precision}; batch {options.batch_size}; "
        f"length {options.length}; {options.rounds} rounds of {options.steps} steps\n"
    )
    print(
        "| model | bare step, ms | loop step, ms | bare / loop | lowest and highest round | synchronisations a step |"
    )
    print("|---|---:|---:|---:|---:|---:|")
    for name in options.models:
        torch.manual_seed(0)
        network = find_model(name).build().to(memory_format=torch.channels_last)
        total = options.steps * (options.rounds + 2) + 2
        steps = {"bare": bare_step(copy.deepcopy(network), options), "loop": loop_step(name, network, options, total)}
        for step in steps.values():
            step()
            step()
        times: dict[str, list[float]] = {"bare": [], "loop": []}
        for _ in range(options.rounds):
            taken = {"bare": 0.0, "loop": 0.0}
            for _ in range(options.steps):
                for way, step in steps.items():
                    taken[way] += seconds(step, options.device)
            for way in taken:
                times[way].append(taken[way] / options.steps)
        ratios = [bare / loop for bare, loop in zip(times["bare"], times["loop"], strict=True)]
        bare, loop = (1e3 * statistics.median(times[way]) for way in ("bare", "loop"))
        waits = f"{synchronisations(steps['loop'], options.steps):.1f}" if cuda else ""
        print(
            f"| {name} | {bare:.1f} | {loop:.1f} | {statistics.median(ratios):.3f} | {min(ratios):.3f} to "
            f"{max(ratios):.3f} | {waits} |"
        )
        sys.stdout.flush()


if __name__ == "__main__":
    main()
