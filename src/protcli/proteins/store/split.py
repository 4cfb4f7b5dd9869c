"""Reads one split of a store from its memory-mapped Arrow file."""

import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import numpy as np
import pyarrow as pa

from protcli.errors import ProtcliError, excerpt
from protcli.proteins.protein import Protein
from protcli.proteins.store.columns import BATCH_RECORDS, SCHEMA, Columns, ContentDigest
from protcli.proteins.store.families import read_families
from protcli.proteins.store.files import DAMAGED, check_size

TRAINING = "training"
VALIDATION = "validation"
TESTING = "testing"
_ALIASES = {"train": TRAINING, "valid": VALIDATION, "test": TESTING}


def split_name(given: str) -> str:
    """The full name of a split: train, valid and test stand for training, validation and testing.

    Raises:
        ProtcliError: the name cannot be a file name.
    """
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", given):
        raise ProtcliError(
            f"{given!r} is not a valid split name: use letters, digits, '_', '-' and '.', as in training_30"
        )
    return _ALIASES.get(given, given)


class Split(Sequence[Protein]):
    """The proteins of one split, read on demand from the memory map; their arrays are read-only views of it.

    Can be pickled and sent to another process, which maps the file again.

    Raises:
        ProtcliError: on opening, if the file is missing, not as long as the manifest says, or not an Arrow file, or if
            its families are missing or damaged.
    """

    def __init__(self, path: Path, name: str, info: dict[str, Any]) -> None:
        self.path = Path(path)
        self.name = name
        self.digest: str = info["digest"]
        self._info = info
        check_size(self.path, info)
        try:
            self._reader = pa.ipc.open_file(pa.memory_map(str(self.path)))
        except (OSError, pa.ArrowException) as error:
            raise ProtcliError(f"{self.path}: cannot be read as Arrow ({excerpt(error, 200)}); {DAMAGED}") from error
        batches = -(-info["records"] // BATCH_RECORDS)
        if self._reader.num_record_batches != batches or self._reader.schema != SCHEMA:
            raise ProtcliError(f"{self.path}: its columns or batches do not match the manifest; {DAMAGED}")
        self._batches: list[Columns | None] = [None] * batches
        self._families: np.ndarray | None = None
        if entry := info.get("families"):  # read at once: their file is gone when the store is given others
            self._families = read_families(self.path.with_name(entry["file"]), entry)

    def __reduce__(self) -> tuple[type["Split"], tuple[Path, str, dict[str, Any]]]:
        return Split, (self.path, self.name, self._info)

    def __repr__(self) -> str:
        return f"Split({self.name!r}, {len(self)} proteins, digest {self.digest[:12]})"

    def __len__(self) -> int:
        return self._info["records"]

    @overload
    def __getitem__(self, index: int) -> Protein: ...
    @overload
    def __getitem__(self, index: slice) -> list[Protein]: ...
    def __getitem__(self, index: int | slice) -> Protein | list[Protein]:
        if isinstance(index, slice):
            return [self[position] for position in range(*index.indices(len(self)))]
        position = range(len(self))[index]  # negative from the end; IndexError beyond it
        columns, row = self._columns(position // BATCH_RECORDS), position % BATCH_RECORDS
        window = slice(columns.ends[row], columns.ends[row + 1])
        return Protein(
            id=columns.ids[row].as_py(),
            sequence=columns.sequences[row].as_py(),
            profile=columns.profile[window],
            coords=columns.coords[window],
            mask=columns.mask[window],
            has_profile=columns.has_profile[row].as_py(),
            family="" if self._families is None else str(self._families[position]),
        )

    @property
    def has_families(self) -> bool:
        """Whether the store holds families of these proteins."""
        return self._families is not None

    @property
    def family_source(self) -> str:
        """Where the families come from, in words; empty where the store holds none."""
        return self._info.get("families", {}).get("source", "")

    @cached_property
    def families(self) -> np.ndarray:
        """Family of each protein: str [len(self)]; its own id where the store holds no families."""
        return np.array(self.ids) if self._families is None else self._families

    @property
    def ids(self) -> list[str]:
        """Id of each protein, without reading their arrays."""
        return [name for number in range(len(self._batches)) for name in self._columns(number).ids.to_pylist()]

    @property
    def sequences(self) -> list[str]:
        """Sequence of each protein, without reading their arrays."""
        return [one for number in range(len(self._batches)) for one in self._columns(number).sequences.to_pylist()]

    @cached_property
    def lengths(self) -> np.ndarray:
        """Number of residues of each protein: int64 [len(self)]."""
        return np.concatenate([np.diff(self._columns(number).ends) for number in range(len(self._batches))])

    def verify(self) -> None:
        """Read everything once, at the speed of SHA-256, and compare the digest with the manifest's.

        Raises:
            ProtcliError: the digests differ, or the file cannot be read completely.
        """
        digest = ContentDigest()
        try:
            for number in range(len(self._batches)):
                self._reader.get_batch(number).validate(full=True)  # no offset points outside its buffer
                digest.update(self._columns(number))
        except (OSError, ValueError, pa.ArrowException) as error:
            raise ProtcliError(f"{self.path}: cannot be read completely ({excerpt(error, 200)}); {DAMAGED}") from error
        if (actual := digest.hexdigest()) != self.digest:
            raise ProtcliError(
                f"{self.path}: its content has digest {actual[:12]}, its manifest says {self.digest[:12]}; {DAMAGED}"
            )

    def _columns(self, number: int) -> Columns:
        columns = self._batches[number]
        if columns is None:
            try:
                batch = self._reader.get_batch(number)
                batch.validate(full=True)  # no offset points outside its buffer: that would end the process
                if len(batch) != (expected := min(len(self) - number * BATCH_RECORDS, BATCH_RECORDS)):
                    raise pa.ArrowInvalid(f"it holds {len(batch)} proteins, not {expected}")
                columns = Columns.of(batch)
            except (OSError, ValueError, pa.ArrowException) as error:
                raise ProtcliError(
                    f"{self.path}: batch {number} cannot be read ({excerpt(error, 200)}); {DAMAGED}"
                ) from error
            self._batches[number] = columns
        return columns
