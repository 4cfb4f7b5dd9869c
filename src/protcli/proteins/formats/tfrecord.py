"""Reader of TFRecord files without TensorFlow: ProteinNet's SequenceExample and the two studies' flat Example.

Framing (per record): uint64 length, its masked CRC32C, the data, their masked CRC32C, all little-endian.
Source: tensorflow/core/lib/io/record_writer.h; messages: tensorflow/core/example/{example,feature}.proto.
"""

from collections.abc import Callable, Iterator
from functools import cache
from itertools import count
from pathlib import Path

import numpy as np

from protcli.errors import ProtcliError
from protcli.proteins.formats.proteinnet import place_coords, read_blocks
from protcli.proteins.protein import Protein
from protcli.proteins.residues import ALPHABET_SIZE, AMINO_ACIDS, UNKNOWN, sequence_profile

PROTEINNET_TEXT = "proteinnet-text"
PROTEINNET_TFRECORD = "proteinnet-tfrecord"
STUDIES_TFRECORD = "studies-tfrecord"

FLAT_NOTE = (
    "These are flat tf.train.Example records of 256 residues and 256 points: the points are taken for N, CA and C' of "
    "the first 85 residues, the 256th point is dropped, and the residues beyond the 85th are masked."
)

_FLAT_LENGTH = 256
_FLAT_RESIDUES = 85  # whose three atoms the 256 points hold, one point over
_LONGEST_RECORD = 1 << 30
_HEADER = 12
_LETTERS = np.frombuffer((AMINO_ACIDS + UNKNOWN).encode(), dtype=np.uint8)
_FLOATS, _INTEGERS = 2, 3  # field numbers of a Feature's float_list and int64_list

_Feature = list[bytes] | np.ndarray


def sniff(path: str | Path) -> str:
    """Tell by its content what a file, plain or gzipped, holds: one of the constants above, or "unknown".

    Raises:
        ProtcliError: for a file that cannot be read.
    """
    path = Path(path)
    stream = read_blocks(path)
    head = next(stream, b"")
    if head.lstrip().startswith(b"[ID]"):
        return PROTEINNET_TEXT
    if len(head) < _HEADER or not _is_intact(head[:8], head[8:_HEADER]):
        return "unknown"
    length = int.from_bytes(head[:8], "little")
    while len(head) < _HEADER + length and (block := next(stream, b"")):
        head += block
    try:
        flat = _is_flat(memoryview(head)[_HEADER : _HEADER + length])
    except ValueError:
        flat = False  # damaged: the reader says how
    return STUDIES_TFRECORD if flat else PROTEINNET_TFRECORD


def read_tfrecord(
    path: str | Path,
    *,
    on_bad: Callable[[ProtcliError], None] | None = None,
    on_bytes: Callable[[bytes], None] | None = None,
) -> Iterator[Protein]:
    """Read the records of a TFRecord file, plain or gzipped, in constant memory; each may be of either layout.

    ProteinNet's SequenceExample: all but `primary` and the id may be missing. Without `evolutionary` the profile is
    made from the sequence (`has_profile` False); where it has 20 columns, as in ProteinNet's own sample, its
    information content is computed; without `tertiary` every atom is missing and no residue resolved; without `mask` a
    residue with an atom is.

    The studies' flat Example (`FLAT_NOTE`): it does not say how long the protein is and fills with zeros, while 0 is
    alanine too, so that L is up to the last residue with a profile row, an amino acid or a point that is not all zero.
    A residue with a point is resolved.

    Coordinates are divided from picometres to angstrom here. `on_bad` and `on_bytes` are as in `read_proteinnet`;
    reading goes on after a record whose data are broken, and ends where the file is cut short or a length is damaged.

    Raises:
        ProtcliError: with file, record number, byte offset and record id, for a broken record; and, with `on_bad` too,
            for a file that cannot be opened, is empty or is no TFRecord file.
    """
    path = Path(path)
    for number, offset, frame in _frames(path, on_bytes):
        result = frame if isinstance(frame, ProtcliError) else _parse(frame, f"{path}, record {number}, byte {offset}")
        if isinstance(result, Protein):
            yield result
        elif on_bad is None:
            raise result
        else:
            on_bad(result)


def _frames(
    path: Path, on_bytes: Callable[[bytes], None] | None
) -> Iterator[tuple[int, int, memoryview | ProtcliError]]:
    """Number from 1, byte offset and data of each record; an error in the place of a damaged one."""
    stream = read_blocks(path, on_bytes)
    pending = bytearray()

    def take(size: int) -> bytes:
        """The next `size` bytes, fewer at the end of the file."""
        while len(pending) < size and (block := next(stream, b"")):
            pending.extend(block)
        taken = bytes(memoryview(pending)[:size])
        del pending[:size]
        return taken

    offset = 0
    for number in count(1):
        where = f"{path}, record {number}, byte {offset}"
        try:
            header = take(_HEADER)
            if not header and number > 1:
                return
            problem = _header_problem(header)
            if problem and number == 1:
                raise ProtcliError(f"{path} is {'empty' if not header else f'no TFRecord file: {problem}'}")
            length = int.from_bytes(header[:8], "little")
            data = b"" if problem else take(length + 4)
        except ProtcliError as error:  # the gzip stream
            if number == 1:
                raise
            yield number, offset, error
            return
        if not problem and len(data) < length + 4:
            problem = f"the file is cut short: expected {length + 4} more bytes, found {len(data)}; fetch it again"
        if problem:
            yield number, offset, ProtcliError(f"{where}: {problem}")
            for _ in stream:  # `on_bytes` sees the whole file all the same
                pass
            return
        if _is_intact(data[:-4], data[-4:]):
            yield number, offset, memoryview(data)[:-4]
        else:
            problem = "the data do not match their CRC32C; the file is damaged, fetch it again"
            yield number, offset, ProtcliError(f"{where}: {problem}")
        offset += _HEADER + length + 4


def _header_problem(header: bytes) -> str:
    """What is wrong with the twelve bytes before a record; empty if nothing is."""
    if len(header) < _HEADER:
        return f"the file is cut short: expected a header of {_HEADER} bytes, found {len(header)}; fetch it again"
    if not _is_intact(header[:8], header[8:]):
        return "the record's length does not match its CRC32C"
    if (length := int.from_bytes(header[:8], "little")) > _LONGEST_RECORD:
        return f"a record of {length} bytes is no protein, expected at most {_LONGEST_RECORD}"
    return ""


# ---- from messages to proteins


def _parse(data: memoryview, where: str) -> Protein | ProtcliError:
    id = ""
    try:
        if _is_flat(data):
            features = {name: _feature(value) for name, value in _entries(_messages(data, 1)).items()}
            id = _id(features.get("id"))
            return _flat_protein(id, features)
        context = _entries(_messages(data, 1))
        id = _id(_feature(context["id"]) if "id" in context else None)
        return _proteinnet_protein(id, _entries(_messages(data, 2)))
    except ValueError as error:
        return ProtcliError(f"{where}, {f'record {id}' if id else 'a record without an id'}: {error}")


def _is_flat(data: memoryview) -> bool:
    """Whether a message is an Example: a SequenceExample has feature lists, field 2."""
    return all(number != 2 for number, _ in _fields(data))


def _id(feature: _Feature | None) -> str:
    if not isinstance(feature, list) or len(feature) != 1:
        raise ValueError("expected one string 'id', found none; is this a TFRecord file of proteins?")
    return feature[0].decode("utf-8", "replace")


def _proteinnet_protein(id: str, lists: dict[str, memoryview]) -> Protein:
    steps = {
        name: _steps(lists[name], name) for name in ("primary", "evolutionary", "tertiary", "mask") if name in lists
    }
    steps = {name: values for name, values in steps.items() if len(values)}
    sequence = _sequence(_shaped(steps.get("primary"), "primary", None, 1)[:, 0])
    length = len(sequence)
    has_profile = "evolutionary" in steps
    profile = _profile(steps["evolutionary"], length) if has_profile else sequence_profile(sequence)
    if "tertiary" not in steps:
        coords = np.full((length, 3, 3), np.nan, dtype=np.float32)
        return Protein(id, sequence, profile, coords, np.zeros(length, dtype=bool), has_profile)
    coords = _coords(_shaped(steps["tertiary"], "tertiary", 3 * length, 3))
    mask = _shaped(steps["mask"], "mask", length, 1)[:, 0] > 0.5 if "mask" in steps else _has_atom(coords)
    return Protein(id, sequence, profile, coords, mask, has_profile)


def _flat_protein(id: str, features: dict[str, _Feature]) -> Protein:
    sizes = {"primary": _FLAT_LENGTH, "evolutionary": _FLAT_LENGTH * ALPHABET_SIZE, "tertiary": _FLAT_LENGTH * 3}
    arrays = {}
    for name, size in sizes.items():
        values = features.get(name)
        if not isinstance(values, np.ndarray) or values.size != size:
            found = values.size if isinstance(values, np.ndarray) else "none"
            raise ValueError(f"expected {size} numbers in '{name}', found {found}")
        arrays[name] = values
    codes = arrays["primary"]
    profile = arrays["evolutionary"].reshape(_FLAT_LENGTH, ALPHABET_SIZE)
    points = arrays["tertiary"].reshape(_FLAT_LENGTH, 3)[: 3 * _FLAT_RESIDUES]
    coords = np.full((_FLAT_LENGTH, 3, 3), np.nan, dtype=np.float32)
    coords[:_FLAT_RESIDUES] = _coords(points)
    mask = _has_atom(coords)
    real = np.flatnonzero((codes != 0) | profile.any(axis=1) | mask)
    if not len(real):
        raise ValueError("expected a protein, found zeros alone")
    length = int(real[-1]) + 1
    sequence = _sequence(codes[:length])
    return Protein(id, sequence, _profile(profile[:length], length), coords[:length], mask[:length])


def _shaped(values: np.ndarray | None, name: str, steps: int | None, columns: int) -> np.ndarray:
    """Check the shape of a feature list; `steps` None: any number of them."""
    if values is None:
        raise ValueError(f"expected a feature list '{name}', found none")
    if values.shape[1] != columns or steps not in (None, len(values)):
        found = f"{len(values)} steps of {values.shape[1]}"
        raise ValueError(
            f"expected {'' if steps is None else f'{steps} '}steps of {columns} in '{name}', found {found}"
        )
    return values


def _sequence(codes: np.ndarray) -> str:
    bad = np.flatnonzero((codes < 0) | (codes > len(AMINO_ACIDS)) | (codes != np.floor(codes)))
    if len(bad):
        found = f"{codes[bad[0]]} at position {bad[0] + 1}"
        raise ValueError(f"expected residues numbered 0 to {len(AMINO_ACIDS)} in 'primary', found {found}")
    return _LETTERS[codes.astype(np.int64)].tobytes().decode()


def _profile(values: np.ndarray, length: int) -> np.ndarray:
    """The profile float32 [L, 21] from [L, 21], or from [L, 20] without information content."""
    columns = len(AMINO_ACIDS) if values.shape[1] == len(AMINO_ACIDS) else ALPHABET_SIZE
    values = _shaped(values, "evolutionary", length, columns).astype(np.float32)
    if not np.isfinite(values).all():
        raise ValueError("expected finite numbers in 'evolutionary', found NaN or infinity")
    if columns == ALPHABET_SIZE:
        return values
    return np.column_stack([values, _information(values)])  # [L, 21]


def _information(frequencies: np.ndarray) -> np.ndarray:
    """Information content (log2 20 - H) / log2 20 of an alignment's columns: float32 [L] from [L, 20]; 0 for none."""
    p = frequencies.astype(np.float64)
    entropy = -(p * np.log2(np.where(p > 0, p, 1))).sum(axis=1)
    return np.where(p.any(axis=1), 1 - entropy / np.log2(len(AMINO_ACIDS)), 0).astype(np.float32)


def _coords(points: np.ndarray) -> np.ndarray:
    """float32 [n, 3, 3] in angstrom from [3n, 3] in picometres."""
    if np.isinf(points).any():
        raise ValueError("expected finite numbers in 'tertiary', found infinity")
    return place_coords(points.astype(np.float64).T)


def _has_atom(coords: np.ndarray) -> np.ndarray:
    """bool [L]: some atom of the residue has coordinates."""
    return ~np.isnan(coords).all(axis=(1, 2))


# ---- protobuf's wire format; ValueError for what is none


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Number and value of each field of a message: an int for a varint, else its bytes."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        wire_type = key & 7
        if wire_type == 0:
            value, at = _varint(data, at)
            yield key >> 3, value
            continue
        if wire_type == 2:
            size, at = _varint(data, at)
        elif wire_type in (1, 5):
            size = 8 if wire_type == 1 else 4
        else:
            raise ValueError(f"expected a protobuf message, found wire type {wire_type}")
        if at + size > len(data):
            raise ValueError(f"expected a field of {size} bytes, found {len(data) - at}")
        yield key >> 3, data[at : at + size]
        at += size


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """The number that begins at `at`, and where the next thing begins."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            break
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("expected a protobuf message, found a number without its end")


def _messages(data: memoryview, number: int) -> list[memoryview]:
    """The values of a repeated message field."""
    return [value for found, value in _fields(data) if found == number and isinstance(value, memoryview)]


def _entries(parts: list[memoryview]) -> dict[str, memoryview]:
    """A map from name to message, field 1 of Features and of FeatureLists; protobuf lets it come in parts."""
    entries = {}
    for part in parts:
        for entry in _messages(part, 1):
            names, values = _messages(entry, 1), _messages(entry, 2)
            if names and values:
                entries[bytes(names[-1]).decode("utf-8", "replace")] = values[-1]
    return entries


def _feature(data: memoryview) -> _Feature:
    """A Feature: strings, float32 [n] or int64 [n]; numbers packed or not."""
    feature: _Feature = []
    for kind, values in _fields(data):
        if not isinstance(values, memoryview):
            raise ValueError("expected a list in a feature, found a number")
        items = [value for number, value in _fields(values) if number == 1]
        parts = [item for item in items if isinstance(item, memoryview)]
        if kind == _FLOATS:
            feature = np.frombuffer(b"".join(parts), dtype="<f4").astype(np.float32)
        elif kind == _INTEGERS:
            feature = _integers(items)
        else:
            feature = [bytes(part) for part in parts]
    return feature


def _integers(items: list[int | memoryview]) -> np.ndarray:
    numbers: list[int] = []
    for item in items:
        if isinstance(item, int):
            numbers.append(item)
            continue
        at = 0
        while at < len(item):
            number, at = _varint(item, at)
            numbers.append(number)
    return np.array([number & 0xFFFF_FFFF_FFFF_FFFF for number in numbers], dtype=np.uint64).astype(np.int64)


def _steps(data: memoryview, name: str) -> np.ndarray:
    """A FeatureList: float32 or int64 [steps, values a step].

    A list whose steps are all encoded alike, as they mostly are, is read as one table; any other step by step.
    """
    if len(data) and data[0] == 0x0A:
        size, at = _varint(data, 1)
        table = np.frombuffer(data, dtype=np.uint8)
        if len(data) % (at + size) == 0:
            table = table.reshape(-1, at + size)
            for kind, width in ((_FLOATS, 4), (_INTEGERS, 1)):
                values = _table(table, kind, width)
                if values is not None:
                    return values
    steps = [_feature(step) for step in _messages(data, 1)]
    arrays = [step for step in steps if isinstance(step, np.ndarray)]
    if len(arrays) < len(steps) or len({len(step) for step in arrays}) > 1:
        raise ValueError(f"expected as many numbers in every step of '{name}', found steps that differ")
    return np.array(arrays) if arrays else np.empty((0, 0))


def _table(table: np.ndarray, kind: int, width: int) -> np.ndarray | None:
    """Steps uint8 [steps, bytes] as numbers, if each is one packed list of `kind` in `width` bytes a number."""
    stride = table.shape[1]
    for size in range(max(width, stride - 18), stride):  # 18: three keys of one byte and three lengths of at most five
        prefix = _prefix(kind, size)
        if size % width == 0 and len(prefix) + size == stride:
            break
    else:
        return None
    if (table[:, : len(prefix)] != np.frombuffer(prefix, dtype=np.uint8)).any():
        return None
    payload = np.ascontiguousarray(table[:, len(prefix) :])
    if kind == _FLOATS:
        return payload.view("<f4").astype(np.float32)
    return payload.astype(np.int64) if (payload < 0x80).all() else None


def _prefix(kind: int, size: int) -> bytes:
    """What stands before `size` bytes of packed numbers in a FeatureList's step: three nested keys and lengths."""
    prefix = b""
    for number in (1, kind, 1):  # from the innermost: value, float_list or int64_list, feature
        prefix = bytes([number << 3 | 2]) + _length(len(prefix) + size) + prefix
    return prefix


def _length(value: int) -> bytes:
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])


# ---- CRC32C (Castagnoli, reflected), on whole arrays: Python's zlib has only the other polynomial
# A register without start value is linear over GF(2): a message's is the exclusive or of its bytes' own, each moved on
# by the bytes that follow, and zeros in front change nothing.

_POLYNOMIAL = 0x82F63B78
_LANE = 256  # bytes reduced by one table


def _is_intact(data: bytes, masked_crc: bytes) -> bool:
    """Whether TFRecord's masked CRC32C [4 bytes] is that of the data."""
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFF_FFFF == int.from_bytes(masked_crc, "little")


def crc32c(data: bytes) -> int:
    """CRC32C of some bytes. Source: RFC 3720, section 12.1 and appendix B.4."""
    size = 4 + len(data)
    lanes = np.zeros((-(-size // _LANE), _LANE), dtype=np.uint8)
    lanes.reshape(-1)[-size:] = np.frombuffer(_start() + data, dtype=np.uint8)
    registers = np.bitwise_xor.reduce(_lane_table()[np.arange(_LANE), lanes], axis=1)
    level = 0
    while len(registers) > 1:
        if len(registers) % 2:
            registers = np.concatenate([np.zeros(1, dtype=np.uint32), registers])
        registers = _moved(registers[0::2], _move_table(level)) ^ registers[1::2]
        level += 1
    return int(registers[0]) ^ 0xFFFF_FFFF


@cache
def _start() -> bytes:
    """The four bytes that bring an empty register to its start value of all ones."""
    register = 0xFFFF_FFFF
    for _ in range(32):
        register = ((register ^ _POLYNOMIAL) << 1 | 1) if register >> 31 else register << 1
    return register.to_bytes(4, "little")


@cache
def _byte_table() -> np.ndarray:
    """The register after each byte: uint32 [256]."""
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, table >> 1 ^ _POLYNOMIAL, table >> 1).astype(np.uint32)
    return table


def _after_zero(registers: np.ndarray) -> np.ndarray:
    return registers >> 8 ^ _byte_table()[registers & 0xFF]


@cache
def _lane_table() -> np.ndarray:
    """The register at the end of a lane that each byte at each place gives: uint32 [_LANE, 256]."""
    rows = [_byte_table()]
    while len(rows) < _LANE:
        rows.append(_after_zero(rows[-1]))
    return np.array(rows[::-1])


@cache
def _move_table(level: int) -> np.ndarray:
    """Registers moved on by _LANE * 2**level zero bytes, for each value of each of their bytes: uint32 [4, 256]."""
    if level:
        return _moved(_move_table(level - 1), _move_table(level - 1))
    table = np.arange(256, dtype=np.uint32) << np.array([[0], [8], [16], [24]], dtype=np.uint32)
    for _ in range(_LANE):
        table = _after_zero(table)
    return table


def _moved(registers: np.ndarray, table: np.ndarray) -> np.ndarray:
    parts = [table[i][registers >> 8 * i & 0xFF] for i in range(4)]
    return parts[0] ^ parts[1] ^ parts[2] ^ parts[3]
