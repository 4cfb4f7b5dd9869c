"""Describe a store: figures from its manifest alone, pictures from its data."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from protcli.atomic import atomic_write
from protcli.errors import ProtcliError
from protcli.proteins.store import TESTING, Store, open_store


@dataclass(frozen=True)
class SplitSummary:
    """Figures of one split, all counted when it was written.

    Attributes:
        name, digest: of the split.
        read, records: number of records in its sources, and of those kept.
        dropped: how many were dropped, by reason.
        shortest, median, longest, residues: lengths of the chains, and their sum.
        missing: fraction of residues without a C-alpha.
        atoms: fraction of residues with N, CA, C' and all three (so a virtual C-beta).
        classes: proteins per ProteinNet class; '' for those without.
        real_profiles: proteins whose profile comes from an alignment, not from the sequence itself.
        profile_mean: mean of each of the 21 profile columns over the residues.
        profile_nonzero: fraction of residues where the column is not 0.
        sources: files it was imported from, each with name, bytes and sha256.
        notes: remarks of the import.
        families, largest_family: how many families its proteins form, and the size of the largest; None if the store
            holds none.
        family_source: where they come from.
        overlaps: for each other split, how many proteins have their sequence there too, and how many a relative, None
            if they were not compared.
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
    families: int | None
    largest_family: int | None
    family_source: str
    overlaps: dict[str, tuple[int, int | None]]


def inspect_data(path: str | Path) -> tuple[Store, list[SplitSummary]]:
    """A store and the summary of each of its splits, without opening any split's file.

    Raises:
        ProtcliError: as `open_store` does; if a split's file is missing or its size differs from the manifest; if the
            manifest lacks a figure.
    """
    store = open_store(path)
    store.check_sizes()
    try:
        return store, [_summary(name, store.split_info(name)) for name in store.splits]
    except (KeyError, TypeError) as error:
        raise ProtcliError(f"{store.path}: its manifest lacks {error}; import the data again") from error


def _summary(name: str, info: dict[str, Any]) -> SplitSummary:
    residues = info["lengths"]["total"]
    families = info.get("families")
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
        families=families["count"] if families else None,
        largest_family=families["largest"] if families else None,
        family_source=families["source"] if families else "",
        overlaps={other: (each["same"], each["related"]) for other, each in info.get("overlaps", {}).items()},
    )


def picture_data(path: str | Path, out: str | Path) -> Path:
    """Draw a page of pictures (PNG) of all splits of a store except `testing`, whose file is not opened.

    Raises:
        ProtcliError: as `open_store` does; if there is only a test split; if `out` cannot be written.
    """
    from protcli.figures.data import draw_data  # here, because importing matplotlib takes longer than making the tables

    store, out = open_store(path), Path(out)
    shown = [name for name in store.splits if name != TESTING]
    if not shown:
        raise ProtcliError(f"{store.path}: holds only a test split, which only `protcli evaluate` may open")
    kind = "SYNTHETIC proteins" if store.synthetic else "proteins"
    counts = ", ".join(f"{store.split_info(name)['records']:,} in {name}" for name in shown)
    note = "The test split was not opened." if TESTING in store.splits else ""
    splits = [store.split(name) for name in shown]
    try:
        with atomic_write(out) as partial:
            draw_data(partial, splits, title=f"{store.name}: {kind}, {counts}", note=note)
    except OSError as error:
        raise ProtcliError(f"{out}: the picture cannot be written there: {error}") from error
    return out
