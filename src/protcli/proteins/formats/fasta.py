"""FASTA files: names and sequences."""

from dataclasses import dataclass
from pathlib import Path

from protcli.errors import ProtcliError


@dataclass(frozen=True)
class FastaRecord:
    """One sequence in a file.

    Attributes:
        id: the first word after `>`.
        sequence: its letters in upper case, unchecked: each model decides which it accepts.
        line: its first line, from 1.
    """

    id: str
    sequence: str
    line: int


def read_fasta(path: Path) -> list[FastaRecord]:
    """Read all sequences of a file, in order, without white space and one final `*` (a stop).

    Raises:
        ProtcliError: the file cannot be read, is not FASTA or has no sequence, or a record has no name, no sequence or
            a duplicate name.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ProtcliError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ProtcliError(
            f"{path} is not a text file: a FASTA file has a line '>NAME' and then the sequence"
        ) from error
    names: list[tuple[str, int]] = []
    parts: list[list[str]] = []
    for number, line in enumerate(lines, start=1):
        if line.startswith(">"):
            words = line[1:].split()
            if not words:
                raise ProtcliError(f"{path}, line {number}: no name after '>': write '>NAME'")
            names.append((words[0], number))
            parts.append([])
        elif not names and line.strip():
            raise ProtcliError(
                f"{path}, line {number}: a FASTA file begins with a line '>NAME', this one with {line[:20]!r}"
            )
        elif names:
            parts[-1].append("".join(line.split()))
    if not names:
        raise ProtcliError(f"{path} contains no sequence")
    records = [
        FastaRecord(name, "".join(letters).upper().removesuffix("*"), line)
        for (name, line), letters in zip(names, parts, strict=True)
    ]
    first_line: dict[str, int] = {}
    for record in records:
        if not record.sequence:
            raise ProtcliError(f"{path}, line {record.line}: {record.id} has no sequence")
        if first_line.setdefault(record.id, record.line) != record.line:
            raise ProtcliError(
                f"{path}, line {record.line}: {record.id} is already the name of the sequence at line "
                f"{first_line[record.id]}"
            )
    return records
