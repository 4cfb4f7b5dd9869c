"""The data of a run: which splits, which atom, and what identifies it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from protcli.errors import ProtcliError
from protcli.proteins import dataset
from protcli.proteins.dataset import SAMPLE, Dataset, find_store, open_dataset, require_atom
from protcli.proteins.protein import Protein
from protcli.proteins.store import create_store


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
