"""Numbers for each residue made elsewhere, as embeddings of language models: arrays [L, D] by chain id.

They are read from safetensors and npz files, and from folders of them and of npy files; a pickle is never loaded.
"""

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open

from protcli.errors import ProtcliError, truncate

MOST = 16_384  # numbers of a residue: ten times those of the usual models


class FeatureFiles:
    """The arrays of several files, each read when it is asked for; all have as many numbers for a residue."""

    def __init__(self, *paths: Path) -> None:
        """Look through files and folders of them. The name of an npy file is the id of its chain.

        Raises:
            ProtcliError: a file cannot be read or is of another kind, two hold the same id, or none holds any.
        """
        self.source = truncate(", ".join(path.name for path in paths), 200)
        self._open = lru_cache(8)(_opened)  # opening one of many arrays takes long, and files cannot all stay open
        self._places: dict[str, Path] = {}
        self._count: int | None = None
        for file in (file for path in paths for file in (sorted(path.iterdir()) if path.is_dir() else [path])):
            try:
                names = list(self._open(file).keys())
            except Exception as error:  # NumPy raises a dozen kinds for a damaged file
                expected = "expected a .safetensors or .npz file with an array for each chain, by its id"
                raise ProtcliError(f"{file} cannot be read ({truncate(error, 200)}): {expected}") from error
            if twice := self._places.keys() & names:
                raise ProtcliError(
                    f"{file} and {self._places[min(twice)]} both hold features of {truncate(min(twice))}"
                )
            self._places |= dict.fromkeys(names, file)
        if not self._places:
            raise ProtcliError(f"{self.source} holds no arrays: expected one for each chain, by its id")

    def __len__(self) -> int:
        return len(self._places)

    def name_of(self, id: str) -> str | None:
        """The name of a chain's array: its id, perhaps without its class; None if there is no such array."""
        return next((name for name in (id, id.rpartition("#")[2]) if name in self._places), None)

    def read(self, id: str, length: int) -> np.ndarray:
        """The features of a chain with so many residues: float16 [length, D].

        Raises:
            ProtcliError: there is no such array, it cannot be read, or is not such a one.
        """
        if (name := self.name_of(id)) is None:
            raise ProtcliError(f"{self.source} has no features of {id}: expected an array for each chain, by its id")
        file = self._open(path := self._places[name])
        try:
            if path.suffix == ".npz" and file.zip.getinfo(f"{name}.npy").file_size > length * MOST * 8:
                raise ValueError(f"it holds too many numbers for {length} residues")
            # NumPy has no bfloat16
            rows = file.get_tensor(name).float() if path.suffix == ".safetensors" else file[name]
            features = check_features(rows, length, self._count)
        except Exception as error:
            raise ProtcliError(f"{path}, {truncate(id)}: {truncate(error, 200)}") from error
        self._count = features.shape[1]
        return features


def check_features(features: Any, length: int, count: int | None = None) -> np.ndarray:
    """Features as float16 [length, count], with any count up to MOST if that is None.

    Raises:
        ValueError: they are not numbers, not of that shape or not finite; the message is a clause.
    """
    try:
        rows = np.asarray(features, dtype=np.float32)
    except (ValueError, TypeError):  # rows of several lengths, or text
        raise ValueError("its features are not a table of numbers") from None
    if (
        rows.ndim != 2
        or len(rows) != length
        or not 0 < rows.shape[1] <= MOST
        or rows.shape[1] != (count or rows.shape[1])
    ):
        raise ValueError(
            f"its features are {' x '.join(map(str, rows.shape))}: expected {count or f'1 to {MOST:,}'} numbers for "
            f"each of {length} residues"
        )
    if not (np.abs(rows) <= np.finfo(np.float16).max).all():  # NaN, too
        raise ValueError("its features are not all finite numbers up to 65,504")
    return rows.astype(np.float16)


def _opened(path: Path) -> Any:
    """A file's arrays by their names."""
    if path.suffix == ".safetensors":
        return safe_open(path, framework="pt")
    found = np.load(path, mmap_mode="r", allow_pickle=False)
    return {path.stem: found} if path.suffix == ".npy" else found
