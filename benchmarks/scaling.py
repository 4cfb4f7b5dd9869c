"""`protcli train --devices 2` against one process: with as many threads in total, and with as many threads each.

Twice the speed is the most that the second comparison can give, and no loss the most of the first. Every figure is of a
process that trains on the CPU from start to end, the median of its epochs but the first; the ways take turns.
"""

import os
import re
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path

from cli_events import lines_of
from row import LeftOut, Row, Setting
from timing import ratios

from protcli.proteins.synthetic import write_synthetic

MODELS = {  # epochs, batch, crop
    "improved": (5, 8, 256),
    "psp1-profile": (2, 4, 128),
}
ROUNDS = 2


def rows(setting: Setting) -> Iterator[Row]:
    threads = os.cpu_count() or 1
    if threads < 2:
        raise LeftOut("there is only one core")
    each = threads // 2
    ways = {"one, all threads": (1, 2 * each), "two": (2, each), "one, half of the threads": (1, each)}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_synthetic(folder / "data", train=4 if setting.smallest else 32, valid=1, test=0, max_length=256)
        for name, (epochs, size, crop) in {"improved": (2, 4, 64)}.items() if setting.smallest else MODELS.items():
            rates: dict[str, list[float]] = {way: [] for way in ways}
            for _ in range(1 if setting.smallest else ROUNDS):
                for way, (processes, threads_each) in ways.items():
                    options = {
                        "data": folder / "data", "device": "cpu", "devices": processes, "threads": threads_each,
                        "epochs": epochs, "batch-size": size, "crop": crop,
                    }  # fmt: skip
                    arguments = [f"--{option}={value}" for option, value in options.items()]
                    lines = lines_of(["train", name, *arguments], folder)
                    # several processes are commands of their own, which say `epoch 1/2: ..., 88.1 samples/s, ...`
                    said = [re.search(r"^epoch (?:.*?, )?([0-9.]+)(?: samples/s|$)", line) for line in lines]
                    _, *after = [float(found[1]) for found in said if found]
                    rates[way].append(statistics.median(after))
            what = f"{name}, batch {size}, crop {crop}"
            yield Row.of(f"{what}: one process with {2 * each} threads", "samples/s", rates["one, all threads"])
            yield Row.of(
                f"{what}: two with {each} each / one with {2 * each}", "",
                ratios(rates["two"], rates["one, all threads"]),
            )  # fmt: skip
            yield Row.of(
                f"{what}: two with {each} each / one with {each}", "",
                ratios(rates["two"], rates["one, half of the threads"]),
            )  # fmt: skip


if __name__ == "__main__":
    from bench import alone

    alone(__file__)
