"""How long a person waits for `protcli --help`, and for the first step of `protcli train`, on a warm machine.

Warm: the command has run before, so that its files are in memory and the database of runs exists.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from cli_events import environment, start
from row import Row, Setting

REPEATS = {"help": 7, "train": 4}


def rows(setting: Setting) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        ways = {"help": _help, "train": _first_step}
        taken = {
            name: [way(folder) for _ in range(1 if setting.smallest else REPEATS[name] + 1)]
            for name, way in ways.items()
        }
    help_, train = (times[1:] or times for times in taken.values())
    yield Row.of("protcli --help", "s", help_, at_most=0.3)
    yield Row.of("protcli train improved, to the end of the first step", "s", train, at_most=6)


def _help(folder: Path) -> float:
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "protcli", "--help"], env=environment(folder), cwd=folder, check=True,
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    return time.perf_counter() - started


def _first_step(folder: Path) -> float:
    started = time.perf_counter()
    with start(["train", "improved", "--epochs", "1"], folder) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        taken = time.perf_counter() - started
        process.kill()
        if line != "step\n":
            raise RuntimeError(f"protcli train ended: {process.communicate()[1][-500:]}")
    return taken


if __name__ == "__main__":
    from bench import alone

    alone(__file__)
