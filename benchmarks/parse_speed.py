"""How fast ProteinNet text is parsed, beside a plain line-by-line float() parser.

    python benchmarks/parse_speed.py FILE... [--rounds 5]

Both make the same records (checked first, value by value) and run in turns in one process; the ratio is the median over
the rounds of the ratio of neighbouring runs, so that a change in the machine's load touches both alike.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from protcli.proteins.protein import Protein
from protcli.proteins.proteinnet import read_proteinnet


def read_plainly(path: Path) -> Iterator[Protein]:
    """The plain parser: line by line, float() of every token."""
    with path.open() as lines:
        for line in lines:
            match line.rstrip():
                case "[ID]":
                    name = next(lines).rstrip()
                case "[PRIMARY]":
                    sequence = next(lines).rstrip()
                case "[EVOLUTIONARY]":
                    rows = [[float(token) for token in next(lines).split("\t")] for _ in range(21)]
                    profile = np.array(rows, dtype=np.float32).T
                case "[TERTIARY]":
                    rows = [[float(token) for token in next(lines).split("\t")] for _ in range(3)]
                    coords = (np.array(rows).T / 100).astype(np.float32)
                    coords[(coords == 0).all(axis=1)] = np.nan
                case "[MASK]":
                    mask = np.array([sign == "+" for sign in next(lines).rstrip()])
                    yield Protein(name, sequence, np.ascontiguousarray(profile), coords.reshape(-1, 3, 3), mask)


def check_equal(path: Path) -> None:
    for ours, plain in zip(read_proteinnet(path), read_plainly(path), strict=True):
        assert (ours.id, ours.sequence) == (plain.id, plain.sequence)
        for name in ("profile", "coords", "mask"):
            np.testing.assert_array_equal(getattr(ours, name), getattr(plain, name), err_msg=f"{ours.id} {name}")


def seconds(read: Callable[[Path], Iterator[Protein]], path: Path) -> float:
    begin = time.perf_counter()
    for _ in read(path):
        pass
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    print(f"{'file':<24}{'MB':>8}{'float() MB/s':>14}{'protcli MB/s':>14}{'ratio':>8}")
    for path in args.files:
        check_equal(path)
        size = path.stat().st_size / 1e6
        plain, ours = [], []
        for _ in range(args.rounds):
            plain.append(seconds(read_plainly, path))
            ours.append(seconds(read_proteinnet, path))
        ratio = statistics.median(slow / fast for slow, fast in zip(plain, ours, strict=True))
        rates = size / statistics.median(plain), size / statistics.median(ours)
        print(f"{path.name:<24}{size:8.1f}{rates[0]:14.1f}{rates[1]:14.1f}{ratio:8.2f}")


if __name__ == "__main__":
    main()
