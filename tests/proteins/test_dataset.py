"""The data of a run: which splits, which atom, and what identifies it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from protcli.errors import ProtcliError
from protcli.proteins import dataset
from protcli.proteins.dataset import SAMPLE, find_store, open_dataset, require_atom
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


def test_the_only_training_split_is_taken(tmp_path, proteins):
    source = write(tmp_path / "s", training_30=proteins[:3], validation=proteins[3:5], testing=proteins[5:])
    data = open_dataset(source, train_split=None, atom="cb", evaluated_length=64)
    assert data.train.name == "training_30"
    assert [protein.id for protein in data.train] == ["p0", "p1", "p2"]
    assert [protein.id for protein in data.valid] == ["p3", "p4"]
    assert (data.atom, data.evaluated_length) == ("cb", 64)


def test_one_of_several_must_be_chosen(tmp_path, proteins):
    source = write(tmp_path / "s", training_30=proteins[:2], training_95=proteins[:3], validation=proteins[3:])
    with pytest.raises(
        ProtcliError, match=r"does not have exactly one training split \(training_30, training_95\): .* --train-split"
    ):
        open_dataset(source, train_split=None, atom="ca", evaluated_length=64)
    assert open_dataset(source, train_split="training_95", atom="ca", evaluated_length=64).train.name == "training_95"
    with pytest.raises(ProtcliError, match="training_50"):
        open_dataset(source, train_split="training_50", atom="ca", evaluated_length=64)


def test_a_store_without_training_or_validation(tmp_path, proteins):
    source = write(tmp_path / "valid", validation=proteins)
    with pytest.raises(ProtcliError, match=r"does not have exactly one training split \(none among validation\)"):
        open_dataset(source, train_split=None, atom="ca", evaluated_length=64)
    source = write(tmp_path / "train", training=proteins)
    with pytest.raises(ProtcliError, match="validation"):
        open_dataset(source, train_split=None, atom="ca", evaluated_length=64)


def test_settings_that_cannot_be(tmp_path, proteins):
    source = write(tmp_path / "s", training=proteins, validation=proteins)
    with pytest.raises(ProtcliError, match="unknown atom 'CB': choose one of ca, cb with --atom"):
        open_dataset(source, train_split=None, atom="CB", evaluated_length=64)
    with pytest.raises(ProtcliError, match="1 residues contain no pair: give --evaluate-length 2 or more"):
        open_dataset(source, train_split=None, atom="ca", evaluated_length=1)
    with pytest.raises(ProtcliError, match="nowhere"):
        open_dataset(str(tmp_path / "nowhere"), train_split=None, atom="ca", evaluated_length=64)


@pytest.mark.parametrize(("name", "kept"), [("validation", "choosing between models"), ("testing", "the final meas")])
def test_what_is_kept_for_measuring_is_not_trained_on(tmp_path, proteins, name, kept):
    source = write(tmp_path / "s", training=proteins[:2], validation=proteins[2:4], testing=proteins[4:])
    with pytest.raises(ProtcliError, match=f"split {name} is reserved for {kept}.*: train on another split"):
        open_dataset(source, train_split=name, atom="ca", evaluated_length=64)


@pytest.mark.parametrize("name", ["training", "validation"])
def test_a_damaged_split_is_not_used(tmp_path, proteins, name):
    source = write(tmp_path / "s", training=proteins[:3], validation=proteins[3:])
    file = tmp_path / "s" / f"{name}.arrow"
    data = file.read_bytes()
    coords = find_store(source).split(name)[1].coords.tobytes()
    assert data.count(coords) == 1
    file.write_bytes(data.replace(coords, coords[:-4] + b"\x00\x00\x80\x3f"))  # the last atom's z is 1
    with pytest.raises(ProtcliError, match=rf"{name}\.arrow: .* the store is damaged: import it again"):
        open_dataset(source, train_split=None, atom="ca", evaluated_length=64)


def test_an_atom_that_is_not_there(tmp_path, proteins):
    bare = [without_cbeta(protein) for protein in proteins]
    source = write(tmp_path / "s", training=[*bare[:2], proteins[2]], validation=bare[3:])
    assert open_dataset(source, train_split=None, atom="ca", evaluated_length=64).atom == "ca"
    with pytest.raises(
        ProtcliError, match=r"no chain of validation in .* has two residues with the atom cb: .* --atom"
    ):
        open_dataset(source, train_split=None, atom="cb", evaluated_length=64)
    store = find_store(source)
    require_atom(store.split("training"), "cb", store)  # one protein that has it is enough


def test_digest_is_of_everything_that_is_used_and_of_nothing_else(tmp_path, proteins):
    def digest(name, *, atom="ca", length=64, **splits):
        chosen = {"training": proteins[:3], "validation": proteins[3:5]} | splits
        return open_dataset(
            write(tmp_path / name, **chosen), train_split=None, atom=atom, evaluated_length=length
        ).digest

    first = digest("a")
    assert len(first) == 32
    assert int(first, 16)
    assert digest("b") == first
    assert digest("c", testing=proteins[5:]) == first
    moved = replace(proteins[0], coords=proteins[0].coords + np.float32(0.001))
    others = [
        digest("d", training=[moved, *proteins[1:3]]),
        digest("e", training=proteins[:2]),
        digest("f", validation=proteins[3:4]),
        digest("g", training=proteins[3:5], validation=proteins[:3]),
        digest("h", atom="cb"),
        digest("i", length=65),
    ]
    assert len({first, *others}) == 7


def test_sample_names_the_built_in_data(tmp_path, proteins, monkeypatch):
    made = find_store(write(tmp_path / "s", training=proteins, validation=proteins))
    monkeypatch.setattr(dataset, "sample_store", lambda: made)
    assert find_store(SAMPLE) is made
    assert open_dataset("sample", train_split=None, atom="ca", evaluated_length=64).store is made
