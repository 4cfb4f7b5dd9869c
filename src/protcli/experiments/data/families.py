"""Families of a split's proteins: from a table, or by homology of their sequences."""

import csv
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from protcli.errors import ProtcliError, excerpt
from protcli.experiments.data.overlap import Compared, Overlap, overlaps
from protcli.proteins.homology import SOURCE, has_phmmer, homologous_families, require_phmmer
from protcli.proteins.store import TABLE, Families, open_store, replace_families

NONE = "none"  # in place of a table: leave families out
COLUMNS = {"id", "family"}


@dataclass(frozen=True)
class Grouped:
    """The families of a split."""

    split: str
    families: Families


@dataclass(frozen=True)
class FamilyTable:
    """Families by protein id, as read from a file; empty for a protein without relatives."""

    path: Path
    families: Mapping[str, str]

    def of(self, split: str, ids: Sequence[str]) -> Families:
        """The families of a split. Raises ProtcliError if one of its proteins is not in the table."""
        if missing := [name for name in ids if name not in self.families]:
            more = f", nor for {len(missing) - 1:,} more of its {len(ids):,} proteins" if len(missing) > 1 else ""
            raise ProtcliError(
                f"{self.path}: has no line for {missing[0]} of {split}{more}; a protein without relatives has a line "
                "with an empty family"
            )
        return Families([self.families[name] or name for name in ids], f"{TABLE} {self.path.name}")


def read_family_table(path: str | Path) -> FamilyTable:
    """Read a table with the columns id and family, separated by commas or tabs; it may list proteins of other stores.

    Raises:
        ProtcliError: the file cannot be read, has other columns, a line without an id, or one id with two families.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise ProtcliError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ProtcliError(f"{path} is not a text file: {error}") from error
    rows = _rows(path, lines)
    _, header = next(rows, (1, []))
    if len(header) != len(COLUMNS) or set(header) != COLUMNS:
        found = excerpt(", ".join(header)) or "none"
        raise ProtcliError(f"{path}, line 1: the columns are {found}; expected id and family, and no others")
    column = header.index("id")
    families: dict[str, str] = {}
    for line, row in rows:
        if not row:
            continue
        where = f"{path}, line {line}"
        if len(row) != len(COLUMNS):
            raise ProtcliError(f"{where}: has {len(row)} fields; expected an id and a family")
        name, family = row[column].strip(), row[1 - column].strip()
        if not name:
            raise ProtcliError(f"{where}: has no id")
        if families.setdefault(name, family) != family:
            first, second = (excerpt(each) or "no family" for each in (families[name], family))
            raise ProtcliError(f"{where}: {excerpt(name)} has {second}, but {first} in an earlier line")
    return FamilyTable(path, families)


def _rows(path: Path, lines: list[str]) -> Iterator[tuple[int, list[str]]]:
    """The rows of a table, each with its line."""
    rows = csv.reader(lines, delimiter="\t" if lines and "\t" in lines[0] else ",")
    try:
        for row in rows:
            yield rows.line_num, row
    except csv.Error as error:
        raise ProtcliError(f"{path}, line {rows.line_num}: {excerpt(error)}: expected an id and a family") from error


def family_table(families: str | Path | None) -> FamilyTable | None:
    """Read the table, if one is given; None if homology decides.

    Raises:
        ProtcliError: as `read_family_table` does; without a table, if pyhmmer is not installed.
    """
    if families is None:
        require_phmmer()
        return None
    return read_family_table(families)


def group(
    split: str, ids: Sequence[str], sequences: Sequence[str], table: FamilyTable | None
) -> Iterator[Compared | Grouped]:
    """Find the families of a split's proteins: from the table or, if that is None, by homology.

    Args:
        split: its name.
        ids, sequences: of its proteins. A family found by homology is named after its first protein.
        table: see `family_table`.

    Raises:
        ProtcliError: as `FamilyTable.of` does.
    """
    if table is not None:
        yield Grouped(split, table.of(split, ids))
        return
    labels: list[str] = []
    for done, first_members in homologous_families(sequences):
        labels = [ids[index] for index in first_members]
        yield Compared(split, done, len(ids))
    yield Grouped(split, Families(labels, SOURCE))


def add_families(path: str | Path, families: str | Path | None = None) -> Generator[Compared | Grouped | Overlap]:
    """Add families to all splits of a store, or replace them, yielding progress; at the end, what is in place.

    Of the test split, only ids and sequences are read.

    Args:
        path: store folder.
        families: a table with the columns id and family; None compares the sequences of each split.

    Raises:
        ProtcliError: no store, or as `family_table`, `group` and `replace_families` do.
    """
    store = open_store(path)
    table = family_table(families)
    found: dict[str, Families] = {}
    for name in store.splits:
        split = store.split(name)
        for event in group(name, split.ids, split.sequences, table):
            if isinstance(event, Grouped):
                found[name] = event.families
            else:
                yield event
    shared: dict[str, dict[str, Any]] = {}
    names = list(store.splits)
    sequences = {name: list(store.split(name).sequences) for name in names}
    for overlap in overlaps(sequences, names, homology=has_phmmer()):
        if isinstance(overlap, Overlap):
            shared.setdefault(overlap.split, {})[overlap.other] = overlap.to_entry()
        yield overlap
    replace_families(path, found, shared)
    for name, labelled in found.items():
        yield Grouped(name, labelled)
