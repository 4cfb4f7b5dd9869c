"""The data of a run: which splits, which atom, whole families held out, and what identifies it."""

import pickle
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from protcli.errors import ProtcliError
from protcli.proteins import dataset
from protcli.proteins.dataset import SAMPLE, Dataset, find_store, open_dataset, require_atom
from protcli.proteins.protein import Protein
from protcli.proteins.store import Families, Split, create_store, open_store
from protcli.proteins.subset import hold_out, take_share


@pytest.fixture
def split(tmp_path: Path, chain):
    """`split(families)`: a split of as many proteins; chain i has 3 + i % 5 residues."""

    def make(families: Sequence[str] | None, count: int = 0, name: str = "s") -> Split:
        with create_store(tmp_path / name) as store, store.split("training") as writer:
            for index in range(len(families or "") or count):
                writer.add(replace(chain(3 + index % 5, index), id=f"p{index}"))
            if families is not None:
                writer.families = Families(families, "a test")
        return open_store(tmp_path / name).split("training")

    return make


@pytest.mark.parametrize("share", [0.05, 0.1, 0.2, 0.5, 0.9])
@pytest.mark.parametrize("seed", range(2))
def test_whole_families_near_the_share(split, share: float, seed: int) -> None:
    families = [f"f{int(each)}" for each in np.random.default_rng(seed).geometric(0.1, size=200)]  # the first are large
    whole = split(families)
    rest, held = hold_out(whole, share)
    assert sorted([*rest.indices, *held.indices]) == list(range(200))
    assert not set(rest.families) & set(held.families)
    assert rest.families.tolist() == [families[index] for index in rest.indices]
    assert 0 < len(held) <= 1.5 * share * 200
    gap = abs(len(held) - share * 200)
    for family in set(rest.families.tolist()):  # no further family would bring it closer
        assert abs(len(held) + families.count(family) - share * 200) >= gap
    assert gap <= 0.02 * 200


def test_a_subset_is_a_view_of_its_split(split) -> None:
    whole = split([f"f{index // 2}" for index in range(40)])
    rest, held = hold_out(whole, 0.3)
    assert (rest.name, held.name) == ("training", "training (held-out families)")
    for subset in (rest, held):
        assert [protein.id for protein in subset] == [f"p{index}" for index in subset.indices]
        assert all(first < second for first, second in pairwise(subset.indices))
        assert subset.lengths.tolist() == [len(protein) for protein in subset]
        assert [protein.family for protein in subset] == subset.families.tolist()
        assert [protein.id for protein in subset[1:3]] == [subset[1].id, subset[2].id]
        assert subset[-1].id == f"p{subset.indices[-1]}"
        with pytest.raises(IndexError):
            subset[len(subset)]
        assert np.shares_memory(subset[0].coords, whole[int(subset.indices[0])].coords)
        sent = pickle.loads(pickle.dumps(subset))
        assert (sent.name, sent.digest, sent[2].id) == (subset.name, subset.digest, subset[2].id)


def test_the_same_choice_each_time_and_another_for_other_data(split) -> None:
    families = [f"f{index // 2}" for index in range(60)]
    whole, same, other = split(families), split(families, name="same"), split([*families, "new"], name="other")
    (rest, held), (_, again), (_, different) = (hold_out(each, 0.3) for each in (whole, same, other))
    assert (held.indices.tolist(), held.digest) == (again.indices.tolist(), again.digest)
    assert held.indices.tolist() != different.indices.tolist()
    digests = {whole.digest, rest.digest, held.digest, different.digest, hold_out(whole, 0.2)[1].digest}
    assert [len(digest) for digest in digests] == [64] * 5


def test_what_cannot_be_held_out_is_said(split, tmp_path: Path) -> None:
    with pytest.raises(ProtcliError, match=r"s holds no families of training, .*`protcli data families .*/s`"):
        hold_out(split(None, 4), 0.5)
    with pytest.raises(ProtcliError, match=r"all proteins of training in .* are of one family"):
        hold_out(split(["a"] * 4, name="one"), 0.5)
    two = split(["a", "a", "b", "b"], name="two")
    with pytest.raises(ProtcliError, match=r"the smallest family .* 2 of its 4 proteins, .*--held-out 0\.1"):
        hold_out(two, 0.1)
    assert [len(part) for part in hold_out(two, 0.9)] == [2, 2]  # something is always left to train on


def test_a_data_set_without_the_validation_split(split, tmp_path: Path, chain) -> None:
    split([f"f{index // 2}" for index in range(40)])
    with create_store(tmp_path / "s") as store, store.split("validation") as writer:
        writer.add(chain(9, 99))

    def data(held_out: float):
        source = str(tmp_path / "s")
        return open_dataset(source, train_split=None, atom="ca", evaluated_length=64, held_out=held_out)

    usual = data(0.0)
    assert [protein.id for protein in usual.valid] == ["chain99"]
    (tmp_path / "s" / "validation.arrow").unlink()
    held = data(0.25)
    assert (held.train.name, len(held.train), len(held.valid)) == ("training", 30, 10)
    assert not set(held.train.families) & set(held.valid.families)
    assert len({usual.digest, held.digest, data(0.5).digest}) == 3
    [batch] = held.validation(64).epoch()
    assert batch.ids == tuple(protein.id for protein in held.valid)
    assert sum(len(batch) for batch in held.fitting(8).epoch()) == 30
    for share in (-0.1, 1.0, float("nan")):
        with pytest.raises(ProtcliError, match=r"--held-out is .*: give 0 or more, and less than 1"):
            data(share)


def test_several_splits_are_one(tmp_path: Path, chain) -> None:
    """The second split repeats a protein of the first, which counts once."""

    def store(name: str, source: str):
        with create_store(tmp_path / name) as folder:
            for split, numbers in (("training_a", (0, 1, 2)), ("training_b", (3, 1, 4, 5)), ("validation", (9,))):
                with folder.split(split) as writer:
                    for number in numbers:
                        writer.add(replace(chain(3 + number, number), id=f"p{number}"))
                    writer.families = Families([f"f{number // 2}" for number in numbers], source)
        return tmp_path / name

    def data(path: Path, splits: str | None, held_out: float = 0.0):
        return open_dataset(str(path), train_split=splits, atom="ca", evaluated_length=64, held_out=held_out)

    path = store("s", "table t.csv")
    both = data(path, "training_a,training_b")
    assert both.train.name == "training_a,training_b"
    assert [protein.id for protein in both.train] == ["p0", "p1", "p2", "p3", "p4", "p5"]
    assert [both.train[-1].id, *(protein.id for protein in both.train[2:4])] == ["p5", "p2", "p3"]
    assert both.train.lengths.tolist() == [3, 4, 5, 6, 7, 8]
    assert both.train.families.tolist() == ["f0", "f0", "f1", "f1", "f2", "f2"]
    assert sum(len(batch) for batch in both.fitting(4).epoch()) == 6
    digests = {data(path, splits).digest for splits in ("training_a", "training_b", "training_b,training_a")}
    assert len(digests | {both.digest}) == 4
    assert data(path, both.train.name).digest == both.digest
    held = data(path, "training_a,training_b", 0.34)  # f1 has members in both
    assert not set(held.train.families) & set(held.valid.families)
    assert len(held.train) + len(held.valid) == 6
    with pytest.raises(ProtcliError, match="were found in each split alone, so that relatives may be in another one"):
        data(store("h", "homology: phmmer"), "training_a,training_b", 0.34)
    for splits, said in (
        (None, r"exactly one training split \(training_a, training_b\)"),
        ("training_a,training_a", "--train-split training_a,training_a names training_a twice"),
        ("training_a,validation", "split validation is reserved"),
        ("training_a,", "has no split ''"),
    ):
        with pytest.raises(ProtcliError, match=said):
            data(path, splits)


@pytest.mark.parametrize("seed", range(3))
def test_a_share_of_a_split_is_of_whole_families_and_a_part_of_a_larger_one(split, seed: int) -> None:
    families = [f"f{int(each)}" for each in np.random.default_rng(seed).geometric(0.1, size=200)]
    whole = split(families)
    assert take_share(whole, 1.0, seed) is whole
    before: set[int] = set()
    for share in (0.1, 0.25, 0.5, 0.9):
        part = take_share(whole, share, seed)
        assert part.name == f"training ({share:.0%})"
        assert set(part.families) == {families[index] for index in part.indices}
        assert len(part) == sum(families.count(name) for name in set(part.families))  # whole families
        sizes = [families.count(name) for name in set(part.families)]
        assert share * 200 <= len(part) < share * 200 + max(sizes)
        assert before < set(part.indices.tolist())
        before = set(part.indices.tolist())
    assert take_share(whole, 0.5, seed).digest != take_share(whole, 0.5, seed + 1).digest
    part = take_share(take_share(split(None, 40, name="single"), 0.5, 0), 0.5, 1)  # of a share, without families
    assert len(part) == 10


def write(path: Path, **splits: list[Protein]) -> str:
    with create_store(path) as store:
        for name, proteins in splits.items():
            with store.split(name) as writer:
                for protein in proteins:
                    writer.add(protein)
    return str(path)


@pytest.fixture
def proteins(chain) -> list[Protein]:
    return [replace(chain(8, seed), id=f"p{seed}") for seed in range(6)]


def without_cbeta(protein: Protein) -> Protein:
    coords = protein.coords.copy()
    coords[:, [0, 2]] = np.nan
    return replace(protein, coords=coords)


def opened(source: str, split: str | None = None, atom: str = "ca", length: int = 64) -> Dataset:
    return open_dataset(source, train_split=split, atom=atom, evaluated_length=length)


def test_the_only_training_split_is_taken_and_one_of_several_chosen(tmp_path, proteins, monkeypatch):
    source = write(tmp_path / "s", training_30=proteins[:3], validation=proteins[3:5], testing=proteins[5:])
    data = opened(source, atom="cb")
    assert (data.train.name, data.atom, data.evaluated_length) == ("training_30", "cb", 64)
    assert [protein.id for protein in (*data.train, *data.valid)] == ["p0", "p1", "p2", "p3", "p4"]
    several = write(tmp_path / "t", training_30=proteins[:2], training_95=proteins[:3], validation=proteins[3:])
    assert opened(several, "training_95").train.name == "training_95"
    made = find_store(source)
    monkeypatch.setattr(dataset, "sample_store", lambda: made)
    assert find_store(SAMPLE) is made
    assert opened("sample").store is made


@pytest.mark.parametrize(
    ("splits", "chosen", "said"),
    [
        ("training_30 training_95 validation", {},
         r"does not have exactly one training split \(training_30, training_95\): .* --train-split"),
        ("training_30 validation", {"split": "training_50"}, "training_50"),
        ("validation", {}, r"does not have exactly one training split \(none among validation\)"),
        ("training", {}, "validation"),
        ("training validation", {"atom": "CB"}, "unknown atom 'CB': choose one of ca, cb with --atom"),
        ("training validation", {"length": 1}, "1 residues contain no pair: give --evaluate-length 2 or more"),
        ("training validation", {"split": "validation"},
         "split validation is reserved for choosing between models: train on another split"),
        ("training validation testing", {"split": "testing"},
         "split testing is reserved for the final measurement: train on another split"),
    ],
)  # fmt: skip
def test_data_that_cannot_be_opened(tmp_path, proteins, splits, chosen, said):
    source = write(tmp_path / "s", **{name: proteins[:2] for name in splits.split()})
    with pytest.raises(ProtcliError, match=said):
        opened(source, **chosen)
    with pytest.raises(ProtcliError, match="nowhere"):
        opened(str(tmp_path / "nowhere"))


@pytest.mark.parametrize("name", ["training", "validation"])
def test_a_damaged_split_is_not_used(tmp_path, proteins, name):
    source = write(tmp_path / "s", training=proteins[:3], validation=proteins[3:])
    file = tmp_path / "s" / f"{name}.arrow"
    data = file.read_bytes()
    coords = find_store(source).split(name)[1].coords.tobytes()
    assert data.count(coords) == 1
    file.write_bytes(data.replace(coords, coords[:-4] + b"\x00\x00\x80\x3f"))  # the last atom's z is 1
    with pytest.raises(ProtcliError, match=rf"{name}\.arrow: .* the store is damaged: import it again"):
        opened(source)


def test_an_atom_that_is_not_there(tmp_path, proteins):
    bare = [without_cbeta(protein) for protein in proteins]
    source = write(tmp_path / "s", training=[*bare[:2], proteins[2]], validation=bare[3:])
    assert opened(source).atom == "ca"
    with pytest.raises(
        ProtcliError, match=r"no chain of validation in .* has two residues with the atom cb: .* --atom"
    ):
        opened(source, atom="cb")
    store = find_store(source)
    require_atom(store.split("training"), "cb", store)  # one protein that has it is enough


def test_digest_is_of_everything_that_is_used_and_of_nothing_else(tmp_path, proteins):
    def digest(name, *, atom="ca", length=64, **splits):
        chosen = {"training": proteins[:3], "validation": proteins[3:5]} | splits
        return opened(write(tmp_path / name, **chosen), None, atom, length).digest

    first = digest("a")
    assert len(first) == 32
    assert int(first, 16)
    assert first == digest("b") == digest("c", testing=proteins[5:])
    moved = replace(proteins[0], coords=proteins[0].coords + np.float32(0.001))
    changes = [
        {"training": [moved, *proteins[1:3]]}, {"training": proteins[:2]}, {"validation": proteins[3:4]},
        {"training": proteins[3:5], "validation": proteins[:3]}, {"atom": "cb"}, {"length": 65},
    ]  # fmt: skip
    assert len({first, *(digest(f"d{number}", **change) for number, change in enumerate(changes))}) == 7
