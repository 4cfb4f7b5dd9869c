"""Creates a store, adds splits to one, or gives them other families, completely or not at all.

It is written to a hidden folder beside its path (`.NAME.partial`) and renamed. Added splits are moved in before the
manifest that lists them is replaced.
"""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from protcli.errors import ProtcliError
from protcli.proteins.store.families import Families, write_families
from protcli.proteins.store.folder import FORMAT, FORMAT_VERSION, MANIFEST, open_store
from protcli.proteins.store.split import split_name
from protcli.proteins.store.writer import SplitWriter


class StoreWriter:
    """The splits being written by `create_store`; `splits` holds the names in use."""

    def __init__(self, staging: Path, manifest: dict[str, Any], path: Path) -> None:
        self._staging = staging
        self._path = path
        self.manifest = manifest
        self.added: dict[str, dict[str, Any]] = {}
        self.overlaps: dict[str, dict[str, dict[str, Any]]] = {}

    @property
    def splits(self) -> tuple[str, ...]:
        return (*self.manifest["splits"], *self.added)

    def refuse_taken(self, names: Sequence[str]) -> None:
        """Raise ProtcliError if the store already has one of these splits."""
        if taken := [name for name in names if name in self.splits]:
            raise ProtcliError(f"{self._path}: already has a split {taken[0]!r}; give another name or another --out")

    def note_overlap(self, split: str, other: str, entry: Mapping[str, Any]) -> None:
        """Note in the manifest what a split has in common with another; either may have been there before."""
        self.overlaps.setdefault(split, {})[other] = dict(entry)

    @contextmanager
    def split(self, name: str) -> Iterator[SplitWriter]:
        """Write one split. Raises ProtcliError if the name is taken, and as `SplitWriter` does."""
        name = split_name(name)
        self.refuse_taken([name])
        with SplitWriter(self._staging, name) as writer:
            yield writer
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
                raise ProtcliError(f"{path}: exists and is not a store; give a new or empty folder, or a store")
            manifest = open_store(path).manifest
            if manifest["synthetic"] != synthetic:
                kind = "synthetic" if manifest["synthetic"] else "real"
                raise ProtcliError(f"{path}: holds {kind} proteins; a store cannot mix real and synthetic proteins")
        writer = StoreWriter(staging, manifest, path)
        yield writer
        if not writer.added:
            raise ProtcliError(f"{path}: there are no splits to store")
        manifest = manifest | {"splits": _with_overlaps(manifest["splits"] | writer.added, writer.overlaps)}
        _write_manifest(staging, manifest)
        if exists:
            _move_in(staging, path, lock_file)
        else:
            staging.replace(path)
            (path / lock_file.name).unlink()


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
    with _staging(path, 0) as (staging, lock_file):
        store = open_store(path)  # as it is now that nobody else writes
        splits = dict(store.manifest["splits"])
        former = set()
        for name, own in families.items():
            info = store.split_info(name)
            former |= {info["families"]["file"]} if "families" in info else set()
            splits[name] = info | {"families": write_families(staging, name, store.split(name).ids, own)}
        _write_manifest(staging, store.manifest | {"splits": _with_overlaps(splits, overlaps or {})})
        _move_in(staging, path, lock_file)
        for file in former - {splits[name]["families"]["file"] for name in families}:
            (path / file).unlink(missing_ok=True)


def _with_overlaps(
    splits: Mapping[str, dict[str, Any]], overlaps: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """The manifest's entries of splits with what each has in common with others."""
    return {
        name: entry | ({"overlaps": {**entry.get("overlaps", {}), **overlaps[name]}} if name in overlaps else {})
        for name, entry in splits.items()
    }


def _write_manifest(staging: Path, manifest: dict[str, Any]) -> None:
    (staging / MANIFEST).write_text(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _move_in(staging: Path, path: Path, lock_file: Path) -> None:
    """Move what was written into the store, the manifest that lists it last."""
    for file in sorted(staging.iterdir(), key=lambda file: file.name == MANIFEST):
        if file != lock_file:
            file.replace(path / file.name)


@contextmanager
def _staging(path: Path, wait: float) -> Iterator[tuple[Path, Path]]:
    """A hidden folder beside `path` for this process only, cleared of files left by a killed process."""
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
            raise ProtcliError(f"{path}: another process is writing this store; wait for it to finish") from error
        except FileNotFoundError:
            continue  # another process removed the folder between our two steps
        if lock_file.exists():
            break
        lock.release()  # the store was completed while we waited
    try:
        for leftover in staging.iterdir():
            if leftover != lock_file:
                leftover.unlink()
        yield staging, lock_file
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        lock.release()
