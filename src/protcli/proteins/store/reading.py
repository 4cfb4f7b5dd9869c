"""Opens a store: its manifest, the proteins of a split from its memory-mapped Arrow file, and their families."""

import csv
import io
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, NotRequired

import numpy as np
import pyarrow as pa
from pydantic import Field, StringConstraints, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from protcli.errors import ProtcliError, quote, truncate
from protcli.proteins.protein import TESTING, VALIDATION, Protein, ProteinSequence
from protcli.proteins.store.columns import BATCH_RECORDS, Columns, ContentDigest, schema

FORMAT = "protcli store"
FORMAT_VERSION = 1
MANIFEST = "manifest.json"
TRAINING = "training"
_ALIASES = {"train": TRAINING, "valid": VALIDATION, "test": TESTING}
_DAMAGED = "the store is damaged: import it again"
_NAME = r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$"  # of a split, and of a file in the folder itself

_Count = Annotated[int, Field(ge=0, lt=2**63)]
_Name = Annotated[str, StringConstraints(pattern=_NAME)]


class _File(TypedDict):
    file: _Name
    bytes: _Count
    digest: str


class _Families(_File):
    source: NotRequired[str]


class _Split(_File):
    records: _Count
    families: NotRequired[_Families]
    features: NotRequired[_Count]


class _Manifest(TypedDict):
    name: str
    synthetic: bool
    splits: dict[_Name, _Split]


_CHECKED = TypeAdapter(_Manifest)


def split_name(given: str) -> str:
    """The full name of a split: train, valid and test stand for training, validation and testing.

    Raises:
        ProtcliError: the name cannot be a file name.
    """
    if not re.fullmatch(_NAME, given):
        raise ProtcliError(
            f"{given!r} is not a valid split name: use letters, digits, '_', '-' and '.', as in training_30"
        )
    return _ALIASES.get(given, given)


class Split(ProteinSequence):
    """The proteins of one split, read on demand from the memory map; their arrays are views of it.

    Can be pickled and sent to another process, which maps the file again.

    Raises:
        ProtcliError: on opening, if the file is missing, not as long as the manifest says, or not an Arrow file, or if
            its families are missing or damaged.
    """

    def __init__(self, path: Path, name: str, info: dict[str, Any]) -> None:
        self.path = Path(path)
        self.name = name
        self.digest: str = info["digest"]
        self.features: int = info.get("features", 0)  # of each residue; set to 0, proteins are read without them
        self._info = info
        _check_size(self.path, info)
        with _arrow_errors(self.path, "cannot be read as Arrow"):
            self._reader = pa.ipc.open_file(pa.memory_map(str(self.path)))
        batches = -(-info["records"] // BATCH_RECORDS)
        if self._reader.num_record_batches != batches or self._reader.schema != schema(self.features):
            raise ProtcliError(f"{self.path}: its columns or batches do not match the manifest; {_DAMAGED}")
        self._batches: list[Columns | None] = [None] * batches
        # read at once: their file is gone when the store is given others
        self._families = _read_families(self.path.parent, info["families"]) if info.get("families") else None

    def __reduce__(self) -> tuple[type["Split"], tuple[Path, str, dict[str, Any]]]:
        return Split, (self.path, self.name, self._info)

    def __len__(self) -> int:
        return self._info["records"]

    def read(self, number: int) -> Protein:
        """The protein with this number, from 0."""
        columns, row = self._columns(number // BATCH_RECORDS), number % BATCH_RECORDS
        window = slice(columns.ends[row], columns.ends[row + 1])
        return Protein(
            id=columns.ids[row].as_py(),
            sequence=columns.sequences[row].as_py(),
            profile=columns.profile[window],
            coords=columns.coords[window],
            mask=columns.mask[window] > 0,
            has_profile=columns.has_profile[row].as_py(),
            secondary=np.maximum(columns.mask[window], 1) - 1,
            features=columns.features[window] if self.features and columns.features is not None else None,
            family="" if self._families is None else str(self._families[number]),
        )

    @property
    def family_source(self) -> str | None:
        """Where the families come from, in words; None where the store holds none."""
        return None if self._families is None else self._info["families"].get("source", "")

    @cached_property
    def families(self) -> np.ndarray:
        """Family of each protein: str [len(self)]; its own id where the store holds no families."""
        return np.array(self.ids) if self._families is None else self._families

    @property
    def ids(self) -> list[str]:
        """Id of each protein, without reading their arrays."""
        return [text for columns in self._all_columns() for text in columns.ids.to_pylist()]

    @property
    def sequences(self) -> list[str]:
        """Sequence of each protein, without reading their arrays."""
        return [text for columns in self._all_columns() for text in columns.sequences.to_pylist()]

    @cached_property
    def lengths(self) -> np.ndarray:
        """Number of residues of each protein: int64 [len(self)]."""
        return np.concatenate([np.diff(columns.ends) for columns in self._all_columns()])

    def verify(self) -> None:
        """Read everything once, at the speed of SHA-256, and compare the digest with the manifest's.

        Raises:
            ProtcliError: the digests differ, or the file cannot be read completely.
        """
        digest = ContentDigest()
        with _arrow_errors(self.path, "cannot be read completely"):
            for number in range(len(self._batches)):
                self._reader.get_batch(number).validate(full=True)  # no offset points outside its buffer
                digest.update(self._columns(number))
        if (actual := digest.hexdigest()) != self.digest:
            raise ProtcliError(
                f"{self.path}: its content has digest {actual[:12]}, its manifest says {self.digest[:12]}; {_DAMAGED}"
            )

    def _all_columns(self) -> Iterator[Columns]:
        return map(self._columns, range(len(self._batches)))

    def _columns(self, number: int) -> Columns:
        columns = self._batches[number]
        if columns is None:
            with _arrow_errors(self.path, f"batch {number} cannot be read"):
                batch = self._reader.get_batch(number)
                batch.validate(full=True)  # no offset points outside its buffer: that would end the process
                if len(batch) != (expected := min(len(self) - number * BATCH_RECORDS, BATCH_RECORDS)):
                    raise pa.ArrowInvalid(f"it holds {len(batch)} proteins, not {expected}")
                columns = self._batches[number] = Columns.of(batch)
        return columns


class Store:
    """A folder of splits, opened by `open_store`. Only the manifest is read until a split is requested."""

    def __init__(self, path: Path, manifest: dict[str, Any]) -> None:
        self.path = path
        self.manifest = manifest

    @property
    def name(self) -> str:
        return self.manifest["name"]

    @property
    def synthetic(self) -> bool:
        """Whether its proteins are synthetic."""
        return self.manifest["synthetic"]

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits, in the order they were added."""
        return tuple(self.manifest["splits"])

    def split_info(self, name: str) -> dict[str, Any]:
        """The manifest entry of a split (records, digest, lengths, atoms, ...); its file stays closed.

        Raises:
            ProtcliError: the name is unknown; the message lists the known names.
        """
        if name not in self.splits:
            raise ProtcliError(f"{self.path}: has no split {name!r}; it has {', '.join(self.splits)}")
        return self.manifest["splits"][name]

    def check_sizes(self) -> None:
        """Raise ProtcliError if a file of a split is missing or its size has changed; no file is opened."""
        for info in self.manifest["splits"].values():
            for entry in filter(None, (info, info.get("families"))):
                _check_size(self.path / entry["file"], entry)

    def split(self, name: str) -> Split:
        """Open only this split's file. Raises ProtcliError as `split_info` and `Split` do."""
        info = self.split_info(name)
        try:
            return Split(self.path / info["file"], name, info)
        except ProtcliError:
            # another process may have given it other families since the manifest was read
            current = open_store(self.path).manifest
            if current == self.manifest:
                raise
            self.manifest = current
            return self.split(name)


def open_store(path: str | Path) -> Store:
    """Open a store by its folder.

    Raises:
        ProtcliError: the folder is missing or not a store, or its manifest is broken or of another format version.
    """
    path = Path(path).absolute()
    file = path / MANIFEST
    if not path.exists():
        raise ProtcliError(
            f"{path}: there is no such folder; if it was moved, name its new place (with --data where a run names this "
            f"one); else create it with `protcli data import SOURCE... --out {path}`"
        )
    if not file.is_file():
        raise ProtcliError(f"{path}: is not a store (it has no {MANIFEST}); create one with `protcli data import`")
    try:
        manifest = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ProtcliError(
            f"{file}: cannot be read as JSON ({truncate(error, 200)}); import the store again"
        ) from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise ProtcliError(f"{file}: is not the manifest of a protcli store")
    if manifest.get("format_version") != FORMAT_VERSION:
        raise ProtcliError(
            f"{path}: is a store of format {quote(manifest.get('format_version'))}, but this protcli reads format "
            f"{FORMAT_VERSION}: import its sources again, or use the protcli that wrote it "
            f"({truncate(manifest.get('protcli'))})"
        )
    try:
        _CHECKED.validate_python(manifest, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        place = truncate(".".join(map(str, first["loc"])), 100)
        raise ProtcliError(
            f"{file}: is incomplete or wrong ({place}: {truncate(first['msg'], 100)}); import the store again"
        ) from None
    return Store(path, manifest)


def _read_families(folder: Path, entry: dict[str, Any]) -> np.ndarray:
    """The labels that `writing.write_families` wrote: str [N]. Raises ProtcliError: the file is missing or changed."""
    path = folder / entry["file"]
    _check_size(path, entry)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ProtcliError(f"cannot read {path}: {error.strerror}; {_DAMAGED}") from error
    if sha256(content).hexdigest() != entry["digest"]:
        raise ProtcliError(f"{path}: its content has changed; {_DAMAGED}")
    return np.array([family for _, family in csv.reader(io.StringIO(content.decode(), newline=""))][1:])


def _check_size(path: Path, info: dict[str, Any]) -> None:
    """Raise ProtcliError if a file is missing or not as long as its manifest entry says; it is not opened."""
    try:
        size = path.stat().st_size
    except OSError as error:
        raise ProtcliError(f"cannot read {path}: {error.strerror}; {_DAMAGED}") from error
    if size != info["bytes"]:
        raise ProtcliError(f"{path}: holds {size:,} bytes, its manifest says {info['bytes']:,}; {_DAMAGED}")


@contextmanager
def _arrow_errors(path: Path, problem: str) -> Iterator[None]:
    """Errors of Arrow and of the system, as one sentence."""
    try:
        yield
    except (OSError, ValueError, pa.ArrowException) as error:
        raise ProtcliError(f"{path}: {problem} ({truncate(error, 200)}); {_DAMAGED}") from error
