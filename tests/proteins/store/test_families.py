"""Families beside a split: they annotate its proteins and change nothing else."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from protcli.errors import ProtcliError
from protcli.proteins.protein import Protein
from protcli.proteins.store import MANIFEST, Families, create_store, open_store, replace_families

IDS = ["a", 'b,"\r\n', "ç", "d"]
LABELS = ["one", "two, or\n2", "one", "one"]


def write(path: Path, labels: list[str] | None, split: str = "training") -> Path:
    with create_store(path) as store, store.split(split) as writer:
        for name in IDS:
            ones = np.ones((2, 3, 3), np.float32)
            writer.add(Protein(name, "AC", np.ones((2, 21), np.float32), ones, np.ones(2, bool)))
        if labels is not None:
            writer.families = Families(labels, "a test")
    return path


def names(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir())


def test_families_come_back_and_the_digest_stays(tmp_path: Path) -> None:
    store = open_store(write(tmp_path / "with", LABELS))
    split, without = store.split("training"), open_store(write(tmp_path / "without", None)).split("training")
    assert split.families.tolist() == LABELS
    assert [protein.family for protein in split] == LABELS
    assert pickle.loads(pickle.dumps(split)).families.tolist() == LABELS
    assert (split.has_families, without.has_families) == (True, False)
    assert split.digest == without.digest
    split.verify()
    entry = store.split_info("training")["families"]
    assert (entry["source"], entry["count"], entry["largest"]) == ("a test", 2, 3)
    assert without.families.tolist() == without.ids == [protein.family for protein in without] == IDS  # each its own


def test_families_are_replaced_under_the_feet_of_nobody(tmp_path: Path) -> None:
    path = write(tmp_path / "s", LABELS)
    write(path, None, "validation")
    before = open_store(path)
    opened = before.split("training")
    new, other = Families(list("wxyz"), "new"), Families(list("ppqq"), "new")
    files = {file.name: file.read_bytes() for file in path.iterdir()}
    with pytest.raises(ProtcliError, match="no split 'testing'"):
        replace_families(path, {"training": new, "testing": Families(["a"], "new")})
    assert {file.name: file.read_bytes() for file in path.iterdir()} == files
    with pytest.raises(ProtcliError, match="no such folder"):
        replace_families(tmp_path / "nowhere", {})
    replace_families(path, {"training": new, "validation": other})
    assert (opened.families.tolist(), opened[1].family) == (LABELS, LABELS[1])
    assert before.split("training").families.tolist() == list("wxyz")
    store = open_store(path)
    assert store.split("training").families.tolist() == list("wxyz")
    assert store.split("validation").families.tolist() == list("ppqq")
    assert store.split("training").digest == opened.digest
    written = [store.split_info(name)["families"]["file"] for name in store.splits]
    assert names(path) == sorted([MANIFEST, "training.arrow", "validation.arrow", *written])
    assert names(tmp_path) == ["s"]
    replace_families(path, {"training": Families(list("wxyz"), "the same")})
    assert open_store(path).split("training").families.tolist() == list("wxyz")


def test_damaged_families(tmp_path: Path) -> None:
    path = write(tmp_path / "s", LABELS)
    store = open_store(path)
    file = path / store.split_info("training")["families"]["file"]
    whole = file.read_bytes()
    file.write_bytes(whole.replace(b"one", b"two", 1))
    with pytest.raises(ProtcliError, match=r"families-.*\.csv: its content has changed; the store is damaged"):
        store.split("training")
    file.write_bytes(whole[:-1])
    for opened in (store.check_sizes, lambda: store.split("training")):
        with pytest.raises(ProtcliError, match=r"families-.*\.csv: holds .* the store is damaged"):
            opened()
    file.unlink()
    with pytest.raises(ProtcliError, match=r"cannot read .*families-.*\.csv"):
        store.check_sizes()
