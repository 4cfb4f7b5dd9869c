"""Hold whole families out of a split, so that settings can be chosen on proteins without relatives in training."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import overload

import numpy as np

from protcli.errors import ProtcliError
from protcli.proteins.protein import Protein
from protcli.proteins.store import Split


@dataclass(frozen=True, eq=False)
class Subset(Sequence[Protein]):
    """Some proteins of a split, in its order, as a view of it.

    Attributes:
        split: the whole split.
        indices: int64 [N], increasing.
        name: of the subset.
    """

    split: Split
    indices: np.ndarray
    name: str

    def __len__(self) -> int:
        return len(self.indices)

    @overload
    def __getitem__(self, index: int) -> Protein: ...
    @overload
    def __getitem__(self, index: slice) -> list[Protein]: ...
    def __getitem__(self, index: int | slice) -> Protein | list[Protein]:
        chosen = self.indices[index]
        return [self.split[int(i)] for i in chosen] if isinstance(index, slice) else self.split[int(chosen)]

    @cached_property
    def digest(self) -> str:
        """64 hexadecimal digits that change with the content of the whole split, and with the choice."""
        return hashlib.sha256(f"{self.split.digest}\n{self.indices.tolist()}".encode()).hexdigest()

    @cached_property
    def lengths(self) -> np.ndarray:
        """Number of residues of each protein: int64 [N]."""
        return self.split.lengths[self.indices]

    @cached_property
    def families(self) -> np.ndarray:
        """Family of each protein: str [N]."""
        return self.split.families[self.indices]

    def verify(self) -> None:
        """Verify the whole split; see `Split.verify`."""
        self.split.verify()


Proteins = Split | Subset  # what a model is trained or measured on


def hold_out(split: Split, share: float) -> tuple[Subset, Subset]:
    """Divide a split into the proteins to train on and those of the families held out.

    Families are taken in the order of a hash of their name and the split's digest, unless one would exceed the share;
    then the smallest of the others, if it comes closer. So the choice is that of a random draw, but always the same.

    Args:
        split: with families.
        share: of its proteins, above 0 and below 1; at most 1.5 times as many are held out.

    Raises:
        ProtcliError: the store holds no families of the split, there are fewer than two, or all are too large.
    """
    store = split.path.parent
    if not split.has_families:
        raise ProtcliError(
            f"{store} holds no families of {split.name}, so none can be held out: add them with "
            f"`protcli data families {store}`"
        )
    names, family_of, sizes = np.unique(split.families, return_inverse=True, return_counts=True)
    if len(names) < 2:
        raise ProtcliError(f"all proteins of {split.name} in {store} are of one family, which cannot be held out")
    wanted, count = share * len(split), 0
    held = np.zeros(len(names), dtype=bool)
    digests = [hashlib.sha256(f"{split.digest}\n{name}".encode()).digest() for name in names]
    for family in sorted(range(len(names)), key=digests.__getitem__):
        if count + sizes[family] <= wanted:
            held[family], count = True, count + int(sizes[family])
    smallest = min(np.flatnonzero(~held), key=lambda family: (sizes[family], digests[family]))
    more = count + int(sizes[smallest])
    if more - wanted < wanted - count and more <= 1.5 * wanted and more < len(split):
        held[smallest] = True
    if not held.any():
        raise ProtcliError(
            f"the smallest family of {split.name} in {store} has {sizes.min()} of its {len(split)} proteins, too many "
            f"for --held-out {share:g}: give a larger share"
        )
    is_held = held[family_of]
    return (
        Subset(split, np.flatnonzero(~is_held), split.name),
        Subset(split, np.flatnonzero(is_held), f"{split.name} (held-out families)"),
    )
