"""Reader of ProteinNet's text format, streaming and fast.

A record is a run of sections, each a heading in brackets and its tab-separated rows:
`[ID]`, `[PRIMARY]`, `[EVOLUTIONARY]` (21 rows of L), `[TERTIARY]` (x, y and z, 3L columns: N, CA, C' of each residue,
in picometres) and `[MASK]`. Blank lines and sections of any other name are skipped.
Source of the format: AlQuraishi 2019, ProteinNet, BMC Bioinformatics 20:311.
"""

import zlib
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from protcli.errors import ProtcliError
from protcli.proteins.protein import Protein
from protcli.proteins.residues import ALPHABET_SIZE, AMINO_ACIDS, UNKNOWN

PICOMETRES_PER_ANGSTROM = 100

_BLOCK = 1 << 19  # bytes read, and parsed together
_THREADS = 2
_GZIP_BLOCK = 1 << 18  # smaller: it grows when unpacked
_LONGEST_RECORD = 1 << 28
_LARGEST_REMEMBERED = (1 << 25) - (1 << 13)  # bytes, with malloc's own just under its limit
_LARGEST = float(np.finfo(np.float32).max)
_ROWS = {  # a record's sections, and how many rows each has
    b"ID": 1,
    b"PRIMARY": 1,
    b"EVOLUTIONARY": ALPHABET_SIZE,
    b"TERTIARY": 3,
    b"MASK": 1,
}
_HEADINGS = [b"[%s]\n" % name for name in _ROWS]
_NUMBERS = ALPHABET_SIZE + 9  # of each residue
_LETTERS = (AMINO_ACIDS + UNKNOWN).encode()


def read_proteinnet(
    path: str | Path,
    *,
    on_bad: Callable[[ProtcliError], None] | None = None,
    on_bytes: Callable[[bytes], None] | None = None,
) -> Iterator[Protein]:
    """Read the records of a ProteinNet text file, plain or gzipped, in constant memory.

    Profile values are float32(float(token)), coordinates float32(float(token) / 100): both exactly.
    An atom whose x, y and z are all 0, or one of them NaN, is missing and NaN, whatever the mask says.

    Args:
        on_bad: given the error of each broken record, after which reading goes on with the next `[ID]` (a damaged gzip
            stream ends it). Without it the first broken record raises.
        on_bytes: given every block of the file as it lies on disk, for a digest or a progress bar.

    Raises:
        ProtcliError: with file, line and record id, for a broken record; and, with `on_bad` too, for a file that cannot
            be opened, is empty or does not begin with `[ID]`.
    """
    path = Path(path)
    for result in _parse(_batches(path, on_bytes)):
        if isinstance(result, Protein):
            yield result
        elif on_bad is None:
            raise result
        else:
            on_bad(result)


def read_blocks(path: Path, on_bytes: Callable[[bytes], None] | None = None) -> Iterator[bytes]:
    """Read a file, unpacked if it is gzipped, in blocks that are never empty; `on_bytes` as in `read_proteinnet`.

    Raises:
        ProtcliError: for a file that cannot be read, and for a gzip stream that is damaged or cut short.
    """
    try:
        with path.open("rb", buffering=0) as file:
            gzipped = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            unpacker = zlib.decompressobj(wbits=31) if gzipped else None
            while block := file.read(_GZIP_BLOCK if gzipped else _BLOCK):
                if on_bytes is not None:
                    on_bytes(block)
                if unpacker is None:
                    yield block
                    continue
                while block:
                    if unpacker.eof:  # another gzip member follows the one that ended
                        unpacker = zlib.decompressobj(wbits=31)
                    if unpacked := unpacker.decompress(block):
                        yield unpacked
                    block = unpacker.unused_data
            if unpacker is not None and not unpacker.eof:
                raise ProtcliError(f"{path}: the gzip stream is cut short; fetch the file again")
    except zlib.error as error:
        raise ProtcliError(f"{path}: the gzip stream is damaged ({error}); fetch the file again") from error
    except OSError as error:
        raise ProtcliError(f"cannot read {path}: {error.strerror or error}") from error


def place_coords(xyz: np.ndarray) -> np.ndarray:
    """Backbone positions in the record's form: float32 [L, 3, 3] in angstrom from picometres [3, 3L].

    An atom of three zeros, or with a NaN, becomes NaN in all three.
    """
    angstrom = (xyz / PICOMETRES_PER_ANGSTROM).astype(np.float32)  # [3, 3L]
    missing = ~(np.abs(angstrom).sum(axis=0) > 0)
    np.copyto(angstrom, np.nan, where=missing)
    return np.ascontiguousarray(angstrom.T).reshape(-1, 3, 3)  # [L, 3, 3]


@dataclass(frozen=True, slots=True)
class _Raw:
    """The text of one record, and where it stands."""

    path: Path
    text: bytes  # of this record from `begin` to `end`
    begin: int
    end: int
    text_line: int  # the number of the line that the text begins with
    last: bool = False

    def line(self) -> int:
        """The number of the line of its [ID]."""
        return self.text_line + self.text.count(b"\n", 0, self.begin)

    def error(self, line: int, id: str, problem: str) -> ProtcliError:
        record = f"record {id}" if id else "a record without an id"
        cut = "; it is the file's last record: was the file cut short?" if self.last else ""
        return ProtcliError(f"{self.path}, line {line}, {record}: {problem}{cut}")


@dataclass(frozen=True, slots=True)
class _Record:
    """One record whose numbers are not parsed yet: the 21 rows of its profile, then the 3 of its coordinates."""

    raw: _Raw
    id: str
    sequence: str
    mask: np.ndarray
    rows: list[bytes | memoryview]  # each of one row, or of several with newlines between

    def widths(self) -> list[int]:
        """How many numbers each row must hold."""
        length = len(self.sequence)
        return [length] * ALPHABET_SIZE + [3 * length] * 3


_Batch = list[_Record | ProtcliError]


def _batches(path: Path, on_bytes: Callable[[bytes], None] | None) -> Iterator[_Batch]:
    """The records that end in each block; a broken one, and the end of a damaged stream, is an error in its place."""
    stream = read_blocks(path, on_bytes)
    pending = b""
    while len(pending.lstrip()) < len(b"[ID]") and (block := next(stream, b"")):
        pending += block
    text = pending.lstrip()
    if not text:
        raise ProtcliError(f"{path} is empty: expected ProteinNet records, fetch the file again")
    line = 1 + pending.count(b"\n", 0, len(pending) - len(text))
    if not text.startswith(b"[ID]"):
        found = text[:60].splitlines()[0][:20].decode("utf-8", "replace")
        raise ProtcliError(f"{path}, line {line}: not a ProteinNet text file: expected [ID], found {found!a}")
    pending = text
    while True:
        batch: _Batch = []
        headings = _headings(pending)
        starts = [i for i, at in enumerate(headings) if pending.startswith(b"[ID]", at)]
        for start, end in pairwise(starts):
            raw = _Raw(path, pending, headings[start], headings[end], line)
            batch.append(_glance(raw, headings[start:end]) or _look(raw))
        yield batch
        done = headings[starts[-1]]
        line += int(np.count_nonzero(np.frombuffer(pending, dtype=np.uint8)[:done] == ord("\n")))
        pending = pending[done:]
        if len(pending) > _LONGEST_RECORD:
            raise ProtcliError(f"{path}, line {line}: a record of over {_LONGEST_RECORD >> 20} MiB is no protein")
        try:
            block = next(stream, b"")
        except ProtcliError as error:
            yield [error]
            return
        if not block:
            yield [_look(_Raw(path, pending, 0, len(pending), line, last=True))]
            return
        pending += block


def _headings(text: bytes) -> list[int]:
    """Where the lines that begin with a bracket begin."""
    headings = []
    at = text.find(b"[")
    while at >= 0:
        if at == 0 or text[at - 1] == ord("\n"):
            headings.append(at)
        at = text.find(b"[", at + 1)
    return headings


def _glance(raw: _Raw, headings: list[int]) -> _Record | None:
    """A record of the plain layout, its numbers not looked at; None for any other, which `_look` judges."""
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
    return _Record(raw, _text(id), _text(letters), _mask(signs), rows)


@dataclass(frozen=True, slots=True)
class _Sections:
    """A record taken apart line by line; `lines` are the numbers of the lines of its 24 rows."""

    id: str
    letters: bytes
    signs: bytes
    rows: list[bytes]
    lines: list[int]


def _look(raw: _Raw) -> _Record | ProtcliError:
    """A record of any layout, its numbers not looked at."""
    try:
        found = _sections(raw)
    except ProtcliError as error:
        return error
    return _Record(raw, found.id, _text(found.letters), _mask(found.signs), [*found.rows])


def _sections(raw: _Raw) -> _Sections:
    """Sort the lines of a record into its sections and check everything but the numbers; the first error raises."""
    rows: dict[bytes, list[bytes]] = {}
    lines: dict[bytes, list[int]] = {}
    headings: dict[bytes, int] = {}
    section, id = b"", ""
    for number, line in enumerate(raw.text[raw.begin : raw.end].split(b"\n"), start=raw.line()):
        line = line.strip()
        if line.startswith(b"[") and line.endswith(b"]"):
            section = line[1:-1]
            if section in headings:
                raise raw.error(number, id, f"a second [{_text(section)}], expected one")
            headings[section] = number
            rows[section], lines[section] = [], []
        elif line:
            if section == b"ID":
                id = id or _text(line)
            rows.setdefault(section, []).append(line)
            lines.setdefault(section, []).append(number)
    for name, count in _ROWS.items():
        if name not in headings:
            raise raw.error(raw.line(), id, f"no [{_text(name)}], expected {count} row{'s' * (count > 1)} of it")
        if len(rows[name]) != count:
            problem = f"wrong number of rows in [{_text(name)}]: expected {count}, found {len(rows[name])}"
            raise raw.error(headings[name], id, problem)
    [letters], [signs] = rows[b"PRIMARY"], rows[b"MASK"]
    if strange := letters.translate(None, _LETTERS):
        problem = f"{_text(strange[:1])!a} at position {letters.index(strange[:1]) + 1} of [PRIMARY]"
        raise raw.error(lines[b"PRIMARY"][0], id, f"{problem} is not one of {_text(_LETTERS)}")
    if strange := signs.translate(None, b"+-"):
        problem = f"{_text(strange[:1])!a} at position {signs.index(strange[:1]) + 1} of [MASK] is neither + nor -"
        raise raw.error(lines[b"MASK"][0], id, problem)
    if len(signs) != len(letters):
        problem = f"[MASK] has {len(signs)} signs, expected {len(letters)}, one a residue"
        raise raw.error(lines[b"MASK"][0], id, problem)
    profile, xyz = b"EVOLUTIONARY", b"TERTIARY"
    return _Sections(id, letters, signs, rows[profile] + rows[xyz], lines[profile] + lines[xyz])


def _mask(signs: bytes) -> np.ndarray:
    return np.frombuffer(signs, dtype=np.uint8) == ord("+")


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


def _parse(batches: Iterator[_Batch]) -> Iterator[Protein | ProtcliError]:
    """Parse batch after batch, the numbers of the next ones meanwhile in other threads (Arrow holds no Python lock)."""
    # glibc's malloc returns every large block to the system, to be mapped and zeroed anew, but none smaller than the
    # largest it has seen freed: this one, never touched, spares the arrays of the batches a third of their time
    np.empty(_LARGEST_REMEMBERED, dtype=np.uint8)
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="proteinnet") as pool:
        ahead: deque[tuple[_Batch, Future[_Numbers | None]]] = deque()
        for batch in batches:
            records = [item for item in batch if isinstance(item, _Record)]
            ahead.append((batch, pool.submit(_numbers, records)))
            if len(ahead) > _THREADS:
                done, numbers = ahead.popleft()
                yield from _assemble(done, numbers.result())
        for done, numbers in ahead:
            yield from _assemble(done, numbers.result())


class _Numbers(NamedTuple):
    """The numbers of a batch, its R residues one record after another."""

    profile: np.ndarray  # float32 [R, 21]
    coords: np.ndarray  # float32 [R, 3, 3] in angstrom


def _assemble(batch: list[_Record | ProtcliError], numbers: _Numbers | None) -> Iterator[Protein | ProtcliError]:
    """The proteins and errors of a batch in order; where it was not parsed at once, it is record by record."""
    start = 0
    for item in batch:
        if isinstance(item, ProtcliError):
            yield item
        elif numbers is None:
            yield _parse_alone(item)
        else:
            end = start + len(item.sequence)
            yield Protein(item.id, item.sequence, numbers.profile[start:end], numbers.coords[start:end], item.mask)
            start = end


def _parse_alone(record: _Record) -> Protein | ProtcliError:
    try:
        return _parse_slowly(record.raw)
    except ProtcliError as error:
        return error


def _numbers(records: list[_Record]) -> _Numbers | None:
    """Parse the numbers of some records in one go; None where anything is unusual.

    Arrow casts strings to float64, correctly rounded (fast_float) as by Python's float. The strings are the text
    itself, token and separator in turn, the separators null: nothing is split or copied.
    """
    if not records:
        return None
    row_ends = np.cumsum(np.array([record.widths() for record in records])) - 1  # which tokens end a row
    text = np.frombuffer(b"\n".join([*(row for record in records for row in record.rows), b""]), dtype=np.uint8)
    newline = text == ord("\n")
    token_ends = np.flatnonzero((text == ord("\t")) | newline)
    if len(token_ends) != row_ends[-1] + 1 or np.count_nonzero(newline) != len(row_ends):
        return None
    if not newline[token_ends[row_ends]].all():
        return None
    offsets = np.zeros(2 * len(token_ends) + 1, dtype=np.int32)
    offsets[1::2] = token_ends
    offsets[2::2] = token_ends + 1
    tokens_only = np.full(len(token_ends) // 4 + 1, 0b01010101, dtype=np.uint8)
    strings = pa.StringArray.from_buffers(2 * len(token_ends), *map(pa.py_buffer, (offsets, text, tokens_only)))
    try:
        values = np.frombuffer(strings.cast(pa.float64()).buffers()[1], dtype=np.float64)[: 2 * len(token_ends) : 2]
    except pa.ArrowInvalid:
        return None
    ends = np.cumsum([len(record.sequence) for record in records]).tolist()
    profile = np.empty((ends[-1], ALPHABET_SIZE), dtype=np.float32)
    xyz = np.empty((3, 3 * ends[-1]))
    with np.errstate(over="ignore"):
        for start, end in pairwise([0, *ends]):
            middle = start * _NUMBERS + (end - start) * ALPHABET_SIZE  # the profile before it, the coordinates after
            profile[start:end] = values[start * _NUMBERS : middle].reshape(ALPHABET_SIZE, -1).T
            xyz[:, 3 * start : 3 * end] = values[middle : end * _NUMBERS].reshape(3, -1)
    if not (np.isfinite(profile).all() and np.abs(xyz).max() <= _LARGEST):
        return None
    return _Numbers(profile, place_coords(xyz))


def _parse_slowly(raw: _Raw) -> Protein:
    """Parse one record line by line and its numbers as Python does; the error of the first thing wrong raises."""
    found = _sections(raw)
    length = len(found.letters)
    parsed = []
    for i, (row, line) in enumerate(zip(found.rows, found.lines, strict=True)):
        profile = i < ALPHABET_SIZE
        name = f"[EVOLUTIONARY] row {i + 1}" if profile else f"[TERTIARY] row {i + 1 - ALPHABET_SIZE}"
        width, why = (length, "one a residue") if profile else (3 * length, "N, CA and C' of each residue")
        tokens = row.split()
        if len(tokens) != width:
            raise raw.error(line, found.id, f"{name} has {len(tokens)} columns, expected {width}, {why}")
        for column, token in enumerate(tokens, start=1):
            if not _is_number(token, nan=not profile):
                problem = f"{name}, column {column}: expected a number, found {_text(token)!a}"
                raise raw.error(line, found.id, problem)
        parsed.append(np.array([float(token) for token in tokens]))
    columns = np.array(parsed[:ALPHABET_SIZE], dtype=np.float32).T.copy()  # [L, 21]
    coords = place_coords(np.array(parsed[ALPHABET_SIZE:]))
    return Protein(found.id, _text(found.letters), columns, coords, _mask(found.signs))


def _is_number(token: bytes, nan: bool) -> bool:
    """Whether a token is a number that float32 can hold; `nan`: NaN is allowed too."""
    try:
        value = float(token)
    except ValueError:
        return False
    return b"_" not in token and (abs(value) <= _LARGEST or (nan and value != value))
