"""FASTA files: names and sequences."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from protcli.errors import ProtcliError, shown
from protcli.proteins.formats.limits import check_id


@dataclass(frozen=True)
class FastaRecord:
    """One sequence in a file.

    Attributes:
        id: the first word after `>`.
        sequence: its letters, unchecked: each model decides which it accepts.
        line: its first line, from 1.
    """

    id: str
    sequence: str
    line: int


def read_fasta(path: Path) -> Iterator[FastaRecord]:
    """Read the sequences of a file in order, one at a time, without white space and one final `*` (a stop).

    Raises:
        ProtcliError: the file cannot be read, is not FASTA or has no sequence, or a record has no name, no sequence or
            a duplicate name.
    """
    first_line: dict[str, int] = {}
    try:
        with path.open(encoding="utf-8") as file:
            for raw in fasta_records(path, file):
                record = replace(raw, sequence=raw.sequence.upper().removesuffix("*"))
                if not record.sequence:
                    raise ProtcliError(f"{path}, line {record.line}: {record.id} has no sequence")
                if first_line.setdefault(record.id, record.line) != record.line:
                    raise ProtcliError(
                        f"{path}, line {record.line}: {record.id} is already the name of the sequence at line "
                        f"{first_line[record.id]}"
                    )
                yield record
    except OSError as error:
        raise ProtcliError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ProtcliError(
            f"{path} is not a text file: a FASTA file has a line '>NAME' and then the sequence"
        ) from error
    if not first_line:
        raise ProtcliError(f"{path} contains no sequence")


def fasta_records(path: Path, lines: Iterable[str], what: str = "a FASTA file") -> Iterator[FastaRecord]:
    """The records of lines in order, with their letters as they are but for white space; `what` is for messages.

    Raises:
        ProtcliError: there is something before the first record, or a record without a name that can be printed.
    """
    name, first = "", 0
    parts: list[str] = []
    for number, line in enumerate(lines, start=1):
        if line.startswith(">"):
            if first:
                yield FastaRecord(name, "".join(parts), first)
            words = line[1:].split()
            if not words:
                raise ProtcliError(f"{path}, line {number}: no name after '>': write '>NAME'")
            name, first, parts = words[0], number, []
            try:
                check_id(name)
            except ValueError as error:
                raise ProtcliError(f"{path}, line {number}: {error}") from None
        elif first:
            parts.append("".join(line.split()))
        elif line.strip():
            raise ProtcliError(
                f"{path}, line {number}: {what} begins with a line '>NAME', not {shown(line.strip()[:20])}"
            )
    if first:
        yield FastaRecord(name, "".join(parts), first)
