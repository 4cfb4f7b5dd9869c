"""A fast streaming reader of ProteinNet's text format.

A record is a sequence of sections, each a heading in brackets followed by tab-separated rows:
`[ID]`, `[PRIMARY]`, `[EVOLUTIONARY]` (21 rows of L), `[TERTIARY]` (x, y and z, 3L columns: N, CA, C' of each residue,
in picometres) and `[MASK]`. Blank lines and sections with other names are skipped.
Source of the format: AlQuraishi 2019, ProteinNet, BMC Bioinformatics 20:311.
"""

import codecs
import re
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa

from protcli.errors import ProtcliError, quote, truncate
from protcli.proteins.formats.files import (
    FARTHEST,
    LONGEST_RECORD,
    check_coords,
    check_id,
    check_profile,
    proteins_of,
    read_blocks,
)
from protcli.proteins.protein import Protein
from protcli.proteins.residues import ALPHABET_SIZE, AMINO_ACIDS, UNKNOWN

_PICOMETRES_PER_ANGSTROM = 100
_ROWS = {b"ID": 1, b"PRIMARY": 1, b"EVOLUTIONARY": ALPHABET_SIZE, b"TERTIARY": 3, b"MASK": 1}  # of each section
_LETTERS = (AMINO_ACIDS + UNKNOWN).encode()
# What stands around the numbers in a record of the usual layout
_HEAD = re.compile(rb"\[ID\]\n([^\n]+)\n\[PRIMARY\]\n([%s]+)\n\[EVOLUTIONARY\]\n" % _LETTERS)
_MIDDLE = b"\n[TERTIARY]\n"
_TAIL = re.compile(rb"\n\[MASK\]\n([+-]+)\n*")
_NUMBERS = ALPHABET_SIZE + 9  # numbers per residue
_LARGEST = float(np.finfo(np.float32).max)
_THREADS = 2
_LARGEST_REMEMBERED = (1 << 25) - (1 << 13)  # bytes; with malloc's overhead just under its limit

Result = Protein | ProtcliError


def read_proteinnet(
    path: str | Path,
    *,
    on_bad: Callable[[ProtcliError], None] | None = None,
    on_bytes: Callable[[bytes], None] | None = None,
    queries: bool = False,
) -> Iterator[Protein]:
    """Read the records of a ProteinNet text file, plain or gzipped, in constant memory.

    Profile values are float32(float(token)), coordinates float32(float(token) / 100): both exactly.
    An atom whose x, y and z are all 0, or any NaN, is missing and becomes NaN, whatever the mask says.

    Args:
        on_bad: called with the error of each broken record; reading continues at the next `[ID]`, but a damaged gzip
            stream ends it. Without it, the first broken record raises.
        on_bytes: called with every block of the file as stored on disk, for a digest or a progress bar.
        queries: whether a record may lack its structure.

    Raises:
        ProtcliError: a record is broken (with file, line and record ID); or, even with `on_bad`, the file cannot be
            opened, is empty or does not begin with `[ID]`.
    """
    return proteins_of(_parse(_read_records(Path(path), on_bytes, queries)), on_bad)


def _parse(batches: Iterator[list["_Record"] | ProtcliError]) -> Generator[Result, None, None]:
    """Parse batches in order, the next ones in other threads (Arrow releases the GIL)."""
    # glibc's malloc returns large blocks to the system, to be mapped and zeroed again, unless they are smaller than the
    # largest block freed so far: freeing this untouched one saves a third of the time for the arrays of the batches
    np.empty(_LARGEST_REMEMBERED, dtype=np.uint8)
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="proteinnet") as pool:
        ahead: deque[Future[list[Result]]] = deque()
        for batch in batches:
            ahead.append(pool.submit(_parse_batch, batch))
            if len(ahead) > _THREADS:
                yield from ahead.popleft().result()
        for parsed in ahead:
            yield from parsed.result()


@dataclass(frozen=True, slots=True)
class _Record:
    """The text of one record, `text[begin:end]`, and its position in the file."""

    path: Path
    text: bytes
    begin: int
    end: int
    text_line: int  # line number at which the text begins
    queries: bool  # whether it may lack its structure
    last: bool = False

    def line(self) -> int:
        """The line number of its [ID]."""
        return self.text_line + self.text.count(b"\n", 0, self.begin)

    def error(self, line: int, id: str, problem: str) -> ProtcliError:
        """The error for a problem in one of its lines."""
        record = f"record {truncate(id)}" if id else "a record without an ID"
        hint = "; it is the file's last record: is the file truncated?" if self.last else ""
        return ProtcliError(f"{self.path}, line {line}, {record}: {problem}{hint}")


def _read_records(
    path: Path, on_bytes: Callable[[bytes], None] | None, queries: bool
) -> Iterator[list[_Record] | ProtcliError]:
    """Yield the records that end in each block; an endless record or damaged stream is an error in its place.

    Raises:
        ProtcliError: the file cannot be opened, is empty or does not begin with `[ID]`.
    """
    stream = read_blocks(path, on_bytes)
    pending = b""
    while len(pending.lstrip()) < len(b"[ID]") and (block := next(stream, b"")):
        pending += block
    text = pending.removeprefix(codecs.BOM_UTF8).lstrip()
    if not text:
        raise ProtcliError(f"{path} is empty: expected ProteinNet records; fetch the file again")
    line = 1 + pending.count(b"\n", 0, len(pending) - len(text))
    if not text.startswith(b"[ID]"):
        beginning = _decoded(text[:60].splitlines()[0][:20])
        raise ProtcliError(f"{path}, line {line}: not a ProteinNet text file: expected [ID], found {quote(beginning)}")
    while True:
        if b"\r" in text:
            text = re.sub(rb"\r\n|\r(?!\Z)", b"\n", text)  # the \n of the last one may be in the next block
        starts, at = [0], 0
        while (at := text.find(b"[", at + 1)) >= 0:  # of one byte, because that is found fastest
            if text.startswith(b"\n[ID]", at - 1):
                starts.append(at)
        yield [_Record(path, text, start, end, line, queries) for start, end in pairwise(starts)]
        line += int(np.count_nonzero(np.frombuffer(text, dtype=np.uint8)[: starts[-1]] == ord("\n")))
        text = text[starts[-1] :]
        if len(text) > LONGEST_RECORD:
            yield ProtcliError(f"{path}, line {line}: a record of over {LONGEST_RECORD >> 20} MiB is not a protein")
            return
        try:
            block = next(stream, b"")
        except ProtcliError as error:
            yield error
            return
        if not block:
            yield [_Record(path, text, 0, len(text), line, queries, last=True)]
            return
        text += block


def _parse_batch(batch: list[_Record] | ProtcliError) -> list[Result]:
    """The proteins and errors of a batch in order: those of the usual layout at once, the others one by one."""
    if isinstance(batch, ProtcliError):
        return [batch]
    split = [_split(record) for record in batch]
    numbers = _parse_numbers([sections for sections in split if sections is not None])
    results: list[Result] = []
    start = 0
    for record, sections in zip(batch, split, strict=True):
        if sections is None or numbers is None:
            try:
                results.append(_parse_slowly(record))
            except ProtcliError as error:
                results.append(error)
            continue
        id, sequence, mask, _ = sections
        profile, coords = (values[start : start + len(sequence)] for values in numbers)
        results.append(Protein(id, sequence, profile, coords, mask))
        start += len(sequence)
    return results


def _split(record: _Record) -> tuple[str, str, np.ndarray, tuple[memoryview, memoryview]] | None:
    """ID, sequence, mask [L] and the unparsed numbers of a record of the usual layout; None for any other."""
    text, end = record.text, record.end
    head = _HEAD.match(text, record.begin, end)
    middle = text.find(b"[", head.end(), end) - 1 if head else -1
    tail = _TAIL.fullmatch(text, text.find(b"[", middle + 2, end) - 1, end) if middle >= 0 else None
    if head is None or tail is None or len(head[2]) != len(tail[1]) or not text.startswith(_MIDDLE, middle):
        return None
    try:
        check_id(id := _decoded(head[1]))
    except ValueError:
        return None
    view = memoryview(text)
    rows = view[head.end() : middle], view[middle + len(_MIDDLE) : tail.start()]
    return (id, _decoded(head[2]), _mask(tail[1]), rows) if id == id.strip() else None


def _parse_numbers(
    records: list[tuple[str, str, np.ndarray, tuple[memoryview, memoryview]]],
) -> tuple[np.ndarray, np.ndarray] | None:
    """Profiles and coordinates, [R, 21] and [R, 3, 3], of the R residues of several records; None if any is unusual.

    Arrow casts strings to float64, correctly rounded (fast_float) like Python's float. The strings are views of the
    text, alternating tokens and separators, with separators null: nothing is split or copied.
    """
    if not records:
        return None
    lengths = [len(sequence) for _, sequence, _, _ in records]
    row_ends = np.outer(lengths, [1] * ALPHABET_SIZE + [3] * 3).cumsum() - 1  # of tokens that end one of 24 rows
    text = np.frombuffer(b"\n".join([*(rows for record in records for rows in record[3]), b""]), dtype=np.uint8)
    newline = text == ord("\n")
    token_ends = np.flatnonzero((text == ord("\t")) | newline)
    count = len(token_ends)
    if count != row_ends[-1] + 1 or np.count_nonzero(newline) != len(row_ends):
        return None
    if not newline[token_ends[row_ends]].all():
        return None
    offsets = np.zeros(2 * count + 1, dtype=np.int32)
    offsets[1::2], offsets[2::2] = token_ends, token_ends + 1
    tokens_only = np.full(count // 4 + 1, 0b01010101, dtype=np.uint8)
    strings = pa.StringArray.from_buffers(2 * count, *map(pa.py_buffer, (offsets, text, tokens_only)))
    try:
        values = np.frombuffer(strings.cast(pa.float64()).buffers()[1], dtype=np.float64)[: 2 * count : 2]
    except pa.ArrowInvalid:
        return None
    ends = np.cumsum(lengths).tolist()
    profile = np.empty((ends[-1], ALPHABET_SIZE), dtype=np.float32)
    xyz = np.empty((3, 3 * ends[-1]))
    with np.errstate(over="ignore"):
        for start, end in pairwise([0, *ends]):
            middle = start * _NUMBERS + (end - start) * ALPHABET_SIZE  # profile before, coordinates after
            profile[start:end] = values[start * _NUMBERS : middle].reshape(ALPHABET_SIZE, -1).T
            xyz[:, 3 * start : 3 * end] = values[middle : end * _NUMBERS].reshape(3, -1)
    try:
        check_profile(profile)
    except ValueError:
        return None
    if not np.abs(xyz).max() <= FARTHEST * _PICOMETRES_PER_ANGSTROM:  # nor for NaN
        return None
    return profile, place_coords(xyz)


def place_coords(xyz: np.ndarray) -> np.ndarray:
    """Convert backbone positions: float32 [L, 3, 3] in angstrom from picometres [3, 3L].

    An atom with three zeros or any NaN becomes NaN in all three.
    """
    angstrom = (xyz / _PICOMETRES_PER_ANGSTROM).astype(np.float32)  # [3, 3L]
    missing = ~(np.abs(angstrom).sum(axis=0) > 0)
    np.copyto(angstrom, np.nan, where=missing)
    return np.ascontiguousarray(angstrom.T).reshape(-1, 3, 3)  # [L, 3, 3]


def _parse_slowly(record: _Record) -> Protein:
    """Parse one record of any layout line by line, with Python's float; raises the first error."""
    sections: dict[bytes, list[tuple[int, bytes]]] = {}  # numbers and text of their lines, the heading first
    first = number = record.line()
    lines, name, id = [], b"", ""
    try:
        for number, line in enumerate(record.text[record.begin : record.end].split(b"\n"), start=first):
            line = line.strip()
            if line.startswith(b"[") and line.endswith(b"]"):
                name = line[1:-1]
                if name in sections:
                    raise ValueError(f"a second [{truncate(_decoded(name))}], expected one")
                lines = sections[name] = [(number, line)]
            elif line:
                id = id or (_decoded(line) if name == b"ID" else "")
                lines.append((number, line))
        is_query = record.queries and b"TERTIARY" not in sections and b"MASK" not in sections
        for name, count in islice(_ROWS.items(), 3 if is_query else None):
            number = first
            if name not in sections:
                raise ValueError(f"no [{_decoded(name)}], expected one with {count} row{'s' * (count > 1)}")
            (number, _), *rows = sections[name]
            if len(rows) != count:
                raise ValueError(f"wrong number of rows in [{_decoded(name)}]: expected {count}, found {len(rows)}")
        number, letters = sections[b"PRIMARY"][1]
        _check_characters(letters, _LETTERS, f"[PRIMARY] is not one of {_decoded(_LETTERS)}")
        number, signs = sections.get(b"MASK", [(0, b""), (number, b"-" * len(letters))])[1]
        _check_characters(signs, b"+-", "[MASK] is neither + nor -")
        if len(signs) != len(letters):
            raise ValueError(f"[MASK] has {len(signs)} signs, expected {len(letters)}, one per residue")
        number, _ = sections[b"ID"][1]
        check_id(id)
        values: dict[bytes, list[list[float]]] = {b"EVOLUTIONARY": [], b"TERTIARY": []}
        for name, parsed in values.items():
            for row in range(1, len(sections.get(name, ""))):
                number, line = sections[name][row]
                parsed.append(_floats(line.split(), name == b"EVOLUTIONARY", row, len(letters)))
    except ValueError as error:
        raise record.error(number, id, str(error)) from None
    profile = np.array(values[b"EVOLUTIONARY"], dtype=np.float32).T.copy()  # [L, 21]
    coords = place_coords(np.array(values[b"TERTIARY"] or np.zeros((3, 3 * len(letters)))))
    return Protein(id, _decoded(letters), profile, coords, _mask(signs))


def _check_characters(line: bytes, allowed: bytes, problem: str) -> None:
    if invalid := line.translate(None, allowed)[:1]:
        raise ValueError(f"{_decoded(invalid)!a} at position {line.index(invalid) + 1} of {problem}")


def _floats(tokens: list[bytes], profile: bool, row: int, length: int) -> list[float]:
    """The numbers of a row of a profile or of coordinates; raises ValueError for another count, or one out of range."""
    name = f"[{'EVOLUTIONARY' if profile else 'TERTIARY'}] row {row}"
    width, reason = (length, "one per residue") if profile else (3 * length, "N, CA and C' of each residue")
    if len(tokens) != width:
        raise ValueError(f"{name} has {len(tokens)} columns, expected {width}, {reason}")
    values = []
    for column, token in enumerate(tokens, start=1):
        try:
            value = float(token)
        except ValueError:
            value = np.inf
        if b"_" in token or not (abs(value) <= _LARGEST or (value != value and not profile)):  # NaN: no atom
            raise ValueError(f"{name}, column {column}: expected a number, found {quote(_decoded(token))}")
        values.append(value)
    try:
        if profile:
            check_profile(np.array(values, dtype=np.float32))
        else:
            check_coords(np.array(values) / _PICOMETRES_PER_ANGSTROM)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    return values


def _mask(signs: bytes) -> np.ndarray:
    """The mask bool [L] from L signs + and -."""
    return np.frombuffer(signs, dtype=np.uint8) == ord("+")


def _decoded(raw: bytes) -> str:
    """Bytes of the file as text, with invalid ones replaced."""
    return raw.decode("utf-8", "replace")
