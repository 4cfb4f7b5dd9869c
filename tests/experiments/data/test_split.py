"""A training split divided into three: chains whose relatives are known by how they were made."""

from pathlib import Path

import numpy as np
import pytest

from protcli.errors import ProtcliError
from protcli.experiments.data.families import Progress
from protcli.experiments.data.split import CLOSE, RELATED, split_data
from protcli.proteins.homology import SequenceDatabase
from protcli.proteins.protein import Protein
from protcli.proteins.residues import AMINO_ACIDS, sequence_profile
from protcli.proteins.store import Families, Store, create_store, open_store

LETTERS = list(AMINO_ACIDS)


def random_chain(seed: int) -> str:
    return "".join(np.random.default_rng(seed).choice(LETTERS, 120))


def mutated(sequence: str, equal: float) -> str:
    """With so large a share of its residues left as they were, evenly spread; the others differ."""
    changes = np.floor(np.arange(len(sequence)) * (1 - equal)) != np.floor(np.arange(1, 121) * (1 - equal))
    return "".join(
        LETTERS[(LETTERS.index(letter) + 7) % 20] if change else letter
        for letter, change in zip(sequence, changes, strict=True)
    )


def write_store(path: Path, chains: dict[str, str], families: list[str] | None) -> Path:
    rng = np.random.default_rng(0)
    with create_store(path) as writer, writer.split("training") as split:
        for name, sequence in chains.items():
            coords = rng.normal(size=(120, 3, 3)).astype(np.float32)
            split.add(Protein(name, sequence, sequence_profile(sequence), coords, np.ones(120, bool)))
        split.families = None if families is None else Families(families, "homology: by hand")
    return path


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve lone chains, three pairs, and eight trios: 60 and 80 % of the first's residues are the second's, third's.

    Trio 7's third chain stands in the table as a family of its own: the search for families missed it.
    """
    chains = {f"lone{number}": random_chain(number) for number in range(12)}
    for number in range(3):
        chains[f"pair{number}a"] = random_chain(100 + number)
        chains[f"pair{number}b"] = mutated(chains[f"pair{number}a"], 0.6)
    for number in range(8):
        first = random_chain(200 + number)
        chains |= {
            f"trio{number}a": first,
            f"trio{number}b": mutated(first, 0.6),
            f"trio{number}c": mutated(first, 0.8),
        }
    families = [name if name.startswith("lone") else name[:5] for name in chains]
    families[-1] = "trio7c"
    return write_store(tmp_path_factory.mktemp("split") / "whole", chains, families)


def split(store: Path, out: Path, validation: int = 8, testing: int = 6, **options) -> tuple[Store, list]:
    events = list(split_data(store, out, validation=validation, testing=testing, **options))
    return open_store(out), events


def kin(new: Store, part: str, other: str) -> dict[str, set[str]]:
    """For each protein of a part its relatives in another, which it finds or which find it."""
    first, second = new.split(part), new.split(other)
    databases = SequenceDatabase(first.sequences), SequenceDatabase(second.sequences)
    found = {one.id: {second.ids[hit.chain] for hit in databases[1].relatives(one.sequence)} for one in first}
    for two in second:
        for hit in databases[0].relatives(two.sequence):
            found[first.ids[hit.chain]].add(two.id)
    return found


@pytest.mark.parametrize("seed", [0, 1])
def test_whole_families_apart_and_classes_by_identity(store: Path, tmp_path: Path, seed: int) -> None:
    before = {file.name: file.read_bytes() for file in store.iterdir()}
    new, events = split(store, tmp_path / "new", seed=seed)
    assert {file.name: file.read_bytes() for file in store.iterdir()} == before
    assert new.splits == ("training", "validation", "testing")
    assert (len(new.split("validation")), len(new.split("testing"))) == (8, 6)
    whole = {protein.id: protein for protein in open_store(store).split("training")}
    dropped = [name for names in new.split_info("training")["dropped"].values() for name in names]
    kept = new.split("training").ids
    measured = [name.partition("#")[2] for part in ("validation", "testing") for name in new.split(part).ids]
    assert sorted([*kept, *dropped, *measured]) == sorted(whole)
    assert new.split_info("training")["read"] == len(kept) + len(dropped)
    for part in ("validation", "testing"):
        relatives = kin(new, part, "training")
        for protein in new.split(part):
            own = protein.id.partition("#")[2]
            assert protein.family == whole[own].family
            np.testing.assert_array_equal(protein.coords, whole[own].coords)
            if protein.category == "10":
                assert not relatives[protein.id]
                assert protein.family not in new.split("training").families
            else:
                best = max(
                    np.mean([a == b for a, b in zip(protein.sequence, whole[name].sequence, strict=True)])
                    for name in relatives[protein.id]
                )
                assert protein.category == ("70" if best < 0.7 else "90")  # 60 or 80 %
        assert sum(name.startswith("10#") for name in new.split(part).ids) >= len(new.split(part)) / 2
    assert not any(kin(new, "testing", "validation").values())
    shared = {name: new.split_info(name)["overlaps"] for name in ("validation", "testing")}
    assert shared["testing"]["validation"] == {"same": 0, "related": 0}
    for part, found in shared.items():
        related = sum(map(bool, kin(new, part, "training").values()))
        assert found["training"] == {"same": 0, "related": related}
    assert events == [Progress("relatives", done, 14, "sequences") for done in range(1, 15)]


def test_a_seed_decides(store: Path, tmp_path: Path) -> None:
    digests = []
    for number, seed in enumerate((0, 0, 5)):
        new, _ = split(store, tmp_path / str(number), seed=seed)
        digests.append([new.split(name).digest for name in new.splits])
    assert digests[0] == digests[1]
    assert not set(digests[0]) & set(digests[2])


def test_relatives_that_the_families_missed_and_twins_are_dropped_and_said(tmp_path: Path) -> None:
    """All families but one are held out whole. Its twins are drawn one apart, and the other twin leaves training."""
    first, missed, twin = random_chain(1), random_chain(2), random_chain(3)
    chains = {"one": first, "like_one": mutated(first, 0.6), "missed": mutated(missed, 0.6), "two": missed}
    chains |= {"twin": twin, "other": mutated(twin, 0.97), "cousin": mutated(twin, 0.6)}
    store = write_store(tmp_path / "s", chains, ["a", "a", "b", "c", "t", "t", "t"])
    lost = set()
    for seed in range(12):
        new, _ = split(store, tmp_path / str(seed), 2, 0, seed=seed)
        dropped = new.split_info("training")["dropped"]
        (alone, near) = sorted(new.split("validation"), key=lambda protein: int(protein.category))
        assert new.splits == ("training", "validation")
        own = alone.id.partition("#")[2]
        assert own in ("missed", "two")  # the only families of one chain
        assert dropped[RELATED] == [{"missed": "two", "two": "missed"}[own]]
        if near.id.partition("#")[2] in ("twin", "other"):
            assert dropped[CLOSE] == [{"twin": "other", "other": "twin"}[near.id.partition("#")[2]]]
        else:
            assert CLOSE not in dropped
        assert near.category == "70"  # by the cousin
        lost |= dropped.keys()
    assert lost == {RELATED, CLOSE}


def test_what_is_refused(store: Path, tmp_path: Path) -> None:
    for options, message in (
        (
            {"validation": 39},
            r"whole: of training only 2\d proteins can be drawn for validation, 20 of them as whole families",
        ),
        (
            {"class_10": 0.0, "testing": 12},
            "only 11 proteins can be drawn for testing, 0 of them as whole families; give a",
        ),
        ({"validation": 40}, "whole: training has 42 proteins; hold out fewer, so that some are left in it"),
        ({"split": "training_30"}, "has no split 'training_30'; it has training"),
        ({"split": "test"}, "testing is measured on, and is not split: name a training split"),
    ):
        with pytest.raises(ProtcliError, match=message):
            split(store, tmp_path / "new", **{"validation": 2, "testing": 2, **options})
    without = write_store(tmp_path / "w", {"one": random_chain(1), "two": random_chain(2)}, None)
    with pytest.raises(ProtcliError, match=r"w: holds no families of training; add them with `protcli data families"):
        split(without, tmp_path / "new", 1, 0)
    assert not (tmp_path / "new").exists()
    (tmp_path / "new").mkdir()
    with pytest.raises(ProtcliError, match="new: exists already; give the new store another --out"):
        split(store, tmp_path / "new")
