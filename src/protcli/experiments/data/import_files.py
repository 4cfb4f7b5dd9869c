"""Import proteins from files into a store."""

import re
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from protcli.errors import ProtcliError
from protcli.experiments.data.families import NONE, Overlap, family_labels, group, overlaps
from protcli.experiments.data.profiles import Profiles
from protcli.experiments.pages import Progress
from protcli.proteins.formats.promod3 import PROMOD3, read_promod3
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
from protcli.proteins.store import TRAINING, SplitWriter, create_store, open_store, split_name

UNRESOLVED = "fewer than two resolved residues"  # no pair, so no distance
DUPLICATE = "id seen before in the split"
BROKEN = "broken record"
MOST_COMPARED = 20_000  # sequences that an import compares with each other unasked: about 20 minutes of one core

_SPLIT_FILE = re.compile(r"(training(?:_\w+)?|validation|testing)(?:\.(?:txt|tfrecords?|tfr))?(?:\.gz)?")
_TFRECORDS = (PROTEINNET_TFRECORD, STUDIES_TFRECORD)
_KINDS = (PROTEINNET_TEXT, PROMOD3, *_TFRECORDS)
_REPORT_BYTES = 1 << 20  # bytes of the sources between two reports


@dataclass(frozen=True)
class Plan:
    """The files to read.

    Attributes:
        splits: the files of each split, in order: names in the manifest, and paths.
        ignored: names in the same folders that are ignored.
        size: bytes to read.
    """

    splits: dict[str, list[tuple[str, Path]]]
    ignored: list[str]
    size: int


def import_data(
    sources: Sequence[str | Path],
    out: str | Path,
    *,
    as_split: str | None = None,
    skip_bad: bool = False,
    families: str | Path | None = None,
    alignments: Path | None = None,
) -> Generator[Plan | Progress | SplitWriter | Overlap]:
    """Read files into a store, yielding the plan, progress, each split as it was written, and what splits share.

    The store is in place when the iterator is exhausted. Closing it earlier, or any exception, leaves nothing behind.

    Args:
        sources: ProteinNet folders, whose files name their splits; single ProteinNet files, text or TFRecord; ProMod3's
            structure database; structure files or folders of them. Files of one split are read one after the other.
        out: folder of the store: new, or existing and without these splits.
        as_split: the split of the files, needed if their names do not say it; a structure database is for training
            unless this says otherwise.
        skip_bad: leave out broken records and alignments, and files of which nothing can be read, and list them in the
            manifest, instead of stopping at the first.
        families: a table with the columns id and family, or `none` for a store without families; None compares the
            sequences of each split.
        alignments: a folder with alignments of the chains, from which they have their profiles; see `Profiles`.

    Raises:
        ProtcliError: a source is missing, of unknown kind or of unknown split; a record is broken; no record of a split
            can be kept; the store cannot be written or already has such a split; the table of families is broken or
            lacks a protein, or there is no table and no pyhmmer; or as `Profiles` does.
    """
    plan = plan_import(sources, as_split)
    labels = {} if families == NONE else family_labels(families)
    profiles = None if alignments is None else Profiles(alignments, skip_bad)
    yield plan
    with create_store(out) as store:
        store.refuse_taken(list(plan.splits))
        store.manifest["ignored"] = sorted({*store.manifest.get("ignored", ()), *plan.ignored})
        sequences = {name: list(open_store(out).split(name).sequences) for name in store.splits}
        done = 0
        for split, files in plan.splits.items():
            with store.split(split) as writer:
                kept = yield from _import_split(
                    writer, _Reader(skip_bad, len(files) > 1, done), files, plan.size, profiles
                )
                if families is None and len(kept) > MOST_COMPARED:
                    writer.details["notes"].append(
                        f"no families: comparing more than {MOST_COMPARED:,} sequences takes long; `protcli data "
                        f"families {out}` does it"
                    )
                elif families != NONE:
                    writer.families = yield from group(split, list(kept), list(kept.values()), families, labels)
            yield writer
            done += sum(path.stat().st_size for _, path in files)
            sequences[split] = list(kept.values())
        few = max(map(len, sequences.values())) <= MOST_COMPARED
        for event in overlaps(sequences, tuple(plan.splits), homology=few and has_phmmer()):
            if isinstance(event, Overlap):
                event.enter(store.overlaps)
            yield event


def plan_import(sources: Sequence[str | Path], as_split: str | None = None) -> Plan:
    """Find the files to read and their splits; arguments and errors as for `import_data`."""
    target = split_name(as_split) if as_split is not None else None
    files_to_read: list[tuple[str, str, Path]] = []  # split, name in the manifest, path
    ignored: list[str] = []
    for source in map(Path, sources):
        if source.is_dir():
            files = [(split, path.relative_to(source), path) for path, split in _files_of(source, target)]
            files_to_read += [(split, name.as_posix(), path) for split, name, path in files]
            used = {name.parts[0] for _, name, _ in files}
            ignored += [path.name + "/" * path.is_dir() for path in sorted(source.iterdir()) if path.name not in used]
        elif not source.exists():
            raise ProtcliError(f"{source}: no such file or folder")
        elif target is not None:
            files_to_read.append((target, source.name, source))
        elif (named := _SPLIT_FILE.fullmatch(source.name)) or sniff(source) == PROMOD3:
            files_to_read.append((named[1] if named else TRAINING, source.name, source))
        else:
            raise ProtcliError(f"{source}: its name does not say its split; give it, as in --as train")
    splits: dict[str, list[tuple[str, Path]]] = {}
    for split, name, path in sorted(files_to_read, key=lambda file: _split_order(file[0])):
        splits.setdefault(split, []).append((name, path))
    return Plan(splits, ignored, sum(path.stat().st_size for _, _, path in files_to_read))


def _files_of(folder: Path, target: str | None) -> list[tuple[Path, str]]:
    """A folder's files of named splits, else (with a target) all that can be read; each with its split."""
    named = [file for path in sorted(folder.iterdir()) for file in _named_splits(path)]
    if named and target is not None:
        names = ", ".join(sorted({split for _, split in named}, key=_split_order))
        raise ProtcliError(f"{folder}: its files name their splits ({names}); leave out --as, or give single files")
    loose = [] if named else [path for path in _files_in(folder) if is_structure(path) or sniff(path) in _KINDS]
    if not named and not loose:
        expected = "ProteinNet files (training_30, validation, testing, ...) or structures (.pdb, .ent, .cif, .mmcif)"
        raise ProtcliError(f"{folder}: nothing to import; expected {expected}")
    if loose and target is None:
        raise ProtcliError(f"{folder}: its file names do not say their split; give it, as in --as train")
    return named or [(path, target or "") for path in loose]


def _named_splits(path: Path) -> list[tuple[Path, str]]:
    """The files of a ProteinNet release in a path, each with its split.

    TFRecord releases have the shards 1, 2, ... of a split in a folder: validation/1, training_30/1 or training/30/1.
    """
    if not (named := _SPLIT_FILE.fullmatch(path.name)):
        return []
    if not path.is_dir():
        return [(path, named[1])] if path.is_file() else []
    thinnings = sorted((entry for entry in path.iterdir() if entry.is_dir() and entry.name.isdigit()), key=_natural)
    folders = [(path, named[1]), *((thinning, f"{named[1]}_{thinning.name}") for thinning in thinnings)]
    return [(file, split) for folder, split in folders for file in _files_in(folder) if sniff(file) in _TFRECORDS]


def _files_in(folder: Path) -> list[Path]:
    return sorted((path for path in folder.iterdir() if path.is_file()), key=_natural)


def _natural(path: Path) -> list[tuple[int, str]]:
    """A sort key that puts 10 after 9."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", path.name)]


def _split_order(split: str) -> tuple[int, list[tuple[int, str]]]:
    """A sort key: training splits, validation, testing, any other."""
    kinds = ("training", "validation", "testing")
    return next((rank for rank, kind in enumerate(kinds) if split.startswith(kind)), len(kinds)), _natural(Path(split))


@dataclass
class _Reader:
    """Reads the files of a split one after the other.

    Attributes:
        skip_bad: whether broken records, and files of which nothing can be read, are noted and left out.
        several: whether there is more than one file, so that leaving one out may help.
        done: bytes of all splits that have been read.
        broken: why records and files are left out.
        sources: the files that were read, as the manifest has them.
        notes: what is to be said of them.
    """

    skip_bad: bool
    several: bool
    done: int
    broken: list[str] = field(default_factory=list)
    sources: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def proteins(self, name: str, path: Path) -> Iterator[Protein]:
        """The proteins of a file of any supported kind; raises ProtcliError for broken ones that are not left out."""
        digest, before = sha256(), self.done
        can_be_left_out = "files" if self.several else ""

        def on_bytes(block: bytes) -> None:
            thread.submit(digest.update, block)
            self.done += len(block)

        def on_bad(error: ProtcliError) -> None:
            nonlocal can_be_left_out
            if not self.skip_bad:
                can_be_left_out = "records"
                raise error
            self.broken.append(str(error).replace(str(path), name))

        try:
            # the thread hashes each block while its records are being parsed
            with ThreadPoolExecutor(1, thread_name_prefix="source-digest") as thread:
                if is_structure(path):
                    yield from read_structure(path, on_bad=on_bad)
                    on_bytes(path.read_bytes())
                else:
                    kind = sniff(path)
                    is_tfrecord = kind in _TFRECORDS or re.search(r"\.(tfrecords?|tfr)(\.gz)?$", name)
                    self.notes += [f"{name}: {FLAT_NOTE}"] if kind == STUDIES_TFRECORD else []
                    yield from (read_tfrecord if is_tfrecord else read_promod3 if kind == PROMOD3 else read_proteinnet)(
                        path, on_bad=on_bad, on_bytes=on_bytes
                    )
        except ProtcliError as error:
            if self.skip_bad:
                on_bad(error)
                self.done = before + path.stat().st_size
            elif can_be_left_out:
                raise ProtcliError(f"{error} (--skip-bad leaves such {can_be_left_out} out)") from error
            else:
                raise
        else:
            self.sources.append({"name": name, "bytes": self.done - before, "sha256": digest.hexdigest()})


def _import_split(
    writer: SplitWriter, reader: _Reader, files: Sequence[tuple[str, Path]], size: int, profiles: Profiles | None
) -> Generator[Progress, None, dict[str, str]]:
    """Read a split's files into the store; return the sequences that are kept, by id."""
    kept: dict[str, str] = {}
    dropped: dict[str, list[str]] = {UNRESOLVED: [], DUPLICATE: [], BROKEN: reader.broken}

    def read() -> int:
        return len(kept) + sum(map(len, dropped.values()))

    def progress() -> Progress:
        return Progress(f"{writer.name}, {read():,} record{'s' * (read() != 1)}", reader.done, size, "bytes")

    for name, path in files:
        reported = reader.done
        yield progress()
        for protein in reader.proteins(name, path):
            missing = np.isnan(protein.coords[:, 1, 0])  # a missing atom is NaN in all of x, y, z
            if protein.id in kept:
                dropped[DUPLICATE].append(protein.id)
            elif np.count_nonzero(protein.mask & ~missing) < 2:
                dropped[UNRESOLVED].append(protein.id)
            else:
                kept[protein.id] = protein.sequence
                writer.add(protein if profiles is None else profiles.give(protein))
            if reader.done - reported >= _REPORT_BYTES:
                reported = reader.done
                yield progress()
    reasons_met = {reason: which for reason, which in dropped.items() if which}
    if not kept:
        reasons = ", ".join(f"{len(which)} {reason}" for reason, which in reasons_met.items()) or "there are none"
        names = ", ".join(name for name, _ in files)
        raise ProtcliError(f"{writer.name}: no record of {names} can be kept ({reasons})")
    reader.notes += [] if profiles is None else [str(profiles)]
    writer.details = {"read": read(), "dropped": reasons_met, "sources": reader.sources, "notes": reader.notes}
    return kept
