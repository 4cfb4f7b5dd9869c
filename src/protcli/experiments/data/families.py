"""Families of a split's proteins, from a table or by homology, and what splits share."""

import csv
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from protcli.errors import ProtcliError, truncate
from protcli.experiments.pages import Progress
from protcli.proteins.formats.files import read_text
from protcli.proteins.homology import (
    SOURCE,
    SequenceDatabase,
    has_phmmer,
    homologous_families,
    require_phmmer,
    search_threads,
)
from protcli.proteins.store import TABLE, TESTING, VALIDATION, Families, open_store, replace_families

NONE = "none"  # in place of a table: leave families out
MEASURED = (VALIDATION, TESTING)  # splits whose proteins no other split should have


@dataclass(frozen=True)
class Overlap:
    """What one split, which is measured on, has in common with another.

    Attributes:
        split, other: their names.
        same: how many of its proteins have the sequence of a protein of the other.
        related: how many have a homologous protein there, these included; None if they were not compared.
    """

    split: str
    other: str
    same: int
    related: int | None

    def enter(self, overlaps: dict[str, dict[str, Any]]) -> None:
        """Enter it by its splits, as it stands in the manifest."""
        overlaps.setdefault(self.split, {})[self.other] = {"same": self.same, "related": self.related}


def read_family_table(path: str | Path) -> dict[str, str]:
    """Families by protein id, from a table with the columns id and family, separated by commas or tabs.

    It may list proteins of other stores; a protein without relatives has an empty family.

    Raises:
        ProtcliError: as `read_text` does; it has other columns, a line without an id, or one id with two families.
    """
    lines = read_text(Path(path), "a table with the columns id and family").splitlines()
    rows = csv.reader(lines, delimiter="\t" if "\t" in lines[0] else ",")
    families: dict[str, str] = {}
    try:
        header = next(rows, [])
        if sorted(header) != ["family", "id"]:
            found = truncate(", ".join(header)) or "none"
            raise ValueError(f"the columns are {found}; expected id and family, and no others")
        for row in filter(None, rows):
            if len(row) != 2:
                raise ValueError(f"has {len(row)} fields; expected an id and a family")
            name, family = (field.strip() for field in (row if header[0] == "id" else reversed(row)))
            if not name:
                raise ValueError("has no id")
            if families.setdefault(name, family) != family:
                first, second = (truncate(label) or "no family" for label in (families[name], family))
                raise ValueError(f"{truncate(name)} has {second}, but {first} in an earlier line")
    except csv.Error as error:
        raise ProtcliError(f"{path}, line {rows.line_num}: {truncate(error)}: expected an id and a family") from error
    except ValueError as error:
        raise ProtcliError(f"{path}, line {rows.line_num}: {error}") from None
    return families


def group(
    split: str, ids: Sequence[str], sequences: Sequence[str], table: str | Path | None, labels: Mapping[str, str]
) -> Generator[Progress, None, Families]:
    """The families of a split's proteins: from a table or, if that is None, by homology.

    Args:
        split: its name.
        ids, sequences: of its proteins. A family found by homology is named after its first protein.
        table, labels: the file, and what it says.

    Raises:
        ProtcliError: a protein is not in the table.
    """
    if table is None:
        named = []
        for done, first_members in homologous_families(sequences):
            named = [ids[index] for index in first_members]
            yield Progress(split, done, len(ids), "sequences")
        return Families(named, SOURCE)
    if missing := [name for name in ids if name not in labels]:
        more = f", nor for {len(missing) - 1:,} more of its {len(ids):,} proteins" if len(missing) > 1 else ""
        raise ProtcliError(
            f"{table}: has no line for {missing[0]} of {split}{more}; a protein without relatives has a line with an "
            "empty family"
        )
    return Families([labels[name] or name for name in ids], f"{TABLE} {Path(table).name}")


def family_labels(table: str | Path | None) -> dict[str, str]:
    """What a table says, or nothing without one. Raises ProtcliError if there is neither a table nor pyhmmer."""
    if table is None:
        require_phmmer()
        return {}
    return read_family_table(table)


def add_families(path: str | Path, table: str | Path | None = None) -> Generator[Progress | Overlap]:
    """Add families to all splits of a store, or replace them, yielding progress and what splits share.

    Of the test split, only ids and sequences are read. The store is changed when the iterator is exhausted.

    Args:
        path: store folder.
        table: a file with the columns id and family; None compares the sequences of each split.

    Raises:
        ProtcliError: no store, or as `read_family_table`, `group` and `replace_families` do.
    """
    store, labels = open_store(path), family_labels(table)
    splits = {name: store.split(name) for name in store.splits}
    found = {}
    for name, split in splits.items():
        found[name] = yield from group(name, split.ids, split.sequences, table, labels)
    shared: dict[str, dict[str, Any]] = {}
    sequences = {name: list(split.sequences) for name, split in splits.items()}
    for event in overlaps(sequences, list(splits), homology=has_phmmer()):
        if isinstance(event, Overlap):
            event.enter(shared)
        yield event
    replace_families(path, found, shared)


def overlaps(
    sequences: Mapping[str, Sequence[str]], new: Sequence[str], *, homology: bool
) -> Iterator[Progress | Overlap]:
    """Compare every split to measure on with the training splits, and the test split with validation.

    What is measured on proteins that are in another split, or have relatives there, was seen in training.

    Args:
        sequences: of each split.
        new: splits of which at least one is in each pair that is compared.
        homology: whether relatives are looked for, see `proteins.homology`, or only equal sequences.
    """
    pairs = [
        (split, other)
        for number, split in enumerate(MEASURED)
        for other in sequences
        if split in sequences and other not in MEASURED[number:] and {split, other} & set(new)
    ]
    for split, other in pairs:
        known = set(sequences[other])
        others = [letters for letters in sequences[split] if letters not in known]
        same = len(sequences[split]) - len(others)
        related = same if homology else None
        if related is not None:
            database = SequenceDatabase(sequences[other])
            with search_threads() as threads:
                for done, is_related in enumerate(threads.map(database.has_relative, others), start=1):
                    related += is_related
                    yield Progress(f"{split} with {other}", done, len(others), "sequences")
        yield Overlap(split, other, same, related)
