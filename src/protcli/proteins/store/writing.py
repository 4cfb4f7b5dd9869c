"""Creates a store, adds splits to one, or gives them other families, completely or not at all.

It is written to a hidden folder beside its path (`.NAME.partial`) and renamed. Added splits are moved in before the
manifest that lists them is replaced. A split's families are a CSV file beside its Arrow file, outside the digest of the
content; the file's name holds a digest of them, so that other families are another file.
"""

import csv
import io
import json
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from filelock import FileLock, Timeout

from protcli.errors import ProtcliError
from protcli.proteins.protein import Protein
from protcli.proteins.residues import ALPHABET_SIZE
from protcli.proteins.store.columns import BATCH_RECORDS, Columns, ContentDigest, schema
from protcli.proteins.store.reading import FORMAT, FORMAT_VERSION, MANIFEST, open_store, split_name

TABLE = "table"  # begins the source of families that a table gave
_LOCK = "lock"  # a file of the hidden folder


@dataclass(frozen=True)
class Families:
    """The families of a split.

    Attributes:
        labels: one for each protein, in the order of the split; never empty.
        source: where they come from, in words.
    """

    labels: Sequence[str]
    source: str


def _write_families(folder: Path, split: str, ids: Sequence[str], families: Families) -> dict[str, Any]:
    """Write a split's families into a folder; return their part of its manifest entry."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows([("id", "family"), *zip(ids, families.labels, strict=True)])
    content = text.getvalue().encode()
    digest = sha256(content).hexdigest()
    path = folder / f"{split}.families-{digest[:8]}.csv"
    try:
        path.write_bytes(content)
    except OSError as error:
        raise ProtcliError(f"{folder}: the families of {split} cannot be written: {error}") from error
    sizes = Counter(families.labels).values()
    return {
        "file": path.name,
        "bytes": len(content),
        "digest": digest,
        "source": families.source,
        "count": len(sizes),
        "largest": max(sizes),
    }


class SplitWriter:
    """Writes one split's Arrow file in constant memory; `StoreWriter.split` makes one and finishes it.

    `details`, filled by the caller, is merged into the split's manifest entry, and `families`, one for each protein
    added, are written beside the file. Once it is finished, `entry` is the manifest entry.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self.path = folder / f"{name}.arrow"
        self.details: dict[str, Any] = {}
        self.families: Families | None = None
        self.entry: dict[str, Any] = {}
        self._pending: list[Protein] = []
        self._written: list[tuple[str, int, str, bool]] = []  # id, length, class, whether it has a profile
        self._atoms = np.zeros(4, dtype=np.int64)  # residues with N, CA, C', all three
        self._profile_sum, self._profile_nonzero = np.zeros((2, ALPHABET_SIZE))
        self._features = 0  # of each residue
        self._digest = ContentDigest()
        try:
            self._sink = pa.OSFile(str(self.path), "wb")
        except OSError as error:
            raise ProtcliError(f"{folder}: cannot be written to: {error}") from error
        self._writer: Any = None  # begun with the first proteins: they have features or not
        # hashes and writes while the caller reads the next proteins
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="split-writer")
        self._writing: Future[None] | None = None

    def add(self, protein: Protein) -> None:
        """Append one protein. Its arrays must not change until the writer is closed."""
        self._pending.append(protein)
        if len(self._pending) == BATCH_RECORDS:
            self._flush()

    def finish(self) -> None:
        """Write what is pending and make the entry. Raises ProtcliError: there is no protein, or the disk is full."""
        self._flush()
        self._flush()  # waits for what the first one handed over
        if not self._written:
            raise ProtcliError(f"{self.name}: there are no proteins to store")
        self._writer.close()
        self._sink.close()
        entry = self._summary() | self.details
        if self.families is not None:
            ids = [written[0] for written in self._written]
            entry["families"] = _write_families(self.path.parent, self.name, ids, self.families)
        self.entry = entry

    def close(self) -> None:
        """End the thread and close the file; remove it unless it is finished."""
        self._thread.shutdown()
        self._sink.close()
        if not self.entry:
            self.path.unlink(missing_ok=True)

    def _flush(self) -> None:
        """Hand the pending proteins to the thread once it is done with the previous ones: at most two batches exist."""
        if self._writing is not None:
            self._writing.result()
        proteins, self._pending = self._pending, []
        self._writing = self._thread.submit(self._write, proteins) if proteins else None

    def _write(self, proteins: list[Protein]) -> None:
        profile = np.concatenate([protein.profile for protein in proteins], dtype=np.float32)  # [R, 21]
        coords = np.concatenate([protein.coords for protein in proteins], dtype=np.float32)  # [R, 3, 3]
        states = [protein.mask * (1 if protein.secondary is None else protein.secondary + 1) for protein in proteins]
        state = np.concatenate(states).astype(np.uint8)  # [R]
        mask = state > 0
        written = [(protein.id, len(protein), protein.category, bool(protein.has_profile)) for protein in proteins]
        ids, lengths, _, has_profile = zip(*written, strict=True)
        self._written += written

        missing = np.isnan(coords)
        coords[missing] = np.nan  # a single bit pattern for NaN: the digest hashes bits
        present = [mask & ~(gap[:, 0] | gap[:, 1] | gap[:, 2]) for gap in missing.swapaxes(0, 1)]  # N, CA, C': [R] each
        present.append(present[0] & present[1] & present[2])
        self._atoms += [np.count_nonzero(atom) for atom in present]
        self._profile_sum += np.einsum("rc->c", profile)  # NumPy's sum and count_nonzero take twice as long here
        self._profile_nonzero += np.einsum("rc->c", (profile != 0).astype(np.float32))

        ends = np.concatenate([[0], np.cumsum(lengths)])
        arrays = [
            pa.array(ids, pa.utf8()),
            pa.array([protein.sequence for protein in proteins], pa.utf8()),
            pa.LargeListArray.from_arrays(ends * ALPHABET_SIZE, pa.array(profile.reshape(-1))),
            pa.LargeListArray.from_arrays(ends * 9, pa.array(coords.reshape(-1))),
            pa.LargeListArray.from_arrays(ends, pa.array(state)),
            pa.array(has_profile, pa.bool_()),
        ]
        if features := [protein.features for protein in proteins if protein.features is not None]:
            self._features = features[0].shape[1]
            rows = np.concatenate(features, dtype=np.float16).reshape(-1)
            arrays.append(
                pa.LargeListArray.from_arrays(ends, pa.FixedSizeListArray.from_arrays(pa.array(rows), self._features))
            )
        batch = pa.record_batch(arrays, schema=schema(self._features))
        self._writer = self._writer or pa.ipc.new_file(self._sink, batch.schema)
        self._digest.update(Columns.of(batch))
        try:
            self._writer.write_batch(batch)
        except OSError as error:
            raise ProtcliError(f"{self.path.parent}: the split {self.name} cannot be written: {error}") from error

    def _summary(self) -> dict[str, Any]:
        _, lengths, classes, has_profile = zip(*self._written, strict=True)
        residues = sum(lengths)
        return {
            "file": self.path.name,
            "bytes": self.path.stat().st_size,
            "digest": self._digest.hexdigest(),
            "records": len(lengths),
            "lengths": {
                "min": min(lengths),
                "median": float(np.median(lengths)),
                "max": max(lengths),
                "total": residues,
            },
            "atoms": dict(zip(("N", "CA", "C'", "C-beta"), self._atoms.tolist(), strict=True)),
            "classes": dict(sorted(Counter(classes).items())),
            "real_profiles": sum(has_profile),
            "profile_mean": (self._profile_sum / residues).tolist(),
            "profile_nonzero": (self._profile_nonzero / residues).tolist(),
            **({"features": self._features} if self._features else {}),
        }


class StoreWriter:
    """The splits being written by `create_store`; `splits` holds the names in use.

    `overlaps`, filled by the caller, is what a split has in common with another, by their names; either may have been
    there before.
    """

    def __init__(self, staging: Path, manifest: dict[str, Any], path: Path) -> None:
        self._staging = staging
        self._path = path
        self.manifest = manifest
        self.added: dict[str, dict[str, Any]] = {}
        self.overlaps: dict[str, dict[str, Any]] = {}

    @property
    def splits(self) -> tuple[str, ...]:
        return (*self.manifest["splits"], *self.added)

    def refuse_taken(self, names: Sequence[str]) -> None:
        """Raise ProtcliError if the store already has one of these splits."""
        if taken := [name for name in names if name in self.splits]:
            raise ProtcliError(f"{self._path}: already has a split {taken[0]!r}; give another name or another --out")

    @contextmanager
    def split(self, name: str) -> Iterator[SplitWriter]:
        """Write one split. Raises ProtcliError if the name is taken, and as `SplitWriter` does."""
        name = split_name(name)
        self.refuse_taken([name])
        writer = SplitWriter(self._staging, name)
        try:
            yield writer
            writer.finish()
        finally:
            writer.close()
        self.added[name] = writer.entry


@contextmanager
def create_store(
    path: str | Path, *, name: str | None = None, synthetic: bool = False, wait: float = 0
) -> Iterator[StoreWriter]:
    """Create a store, or add splits to one; after an exception (or KeyboardInterrupt) nothing of it remains.

    Args:
        path: store folder: new, empty, or an existing store.
        name: name of the store; default: the folder's name.
        synthetic: whether its proteins are synthetic; a store does not mix synthetic and real proteins.
        wait: seconds to wait while another process writes to the same path.

    Raises:
        ProtcliError: the path is something else, cannot be written, or is being written by another process.
    """
    path = Path(path).resolve()
    with _staging(path, wait) as staging:
        manifest = {
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
                raise ProtcliError(f"{path}: exists and is not a store; give a new or empty folder, or a store")
            manifest = open_store(path).manifest
            if manifest["synthetic"] != synthetic:
                kind = "synthetic" if manifest["synthetic"] else "real"
                raise ProtcliError(f"{path}: holds {kind} proteins; a store cannot mix real and synthetic proteins")
        writer = StoreWriter(staging, manifest, path)
        yield writer
        if not writer.added:
            raise ProtcliError(f"{path}: there are no splits to store")
        _write_manifest(staging, manifest, writer.added, writer.overlaps)
        if exists:
            _move_in(staging, path)
        else:
            staging.replace(path)
            (path / _LOCK).unlink()


def replace_families(
    path: str | Path, families: Mapping[str, Families], overlaps: Mapping[str, Mapping[str, Any]] | None = None
) -> None:
    """Give splits of a store other families, all at once; processes that have opened a split keep the former ones.

    Args:
        path: store folder.
        families: by split.
        overlaps: what a split has in common with others, by split and the other's name.

    Raises:
        ProtcliError: as `open_store` and `Store.split` do; the store cannot be written, or is being written by another
            process.
    """
    path = Path(path).resolve()
    open_store(path)  # before a folder is made beside it
    with _staging(path, 0) as staging:
        store = open_store(path)  # as it is now that nobody else writes
        changed, former = {}, set()
        for name, labels in families.items():
            info = store.split_info(name)
            former.add(info.get("families", {}).get("file"))
            changed[name] = info | {"families": _write_families(staging, name, store.split(name).ids, labels)}
        _write_manifest(staging, store.manifest, changed, overlaps or {})
        _move_in(staging, path)
        for file in former - {None} - {info["families"]["file"] for info in changed.values()}:
            (path / file).unlink(missing_ok=True)


def _write_manifest(
    staging: Path, manifest: dict[str, Any], changed: Mapping[str, Any], overlaps: Mapping[str, Mapping[str, Any]]
) -> None:
    """Write the manifest with the entries of other splits, and with what each split has in common with others."""
    splits = manifest["splits"] | changed
    for name in splits.keys() & overlaps:
        splits[name] = splits[name] | {"overlaps": {**splits[name].get("overlaps", {}), **overlaps[name]}}
    text = json.dumps(manifest | {"splits": splits}, indent=1, ensure_ascii=False)
    (staging / MANIFEST).write_text(text + "\n", "utf-8")


def _move_in(staging: Path, path: Path) -> None:
    """Move what was written into the store, the manifest that lists it last."""
    for file in sorted(staging.iterdir(), key=lambda file: file.name == MANIFEST):
        if file.name != _LOCK:
            file.replace(path / file.name)


@contextmanager
def _staging(path: Path, wait: float) -> Iterator[Path]:
    """A hidden folder beside `path` for this process only, cleared of files left by a killed process."""
    staging = path.with_name(f".{path.name}.partial")
    while True:
        try:
            staging.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ProtcliError(f"{path}: cannot be written: {error}") from error
        try:
            lock = FileLock(staging / _LOCK)
            lock.acquire(timeout=wait)
        except Timeout as error:
            raise ProtcliError(f"{path}: another process is writing this store; wait for it to finish") from error
        except FileNotFoundError:
            continue  # another process removed the folder between our two steps
        if (staging / _LOCK).exists():
            break
        lock.release()  # the store was completed while we waited
    try:
        for leftover in staging.iterdir():
            if leftover.name != _LOCK:
                leftover.unlink()
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        lock.release()
