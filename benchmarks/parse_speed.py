"""Speed of parsing and importing ProteinNet text, compared with a plain line-by-line float() parser.

    python benchmarks/parse_speed.py FILE... [--rounds 5]

Both parsers return the same records (checked first, value by value); the import parses, hashes the file and content,
counts, and writes the store. All run in turn in one process; a ratio is the median over rounds of the ratio to the
plain parser's run in the same round, so that changes in the machine's load affect both alike.
"""

import argparse
import gc
import statistics
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from protcli.experiments.data.import_files import import_data
from protcli.proteins.formats.proteinnet import read_proteinnet
from protcli.proteins.protein import Protein


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


def seconds(results: Iterable[object]) -> float:
    """Time to iterate over all results."""
    gc.collect()  # so that no run pays for another's garbage
    begin = time.perf_counter()
    for _ in results:
        pass
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    print(f"{'file':<20}{'MB':>7}{'float() MB/s':>14}{'parse MB/s':>12}{'ratio':>7}{'import MB/s':>13}{'ratio':>7}")
    for path in args.files:
        check_equal(path)
        plain, parse, store = [], [], []
        for _ in range(args.rounds):
            plain.append(seconds(read_plainly(path)))
            parse.append(seconds(read_proteinnet(path)))
            with TemporaryDirectory() as folder:
                store.append(seconds(import_data([path], Path(folder) / "store", as_split="train", families="none")))
        size = path.stat().st_size / 1e6
        rates = [size / statistics.median(times) for times in (plain, parse, store)]
        ratios = [statistics.median(np.array(plain) / np.array(times)) for times in (parse, store)]
        print(
            f"{path.name:<20}{size:7.1f}{rates[0]:14.1f}{rates[1]:12.1f}{ratios[0]:7.2f}{rates[2]:13.1f}{ratios[1]:7.2f}"
        )


if __name__ == "__main__":
    main()
