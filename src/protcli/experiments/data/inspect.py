"""Describe a store: tables of the figures in its manifest, pictures of its data."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from protcli.atomic import atomic_write
from protcli.errors import ProtcliError
from protcli.experiments.pages import Table
from protcli.proteins.protein import STRICT
from protcli.proteins.residues import AMINO_ACIDS
from protcli.proteins.store import TESTING, Store, open_store


def inspect_data(path: str | Path) -> tuple[Store, list[Table]]:
    """A store and tables of its splits, without opening any split's file.

    Raises:
        ProtcliError: as `open_store` does; if a split's file is missing or its size differs from the manifest; if the
            manifest lacks a figure.
    """
    store = open_store(path)
    store.check_sizes()
    entries = {name: store.split_info(name) for name in store.splits}
    try:
        return store, [table for table in _tables(entries) if table.rows]
    except (KeyError, TypeError) as error:
        raise ProtcliError(f"{store.path}: its manifest lacks {error}; import the data again") from error


def _tables(entries: Mapping[str, Mapping[str, Any]]) -> Iterator[Table]:
    residues = {name: entry["lengths"]["total"] for name, entry in entries.items()}
    headings = (
        *("split", "read", "kept", "dropped", "shortest", "median", "longest", "residues", "real profile"),
        *("features", "digest"),
    )
    rows = []
    for name, entry in entries.items():
        lengths, dropped = entry["lengths"], sum(map(len, entry.get("dropped", {}).values()))
        counts = (
            *(entry.get("read", entry["records"]), entry["records"], dropped),
            *(lengths["min"], lengths["median"], lengths["max"], lengths["total"]),
        )
        texts = (f"{value:,g}" if value < 1e6 else f"{value:,.0f}" for value in counts)
        share = f"{entry['real_profiles'] / entry['records']:.1%}"
        rows.append((name, *texts, share, f"{entry.get('features', 0):,}", entry["digest"][:12]))
    yield Table("Splits", headings, tuple(rows))

    atoms = list(next(iter(entries.values()), {"atoms": ()})["atoms"])
    rows = [
        (
            name,
            f"{1 - entry['atoms']['CA'] / residues[name]:.2%}",
            *(f"{entry['atoms'][atom] / residues[name]:.2%}" for atom in atoms),
        )
        for name, entry in entries.items()
    ]
    yield Table("Resolved residues: share with each atom", ("split", "missing", *atoms), tuple(rows))

    with_classes = {name: entry["classes"] for name, entry in entries.items() if any(entry["classes"])}
    classes = sorted(
        {name for counts in with_classes.values() for name in counts}, key=lambda name: (not name.isdigit(), name)
    )
    rows = [(name, *(f"{counts.get(each, 0):,}" for each in classes)) for name, counts in with_classes.items()]
    apart = "; those of 10-strict are not among those of 10" if f"10{STRICT}" in classes else ""
    yield Table(f"Proteins by ProteinNet class{apart}", ("split", *(name or "none" for name in classes)), tuple(rows))

    rows = [
        (name, f"{families['count']:,}", f"{families['largest']:,}", families["source"])
        for name, entry in entries.items()
        if (families := entry.get("families"))
    ]
    yield Table("Families of homologous proteins", ("split", "families", "largest", "from"), tuple(rows))

    rows = [
        (
            *(name, f"{entry['records']:,}", other, f"{found['same']:,}"),
            "not compared" if found["related"] is None else f"{found['related']:,}",
        )
        for name, entry in entries.items()
        for other, found in entry.get("overlaps", {}).items()
    ]
    yield Table(
        "Proteins that another split knows", ("split", "proteins", "in", "same sequence", "a relative"), tuple(rows)
    )

    rows = [
        (
            name,
            *(
                f"{entry['profile_mean'][column]:.4f} {entry['profile_nonzero'][column]:7.2%}"
                for entry in entries.values()
            ),
        )
        for column, name in enumerate([*AMINO_ACIDS, "information"])
    ]
    yield Table("Profile columns: mean, and share of residues with a nonzero value", ("column", *entries), tuple(rows))


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
