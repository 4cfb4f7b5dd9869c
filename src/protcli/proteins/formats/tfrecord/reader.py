"""Reads proteins from TFRecord files, and detects the kind of a file."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from protcli.errors import ProtcliError, excerpt
from protcli.proteins.formats.files import read_blocks
from protcli.proteins.formats.limits import LONGEST_RECORD, check_protein
from protcli.proteins.formats.proteinnet import place_coords
from protcli.proteins.formats.tfrecord.frames import HEADER, is_intact, read_frames
from protcli.proteins.formats.tfrecord.wire import Feature, entries_of, feature_of, fields_of, messages_in, steps_of
from protcli.proteins.protein import Protein
from protcli.proteins.residues import ALPHABET_SIZE, AMINO_ACIDS, UNKNOWN, sequence_profile

PROTEINNET_TEXT = "proteinnet-text"
PROTEINNET_TFRECORD = "proteinnet-tfrecord"
STUDIES_TFRECORD = "studies-tfrecord"

FLAT_NOTE = (
    "These are flat tf.train.Example records of 256 residues and 256 points: the points are read as N, CA and C' of "
    "the first 85 residues, the 256th point is dropped, and the residues after the 85th are masked."
)

_FLAT_LENGTH = 256
_FLAT_RESIDUES = 85  # the 256 points hold three atoms of each, and one extra point
_LETTERS = np.frombuffer((AMINO_ACIDS + UNKNOWN).encode(), dtype=np.uint8)


def sniff(path: str | Path) -> str:
    """Detect the format of a plain or gzipped file by content: one of the constants above, or "unknown".

    Raises:
        ProtcliError: the file cannot be read.
    """
    path = Path(path)
    stream = read_blocks(path)
    head = next(stream, b"")
    if head.lstrip().startswith(b"[ID]"):
        return PROTEINNET_TEXT
    if len(head) < HEADER or not (is_intact(head[:8], head[8:HEADER]) or _is_headed(head)):
        return "unknown"
    length = min(int.from_bytes(head[:8], "little"), LONGEST_RECORD)
    while len(head) < HEADER + length and (block := next(stream, b"")):
        head += block
    try:
        flat = _is_flat(memoryview(head)[HEADER : HEADER + length])
    except ValueError:
        flat = False  # damaged: the reader reports the error
    return STUDIES_TFRECORD if flat else PROTEINNET_TFRECORD


def _is_headed(head: bytes) -> bool:
    """Whether a file begins like a record whose length is damaged: with zeros in it, and then a message's field 1."""
    return b"\0\0" in head[:8] and head[HEADER : HEADER + 1] == b"\n"


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
    path = Path(path)
    for number, offset, frame in read_frames(path, on_bytes):
        result = frame if isinstance(frame, ProtcliError) else _parse(frame, f"{path}, record {number}, byte {offset}")
        if isinstance(result, Protein):
            yield result
        elif on_bad is None:
            raise result
        else:
            on_bad(result)


def _parse(data: memoryview, where: str) -> Protein | ProtcliError:
    id = ""
    try:
        if _is_flat(data):
            features = {name: feature_of(value) for name, value in entries_of(messages_in(data, 1)).items()}
            id = _id(features.get("id"))
            return check_protein(_flat_protein(id, features))
        context = entries_of(messages_in(data, 1))
        id = _id(feature_of(context["id"]) if "id" in context else None)
        return check_protein(_proteinnet_protein(id, entries_of(messages_in(data, 2))))
    except ValueError as error:
        return ProtcliError(f"{where}, {f'record {excerpt(id)}' if id else 'a record without an ID'}: {error}")


def _is_flat(data: memoryview) -> bool:
    """Whether a message is an Example: a SequenceExample has feature lists, field 2."""
    return all(number != 2 for number, _ in fields_of(data))


def _id(feature: Feature | None) -> str:
    if not isinstance(feature, list) or len(feature) != 1:
        raise ValueError("expected one string 'id', found none; is this a TFRecord file of proteins?")
    return feature[0].decode("utf-8", "replace")


def _proteinnet_protein(id: str, lists: dict[str, memoryview]) -> Protein:
    steps = {
        name: steps_of(lists[name], name) for name in ("primary", "evolutionary", "tertiary", "mask") if name in lists
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


def _flat_protein(id: str, features: dict[str, Feature]) -> Protein:
    sizes = {"primary": _FLAT_LENGTH, "evolutionary": _FLAT_LENGTH * ALPHABET_SIZE, "tertiary": _FLAT_LENGTH * 3}
    arrays = {}
    for name, size in sizes.items():
        values = features.get(name)
        if not isinstance(values, np.ndarray) or values.size != size:
            actual = values.size if isinstance(values, np.ndarray) else "none"
            raise ValueError(f"expected {size} numbers in '{name}', found {actual}")
        arrays[name] = values
    codes = arrays["primary"]
    profile = arrays["evolutionary"].reshape(_FLAT_LENGTH, ALPHABET_SIZE)
    points = arrays["tertiary"].reshape(_FLAT_LENGTH, 3)[: 3 * _FLAT_RESIDUES]
    coords = np.full((_FLAT_LENGTH, 3, 3), np.nan, dtype=np.float32)
    coords[:_FLAT_RESIDUES] = _coords(points)
    mask = _has_atom(coords)
    real = np.flatnonzero((codes != 0) | profile.any(axis=1) | mask)
    if not len(real):
        raise ValueError("expected a protein, found only zeros")
    length = int(real[-1]) + 1
    sequence = _sequence(codes[:length])
    return Protein(id, sequence, _profile(profile[:length], length), coords[:length], mask[:length])


def _shaped(values: np.ndarray | None, name: str, steps: int | None, columns: int) -> np.ndarray:
    """Check the shape of a feature list; `steps` None allows any number."""
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
    """The profile as float32 [L, 21] from [L, 21], or from [L, 20] without information content."""
    columns = len(AMINO_ACIDS) if values.shape[1] == len(AMINO_ACIDS) else ALPHABET_SIZE
    values = _shaped(values, "evolutionary", length, columns).astype(np.float32)
    if not np.isfinite(values).all():
        raise ValueError("expected finite numbers in 'evolutionary', found NaN or infinity")
    if columns == ALPHABET_SIZE:
        return values
    return np.column_stack([values, _information(values)])  # [L, 21]


def _information(frequencies: np.ndarray) -> np.ndarray:
    """Information content (log2 20 - H) / log2 20 of alignment columns: float32 [L] from [L, 20]; 0 if empty."""
    p = frequencies.astype(np.float64)
    entropy = -(p * np.log2(np.where(p > 0, p, 1))).sum(axis=1)
    return np.where(p.any(axis=1), 1 - entropy / np.log2(len(AMINO_ACIDS)), 0).astype(np.float32)


def _coords(points: np.ndarray) -> np.ndarray:
    """float32 [n, 3, 3] in angstrom from [3n, 3] in picometres."""
    if np.isinf(points).any():
        raise ValueError("expected finite numbers in 'tertiary', found infinity")
    return place_coords(points.astype(np.float64).T)


def _has_atom(coords: np.ndarray) -> np.ndarray:
    """Whether any atom of the residue has coordinates: bool [L]."""
    return ~np.isnan(coords).all(axis=(1, 2))
