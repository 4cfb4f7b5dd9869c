"""Numbers for each residue made elsewhere, as embeddings of language models: arrays [L, D] by chain id.

They are read from safetensors and npz files, and from folders of them and of npy files; a pickle is never loaded.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open

from protcli.errors import ProtcliError, truncate

SUFFIXES = (".safetensors", ".npz", ".npy")
MOST = 16_384  # numbers of a residue: ten times those of the usual models


class FeatureFiles:
    """The arrays of several files, each read when it is asked for."""

    def __init__(self, paths: Sequence[Path]) -> None:
        """Look through files; of a folder, those of SUFFIXES. The name of an npy file is the id of its chain.

        Raises:
            ProtcliError: a file cannot be read or is of another kind, two hold the same id, or none holds any.
        """
        self._places: dict[str, tuple[Path, str]] = {}
        self.source = ", ".join(path.name for path in paths)
        for path in paths:
            found = [each for each in path.iterdir() if each.suffix in SUFFIXES] if path.is_dir() else [path]
            for file in sorted(found):
                for name, key in _names(file):
                    if other := self._places.get(name):
                        raise ProtcliError(f"{file} and {other[0]} both hold features of {truncate(name)}")
                    self._places[name] = file, key
        if not self._places:
            raise ProtcliError(f"{self.source}: holds no arrays: expected one for each chain, by its id")

    def __len__(self) -> int:
        return len(self._places)

    def name_of(self, id: str) -> str | None:
        """The name of a chain's array: its id, perhaps without its class; None if there is no such array."""
        return next((name for name in (id, id.rpartition("#")[2]) if name in self._places), None)

    def read(self, id: str, length: int, count: int | None = None) -> np.ndarray:
        """The features of a chain that `name_of` knows: float16 [length, count].

        Args:
            id, length: of the chain.
            count: numbers of each residue; None allows any number up to MOST.

        Raises:
            ProtcliError: the array cannot be read, or is not such a one.
        """
        path, key = self._places[self.name_of(id) or ""]
        try:
            return check_features(_array(path, key, length), length, count)
        except Exception as error:  # NumPy raises a dozen kinds for a damaged file
            raise ProtcliError(f"{path}, {truncate(id)}: {truncate(error, 200)}") from error


def check_features(features: Any, length: int, count: int | None = None) -> np.ndarray:
    """Features as float16 [length, count], with any count up to MOST if that is None.

    Raises:
        ValueError: they are not numbers, not of that shape or not finite; the message is a clause.
    """
    try:
        rows = np.asarray(features)
        if rows.dtype.kind not in "fiu":
            raise ValueError
    except ValueError:  # rows of several lengths, or text
        raise ValueError("its features are not a table of numbers") from None
    if rows.shape != (length, count or (rows.shape or (0,))[-1]) or not 0 < rows.shape[1] <= MOST:
        shape = " x ".join(map(str, rows.shape)) or "a single number"
        wanted = f"{count:,}" if count else f"1 to {MOST:,}"
        raise ValueError(f"its features are {shape}: expected {wanted} numbers for each of {length} residues")
    with np.errstate(over="ignore"):
        half = rows.astype(np.float16)
    if not np.isfinite(half).all():
        wrong = rows[~np.isfinite(half)][0]
        raise ValueError(f"{wrong:g} in its features: expected finite numbers, at most {np.finfo(np.float16).max:,.0f}")
    return half


def _names(path: Path) -> Iterator[tuple[str, str]]:
    """The names of the arrays in a file, and by what they are found in it."""
    if path.suffix not in SUFFIXES:
        raise ProtcliError(f"{path}: expected arrays by chain id in a .safetensors or .npz file, or a folder of them")
    try:
        keys = [""] if path.suffix == ".npy" else list(_opened(path).keys())
    except Exception as error:
        raise ProtcliError(f"{path} cannot be read as {path.suffix[1:]}: {truncate(error, 200)}") from error
    return ((key or path.stem, key) for key in keys)


@lru_cache(8)  # opening one of many arrays takes long, and files cannot all stay open
def _opened(path: Path) -> Any:
    return np.load(path, allow_pickle=False) if path.suffix == ".npz" else safe_open(path, framework="pt")


def _array(path: Path, key: str, length: int) -> Any:
    """An array as it is stored; a much larger one than such a chain can have is not read."""
    if path.suffix == ".npy":
        return np.load(path, mmap_mode="r", allow_pickle=False)
    if path.suffix == ".npz":
        size = _opened(path).zip.getinfo(f"{key}.npy").file_size
        if size > (length + 1) * MOST * 8:
            raise ValueError(f"holds {size:,} bytes, too many for {length} residues")
        return _opened(path)[key]
    stored = _opened(path).get_slice(key)
    if np.prod(stored.get_shape()) > length * MOST:
        raise ValueError(f"holds {stored.get_shape()} numbers, too many for {length} residues")
    tensor = _opened(path).get_tensor(key)
    return (tensor.float() if tensor.is_floating_point() else tensor).numpy()  # NumPy has no bfloat16
