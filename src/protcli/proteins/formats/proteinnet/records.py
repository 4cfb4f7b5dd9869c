"""Splits the text into records and sections, without parsing the numbers."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from protcli.errors import ProtcliError, excerpt, shown
from protcli.proteins.formats.files import read_blocks
from protcli.proteins.formats.limits import LONGEST_ID, LONGEST_RECORD, check_id
from protcli.proteins.residues import ALPHABET_SIZE, AMINO_ACIDS, UNKNOWN

_ROWS = {  # a record's sections and their numbers of rows
    b"ID": 1,
    b"PRIMARY": 1,
    b"EVOLUTIONARY": ALPHABET_SIZE,
    b"TERTIARY": 3,
    b"MASK": 1,
}
_HEADINGS = [b"[%s]\n" % name for name in _ROWS]
_LETTERS = (AMINO_ACIDS + UNKNOWN).encode()


@dataclass(frozen=True, slots=True)
class RawRecord:
    """The text of one record and its position in the file."""

    path: Path
    text: bytes  # the record is at `begin` to `end`
    begin: int
    end: int
    text_line: int  # line number at which the text begins
    last: bool = False

    def line(self) -> int:
        """The line number of its [ID]."""
        return self.text_line + self.text.count(b"\n", 0, self.begin)

    def error(self, line: int, id: str, problem: str) -> ProtcliError:
        """The error for a problem in one of its lines."""
        record = f"record {excerpt(id)}" if id else "a record without an ID"
        hint = "; it is the file's last record: is the file truncated?" if self.last else ""
        return ProtcliError(f"{self.path}, line {line}, {record}: {problem}{hint}")


@dataclass(frozen=True, slots=True)
class Record:
    """One record with unparsed numbers: the 21 rows of its profile, then the 3 rows of its coordinates."""

    raw: RawRecord
    id: str
    sequence: str
    mask: np.ndarray
    rows: list[bytes | memoryview]  # each holds one row, or several separated by newlines

    def widths(self) -> list[int]:
        """The number of values in each row."""
        length = len(self.sequence)
        return [length] * ALPHABET_SIZE + [3 * length] * 3


BlockRecords = list[Record | ProtcliError]


def read_records(path: Path, on_bytes: Callable[[bytes], None] | None) -> Iterator[BlockRecords]:
    """Yield the records that end in each block; a broken or endless record or damaged stream is an error in its place.

    Raises:
        ProtcliError: the file cannot be opened, is empty or does not begin with `[ID]`.
    """
    stream = read_blocks(path, on_bytes)
    pending = b""
    while len(pending.lstrip()) < len(b"[ID]") and (block := next(stream, b"")):
        pending += block
    text = pending.lstrip()
    if not text:
        raise ProtcliError(f"{path} is empty: expected ProteinNet records; fetch the file again")
    line = 1 + pending.count(b"\n", 0, len(pending) - len(text))
    if not text.startswith(b"[ID]"):
        beginning = text_of(text[:60].splitlines()[0][:20])
        raise ProtcliError(f"{path}, line {line}: not a ProteinNet text file: expected [ID], found {shown(beginning)}")
    pending = text
    while True:
        batch: BlockRecords = []
        headings = _headings(pending)
        starts = [i for i, at in enumerate(headings) if pending.startswith(b"[ID]", at)]
        for start, end in pairwise(starts):
            raw = RawRecord(path, pending, headings[start], headings[end], line)
            batch.append(_split_plain(raw, headings[start:end]) or _split_any(raw))
        yield batch
        done = headings[starts[-1]]
        line += int(np.count_nonzero(np.frombuffer(pending, dtype=np.uint8)[:done] == ord("\n")))
        pending = pending[done:]
        if len(pending) > LONGEST_RECORD:
            yield [ProtcliError(f"{path}, line {line}: a record of over {LONGEST_RECORD >> 20} MiB is not a protein")]
            return
        try:
            block = next(stream, b"")
        except ProtcliError as error:
            yield [error]
            return
        if not block:
            yield [_split_any(RawRecord(path, pending, 0, len(pending), line, last=True))]
            return
        pending += block


def _headings(text: bytes) -> list[int]:
    """Offsets of the lines that begin with a bracket."""
    headings = []
    at = text.find(b"[")
    while at >= 0:
        if at == 0 or text[at - 1] == ord("\n"):
            headings.append(at)
        at = text.find(b"[", at + 1)
    return headings


def _split_plain(raw: RawRecord, headings: list[int]) -> Record | None:
    """Split a record of the usual layout without reading its numbers; None for any other layout (`_split_any`)."""
    text = raw.text
    if len(headings) != len(_HEADINGS) or not all(map(text.startswith, _HEADINGS, headings)):
        return None
    begins = [at + len(heading) for at, heading in zip(headings, _HEADINGS, strict=True)]
    ends = [at - 1 for at in [*headings[1:], raw.end + 1]]
    id, letters, signs = (text[begins[i] : ends[i]] for i in (0, 1, 4))
    signs = signs.rstrip(b"\n")
    view = memoryview(text)
    rows: list[bytes | memoryview] = [view[begins[i] : ends[i]] for i in (2, 3)]
    plain = id == id.strip() and b"\n" not in id
    if not (plain and id and letters and len(letters) == len(signs)):
        return None
    if letters.translate(None, _LETTERS) or signs.translate(None, b"+-"):
        return None
    name = text_of(id)
    if not (name.isprintable() and len(name) <= LONGEST_ID):
        return None
    return Record(raw, name, text_of(letters), mask_of(signs), rows)


@dataclass(frozen=True, slots=True)
class Sections:
    """The sections of a record, split line by line; `lines` are the line numbers of its 24 rows."""

    id: str
    letters: bytes
    signs: bytes
    rows: list[bytes]
    lines: list[int]


def _split_any(raw: RawRecord) -> Record | ProtcliError:
    """Split a record of any layout without reading its numbers."""
    try:
        sections = sections_of(raw)
    except ProtcliError as error:
        return error
    return Record(raw, sections.id, text_of(sections.letters), mask_of(sections.signs), [*sections.rows])


def sections_of(raw: RawRecord) -> Sections:
    """Sort the lines of a record into sections and check all but the numbers; raises the first error."""
    rows: dict[bytes, list[bytes]] = {}
    lines: dict[bytes, list[int]] = {}
    headings: dict[bytes, int] = {}
    section, id = b"", ""
    for number, line in enumerate(raw.text[raw.begin : raw.end].split(b"\n"), start=raw.line()):
        line = line.strip()
        if line.startswith(b"[") and line.endswith(b"]"):
            section = line[1:-1]
            if section in headings:
                raise raw.error(number, id, f"a second [{excerpt(text_of(section))}], expected one")
            headings[section] = number
            rows[section], lines[section] = [], []
        elif line:
            if section == b"ID":
                id = id or text_of(line)
            rows.setdefault(section, []).append(line)
            lines.setdefault(section, []).append(number)
    for name, count in _ROWS.items():
        if name not in headings:
            raise raw.error(raw.line(), id, f"no [{text_of(name)}], expected one with {count} row{'s' * (count > 1)}")
        if len(rows[name]) != count:
            problem = f"wrong number of rows in [{text_of(name)}]: expected {count}, found {len(rows[name])}"
            raise raw.error(headings[name], id, problem)
    try:
        check_id(id)
    except ValueError as error:
        raise raw.error(lines[b"ID"][0], id, str(error)) from None
    [letters], [signs] = rows[b"PRIMARY"], rows[b"MASK"]
    if invalid := letters.translate(None, _LETTERS):
        problem = f"{text_of(invalid[:1])!a} at position {letters.index(invalid[:1]) + 1} of [PRIMARY]"
        raise raw.error(lines[b"PRIMARY"][0], id, f"{problem} is not one of {text_of(_LETTERS)}")
    if invalid := signs.translate(None, b"+-"):
        problem = f"{text_of(invalid[:1])!a} at position {signs.index(invalid[:1]) + 1} of [MASK] is neither + nor -"
        raise raw.error(lines[b"MASK"][0], id, problem)
    if len(signs) != len(letters):
        problem = f"[MASK] has {len(signs)} signs, expected {len(letters)}, one per residue"
        raise raw.error(lines[b"MASK"][0], id, problem)
    profile, xyz = b"EVOLUTIONARY", b"TERTIARY"
    return Sections(id, letters, signs, rows[profile] + rows[xyz], lines[profile] + lines[xyz])


def mask_of(signs: bytes) -> np.ndarray:
    """The mask bool [L] from L signs + and -."""
    return np.frombuffer(signs, dtype=np.uint8) == ord("+")


def text_of(raw: bytes) -> str:
    """Decode bytes of the file, replacing invalid ones."""
    return raw.decode("utf-8", "replace")
