"""The rate at which ProteinNet text is parsed, and imported into a store, against a plain line-by-line float() parser.

All three take turns, and the parsers return the same records, which is checked first. The import parses, hashes, counts
and writes. The file is training_30 in the folder that PROTCLI_REAL_DATA names, else made-up text.
"""

import os
import tempfile
from collections import deque
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import numpy as np
from row import Row, Setting
from timing import alternate, ratios
from training_step import made_up

from protcli.experiments.data.import_files import import_data
from protcli.proteins.formats.proteinnet import read_proteinnet
from protcli.proteins.protein import Protein


def rows(setting: Setting) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as folder:
        real = os.environ.get("PROTCLI_REAL_DATA")
        if real and not setting.smallest:
            path = Path(real) / "training_30"
        else:
            path = Path(folder) / "training_30"
            write_made_up(path, 2 if setting.smallest else 256, 64 if setting.smallest else 250)
        check_equal(path)
        stores = count()

        def import_() -> None:
            store = Path(folder) / f"store{next(stores)}"
            deque(import_data([path], store, as_split="train", families="none"), maxlen=0)

        ways = {
            "plain": lambda: deque(read_plainly(path), maxlen=0),
            "parse": lambda: deque(read_proteinnet(path), maxlen=0),
            "import": import_,
        }
        times = alternate(ways, setting)
        megabytes = path.stat().st_size / 1e6
        text = f"{'real' if real and not setting.smallest else 'made-up'} text, {megabytes:.0f} MB"
        for name, what in (("plain", "plain float() parser"), ("parse", "parser"), ("import", "import into a store")):
            yield Row.of(f"{text}: {what}", "MB/s", [megabytes / each for each in times[name]])
        for name in ("parse", "import"):
            yield Row.of(f"{text}: plain parser / {name}", "", ratios(times["plain"], times[name]))


def write_made_up(path: Path, proteins: int, length: int) -> None:
    """ProteinNet text of made-up proteins."""
    with path.open("w", encoding="utf-8") as file:
        for protein in made_up(proteins, length):
            profile = "\n".join("\t".join(f"{value:.7g}" for value in row) for row in protein.profile.T)
            atoms = np.where(protein.mask[:, None, None], 100 * protein.coords, 0).reshape(-1, 3)
            coords = "\n".join("\t".join(f"{value:.1f}" for value in row) for row in atoms.T)
            mask = "".join("-+"[int(resolved)] for resolved in protein.mask)
            file.write(
                f"[ID]\n{protein.id}\n[PRIMARY]\n{protein.sequence}\n[EVOLUTIONARY]\n{profile}\n"
                f"[TERTIARY]\n{coords}\n[MASK]\n{mask}\n\n"
            )


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
                    values = [[float(token) for token in next(lines).split("\t")] for _ in range(21)]
                    profile = np.array(values, dtype=np.float32).T
                case "[TERTIARY]":
                    values = [[float(token) for token in next(lines).split("\t")] for _ in range(3)]
                    coords = (np.array(values).T / 100).astype(np.float32)
                    coords[(coords == 0).all(axis=1)] = np.nan
                case "[MASK]":
                    mask = np.array([sign == "+" for sign in next(lines).rstrip()])
                    yield Protein(name, sequence, np.ascontiguousarray(profile), coords.reshape(-1, 3, 3), mask)


def check_equal(path: Path) -> None:
    for ours, plain in zip(read_proteinnet(path), read_plainly(path), strict=True):
        assert (ours.id, ours.sequence) == (plain.id, plain.sequence)
        for name in ("profile", "coords", "mask"):
            np.testing.assert_array_equal(getattr(ours, name), getattr(plain, name), err_msg=f"{ours.id} {name}")


if __name__ == "__main__":
    from bench import alone

    alone(__file__)
