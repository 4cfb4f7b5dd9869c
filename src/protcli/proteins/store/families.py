"""Which family each protein of a split belongs to: a CSV file beside its Arrow file, outside the digest of the content.

The file's name holds the digest of the labels, so that other families are another file, and replacing the manifest
replaces them at once.
"""

import csv
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from protcli.errors import ProtcliError
from protcli.proteins.store.files import DAMAGED, check_size

TABLE = "table"  # begins the source of families that a table gave


@dataclass(frozen=True)
class Families:
    """The families of a split.

    Attributes:
        labels: one for each protein, in the order of the split; never empty.
        source: where they come from, in words.
    """

    labels: Sequence[str]
    source: str

    @property
    def count(self) -> int:
        """Number of families."""
        return len(self._sizes)

    @property
    def largest(self) -> int:
        """Proteins of the largest family."""
        return max(self._sizes.values())

    @cached_property
    def _sizes(self) -> Counter[str]:
        return Counter(self.labels)


def write_families(folder: Path, split: str, ids: Sequence[str], families: Families) -> dict[str, Any]:
    """Write a split's families into a folder; return their part of its manifest entry."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows([("id", "family"), *zip(ids, families.labels, strict=True)])
    content = text.getvalue().encode()
    digest = sha256(content).hexdigest()
    path = folder / f"{split}.families-{digest[:8]}.csv"
    try:
        path.write_bytes(content)
    except OSError as error:
        raise ProtcliError(f"{folder}: the families of {split} cannot be written: {error}") from error
    return {
        "file": path.name,
        "bytes": len(content),
        "digest": digest,
        "source": families.source,
        "count": families.count,
        "largest": families.largest,
    }


def read_families(path: Path, entry: dict[str, Any]) -> np.ndarray:
    """The labels that `write_families` wrote: str [N].

    Raises:
        ProtcliError: the file is missing or has changed.
    """
    check_size(path, entry)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ProtcliError(f"{path}: cannot be read ({error.strerror}); {DAMAGED}") from error
    if sha256(content).hexdigest() != entry["digest"]:
        raise ProtcliError(f"{path}: its content has changed; {DAMAGED}")
    rows = csv.reader(io.StringIO(content.decode(), newline=""))
    return np.array([family for _, family in rows][1:])
