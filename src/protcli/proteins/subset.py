"""Some of the proteins of one or several splits, as a view: those to train on, a share, or whole families held out."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from protcli.errors import ProtcliError
from protcli.proteins.protein import Protein, ProteinSequence
from protcli.proteins.store import TABLE, Split


@dataclass(frozen=True, eq=False)
class Subset(ProteinSequence):
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

    def read(self, number: int) -> Protein:
        """The protein with this number, from 0."""
        index = int(self.indices[number])
        place = int(np.searchsorted(self._ends, index, side="right"))
        return self.splits[place][index - int(self._ends[place])]  # negative: from the end

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


def _families(whole: Proteins, salt: str) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """For each protein the number of its family, the families' sizes, and their numbers in the order of a hash."""
    names, family_of, sizes = np.unique(whole.families, return_inverse=True, return_counts=True)
    digests = [hashlib.sha256(f"{salt}\n{name}".encode()).digest() for name in names]
    return family_of, sizes, sorted(range(len(names)), key=digests.__getitem__)


def take_share(whole: Proteins, share: float, seed: int) -> Proteins:
    """A share of the proteins, by whole families: as many as are needed for it, in an order that the seed decides.

    A smaller share of one seed is a part of every larger one.
    """
    if share == 1:
        return whole
    splits, indices = parts_of(whole)
    family_of, sizes, order = _families(whole, str(seed))
    before = np.cumsum(sizes[order]) - sizes[order]
    taken = np.isin(family_of, np.array(order)[before < share * len(whole)])
    return Subset(splits, indices[taken], f"{whole.name} ({share:.0%})")


def join(splits: Sequence[Split]) -> Proteins:
    """All proteins of several splits; one whose id an earlier split has is left out."""
    if len(splits) == 1:
        return splits[0]
    ids = np.concatenate([np.array(split.ids) for split in splits])
    first = np.sort(np.unique(ids, return_index=True)[1])
    return Subset(tuple(splits), first, ",".join(split.name for split in splits))


def hold_out(whole: Proteins, share: float) -> tuple[Subset, Subset]:
    """Divide proteins into those to train on and those of the families held out.

    Families are taken in the order of a hash of their name and the proteins' digest, unless one would exceed the share;
    then the smallest of the others, if it comes closer. So the choice is that of a random draw, but always the same.

    Args:
        whole: with families.
        share: of the proteins, above 0 and below 1; at most 1.5 times as many are held out.

    Raises:
        ProtcliError: the store holds no families of the proteins, none that cover several splits, fewer than two, or
            too large ones.
    """
    splits, indices = parts_of(whole)
    store = splits[0].path.parent
    if without := [split.name for split in splits if split.family_source is None]:
        raise ProtcliError(
            f"{store} holds no families of {without[0]}, so none can be held out: add them with "
            f"`protcli data families {store}`"
        )
    if len(splits) > 1 and not all(str(split.family_source).startswith(TABLE) for split in splits):
        raise ProtcliError(
            f"the families of {whole.name} in {store} were found in each split alone, so that relatives may be in "
            "another one: give families of all with `protcli data families --families FILE`, or hold out of one split"
        )
    family_of, sizes, order = _families(whole, whole.digest)
    if len(sizes) < 2:
        raise ProtcliError(f"all proteins of {whole.name} in {store} are of one family, which cannot be held out")
    wanted, count, held = share * len(whole), 0, np.zeros(len(sizes), dtype=bool)
    for family in order:
        held[family] = count + sizes[family] <= wanted
        count += sizes[family] * held[family]
    smallest = min((family for family in order if not held[family]), key=sizes.__getitem__)
    more = count + sizes[smallest]
    held[smallest] = more - wanted < wanted - count and more <= 1.5 * wanted and more < len(whole)
    if not held.any():
        raise ProtcliError(
            f"the smallest family of {whole.name} in {store} has {sizes.min()} of its {len(whole)} proteins, too many "
            f"for --held-out {share:g}: give a larger share"
        )
    is_held = held[family_of]
    return (
        Subset(splits, indices[~is_held], whole.name),
        Subset(splits, indices[is_held], f"{whole.name} (held-out families)"),
    )
