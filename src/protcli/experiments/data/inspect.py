"""What a store holds: figures from its manifest alone, and pictures from its data."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from protcli.atomic import atomic_write
from protcli.errors import ProtcliError
from protcli.proteins.store import TESTING, Store, open_store


@dataclass(frozen=True)
class SplitSummary:
    """One split in figures, all counted when it was written.

    Attributes:
        name, digest: of the split.
        read, records: records in its sources, and those kept.
        dropped: how many were not, by reason.
        shortest, median, longest, residues: lengths of the chains, and their sum.
        missing: share of the residues that have no C-alpha.
        atoms: share of the residues that have N, CA, C' and all three (so a virtual C-beta).
        classes: proteins of each ProteinNet class; '' for those without.
        real_profiles: proteins whose profile is an alignment's, not the sequence's own.
        profile_mean: mean of each of the 21 profile columns over the residues.
        profile_nonzero: share of the residues where it is not 0.
        sources: files it was imported from, each with name, bytes and sha256.
        notes: what the import had to say.
    """

    name: str
    digest: str
    read: int
    records: int
    dropped: dict[str, int]
    shortest: int
    median: float
    longest: int
    residues: int
    missing: float
    atoms: dict[str, float]
    classes: dict[str, int]
    real_profiles: int
    profile_mean: tuple[float, ...]
    profile_nonzero: tuple[float, ...]
    sources: tuple[dict[str, Any], ...]
    notes: tuple[str, ...]


def inspect_data(path: str | Path) -> tuple[Store, list[SplitSummary]]:
    """A store and the summary of each of its splits, without opening any split's file.

    Raises:
        ProtcliError: as `open_store` does, when a split's file is missing or of another size than the manifest says,
            and when the manifest lacks a figure.
    """
    store = open_store(path)
    store.check_sizes()
    try:
        return store, [_summary(name, store.split_info(name)) for name in store.splits]
    except (KeyError, TypeError) as error:
        raise ProtcliError(f"{store.path}: its manifest lacks {error}; import the store again") from error


def _summary(name: str, info: dict[str, Any]) -> SplitSummary:
    residues = info["lengths"]["total"]
    return SplitSummary(
        name=name,
        digest=info["digest"],
        read=info.get("read", info["records"]),
        records=info["records"],
        dropped={reason: len(which) for reason, which in info.get("dropped", {}).items()},
        shortest=info["lengths"]["min"],
        median=info["lengths"]["median"],
        longest=info["lengths"]["max"],
        residues=residues,
        missing=1 - info["atoms"]["CA"] / residues,
        atoms={atom: count / residues for atom, count in info["atoms"].items()},
        classes=info["classes"],
        real_profiles=info["real_profiles"],
        profile_mean=tuple(info["profile_mean"]),
        profile_nonzero=tuple(info["profile_nonzero"]),
        sources=tuple(info.get("sources", ())),
        notes=tuple(info.get("notes", ())),
    )


def picture_data(path: str | Path, out: str | Path) -> Path:
    """Write a page of pictures (PNG) of a store's splits, all but `testing`, whose file stays closed.

    Raises:
        ProtcliError: as `open_store` does; when there is nothing but a test split; when `out` cannot be written.
    """
    from protcli.figures.data import draw_data  # here, because matplotlib takes longer to import than all the tables

    store, out = open_store(path), Path(out)
    shown = [name for name in store.splits if name != TESTING]
    if not shown:
        raise ProtcliError(f"{store.path}: holds only a test split, which `protcli evaluate` alone may open")
    kind = "SYNTHETIC proteins" if store.synthetic else "proteins"
    counts = ", ".join(f"{store.split_info(name)['records']:,} in {name}" for name in shown)
    note = "The test split was not opened." if TESTING in store.splits else ""
    splits = [store.split(name) for name in shown]
    try:
        with atomic_write(out) as partial:
            draw_data(partial, splits, title=f"{store.name}: {kind}, {counts}", note=note)
    except OSError as error:
        raise ProtcliError(f"{out}: the pictures cannot be written there: {error}") from error
    return out
