"""Some of the proteins of one or several splits, as a view."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import overload

import numpy as np

from protcli.proteins.protein import Protein
from protcli.proteins.store import Split


@dataclass(frozen=True, eq=False)
class Subset(Sequence[Protein]):
    """Some proteins of one or several splits, in their order, as a view of them.

    Attributes:
        splits: whole ones; their proteins are numbered from the first of the first split on.
        indices: int64 [N], increasing.
        name: of the subset.
    """

    splits: tuple[Split, ...]
    indices: np.ndarray
    name: str

    @cached_property
    def _ends(self) -> np.ndarray:
        """Number of the first protein after each split: int64 [splits]."""
        return np.cumsum([len(split) for split in self.splits])

    def __len__(self) -> int:
        return len(self.indices)

    @overload
    def __getitem__(self, index: int) -> Protein: ...
    @overload
    def __getitem__(self, index: slice) -> list[Protein]: ...
    def __getitem__(self, index: int | slice) -> Protein | list[Protein]:
        chosen = self.indices[index]
        if isinstance(index, slice):
            return [self._protein(int(number)) for number in chosen]
        return self._protein(int(chosen))

    def _protein(self, number: int) -> Protein:
        place = int(np.searchsorted(self._ends, number, side="right"))
        return self.splits[place][number - int(self._ends[place])]  # negative: from the end

    @cached_property
    def digest(self) -> str:
        """64 hexadecimal digits that change with the content of the whole splits, and with the choice."""
        whole = "\n".join(split.digest for split in self.splits)
        return hashlib.sha256(f"{whole}\n{self.indices.tolist()}".encode()).hexdigest()

    @cached_property
    def lengths(self) -> np.ndarray:
        """Number of residues of each protein: int64 [N]."""
        return np.concatenate([split.lengths for split in self.splits])[self.indices]

    @cached_property
    def families(self) -> np.ndarray:
        """Family of each protein: str [N]."""
        return np.concatenate([split.families for split in self.splits])[self.indices]

    def verify(self) -> None:
        """Verify the whole splits; see `Split.verify`."""
        for split in self.splits:
            split.verify()


Proteins = Split | Subset  # what a model is trained or measured on


def parts_of(whole: Proteins) -> tuple[tuple[Split, ...], np.ndarray]:
    """The splits that proteins are of, and their numbers in these, as a `Subset` has them."""
    return (whole.splits, whole.indices) if isinstance(whole, Subset) else ((whole,), np.arange(len(whole)))


def take_share(whole: Proteins, share: float, seed: int) -> Proteins:
    """A share of the proteins, by whole families: as many as are needed for it, in an order that the seed decides.

    A smaller share of one seed is a part of every larger one.
    """
    if share == 1:
        return whole
    splits, indices = parts_of(whole)
    names, family_of, sizes = np.unique(whole.families, return_inverse=True, return_counts=True)
    digests = [hashlib.sha256(f"{seed}\n{name}".encode()).digest() for name in names]
    order = np.array(sorted(range(len(names)), key=digests.__getitem__))
    before = np.cumsum(sizes[order]) - sizes[order]
    chosen = np.isin(family_of, order[before < share * len(whole)])
    return Subset(splits, indices[chosen], f"{whole.name} ({share:.0%})")


def join(splits: Sequence[Split]) -> Proteins:
    """All proteins of several splits; one whose id an earlier split has is left out."""
    if len(splits) == 1:
        return splits[0]
    ids = np.concatenate([np.array(split.ids) for split in splits])
    first = np.sort(np.unique(ids, return_index=True)[1])
    return Subset(tuple(splits), first, ",".join(split.name for split in splits))
