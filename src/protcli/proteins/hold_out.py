"""Hold whole families out of a split, so that settings can be chosen on proteins without relatives in training."""

import hashlib

import numpy as np

from protcli.errors import ProtcliError
from protcli.proteins.store import TABLE
from protcli.proteins.subset import Proteins, Subset, parts_of


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
    if without := [split.name for split in splits if not split.has_families]:
        raise ProtcliError(
            f"{store} holds no families of {without[0]}, so none can be held out: add them with "
            f"`protcli data families {store}`"
        )
    if len(splits) > 1 and not all(split.family_source.startswith(TABLE) for split in splits):
        raise ProtcliError(
            f"the families of {whole.name} in {store} were found in each split alone, so that relatives may be in "
            "another one: give families of all with `protcli data families --families FILE`, or hold out of one split"
        )
    names, family_of, sizes = np.unique(whole.families, return_inverse=True, return_counts=True)
    if len(names) < 2:
        raise ProtcliError(f"all proteins of {whole.name} in {store} are of one family, which cannot be held out")
    wanted, count = share * len(whole), 0
    held = np.zeros(len(names), dtype=bool)
    digests = [hashlib.sha256(f"{whole.digest}\n{name}".encode()).digest() for name in names]
    for family in sorted(range(len(names)), key=digests.__getitem__):
        if count + sizes[family] <= wanted:
            held[family], count = True, count + int(sizes[family])
    smallest = min(np.flatnonzero(~held), key=lambda family: (sizes[family], digests[family]))
    more = count + int(sizes[smallest])
    if more - wanted < wanted - count and more <= 1.5 * wanted and more < len(whole):
        held[smallest] = True
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
