"""The columns of a split's Arrow file, and the digest of their content."""

from dataclasses import dataclass
from hashlib import sha256

import numpy as np
import pyarrow as pa

from protcli.proteins.residues import ALPHABET_SIZE

BATCH_RECORDS = 64  # proteins per Arrow record batch; part of the format: proteins are located by division
SCHEMA = pa.schema(
    [
        ("id", pa.utf8()),
        ("sequence", pa.utf8()),
        ("profile", pa.large_list(pa.float32())),  # L * 21
        ("coords", pa.large_list(pa.float32())),  # L * 9, NaN = missing
        ("mask", pa.large_list(pa.uint8())),  # L, 0 if unresolved, else 1 + secondary structure
        ("has_profile", pa.bool_()),
    ]
)
FEATURES = "features"  # a column that a split may have beside these: float16, L * D


@dataclass(frozen=True)
class Columns:
    """Views of a batch of n proteins with R concatenated residues: residue r of protein i is at ends[i] + r."""

    ids: pa.StringArray
    sequences: pa.StringArray
    ends: np.ndarray  # [n + 1]
    profile: np.ndarray  # [R, 21]
    coords: np.ndarray  # [R, 3, 3]
    mask: np.ndarray  # [R], as in the schema
    has_profile: pa.BooleanArray
    features: np.ndarray | None  # float16 [R, D]

    @classmethod
    def of(cls, batch: pa.RecordBatch) -> "Columns":
        """View a batch with schema `SCHEMA`, perhaps with features; nothing is copied.

        Raises:
            pa.ArrowInvalid: a value is missing, or a protein's columns differ in length.
        """
        if any(column.null_count for column in batch.columns):
            raise pa.ArrowInvalid("a value is missing")
        ends = batch.column("mask").offsets.to_numpy()
        letters, _ = _text(batch.column("sequence"))
        if ends[0] != 0 or not np.array_equal(letters, ends):
            raise pa.ArrowInvalid("sequences and masks differ in length")
        for name, per_residue in (("profile", ALPHABET_SIZE), ("coords", 9)):
            if not np.array_equal(batch.column(name).offsets.to_numpy(), ends * per_residue):
                raise pa.ArrowInvalid(f"{name} and mask differ in length")
        features = None
        if FEATURES in batch.schema.names:
            rows = batch.column(FEATURES)
            if not np.array_equal(rows.offsets.to_numpy(), ends):
                raise pa.ArrowInvalid("features and mask differ in length")
            features = rows.values.values.to_numpy().reshape(-1, rows.type.value_type.list_size)
        return cls(
            ids=batch.column("id"),
            sequences=batch.column("sequence"),
            ends=ends,
            profile=batch.column("profile").values.to_numpy().reshape(-1, ALPHABET_SIZE),
            coords=batch.column("coords").values.to_numpy().reshape(-1, 3, 3),
            mask=batch.column("mask").values.to_numpy(),
            has_profile=batch.column("has_profile"),
            features=features,
        )


def schema(features: int) -> pa.Schema:
    """The columns of a split whose residues have so many features."""
    if not features:
        return SCHEMA
    return SCHEMA.append(pa.field(FEATURES, pa.large_list(pa.list_(pa.float16(), features))))


class ContentDigest:
    """Identifies the content of a split: one hash per column, fed in order, so batch boundaries do not matter."""

    def __init__(self) -> None:
        self._hashes = {column: sha256() for column in ("framing", *SCHEMA.names)}

    def update(self, columns: Columns) -> None:
        """Hash a batch without copying its large columns."""
        (id_ends, ids), (_, sequences) = _text(columns.ids), _text(columns.sequences)
        content = {
            "framing": np.stack([np.diff(id_ends), np.diff(columns.ends)], axis=1).astype("<i8"),
            "id": ids,
            "sequence": sequences,
            "profile": columns.profile.astype("<f4", copy=False),
            "coords": columns.coords.astype("<f4", copy=False),
            "mask": columns.mask,
            "has_profile": columns.has_profile.to_numpy(zero_copy_only=False).astype(bool),
        }
        if columns.features is not None:
            content[FEATURES] = columns.features.astype("<f2", copy=False)
            self._hashes.setdefault(FEATURES, sha256())
        for column, data in content.items():
            self._hashes[column].update(data.data)

    def hexdigest(self) -> str:
        """The digest of all batches so far, 64 hexadecimal digits."""
        whole = sha256()
        for column, running in self._hashes.items():
            whole.update(column.encode() + running.digest())
        return whole.hexdigest()


def _text(strings: pa.StringArray) -> tuple[np.ndarray, np.ndarray]:
    """The ends of the strings, int32 [n + 1], and their concatenated bytes; both are views."""
    _, offsets, data = strings.buffers()
    ends = np.frombuffer(offsets, np.int32, len(strings) + 1)
    return ends, np.frombuffer(data or b"", np.uint8)[ends[0] : ends[-1]]
