"""FASTA files: names and sequences."""

from dataclasses import dataclass
from pathlib import Path

from protcli.errors import ProtcliError


@dataclass(frozen=True)
class FastaRecord:
    """One sequence of a file.

    Attributes:
        id: the first word after `>`.
        sequence: its letters in upper case, as they stand there: which ones a model takes is the model's to say.
        line: where it begins, from 1.
    """

    id: str
    sequence: str
    line: int


def read_fasta(path: Path) -> list[FastaRecord]:
    """All sequences of a file, in order. White space in them, and one `*` (a stop) at their end, are left out.

    Raises:
        ProtcliError: the file cannot be read, is no FASTA, or holds no sequence, a record without name or sequence, or
            two of one name.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ProtcliError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ProtcliError(f"{path} is no text: a FASTA file holds a line '>NAME' and then the sequence") from error
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
                f"{path}, line {number}: a FASTA file begins with a line '>NAME', this with {line[:20]!r}"
            )
        elif names:
            parts[-1].append("".join(line.split()))
    if not names:
        raise ProtcliError(f"{path} holds no sequence")
    records = [
        FastaRecord(name, "".join(of).upper().removesuffix("*"), line)
        for (name, line), of in zip(names, parts, strict=True)
    ]
    first: dict[str, int] = {}
    for record in records:
        if not record.sequence:
            raise ProtcliError(f"{path}, line {record.line}: {record.id} has no sequence")
        if first.setdefault(record.id, record.line) != record.line:
            raise ProtcliError(
                f"{path}, line {record.line}: {record.id} is also the name of the sequence at line {first[record.id]}"
            )
    return records
