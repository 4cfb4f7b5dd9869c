"""Import proteins from files into a store."""

import re
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from protcli.errors import ProtcliError
from protcli.experiments.data.families import NONE, Overlap, Progress, family_labels, group, overlaps
from protcli.proteins.formats.proteinnet import read_proteinnet
from protcli.proteins.formats.structures import is_structure, read_structure
from protcli.proteins.formats.tfrecord import (
    FLAT_NOTE,
    PROTEINNET_TEXT,
    PROTEINNET_TFRECORD,
    STUDIES_TFRECORD,
    read_tfrecord,
    sniff,
)
from protcli.proteins.homology import has_phmmer
from protcli.proteins.protein import Protein
from protcli.proteins.store import SplitWriter, create_store, open_store, split_name

UNRESOLVED = "fewer than two resolved residues"  # no pair, so no distance
DUPLICATE = "id seen before in the split"
BROKEN = "broken record"
MOST_COMPARED = 20_000  # sequences that an import compares with each other unasked: about 20 minutes of one core

_SPLIT_FILE = re.compile(r"(training(?:_\w+)?|validation|testing)(?:\.(?:txt|tfrecords?|tfr))?(?:\.gz)?")
_TFRECORDS = (PROTEINNET_TFRECORD, STUDIES_TFRECORD)
_KINDS = (PROTEINNET_TEXT, *_TFRECORDS)
_REPORT_BYTES = 1 << 20  # bytes of the sources between two reports


class _Unreadable(ProtcliError):
    """Nothing can be read of a file."""


@dataclass(frozen=True)
class SourceFile:
    """One file to read; `name` is its name in the manifest, `size` is in bytes."""

    path: Path
    name: str
    split: str
    size: int


@dataclass(frozen=True)
class Plan:
    """The files to read, in order, and the names in the same folders that are ignored."""

    files: tuple[SourceFile, ...]
    ignored: tuple[str, ...]

    @property
    def size(self) -> int:
        """Bytes to read."""
        return sum(file.size for file in self.files)

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(file.split for file in self.files))


@dataclass(frozen=True)
class Imported:
    """A split is written (the store is not in place until the last one is); `entry` is its part of the manifest."""

    split: str
    entry: dict[str, Any]


def import_data(
    sources: Sequence[str | Path],
    out: str | Path,
    *,
    as_split: str | None = None,
    skip_bad: bool = False,
    families: str | Path | None = None,
) -> Generator[Plan | Progress | Imported | Overlap]:
    """Read files into a store, yielding the plan, progress, each split when it is done, and what splits share.

    The store is in place when the iterator is exhausted. Closing it earlier, or any exception, leaves nothing behind.

    Args:
        sources: ProteinNet folders, whose files name their splits; single ProteinNet files, text or TFRecord; structure
            files or folders of them. Files of one split are read one after the other.
        out: folder of the store: new, or existing and without these splits.
        as_split: the split of the files, needed if their names do not say it.
        skip_bad: leave out broken records, and files of which nothing can be read, and list them in the manifest,
            instead of stopping at the first.
        families: a table with the columns id and family, or `none` for a store without families; None compares the
            sequences of each split.

    Raises:
        ProtcliError: a source is missing, of unknown kind or of unknown split; a record is broken; no record of a split
            can be kept; the store cannot be written or already has such a split; the table of families is broken or
            lacks a protein, or there is no table and no pyhmmer.
    """
    plan = plan_import(sources, as_split)
    labels = {} if families == NONE else family_labels(families)
    yield plan
    with create_store(out) as store:
        store.refuse_taken(plan.splits)
        ignored = {*store.manifest.get("ignored", ()), *plan.ignored}
        store.manifest["ignored"] = sorted(ignored)
        done = 0
        sequences = {}
        if store.splits:
            before = open_store(out)
            sequences = {name: list(before.split(name).sequences) for name in store.splits}
        for split in plan.splits:
            files = [file for file in plan.files if file.split == split]
            with store.split(split) as writer:
                kept = yield from _import_split(writer, split, files, done, plan.size, skip_bad)
                too_many = families is None and len(kept) > MOST_COMPARED
                if too_many:
                    writer.details["notes"].append(
                        f"no families: comparing more than {MOST_COMPARED:,} sequences takes long; `protcli data "
                        f"families {out}` does it"
                    )
                elif families != NONE:
                    writer.families = yield from group(split, list(kept), list(kept.values()), families, labels)
            yield Imported(split, writer.entry)
            done += sum(file.size for file in files)
            sequences[split] = list(kept.values())
        few = max(map(len, sequences.values())) <= MOST_COMPARED
        for found in overlaps(sequences, plan.splits, homology=few and has_phmmer()):
            if isinstance(found, Overlap):
                store.note_overlap(found.split, found.other, found.to_entry())
            yield found


def plan_import(sources: Sequence[str | Path], as_split: str | None = None) -> Plan:
    """Find the files to read and their splits; arguments and errors as for `import_data`."""
    target = split_name(as_split) if as_split is not None else None
    files: list[SourceFile] = []
    ignored: list[str] = []
    for source in map(Path, sources):
        if source.is_dir():
            folder_files, others = _plan_folder(source, target)
            files += folder_files
            ignored += others
        elif source.exists():
            files.append(_plan_file(source, target))
        else:
            raise ProtcliError(f"{source}: no such file or folder")
    return Plan(tuple(sorted(files, key=lambda file: _split_order(file.split))), tuple(ignored))


def _plan_file(path: Path, target: str | None) -> SourceFile:
    if target is None:
        named = _SPLIT_FILE.fullmatch(path.name)
        if named is None:
            raise ProtcliError(f"{path}: its name does not say its split; give it, as in --as train")
        target = named[1]
    return SourceFile(path, path.name, target, path.stat().st_size)


def _plan_folder(folder: Path, target: str | None) -> tuple[list[SourceFile], list[str]]:
    """A folder's files of named splits, else (with a target) all that can be read, and the names that are ignored."""
    named = {path: split for path in sorted(folder.iterdir()) for path, split in _named_splits(path)}
    if named and target is not None:
        names = ", ".join(sorted(set(named.values()), key=_split_order))
        raise ProtcliError(f"{folder}: its files name their splits ({names}); leave out --as, or give single files")
    if not named:
        loose = [path for path in folder.iterdir() if path.is_file() and (is_structure(path) or sniff(path) in _KINDS)]
        if not loose:
            expected = (
                "ProteinNet files (training_30, validation, testing, ...) or structures (.pdb, .ent, .cif, .mmcif)"
            )
            raise ProtcliError(f"{folder}: nothing to import; expected {expected}")
        if target is None:
            raise ProtcliError(f"{folder}: its file names do not say their split; give it, as in --as train")
        named = dict.fromkeys(sorted(loose, key=lambda path: _natural(path.name)), target)
    files = [
        SourceFile(path, path.relative_to(folder).as_posix(), split, path.stat().st_size)
        for path, split in named.items()
    ]
    tops = {folder / Path(file.name).parts[0] for file in files}
    ignored = [path.name + "/" * path.is_dir() for path in sorted(folder.iterdir()) if path not in tops]
    return files, ignored


def _named_splits(path: Path) -> list[tuple[Path, str]]:
    """The files of a ProteinNet release in a path, each with its split.

    TFRecord releases have the shards 1, 2, ... of a split in a folder: validation/1, training_30/1 or training/30/1.
    """
    if path.is_file():
        return [(path, named[1])] if (named := _SPLIT_FILE.fullmatch(path.name)) else []
    if not path.is_dir() or not (named := _SPLIT_FILE.fullmatch(path.name)):
        return []
    inside = sorted(path.iterdir(), key=lambda entry: _natural(entry.name))
    shards = [(entry, named[1]) for entry in inside if entry.is_file() and _is_tfrecord(entry)]
    for thinning in inside:
        if thinning.is_dir() and thinning.name.isdigit():
            deeper = sorted(thinning.iterdir(), key=lambda entry: _natural(entry.name))
            split = f"{named[1]}_{thinning.name}"
            shards += [(entry, split) for entry in deeper if entry.is_file() and _is_tfrecord(entry)]
    return shards


def _is_tfrecord(path: Path) -> bool:
    return sniff(path) in _TFRECORDS


def _natural(name: str) -> list[tuple[int, str]]:
    """A sort key that puts 10 after 9."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def _split_order(split: str) -> tuple[int, list[tuple[int, str]]]:
    """A sort key: training splits, validation, testing, any other."""
    kinds = ("training", "validation", "testing")
    return next((rank for rank, kind in enumerate(kinds) if split.startswith(kind)), len(kinds)), _natural(split)


@dataclass
class _Tally:
    """What became of a split's records, and how far its files have been read."""

    done: int
    dropped: dict[str, list[str]] = field(default_factory=lambda: {UNRESOLVED: [], DUPLICATE: [], BROKEN: []})
    kept: dict[str, str] = field(default_factory=dict)  # sequences by id

    @property
    def read(self) -> int:
        return len(self.kept) + sum(len(which) for which in self.dropped.values())

    def reason_to_drop(self, protein: Protein) -> str | None:
        if protein.id in self.kept:
            return DUPLICATE
        missing = np.isnan(protein.coords[:, 1, 0])  # a missing atom is NaN in all of x, y, z; `resolved` checks all
        if np.count_nonzero(protein.mask & ~missing) < 2:
            return UNRESOLVED
        return None


def _import_split(
    writer: SplitWriter, split: str, files: Sequence[SourceFile], done: int, size: int, skip_bad: bool
) -> Generator[Progress, None, dict[str, str]]:
    """Read a split's files into the store; return the sequences that are kept, by id."""
    tally = _Tally(done)

    def progress() -> Progress:
        return Progress(f"{split}, {tally.read:,} record{'s' * (tally.read != 1)}", tally.done, size, "bytes")

    sources: list[dict[str, Any]] = []
    notes: list[str] = []
    # the thread hashes each block while its records are being parsed
    with ThreadPoolExecutor(1, thread_name_prefix="source-digest") as thread:
        for file in files:
            digest = sha256()
            before = tally.done

            def on_bytes(block: bytes, digest: Any = digest) -> None:
                thread.submit(digest.update, block)
                tally.done += len(block)

            def on_bad(error: ProtcliError, file: SourceFile = file) -> None:
                tally.dropped[BROKEN].append(str(error).replace(str(file.path), file.name))

            reported = tally.done
            yield progress()
            try:
                for protein in _read(file, on_bad if skip_bad else None, on_bytes, notes):
                    if reason := tally.reason_to_drop(protein):
                        tally.dropped[reason].append(protein.id)
                    else:
                        tally.kept[protein.id] = protein.sequence
                        writer.add(protein)
                    if tally.done - reported >= _REPORT_BYTES:
                        reported = tally.done
                        yield progress()
            except _Unreadable as error:
                on_bad(error)
                tally.done = before + file.size
                continue
            sha = thread.submit(digest.hexdigest).result()  # after the last block
            sources.append({"name": file.name, "bytes": tally.done - before, "sha256": sha})
        dropped = {reason: which for reason, which in tally.dropped.items() if which}
        if not tally.kept:
            reasons = ", ".join(f"{len(which)} {reason}" for reason, which in dropped.items()) or "there are none"
            raise ProtcliError(
                f"{split}: no record of {', '.join(file.name for file in files)} can be kept ({reasons})"
            )
        writer.details = {"read": tally.read, "dropped": dropped, "sources": sources, "notes": notes}
    return tally.kept


def _read(
    file: SourceFile,
    on_bad: Callable[[ProtcliError], None] | None,
    on_bytes: Callable[[bytes], None],
    notes: list[str],
) -> Iterator[Protein]:
    """The proteins of a file of any supported kind; raises _Unreadable where `on_bad` cannot make up for an error."""
    try:
        if is_structure(file.path):
            yield from read_structure(file.path, on_bad=on_bad)
            on_bytes(file.path.read_bytes())
            return
        kind = sniff(file.path)
        if kind == STUDIES_TFRECORD:
            notes.append(f"{file.name}: {FLAT_NOTE}")
        if kind in _TFRECORDS or re.search(r"\.(tfrecords?|tfr)(\.gz)?$", file.name):
            yield from read_tfrecord(file.path, on_bad=on_bad, on_bytes=on_bytes)
        else:
            yield from read_proteinnet(file.path, on_bad=on_bad, on_bytes=on_bytes)
    except ProtcliError as error:
        if on_bad is None:
            raise ProtcliError(f"{error} (--skip-bad leaves such records out)") from error
        raise _Unreadable(str(error)) from error
