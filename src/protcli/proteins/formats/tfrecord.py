"""TFRecord files without TensorFlow: ProteinNet's SequenceExample and the two studies' flat Example.

A record is a uint64 length, its masked CRC32C, the data and their masked CRC32C, all little-endian; the data are a
message in protobuf's wire format. It is decoded by hand because the protobuf library creates an object for every step
of a feature list: on ProteinNet's validation chains, creating and unpacking them takes seven times as long as this.
Sources: tensorflow/core/lib/io/record_writer.h, tensorflow/core/example/{example,feature}.proto.
"""

import codecs
from collections import deque
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import google_crc32c
import numpy as np

from protcli.errors import ProtcliError, truncate
from protcli.proteins.formats.files import LONGEST_RECORD, check_protein, proteins_of, read_blocks
from protcli.proteins.formats.promod3 import PROMOD3, PROMOD3_SIZES
from protcli.proteins.formats.proteinnet import place_coords
from protcli.proteins.profiles import with_information
from protcli.proteins.protein import Protein
from protcli.proteins.residues import ALPHABET_SIZE, AMINO_ACIDS, decode, sequence_profile

PROTEINNET_TEXT = "proteinnet-text"
PROTEINNET_TFRECORD = "proteinnet-tfrecord"
STUDIES_TFRECORD = "studies-tfrecord"

FLAT_NOTE = (
    "These are flat tf.train.Example records of 256 residues and 256 points: the points are read as N, CA and C' of "
    "the first 85 residues, the 256th point is dropped, and the residues after the 85th are masked."
)

_HEADER = 12  # bytes before the data
_FLAT_LENGTH = 256
_FLAT_RESIDUES = 85  # the 256 points hold three atoms of each, and one extra point
_FLOATS, _INTEGERS = 2, 3  # field numbers of a Feature's float_list and int64_list

Feature = list[bytes] | np.ndarray  # strings, float32 [n] or int64 [n]


def sniff(path: str | Path) -> str:
    """Detect the format of a plain or gzipped file by content: one of the constants above, PROMOD3, or "unknown".

    Raises:
        ProtcliError: the file cannot be read.
    """
    stream = read_blocks(Path(path))
    head = next(stream, b"")
    if head.removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"[ID]"):
        return PROTEINNET_TEXT
    if PROMOD3_SIZES in head or Path(path).name == "structure_db.dat":
        return PROMOD3
    # a damaged length has zeros in it, and a message's field 1 after it
    headed = b"\0\0" in head[:8] and head[_HEADER : _HEADER + 1] == b"\n"
    if len(head) < _HEADER or not (headed or _is_intact(head[:8], head[8:_HEADER])):
        return "unknown"
    length = min(int.from_bytes(head[:8], "little"), LONGEST_RECORD)
    while len(head) < _HEADER + length and (block := next(stream, b"")):
        head += block
    try:
        flat = _is_flat(memoryview(head)[_HEADER : _HEADER + length])
    except ValueError:
        flat = False  # damaged: the reader reports the error
    return STUDIES_TFRECORD if flat else PROTEINNET_TFRECORD


def read_tfrecord(
    path: str | Path,
    *,
    on_bad: Callable[[ProtcliError], None] | None = None,
    on_bytes: Callable[[bytes], None] | None = None,
) -> Iterator[Protein]:
    """Read the records of a TFRecord file, plain or gzipped, in constant memory; each may be of either layout.

    ProteinNet's SequenceExample: all but `primary` and the ID may be missing. Without `evolutionary` the profile is
    built from the sequence (`has_profile` False); if it has 20 columns, as in ProteinNet's own sample, the information
    content is computed. Without `tertiary` all atoms are missing and no residue is resolved; without `mask`, residues
    with an atom are resolved.

    The studies' flat Example (`FLAT_NOTE`) does not give the protein's length and pads with zeros, but 0 is also
    alanine. So L reaches to the last residue with a nonzero profile row, amino acid or point. Residues with a point are
    resolved.

    Coordinates are converted from picometres to angstrom. `on_bad` and `on_bytes` are as in `read_proteinnet`; reading
    continues after a record with broken data, and ends where the file is truncated or a length is damaged.

    Raises:
        ProtcliError: a record is broken (with file, record number, byte offset and record ID); or, even with `on_bad`,
            the file cannot be opened, is empty or is not a TFRecord file.
    """
    return proteins_of((_parse(frame, where) for where, frame in _read_frames(Path(path), on_bytes)), on_bad)


def _read_frames(
    path: Path, on_bytes: Callable[[bytes], None] | None
) -> Iterator[tuple[str, memoryview | ProtcliError]]:
    """Yield where each record is (file, number from 1, byte offset) and its data, or an error if it is damaged.

    Raises:
        ProtcliError: the file cannot be opened, is empty or does not begin like a TFRecord file.
    """
    stream = read_blocks(path, on_bytes)
    pending = bytearray()

    def take(size: int) -> bytes:
        """The next `size` bytes, or fewer at the end of the file."""
        while len(pending) < size and (block := next(stream, b"")):
            pending.extend(block)
        taken = bytes(memoryview(pending)[:size])
        del pending[:size]
        return taken

    offset = 0
    for number in count(1):
        where = f"{path}, record {number}, byte {offset}"
        try:
            data = _next_frame(take, where)
        except ProtcliError as error:
            if number == 1:
                raise ProtcliError(f"{error}, or it is not a TFRecord file") from error
            yield where, error
            deque(stream, maxlen=0)  # so that `on_bytes` still sees the whole file
            return
        if not data:
            if number == 1:
                raise ProtcliError(f"{path} is empty")
            return
        damaged = ProtcliError(f"{where}: the data do not match their CRC32C; the file is damaged, fetch it again")
        yield where, memoryview(data)[:-4] if _is_intact(data[:-4], data[-4:]) else damaged
        offset += _HEADER + len(data)


def _next_frame(take: Callable[[int], bytes], where: str) -> bytes:
    """The data of the next record and their CRC32C; empty at the end of the file.

    Raises:
        ProtcliError: the length is damaged, or the file ends within the record.
    """
    header = take(_HEADER)
    if not header:
        return b""
    problem, size = "the file is truncated within this record", int.from_bytes(header[:8], "little")
    if len(header) == _HEADER:
        if not _is_intact(header[:8], header[8:]):
            problem = "the record's length does not match its CRC32C; the file is damaged"
        elif size > LONGEST_RECORD:
            problem = f"a record of {size} bytes is not a protein; expected at most {LONGEST_RECORD}"
        elif len(data := take(size + 4)) == size + 4:
            return data
    raise ProtcliError(f"{where}: {problem}; fetch it again")


def _is_intact(data: bytes, masked_crc: bytes) -> bool:
    """Whether TFRecord's masked CRC32C [4 bytes] matches the data."""
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFF_FFFF == int.from_bytes(masked_crc, "little")


# --- messages: everything below raises ValueError for what is none ---


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield number and value of each field of a message: an int for a varint, otherwise bytes."""
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
    """The number at offset `at`, and the offset after it."""
    value = 0
    for shift, place in enumerate(range(at, min(at + 10, len(data)))):
        value |= (data[place] & 0x7F) << 7 * shift
        if data[place] < 0x80:
            return value, place + 1
    raise ValueError("expected a protobuf message, found an incomplete number")


def _messages(data: memoryview, number: int) -> list[memoryview]:
    """The values of the repeated message field with this number."""
    return [value for field, value in _fields(data) if field == number and isinstance(value, memoryview)]


def _entries(data: memoryview, number: int) -> dict[str, memoryview]:
    """A map from name to message, field 1 of Features and FeatureLists; protobuf may split it into parts."""
    entries = {}
    for part in _messages(data, number):
        for entry in _messages(part, 1):
            names, values = _messages(entry, 1), _messages(entry, 2)
            if names and values:
                entries[bytes(names[-1]).decode("utf-8", "replace")] = values[-1]
    return entries


def _feature(data: memoryview) -> Feature:
    """Decode a Feature, with packed or unpacked numbers."""
    feature: Feature = []
    for kind, values in _fields(data):
        if not isinstance(values, memoryview):
            raise ValueError("expected a list in a feature, found a number")
        items = [value for number, value in _fields(values) if number == 1]
        parts = [bytes(item) for item in items if isinstance(item, memoryview)]
        if kind == _FLOATS:
            feature = np.frombuffer(b"".join(parts), dtype="<f4").astype(np.float32)
        elif kind == _INTEGERS:
            numbers = [n for item in items for n in ([item] if isinstance(item, int) else _varints(item))]
            feature = np.array([n & 0xFFFF_FFFF_FFFF_FFFF for n in numbers], dtype=np.uint64).astype(np.int64)
        else:
            feature = parts
    return feature


def _varints(data: memoryview) -> Iterator[int]:
    at = 0
    while at < len(data):
        value, at = _varint(data, at)
        yield value


def _steps(data: memoryview, name: str) -> np.ndarray:
    """Decode the FeatureList `name`: float32 or int64 [steps, values per step].

    A list whose steps are all encoded like the first, as most are, is read as one table; any other step by step.
    """
    if len(data) and data[0] == 0x0A:
        size, at = _varint(data, 1)
        first = _feature(data[at : at + size])
        if isinstance(first, np.ndarray) and len(first) and len(data) % (at + size) == 0:
            table = np.frombuffer(data, dtype=np.uint8).reshape(-1, at + size)
            numbers = np.dtype("<f4" if first.dtype == np.float32 else np.uint8)  # integers of one byte each
            keys = table.shape[1] - numbers.itemsize * len(first)  # bytes of keys and lengths, before the numbers
            before, after = table[:, :keys], table[:, keys:]
            values = np.ascontiguousarray(after).view(numbers).astype(first.dtype)
            one_byte = first.dtype == np.float32 or (after < 0x80).all()
            if one_byte and np.array_equal(values[0], first) and (before == before[0]).all():
                return values
    steps = [_feature(step) for step in _messages(data, 1)]
    arrays = [step for step in steps if isinstance(step, np.ndarray)]
    if len(arrays) < len(steps) or len({len(step) for step in arrays}) > 1:
        raise ValueError(f"expected as many numbers in every step of '{name}', found steps that differ")
    return np.array(arrays) if arrays else np.empty((0, 0))


# --- proteins ---


def _parse(data: memoryview | ProtcliError, where: str) -> Protein | ProtcliError:
    if isinstance(data, ProtcliError):
        return data
    id = ""
    try:
        features = {name: _feature(value) for name, value in _entries(data, 1).items()}
        match features.get("id"):
            case [bytes(name)]:
                id = name.decode("utf-8", "replace")
            case _:
                raise ValueError("expected one string 'id', found none; is this a TFRecord file of proteins?")
        flat = _is_flat(data)
        return check_protein(_flat_protein(id, features) if flat else _proteinnet_protein(id, _entries(data, 2)))
    except ValueError as error:
        return ProtcliError(f"{where}, {f'record {truncate(id)}' if id else 'a record without an ID'}: {error}")


def _is_flat(data: memoryview) -> bool:
    """Whether a message is an Example: a SequenceExample has feature lists, field 2."""
    return all(number != 2 for number, _ in _fields(data))


def _proteinnet_protein(id: str, lists: dict[str, memoryview]) -> Protein:
    known = ("primary", "evolutionary", "tertiary", "mask")
    steps = {name: values for name in known if name in lists and len(values := _steps(lists[name], name))}
    if "primary" not in steps:
        raise ValueError("expected a feature list 'primary', found none")
    sequence = _sequence(_shaped(steps["primary"], "primary", None, 1)[:, 0])
    length = len(sequence)
    has_profile = "evolutionary" in steps
    profile = _profile(steps["evolutionary"], length) if has_profile else sequence_profile(sequence)
    points = _shaped(steps["tertiary"], "tertiary", 3 * length, 3) if "tertiary" in steps else np.zeros((3 * length, 3))
    coords, mask = _coords(points)
    if "tertiary" in steps and "mask" in steps:
        mask = _shaped(steps["mask"], "mask", length, 1)[:, 0] > 0.5
    return Protein(id, sequence, profile, coords, mask, has_profile)


def _flat_protein(id: str, features: dict[str, Feature]) -> Protein:
    arrays = []
    for name, columns in (("primary", 1), ("evolutionary", ALPHABET_SIZE), ("tertiary", 3)):
        values, size = np.asarray(features.get(name, [])), _FLAT_LENGTH * columns
        if values.size != size or values.dtype.kind not in "fi":
            raise ValueError(f"expected {size} numbers in '{name}', found {values.size if values.size else 'none'}")
        arrays.append(values.reshape(_FLAT_LENGTH, columns))
    codes, profile, points = arrays
    coords = np.full((_FLAT_LENGTH, 3, 3), np.nan, dtype=np.float32)
    mask = np.zeros(_FLAT_LENGTH, dtype=bool)
    coords[:_FLAT_RESIDUES], mask[:_FLAT_RESIDUES] = _coords(points[: 3 * _FLAT_RESIDUES])
    real = np.flatnonzero((codes[:, 0] != 0) | profile.any(axis=1) | mask)
    if not len(real):
        raise ValueError("expected a protein, found only zeros")
    end = int(real[-1]) + 1
    return Protein(id, _sequence(codes[:end, 0]), _profile(profile[:end], end), coords[:end], mask[:end])


def _shaped(values: np.ndarray, name: str, steps: int | None, columns: int) -> np.ndarray:
    """Check the shape of a feature list; `steps` None allows any number."""
    if values.shape[1] != columns or steps not in (None, len(values)):
        expected = "steps" if steps is None else f"{steps} steps"
        raise ValueError(
            f"expected {expected} of {columns} in '{name}', found {len(values)} steps of {values.shape[1]}"
        )
    return values


def _sequence(codes: np.ndarray) -> str:
    bad = np.flatnonzero((codes < 0) | (codes > len(AMINO_ACIDS)) | (codes != np.floor(codes)))
    if len(bad):
        found = f"{codes[bad[0]]} at position {bad[0] + 1}"
        raise ValueError(f"expected residues numbered 0 to {len(AMINO_ACIDS)} in 'primary', found {found}")
    return decode(codes.astype(np.int64))


def _profile(values: np.ndarray, length: int) -> np.ndarray:
    """The profile as float32 [L, 21] from [L, 21], or from [L, 20] without information content."""
    columns = len(AMINO_ACIDS) if values.shape[1] == len(AMINO_ACIDS) else ALPHABET_SIZE
    values = _shaped(values, "evolutionary", length, columns).astype(np.float32)
    if not np.isfinite(values).all():
        raise ValueError("expected finite numbers in 'evolutionary', found NaN or infinity")
    return values if columns == ALPHABET_SIZE else with_information(values)


def _coords(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """float32 [L, 3, 3] in angstrom from [3L, 3] in picometres, and which residues have an atom, bool [L]."""
    if np.isinf(points).any():
        raise ValueError("expected finite numbers in 'tertiary', found infinity")
    coords = place_coords(points.astype(np.float64).T)
    return coords, ~np.isnan(coords).all(axis=(1, 2))
