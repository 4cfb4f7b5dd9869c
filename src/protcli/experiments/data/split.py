"""Make validation and testing out of a training split: whole families apart, and chains with relatives of each class.

Classes are as ProteinNet thinks of them (AlQuraishi 2019, BMC Bioinformatics 20:311): 10 has no detectable relative in
training; 30, 50, 70 and 90 have one, and of its aligned residues at most so many per cent are equal.
"""

import os
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np

from protcli.errors import ProtcliError
from protcli.experiments.data.families import MEASURED, Overlap, Progress
from protcli.proteins.homology import SequenceDatabase, require_phmmer
from protcli.proteins.store import TESTING, TRAINING, VALIDATION, Families, create_store, open_store, split_name

CLASSES = (10, 30, 50, 70, 90)
RELATED = "relative of a protein of class 10"
CLOSE = f"more than {CLASSES[-1]} % identical with a protein of another class"


def split_data(
    path: str | Path,
    out: str | Path,
    *,
    validation: int,
    testing: int,
    seed: int = 0,
    class_10: float = 0.5,
    split: str = TRAINING,
) -> Generator[Progress]:
    """Write a new store with validation and testing made out of a store's training split, yielding progress.

    Chains of class 10 are whole families, drawn at random; training loses every chain that is nevertheless related to
    one of them, whichever of the two finds the other. Each of the others is drawn from a family of its own, whose other
    chains stay in training, unless more than 90 % of their aligned residues are equal. Validation and testing have no
    family in common, and none of which the other knows relatives. The store is in place when the iterator is exhausted.

    Args:
        path: store folder with families; it is not changed.
        out: folder of the new store, to which no other split is copied.
        validation, testing: how many chains they get; 0 for none.
        seed: of the draw.
        class_10: share of them that are of class 10; those of which training has lost all relatives come on top.
        split: the training split.

    Raises:
        ProtcliError: as `open_store` does; `out` is there already; the split is none to train on, or has no or too few
            families; there is no pyhmmer.
    """
    store, out, name = open_store(path), Path(out), split_name(split)
    if out.exists():
        raise ProtcliError(f"{out}: exists already; give the new store another --out")
    if name in MEASURED:
        raise ProtcliError(f"{name} is measured on, and is not split: name a training split")
    whole = store.split(name)
    if whole.family_source is None:
        raise ProtcliError(f"{path}: holds no families of {name}; add them with `protcli data families {path}`")
    if validation + testing >= len(whole):
        raise ProtcliError(f"{path}: {name} has {len(whole):,} proteins; hold out fewer, so that some are left in it")
    require_phmmer("relatives", "split the store where it is")
    ids, sequences, families = whole.ids, whole.sequences, whole.families
    free: dict[str, list[int]] = {}  # the chains of each family that may be drawn
    for chain, family in enumerate(families.tolist()):
        free.setdefault(family, []).append(chain)

    database, random = SequenceDatabase(sequences), np.random.default_rng(seed)
    parts: dict[str, set[int]] = {}
    kin: dict[int, dict[int, float]] = {}  # of each chain drawn: relatives and their identities
    related: set[int] = set()  # to a chain of class 10
    for part, count in ((TESTING, testing), (VALIDATION, validation)):
        alone, others = _draw(free, count, round(class_10 * count), random)
        chains = alone + others
        if len(chains) < count:
            raise ProtcliError(
                f"{path}: of {name} only {len(chains):,} proteins can be drawn for {part}, {len(alone):,} of them as "
                f"whole families; give a smaller --{part} or another --class-10"
            )
        parts[part] = set(chains)
        with ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="phmmer") as threads:
            for chain, found in zip(chains, threads.map(database.kin, chains), strict=True):
                kin[chain] = found
                for member in (chain, *found):
                    free.pop(families[member], None)
                yield Progress("relatives", len(kin), validation + testing, "sequences")
        related.update(*(kin[chain] for chain in alone))

    related -= kin.keys()
    identities = [pair for found in kin.values() for pair in found.items()]
    close = {relative for relative, identity in identities if 100 * identity > CLASSES[-1]} - kin.keys() - related
    parts[name] = kept = set(range(len(whole))) - kin.keys() - related - close
    dropped = {
        reason: [ids[chain] for chain in sorted(lost)] for reason, lost in ((RELATED, related), (CLOSE, close)) if lost
    }
    for chain, found in kin.items():
        best = max((identity for relative, identity in found.items() if relative in kept), default=0)
        ids[chain] = f"{next(each for each in CLASSES if 100 * best <= each)}#{ids[chain].rpartition('#')[2]}"

    with create_store(out, synthetic=store.synthetic) as writer:
        for part in (name, *(part for part in (VALIDATION, TESTING) if parts[part])):
            with writer.split(part) as proteins:
                numbers = sorted(parts[part])
                for chain in numbers:
                    proteins.add(replace(whole.read(chain), id=ids[chain]))
                proteins.families = Families(families[numbers].tolist(), whole.family_source)
                origin = f"of {store.name}, {name} {whole.digest[:12]}: seed {seed}, {class_10:.0%} of class 10"
                gone = dropped if part == name else {}
                read = len(numbers) + sum(map(len, gone.values()))
                proteins.details = {"notes": [origin], "dropped": gone, "read": read}
        for part, other in ((VALIDATION, name), (TESTING, name), (TESTING, VALIDATION)):
            if parts[part] and parts[other]:
                known = {sequences[chain] for chain in parts[other]}
                same = sum(sequences[chain] in known for chain in parts[part])
                knowing = sum(not parts[other].isdisjoint(kin[chain]) for chain in parts[part])
                Overlap(part, other, same, knowing).enter(writer.overlaps)


def _draw(
    free: dict[str, list[int]], count: int, of_class_10: int, random: np.random.Generator
) -> tuple[list[int], list[int]]:
    """Chains of whole families, which are taken out of `free`, as many as fit into class 10; one each of others."""
    order = random.permutation(sorted(free)).tolist()
    alone: list[int] = []
    for family in order:
        if len(alone) + len(free[family]) <= of_class_10:
            alone += free.pop(family)
    # from the end, where large families, which did not fit, are no likelier
    others = [int(random.choice(free[family])) for family in reversed(order) if len(free.get(family, ())) > 1]
    return alone, others[: count - len(alone)]
