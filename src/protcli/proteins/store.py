"""Proteins on disk: a folder with a manifest and one memory-mapped Arrow file for each split.

A store appears whole or not at all. It is written into a hidden folder beside its place (`.NAME.partial`) and renamed;
a further split is renamed in before the manifest that names it is replaced.
"""

import json
import re
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any, overload

import numpy as np
import pyarrow as pa
from filelock import FileLock, Timeout

from protcli.errors import ProtcliError
from protcli.proteins.protein import Protein
from protcli.proteins.residues import ALPHABET_SIZE

FORMAT = "protcli store"
FORMAT_VERSION = 1
MANIFEST = "manifest.json"
TRAINING = "training"
VALIDATION = "validation"
TESTING = "testing"
BATCH_RECORDS = 64  # proteins in an Arrow record batch; part of the format: a protein is found by division

_DAMAGED = "the store is damaged: import it again"
_ALIASES = {"train": TRAINING, "valid": VALIDATION, "test": TESTING}
_SCHEMA = pa.schema(
    [
        ("id", pa.utf8()),
        ("sequence", pa.utf8()),
        ("profile", pa.large_list(pa.float32())),  # L * 21
        ("coords", pa.large_list(pa.float32())),  # L * 9, NaN = missing
        ("mask", pa.large_list(pa.uint8())),  # L
        ("has_profile", pa.bool_()),
    ]
)


def split_name(given: str) -> str:
    """A split's full name: train, valid and test stand for training, validation and testing.

    Raises:
        ProtcliError: for a name that could not be a file's.
    """
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", given):
        raise ProtcliError(f"{given!r} cannot name a split: letters, digits, '_', '-' and '.' only, as in training_30")
    return _ALIASES.get(given, given)


@dataclass(frozen=True)
class _Columns:
    """Views of one record batch; residue r of its protein i lies at ends[i] + r."""

    ids: pa.StringArray
    sequences: pa.StringArray
    ends: np.ndarray  # [n + 1]
    profile: np.ndarray  # [R, 21]
    coords: np.ndarray  # [R, 3, 3]
    mask: np.ndarray  # [R]
    has_profile: pa.BooleanArray

    @classmethod
    def of(cls, batch: pa.RecordBatch) -> "_Columns":
        return cls(
            ids=batch.column("id"),
            sequences=batch.column("sequence"),
            ends=batch.column("mask").offsets.to_numpy(),
            profile=batch.column("profile").values.to_numpy().reshape(-1, ALPHABET_SIZE),
            coords=batch.column("coords").values.to_numpy().reshape(-1, 3, 3),
            mask=batch.column("mask").values.to_numpy().view(bool),
            has_profile=batch.column("has_profile"),
        )


class _Digest:
    """Identifies the content of a split: one hash a column, fed in order, so it cannot depend on where a batch ends."""

    def __init__(self) -> None:
        self._hashes = {column: sha256() for column in ("framing", *_SCHEMA.names)}

    def update(self, columns: _Columns) -> None:
        """Hash a batch, its large columns where they lie."""
        (id_ends, ids), (sequence_ends, sequences) = _text(columns.ids), _text(columns.sequences)
        if columns.ends[0] != 0 or not np.array_equal(sequence_ends, columns.ends):  # the framing has one of the two
            raise pa.ArrowInvalid("sequences and masks differ in length")
        content = {
            "framing": np.stack([np.diff(id_ends), np.diff(columns.ends)], axis=1).astype("<i8"),
            "id": ids,
            "sequence": sequences,
            "profile": columns.profile.astype("<f4", copy=False),
            "coords": columns.coords.astype("<f4", copy=False),
            "mask": columns.mask,
            "has_profile": columns.has_profile.to_numpy(zero_copy_only=False).astype(bool),
        }
        for column, data in content.items():
            self._hashes[column].update(data.data)

    def hexdigest(self) -> str:
        whole = sha256()
        for column, running in self._hashes.items():
            whole.update(column.encode() + running.digest())
        return whole.hexdigest()


def _text(strings: pa.StringArray) -> tuple[np.ndarray, np.ndarray]:
    """Where each string ends, int32 [n + 1], and the bytes of all of them; both are views."""
    _, offsets, data = strings.buffers()
    ends = np.frombuffer(offsets, np.int32, len(strings) + 1)
    return ends, np.frombuffer(data or b"", np.uint8)[ends[0] : ends[-1]]


class SplitWriter:
    """Writes one split's Arrow file in constant memory; use as a context manager.

    After a clean exit `entry` is the split's part of the manifest; `details`, filled by the caller before that, is
    merged into it. After an exception the file is gone.

    Raises:
        ProtcliError: at exit when no protein was added; whenever the disk refuses the data.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self.path = Path(folder) / f"{name}.arrow"
        self.details: dict[str, Any] = {}
        self.entry: dict[str, Any] = {}
        self._pending: list[Protein] = []
        self._lengths: list[int] = []
        self._classes: Counter[str] = Counter()
        self._real_profiles = 0
        self._masked_in = 0
        self._atoms = np.zeros(4, dtype=np.int64)  # residues with N, CA, C', all three
        self._profile_sum = np.zeros(ALPHABET_SIZE)
        self._profile_nonzero = np.zeros(ALPHABET_SIZE, dtype=np.int64)
        # hashing and writing go on while the caller reads the next proteins
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="split-writer")
        self._writing: Future[None] | None = None
        self._digest = _Digest()

    def __enter__(self) -> "SplitWriter":
        try:
            self._sink = pa.OSFile(str(self.path), "wb")
        except OSError as error:
            raise ProtcliError(f"{self.path.parent}: cannot be written to: {error}") from error
        self._writer = pa.ipc.new_file(self._sink, _SCHEMA)
        return self

    def add(self, protein: Protein) -> None:
        """Append one protein. Its arrays must not change before the writer is closed."""
        self._pending.append(protein)
        if len(self._pending) == BATCH_RECORDS:
            self._flush()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._flush()
                self._wait()
                if not self._lengths:
                    raise ProtcliError(f"{self.name}: there is no protein to store")
                self._writer.close()
                self._sink.close()
                self.entry = self._summary() | self.details
        finally:
            self._thread.shutdown()
            if not self.entry:
                self._sink.close()
                self.path.unlink(missing_ok=True)

    def _flush(self) -> None:
        """Hand the pending proteins to the thread, once it is done with those before: never more than two batches."""
        proteins, self._pending = self._pending, []
        self._wait()
        if proteins:
            self._writing = self._thread.submit(self._write, proteins)

    def _wait(self) -> None:
        if self._writing is not None:
            self._writing.result()
            self._writing = None

    def _write(self, proteins: list[Protein]) -> None:
        lengths = np.array([len(protein) for protein in proteins], dtype=np.int64)
        profile = np.concatenate([protein.profile for protein in proteins], dtype=np.float32)  # [R, 21]
        coords = np.concatenate([protein.coords for protein in proteins], dtype=np.float32)  # [R, 3, 3]
        mask = np.concatenate([protein.mask for protein in proteins]).astype(bool)  # [R]
        has_profile = np.array([protein.has_profile for protein in proteins], dtype=bool)

        missing = np.isnan(coords)
        coords[missing] = np.nan  # one NaN of all the NaNs there are: the digest goes by bits
        present = [mask & ~(gap[:, 0] | gap[:, 1] | gap[:, 2]) for gap in missing.swapaxes(0, 1)]  # N, CA, C': [R] each
        present.append(present[0] & present[1] & present[2])
        self._atoms += [np.count_nonzero(atom) for atom in present]
        self._masked_in += int(np.count_nonzero(mask))
        self._profile_sum += np.einsum("rc->c", profile)  # NumPy's sum and count_nonzero take twice as long here
        self._profile_nonzero += np.einsum("rc->c", (profile != 0).astype(np.float32)).astype(np.int64)
        self._lengths.extend(lengths.tolist())
        self._classes.update(protein.category for protein in proteins)
        self._real_profiles += int(has_profile.sum())

        ends = np.concatenate([[0], np.cumsum(lengths)])
        arrays = [
            pa.array([protein.id for protein in proteins], pa.utf8()),
            pa.array([protein.sequence for protein in proteins], pa.utf8()),
            pa.LargeListArray.from_arrays(ends * ALPHABET_SIZE, pa.array(profile.reshape(-1))),
            pa.LargeListArray.from_arrays(ends * 9, pa.array(coords.reshape(-1))),
            pa.LargeListArray.from_arrays(ends, pa.array(mask.view(np.uint8))),
            pa.array(has_profile),
        ]
        batch = pa.record_batch(arrays, schema=_SCHEMA)
        self._digest.update(_Columns.of(batch))
        try:
            self._writer.write_batch(batch)
        except OSError as error:
            raise ProtcliError(f"{self.path.parent}: the split {self.name} cannot be written: {error}") from error

    def _summary(self) -> dict[str, Any]:
        lengths = np.array(self._lengths)
        residues = int(lengths.sum())
        return {
            "file": self.path.name,
            "bytes": self.path.stat().st_size,
            "digest": self._digest.hexdigest(),
            "records": len(lengths),
            "lengths": {
                "min": int(lengths.min()),
                "median": float(np.median(lengths)),
                "max": int(lengths.max()),
                "total": residues,
            },
            "masked_in": self._masked_in,
            "atoms": dict(zip(("N", "CA", "C'", "C-beta"), self._atoms.tolist(), strict=True)),
            "classes": dict(sorted(self._classes.items())),
            "real_profiles": self._real_profiles,
            "profile_mean": (self._profile_sum / residues).tolist(),
            "profile_nonzero": (self._profile_nonzero / residues).tolist(),
        }


class Split(Sequence[Protein]):
    """The proteins of one split, read from the memory map when asked for; their arrays are read-only views of it.

    May be pickled and sent to another process, which maps the file anew.

    Raises:
        ProtcliError: on opening, when the file is gone, shorter or longer than the manifest says, or no Arrow file.
    """

    def __init__(self, path: Path, name: str, info: dict[str, Any]) -> None:
        self.path = Path(path)
        self.name = name
        self.digest: str = info["digest"]
        self._info = info
        _check_size(self.path, info)
        try:
            self._reader = pa.ipc.open_file(pa.memory_map(str(self.path)))
        except (OSError, pa.ArrowException) as error:
            raise ProtcliError(f"{self.path}: cannot be read as Arrow ({error}); {_DAMAGED}") from error
        batches = -(-info["records"] // BATCH_RECORDS)
        if self._reader.num_record_batches != batches or self._reader.schema != _SCHEMA:
            raise ProtcliError(f"{self.path}: its columns or batches are not those of its manifest; {_DAMAGED}")
        self._batches: list[_Columns | None] = [None] * batches

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
        )

    @cached_property
    def lengths(self) -> np.ndarray:
        """Residues of each protein: int64 [len(self)]."""
        return np.concatenate([np.diff(self._columns(number).ends) for number in range(len(self._batches))])

    def verify(self) -> None:
        """Read everything once, at the speed of SHA-256, and compare its digest with the manifest's.

        Raises:
            ProtcliError: when they differ, or the file cannot be read through.
        """
        digest = _Digest()
        try:
            for number in range(len(self._batches)):
                self._reader.get_batch(number).validate(full=True)  # no offset leads out of its buffer
                digest.update(self._columns(number))
        except (OSError, ValueError, pa.ArrowException) as error:
            raise ProtcliError(f"{self.path}: cannot be read through ({error}); {_DAMAGED}") from error
        if (found := digest.hexdigest()) != self.digest:
            raise ProtcliError(
                f"{self.path}: holds content of digest {found[:12]}, its manifest says {self.digest[:12]}; {_DAMAGED}"
            )

    def _columns(self, number: int) -> _Columns:
        columns = self._batches[number]
        if columns is None:
            try:
                columns = _Columns.of(self._reader.get_batch(number))
            except (OSError, pa.ArrowException) as error:
                raise ProtcliError(f"{self.path}: batch {number} cannot be read ({error}); {_DAMAGED}") from error
            self._batches[number] = columns
        return columns


def _check_size(path: Path, info: dict[str, Any]) -> None:
    """Raise ProtcliError when a split's file is not there or not as long as its manifest says; it is not opened."""
    try:
        size = path.stat().st_size
    except OSError as error:
        raise ProtcliError(f"{path}: cannot be read ({error.strerror}); {_DAMAGED}") from error
    if size != info["bytes"]:
        raise ProtcliError(f"{path}: holds {size:,} bytes, its manifest says {info['bytes']:,}; {_DAMAGED}")


class Store:
    """A folder of splits, opened by `open_store`. Only the manifest is read until a split is asked for."""

    def __init__(self, path: Path, manifest: dict[str, Any]) -> None:
        self.path = path
        self.manifest = manifest

    def __repr__(self) -> str:
        return f"Store({str(self.path)!r}: {', '.join(self.splits)})"

    @property
    def name(self) -> str:
        return self.manifest["name"]

    @property
    def synthetic(self) -> bool:
        """Whether its proteins are made up."""
        return self.manifest["synthetic"]

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits, in the order they were added."""
        return tuple(self.manifest["splits"])

    def split_info(self, name: str) -> dict[str, Any]:
        """What the manifest says of a split (records, digest, lengths, atoms, ...); its file stays closed.

        Raises:
            ProtcliError: for an unknown name, listing the known.
        """
        if name not in self.splits:
            raise ProtcliError(f"{self.path}: has no split {name!r}, it holds {', '.join(self.splits)}")
        return self.manifest["splits"][name]

    def check_sizes(self) -> None:
        """Raise ProtcliError when a split's file is missing, shorter or longer than written; none is opened."""
        for info in self.manifest["splits"].values():
            _check_size(self.path / info["file"], info)

    def split(self, name: str) -> Split:
        """Open one split's file, and no other. Raises ProtcliError as `split_info` and `Split` do."""
        info = self.split_info(name)
        return Split(self.path / info["file"], name, info)


def open_store(path: str | Path) -> Store:
    """Open a store by its folder.

    Raises:
        ProtcliError: when the folder is missing, is no store, has a broken manifest or another format version.
    """
    path = Path(path).absolute()
    if not path.exists():
        raise ProtcliError(f"{path}: there is no such folder; `protcli data import SOURCE... --out {path}` makes one")
    if not (path / MANIFEST).is_file():
        raise ProtcliError(f"{path}: is not a store (it has no {MANIFEST}); `protcli data import` makes one from files")
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ProtcliError(f"{path / MANIFEST}: cannot be read as JSON ({error}); import the store again") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise ProtcliError(f"{path / MANIFEST}: is not the manifest of a protcli store")
    if manifest.get("format_version") != FORMAT_VERSION:
        raise ProtcliError(
            f"{path}: is a store of format {manifest.get('format_version')}, this protcli reads format "
            f"{FORMAT_VERSION}: import its sources again, or use the protcli that wrote it ({manifest.get('protcli')})"
        )
    entries = manifest.get("splits")
    if (
        not isinstance(manifest.get("name"), str)
        or not isinstance(manifest.get("synthetic"), bool)
        or not isinstance(entries, dict)
        or not all(
            isinstance(entry, dict) and {"file", "bytes", "digest", "records"} <= entry.keys()
            for entry in entries.values()
        )
    ):
        raise ProtcliError(f"{path / MANIFEST}: is incomplete; import the store again")
    return Store(path, manifest)


class StoreWriter:
    """The splits being written by `create_store`; `splits` holds the names that are taken."""

    def __init__(self, staging: Path, manifest: dict[str, Any], path: Path) -> None:
        self._staging = staging
        self._path = path
        self.manifest = manifest
        self.added: dict[str, dict[str, Any]] = {}

    @property
    def splits(self) -> tuple[str, ...]:
        return (*self.manifest["splits"], *self.added)

    def refuse_taken(self, names: Sequence[str]) -> None:
        """Raise ProtcliError when the store has one of these splits already."""
        if taken := [name for name in names if name in self.splits]:
            raise ProtcliError(f"{self._path}: has a split {taken[0]!r} already; give another name or another --out")

    @contextmanager
    def split(self, name: str) -> Iterator[SplitWriter]:
        """Write one split. Raises ProtcliError for a name that is taken, and as `SplitWriter` does."""
        name = split_name(name)
        self.refuse_taken([name])
        with SplitWriter(self._staging, name) as writer:
            yield writer
        self.added[name] = writer.entry


@contextmanager
def create_store(
    path: str | Path, *, name: str | None = None, synthetic: bool = False, wait: float = 0
) -> Iterator[StoreWriter]:
    """Make a store, or add splits to one; on any exception (KeyboardInterrupt too) nothing of it remains.

    Args:
        path: its folder: absent, empty, or a store already.
        name: of the store; its folder's by default.
        synthetic: whether its proteins are made up; all of one store's are or none.
        wait: seconds to wait while another process writes to the same path.

    Raises:
        ProtcliError: when the path is something else, cannot be written, or is being written by another process.
    """
    path = Path(path).resolve()
    with _staging(path, wait) as (staging, lock_file):
        manifest: dict[str, Any] = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "protcli": version("protcli"),
            "name": name or path.name,
            "synthetic": synthetic,
            "splits": {},
        }
        exists = path.exists() and not (path.is_dir() and not any(path.iterdir()))
        if exists:
            if not (path / MANIFEST).is_file():
                raise ProtcliError(f"{path}: exists and is not a store; give a folder that is new, empty or a store")
            manifest = open_store(path).manifest
            if manifest["synthetic"] != synthetic:
                kind = "synthetic" if manifest["synthetic"] else "real"
                raise ProtcliError(f"{path}: holds {kind} proteins; real and synthetic ones do not share a store")
        writer = StoreWriter(staging, manifest, path)
        yield writer
        if not writer.added:
            raise ProtcliError(f"{path}: there is no split to store")
        manifest = manifest | {"splits": manifest["splits"] | writer.added}
        (staging / MANIFEST).write_text(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        if exists:
            for entry in writer.added.values():
                (staging / entry["file"]).replace(path / entry["file"])
            (staging / MANIFEST).replace(path / MANIFEST)
        else:
            staging.replace(path)
            (path / lock_file.name).unlink()


@contextmanager
def _staging(path: Path, wait: float) -> Iterator[tuple[Path, Path]]:
    """A hidden folder beside `path` that this process alone writes to, emptied of what a killed one left there."""
    staging = path.with_name(f".{path.name}.partial")
    lock_file = staging / "lock"
    while True:
        try:
            staging.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ProtcliError(f"{path}: cannot be written: {error}") from error
        try:
            lock = FileLock(lock_file)
            lock.acquire(timeout=wait)
        except Timeout as error:
            raise ProtcliError(f"{path}: another process is writing this store; wait for it to end") from error
        except FileNotFoundError:
            continue  # the other process removed the folder between our two steps
        if lock_file.exists():
            break
        lock.release()  # the lock of a folder that was finished while we waited for it
    try:
        for left in staging.iterdir():
            if left != lock_file:
                left.unlink()
        yield staging, lock_file
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        lock.release()
