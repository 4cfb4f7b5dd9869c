"""Proteins that are in two splits, or have relatives there: what is measured on them was seen in training."""

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from protcli.proteins.relatives import Library
from protcli.proteins.store import TESTING, VALIDATION

MEASURED = (VALIDATION, TESTING)  # splits whose proteins no other split should have


@dataclass(frozen=True)
class Compared:
    """How many sequences of a split, or of two ("validation with training_30"), have been compared."""

    split: str
    done: int
    total: int


@dataclass(frozen=True)
class Overlap:
    """What one split has in common with another.

    Attributes:
        split, other: their names; `split` is one to measure on.
        same: how many of its proteins have the sequence of a protein of the other.
        related: how many have a homologous protein there, these included; None if they were not compared.
    """

    split: str
    other: str
    same: int
    related: int | None

    def to_entry(self) -> dict[str, Any]:
        """As it stands in the manifest, under the other split's name."""
        return {"same": self.same, "related": self.related}


def overlaps(
    sequences: Mapping[str, Sequence[str]], new: Sequence[str], *, homology: bool
) -> Iterator[Compared | Overlap]:
    """Compare every split to measure on with the training splits, and the test split with validation.

    Args:
        sequences: of each split.
        new: splits of which at least one is in each pair that is compared.
        homology: whether relatives are looked for, see `proteins.homology`, or only equal sequences.
    """
    for number, split in enumerate(MEASURED):
        others = [name for name in sequences if name not in MEASURED[number:]]
        for other in others if split in sequences else ():
            if split not in new and other not in new:
                continue
            known = set(sequences[other])
            is_same = [letters in known for letters in sequences[split]]
            related = None
            if homology:
                related, library = sum(is_same), Library(sequences[other])
                rest = [letters for letters, same in zip(sequences[split], is_same, strict=True) if not same]
                with ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="phmmer") as threads:  # without the GIL
                    for done, is_related in enumerate(threads.map(library.has_relative, rest), start=1):
                        related += is_related
                        yield Compared(f"{split} with {other}", done, len(rest))
            yield Overlap(split, other, sum(is_same), related)
