"""Make validation and testing out of a training split: chains without relatives in it, and others of each class.

Classes are as ProteinNet thinks of them (AlQuraishi 2019, BMC Bioinformatics 20:311): 10 has no detectable relative in
training; 30, 50, 70 and 90 have one, and of its aligned residues at most so many per cent are equal. Of class 10, those
are 10-strict of which a search by profile finds none, either. No chain drawn has a closer relative than 90.
"""

from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

import numpy as np

from protcli.errors import ProtcliError
from protcli.experiments.pages import Progress
from protcli.proteins.homology import SequenceDatabase, require_phmmer, search_threads
from protcli.proteins.protein import STRICT
from protcli.proteins.store import TESTING, TRAINING, VALIDATION, Families, create_store, open_store

CLASSES = (10, 30, 50, 70, 90)
SHORTEST = 30  # resolved residues of a chain that is drawn
MOST_RELATIVES = 30  # of a chain of class 10: training loses them all, and keeps its large families


def split_data(
    path: str | Path, out: str | Path, *, validation: int, testing: int, seed: int = 0, class_10: float = 0.5
) -> Generator[Progress]:
    """Write a new store with validation and testing made out of a store's training split, yielding progress.

    At random, one chain is drawn of a family. Those of class 10 have at most MOST_RELATIVES relatives, whichever of the
    two finds the other: training loses them. It keeps those of the others. Two chains that are drawn have no family in
    common, nor their relatives. The store is in place when the iterator is exhausted.

    Args:
        path: store folder with families; it is not changed.
        out: folder of the new store, to which no other split is copied.
        validation, testing: how many chains they get; 0 for none.
        seed: of the draw.
        class_10: share of them that are of class 10; those of which training has lost all relatives come on top.

    Raises:
        ProtcliError: as `open_store` does; `out` is there already; there is no training split, or it has no or too few
            families; there is no pyhmmer.
    """
    store, out = open_store(path), Path(out)
    if out.exists():
        raise ProtcliError(f"{out}: exists already; give the new store another --out")
    whole = store.split(TRAINING)
    if whole.family_source is None:
        raise ProtcliError(f"{path}: holds no families of training; add them with `protcli data families {path}`")
    require_phmmer("relatives", "split the store where it is")
    random, families, database = np.random.default_rng(seed), whole.families, SequenceDatabase(whole.sequences)
    members: dict[str, list[int]] = {}
    for number, protein in enumerate(whole):
        if protein.resolved("ca").sum() >= SHORTEST:
            members.setdefault(protein.family, []).append(number)
    candidates = [int(random.choice(members[family])) for family in random.permutation(sorted(members))]

    parts: dict[str, list[int]] = {TESTING: [], VALIDATION: []}
    kin: dict[int, dict[int, float]] = {}  # of each chain drawn: relatives and their identities
    lost: set[int] = set()  # to training: relatives of class 10
    closed: set[str] = set()  # families of chains drawn and of their relatives
    with search_threads() as threads:
        for part, count in ((TESTING, testing), (VALIDATION, validation)):
            for alone, wanted in ((True, round(class_10 * count)), (False, count)):
                # the others from the end, where those that class 10 passed over, of many relatives, are no likelier
                queue = candidates if alone else [each for each in candidates[::-1] if len(members[families[each]]) > 1]
                queue = [each for each in queue if families[each] not in closed]
                for chain, found in zip(queue, threads.map(database.kin, queue), strict=True):
                    if len(parts[part]) >= wanted:
                        break  # what has not been searched will not be
                    touched = set(families[[chain, *found]].tolist())
                    closest = 100 * max(found.values(), default=0)
                    fits = len(found) <= MOST_RELATIVES if alone else 0 < closest <= CLASSES[-1]
                    if fits and closed.isdisjoint(touched):
                        parts[part].append(chain)
                        kin[chain] = found
                        closed |= touched
                        lost.update(found if alone else ())
                        yield Progress("chains drawn", len(kin), validation + testing, "sequences")
            if len(parts[part]) < count:
                raise ProtcliError(
                    f"{path}: only {len(parts[part]):,} proteins can be drawn for {part}, each of a family of its own; "
                    f"give a smaller --{part} or another --class-10"
                )
        kept = set(range(len(whole))) - kin.keys() - lost
        classes = {}
        for chain, found in kin.items():
            best = 100 * max((found[other] for other in found.keys() & kept), default=0)
            classes[chain] = str(next(each for each in CLASSES if best <= each))
        unrelated = [chain for chain, label in classes.items() if label == str(CLASSES[0])]
        searches = threads.map(database.profile_kin, map(whole.read, unrelated))
        for done, (chain, remote) in enumerate(zip(unrelated, searches, strict=True), start=1):
            classes[chain] += STRICT if kept.isdisjoint(remote) else ""
            yield Progress("class 10 by profile", done, len(unrelated), "sequences")

    origin = f"of {store.name}, {whole.digest[:12]}: seed {seed}, {class_10:.0%} of class 10"
    with create_store(out, synthetic=store.synthetic) as writer:
        for part, chains in {TRAINING: kept, **parts}.items():
            if numbers := sorted(chains):
                with writer.split(part) as proteins:
                    for number in numbers:
                        protein = whole.read(number)
                        label = f"{classes[number]}#" if number in kin else ""
                        proteins.add(replace(protein, id=label + protein.id.rpartition("#")[2]))
                    proteins.families = Families(families[numbers].tolist(), whole.family_source)
                    proteins.details["notes"] = [origin]
                    if part == TRAINING:
                        names = [whole.read(number).id for number in sorted(lost)]
                        proteins.details |= {
                            "read": len(kept) + len(lost),
                            "dropped": {"relative of class 10": names} if names else {},
                        }
