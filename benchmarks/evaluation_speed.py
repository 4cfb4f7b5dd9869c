"""The cost of all metrics compared with their forward passes, measured in one run.

    python benchmarks/evaluation_speed.py STORE [--crop 128 256] [--batch-size 8] [--rounds 3] [MODEL...]

Prints a Markdown table of seconds for a store's validation split: with only the forward passes of a model and sepmean,
and with everything that `protcli evaluate` measures of both and of the true maps; the ratio is the median over
alternating rounds. On a CPU these are seconds of CPU time (over all threads), which other work on the machine hardly
changes. Networks are untrained: no cost here depends on weights.
"""

import argparse
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch

from protcli.experiments.measuring.scores import score
from protcli.models.zoo import find_model
from protcli.proteins.batches import ProteinBatches
from protcli.proteins.store import VALIDATION, open_store


@torch.inference_mode()
def forward(networks: list[torch.nn.Module], batches: ProteinBatches, device: torch.device) -> None:
    for batch in batches.epoch():
        residues = batch.to(device).residues
        for network in networks:
            network(residues)


def seconds(work: Callable[[], object], device: torch.device) -> float:
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    started = clock()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return clock() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("store", type=Path)
    parser.add_argument("models", nargs="*", default=["psp1", "psp1-profile"])
    parser.add_argument("--crop", type=int, nargs="+", default=[128, 256])
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    device = torch.device(options.device)
    proteins = open_store(options.store).split(VALIDATION)
    where = torch.cuda.get_device_name() if device.type == "cuda" else platform.machine()
    print(
        f"{where}, {torch.get_num_threads()} threads; torch {torch.__version__}; {len(proteins)} proteins; batch "
        f"{options.batch_size}; {options.rounds} rounds\n"
    )
    print("| model | crop | forward, s | with all metrics, s | ratio | metrics, ms per protein |")
    print("|---|---:|---:|---:|---:|---:|")
    for name in options.models:
        for crop in options.crop:
            batches = ProteinBatches(proteins=proteins, atom="ca", crop=crop, batch_size=options.batch_size)
            baseline = find_model("sepmean").build()
            baseline.fit(batches.epoch())
            model = find_model(name).build().to(memory_format=torch.channels_last)
            networks = [network.to(device).eval() for network in (model, baseline)]
            ways = {
                "forward": lambda networks=networks, batches=batches: forward(networks, batches, device),
                "all": lambda networks=networks, batches=batches: score(networks, batches, device),
            }
            for work in ways.values():
                seconds(work, device)
            rounds = [{way: seconds(work, device) for way, work in ways.items()} for _ in range(options.rounds)]
            median = {way: statistics.median(times[way] for times in rounds) for way in ways}
            ratio = statistics.median(times["all"] / times["forward"] for times in rounds)
            metrics_ms = statistics.median(times["all"] - times["forward"] for times in rounds) / len(proteins) * 1e3
            print(
                f"| {name} | {crop} | {median['forward']:.2f} | {median['all']:.2f} | {ratio:.2f} | {metrics_ms:.1f} |"
            )
            sys.stdout.flush()


if __name__ == "__main__":
    main()
