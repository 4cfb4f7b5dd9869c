"""Writes one split of a store and computes its statistics."""

from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa

from protcli.errors import ProtcliError
from protcli.proteins.protein import Protein
from protcli.proteins.residues import ALPHABET_SIZE
from protcli.proteins.store.columns import BATCH_RECORDS, SCHEMA, Columns, ContentDigest
from protcli.proteins.store.families import Families, write_families


class SplitWriter:
    """Writes one split's Arrow file in constant memory; use as a context manager.

    After a clean exit `entry` is the split's manifest entry. `details`, filled by the caller beforehand, is merged into
    it, and `families`, one for each protein added, are written beside the file. After an exception the file is removed.

    Raises:
        ProtcliError: no protein was added before exit, or the data cannot be written.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self.path = Path(folder) / f"{name}.arrow"
        self.details: dict[str, Any] = {}
        self.families: Families | None = None
        self.entry: dict[str, Any] = {}
        self._pending: list[Protein] = []
        self._ids: list[str] = []
        self._lengths: list[int] = []
        self._classes: Counter[str] = Counter()
        self._real_profiles = 0
        self._masked_in = 0
        self._atoms = np.zeros(4, dtype=np.int64)  # residues with N, CA, C', all three
        self._profile_sum = np.zeros(ALPHABET_SIZE)
        self._profile_nonzero = np.zeros(ALPHABET_SIZE, dtype=np.int64)
        # hashes and writes while the caller reads the next proteins
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="split-writer")
        self._writing: Future[None] | None = None
        self._digest = ContentDigest()

    def __enter__(self) -> "SplitWriter":
        try:
            self._sink = pa.OSFile(str(self.path), "wb")
        except OSError as error:
            raise ProtcliError(f"{self.path.parent}: cannot be written to: {error}") from error
        self._writer = pa.ipc.new_file(self._sink, SCHEMA)
        return self

    def add(self, protein: Protein) -> None:
        """Append one protein. Its arrays must not change until the writer is closed."""
        self._pending.append(protein)
        if len(self._pending) == BATCH_RECORDS:
            self._flush()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._flush()
                self._wait()
                if not self._lengths:
                    raise ProtcliError(f"{self.name}: there are no proteins to store")
                self._writer.close()
                self._sink.close()
                entry = self._summary() | self.details
                if self.families is not None:
                    entry["families"] = write_families(self.path.parent, self.name, self._ids, self.families)
                self.entry = entry
        finally:
            self._thread.shutdown()
            if not self.entry:
                self._sink.close()
                self.path.unlink(missing_ok=True)

    def _flush(self) -> None:
        """Hand the pending proteins to the thread once it is done with the previous ones: at most two batches exist."""
        proteins, self._pending = self._pending, []
        self._wait()
        if proteins:
            self._writing = self._thread.submit(self._write, proteins)

    def _wait(self) -> None:
        if self._writing is not None:
            self._writing.result()
            self._writing = None

    def _write(self, proteins: list[Protein]) -> None:
        lengths = np.array([len(protein) for protein in proteins], dtype=np.int64)
        profile = np.concatenate([protein.profile for protein in proteins], dtype=np.float32)  # [R, 21]
        coords = np.concatenate([protein.coords for protein in proteins], dtype=np.float32)  # [R, 3, 3]
        mask = np.concatenate([protein.mask for protein in proteins]).astype(bool)  # [R]
        has_profile = np.array([protein.has_profile for protein in proteins], dtype=bool)

        missing = np.isnan(coords)
        coords[missing] = np.nan  # a single bit pattern for NaN: the digest hashes bits
        present = [mask & ~(gap[:, 0] | gap[:, 1] | gap[:, 2]) for gap in missing.swapaxes(0, 1)]  # N, CA, C': [R] each
        present.append(present[0] & present[1] & present[2])
        self._atoms += [np.count_nonzero(atom) for atom in present]
        self._masked_in += int(np.count_nonzero(mask))
        self._profile_sum += np.einsum("rc->c", profile)  # NumPy's sum and count_nonzero take twice as long here
        self._profile_nonzero += np.einsum("rc->c", (profile != 0).astype(np.float32)).astype(np.int64)
        self._ids.extend(protein.id for protein in proteins)
        self._lengths.extend(lengths.tolist())
        self._classes.update(protein.category for protein in proteins)
        self._real_profiles += int(has_profile.sum())

        ends = np.concatenate([[0], np.cumsum(lengths)])
        arrays = [
            pa.array([protein.id for protein in proteins], pa.utf8()),
            pa.array([protein.sequence for protein in proteins], pa.utf8()),
            pa.LargeListArray.from_arrays(ends * ALPHABET_SIZE, pa.array(profile.reshape(-1))),
            pa.LargeListArray.from_arrays(ends * 9, pa.array(coords.reshape(-1))),
            pa.LargeListArray.from_arrays(ends, pa.array(mask.view(np.uint8))),
            pa.array(has_profile),
        ]
        batch = pa.record_batch(arrays, schema=SCHEMA)
        self._digest.update(Columns.of(batch))
        try:
            self._writer.write_batch(batch)
        except OSError as error:
            raise ProtcliError(f"{self.path.parent}: the split {self.name} cannot be written: {error}") from error

    def _summary(self) -> dict[str, Any]:
        lengths = np.array(self._lengths)
        residues = int(lengths.sum())
        return {
            "file": self.path.name,
            "bytes": self.path.stat().st_size,
            "digest": self._digest.hexdigest(),
            "records": len(lengths),
            "lengths": {
                "min": int(lengths.min()),
                "median": float(np.median(lengths)),
                "max": int(lengths.max()),
                "total": residues,
            },
            "masked_in": self._masked_in,
            "atoms": dict(zip(("N", "CA", "C'", "C-beta"), self._atoms.tolist(), strict=True)),
            "classes": dict(sorted(self._classes.items())),
            "real_profiles": self._real_profiles,
            "profile_mean": (self._profile_sum / residues).tolist(),
            "profile_nonzero": (self._profile_nonzero / residues).tolist(),
        }
