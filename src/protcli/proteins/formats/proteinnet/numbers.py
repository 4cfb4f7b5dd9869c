"""Parsing the numbers of records: a whole batch at once, or one record slowly to report its error."""

from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from protcli.errors import shown
from protcli.proteins.formats.limits import FARTHEST, check_coords, check_profile
from protcli.proteins.formats.proteinnet.records import RawRecord, Record, mask_of, sections_of, text_of
from protcli.proteins.protein import Protein
from protcli.proteins.residues import ALPHABET_SIZE

PICOMETRES_PER_ANGSTROM = 100

_LARGEST = float(np.finfo(np.float32).max)
_NUMBERS = ALPHABET_SIZE + 9  # numbers per residue


def place_coords(xyz: np.ndarray) -> np.ndarray:
    """Convert backbone positions: float32 [L, 3, 3] in angstrom from picometres [3, 3L].

    An atom with three zeros or any NaN becomes NaN in all three.
    """
    angstrom = (xyz / PICOMETRES_PER_ANGSTROM).astype(np.float32)  # [3, 3L]
    missing = ~(np.abs(angstrom).sum(axis=0) > 0)
    np.copyto(angstrom, np.nan, where=missing)
    return np.ascontiguousarray(angstrom.T).reshape(-1, 3, 3)  # [L, 3, 3]


class Numbers(NamedTuple):
    """The numbers of a batch, with its R residues concatenated over records."""

    profile: np.ndarray  # float32 [R, 21]
    coords: np.ndarray  # float32 [R, 3, 3] in angstrom


def parse_numbers(records: list[Record]) -> Numbers | None:
    """Parse the numbers of several records at once; None if anything is unusual.

    Arrow casts strings to float64, correctly rounded (fast_float) like Python's float. The strings are views of the
    text, alternating tokens and separators, with separators null: nothing is split or copied.
    """
    if not records:
        return None
    row_ends = np.cumsum(np.array([record.widths() for record in records])) - 1  # indices of tokens that end a row
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
            middle = start * _NUMBERS + (end - start) * ALPHABET_SIZE  # profile before, coordinates after
            profile[start:end] = values[start * _NUMBERS : middle].reshape(ALPHABET_SIZE, -1).T
            xyz[:, 3 * start : 3 * end] = values[middle : end * _NUMBERS].reshape(3, -1)
    try:
        check_profile(profile)
    except ValueError:
        return None
    if not np.abs(xyz).max() <= FARTHEST * PICOMETRES_PER_ANGSTROM:  # nor for NaN
        return None
    return Numbers(profile, place_coords(xyz))


def parse_slowly(raw: RawRecord) -> Protein:
    """Parse one record line by line, with Python's float; raises the first error."""
    sections = sections_of(raw)
    length = len(sections.letters)
    parsed = []
    for i, (row, line) in enumerate(zip(sections.rows, sections.lines, strict=True)):
        profile = i < ALPHABET_SIZE
        name = f"[EVOLUTIONARY] row {i + 1}" if profile else f"[TERTIARY] row {i + 1 - ALPHABET_SIZE}"
        width, reason = (length, "one per residue") if profile else (3 * length, "N, CA and C' of each residue")
        tokens = row.split()
        if len(tokens) != width:
            raise raw.error(line, sections.id, f"{name} has {len(tokens)} columns, expected {width}, {reason}")
        for column, token in enumerate(tokens, start=1):
            if not _is_number(token, nan=not profile):
                problem = f"{name}, column {column}: expected a number, found {shown(text_of(token))}"
                raise raw.error(line, sections.id, problem)
        values = np.array([float(token) for token in tokens])
        try:
            if profile:
                check_profile(values.astype(np.float32))
            else:
                check_coords(values / PICOMETRES_PER_ANGSTROM)
        except ValueError as error:
            raise raw.error(line, sections.id, f"{name}: {error}") from None
        parsed.append(values)
    columns = np.array(parsed[:ALPHABET_SIZE], dtype=np.float32).T.copy()  # [L, 21]
    coords = place_coords(np.array(parsed[ALPHABET_SIZE:]))
    return Protein(sections.id, text_of(sections.letters), columns, coords, mask_of(sections.signs))


def _is_number(token: bytes, nan: bool) -> bool:
    """Whether a token is a number that float32 can hold; `nan` also allows NaN."""
    try:
        value = float(token)
    except ValueError:
        return False
    return b"_" not in token and (abs(value) <= _LARGEST or (nan and value != value))
