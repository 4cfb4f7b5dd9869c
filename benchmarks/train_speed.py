"""Training speed of every model in contiguous and channels-last layout, measured in one run.

    python benchmarks/train_speed.py [--device cuda] [--precision bf16] [--batch-size 8] [--length 256] [MODEL...]

Needs only torch, torchvision and protcli's models (PYTHONPATH=src is enough), so that it runs on a bare GPU machine.
Prints a Markdown table: samples per second of a full step (forward, loss, backward, Adam) in each layout, their ratio
as the median over alternating rounds, and the peak GPU memory.
"""

import argparse
import os
import platform
import statistics
import sys
import time

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch

from protcli.models.zoo import ZOO, find_model
from protcli.proteins.batches import Residues
from protcli.proteins.maps import distances, upper_pairs
from protcli.training.losses import find_loss
from protcli.training.optimizers import make_optimizer

LAYOUTS = {"contiguous": torch.contiguous_format, "channels-last": torch.channels_last}


class Trainer:
    """One model in one memory layout on made-up residues of the right shapes."""

    def __init__(self, name: str, layout: str, options: argparse.Namespace) -> None:
        torch.manual_seed(0)
        device, shape = options.device, (options.batch_size, options.length)
        self.device, self.bf16, self.loss = device, options.precision == "bf16", find_loss("mse")
        self.model = find_model(name).build().to(device).to(memory_format=LAYOUTS[layout])
        self.optimizer = make_optimizer("adam", self.model.parameters(), 1e-5)
        profile = torch.rand(*shape, 21, device=device)
        present = torch.ones(shape, dtype=torch.bool, device=device)
        index = torch.arange(options.length, device=device).expand(shape)
        self.residues = Residues(torch.randint(20, shape, device=device), profile, present, index)
        coords = torch.randn(*shape, 3, device=device).cumsum(1) * 2
        self.true, self.pairs = distances(coords), upper_pairs(present)

    def seconds(self, steps: int) -> float:
        """Mean time of one training step over several."""
        self._wait()
        started = time.perf_counter()
        for _ in range(steps):
            with torch.autocast(torch.device(self.device).type, dtype=torch.bfloat16, enabled=self.bf16):
                prediction = self.model(self.residues)
            total, weight = self.loss(prediction, self.true, self.pairs)
            (total / weight).backward()
            self.optimizer.step()
            self.optimizer.zero_grad()
        self._wait()
        return (time.perf_counter() - started) / steps

    def _wait(self) -> None:
        if self.device.startswith("cuda"):
            torch.cuda.synchronize()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", default=[name for name in ZOO if not ZOO[name].is_fitted])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--precision", choices=("32", "bf16"), default="32")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=2)
    options = parser.parse_args()
    cuda = options.device.startswith("cuda")
    where = torch.cuda.get_device_name() if cuda else f"{platform.machine()}, {torch.get_num_threads()} threads"
    print(
        f"{where}; torch {torch.__version__}; precision {options.precision}; batch {options.batch_size}; "
        f"length {options.length}; {options.rounds} rounds of {options.steps} steps\n"
    )
    print("| model | contiguous, samples/s | channels-last, samples/s | ratio | peak GPU memory, GiB |")
    print("|---|---:|---:|---:|---:|")
    for name in options.models:
        if cuda:
            torch.cuda.reset_peak_memory_stats()
        trainers = {layout: Trainer(name, layout, options) for layout in LAYOUTS}
        for trainer in trainers.values():
            trainer.seconds(1)
        rounds = [
            {layout: trainer.seconds(options.steps) for layout, trainer in trainers.items()}
            for _ in range(options.rounds)
        ]
        rates = [options.batch_size / statistics.median(times[layout] for times in rounds) for layout in LAYOUTS]
        ratio = statistics.median(times["contiguous"] / times["channels-last"] for times in rounds)
        memory = f"{torch.cuda.max_memory_allocated() / 2**30:.2f}" if cuda else ""
        print(f"| {name} | {rates[0]:.2f} | {rates[1]:.2f} | {ratio:.2f} | {memory} |")
        sys.stdout.flush()
        del trainers


if __name__ == "__main__":
    main()
