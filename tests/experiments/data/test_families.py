"""Tables of families, and families of a store that has none yet."""

from pathlib import Path

import pytest

from protcli.errors import ProtcliError
from protcli.experiments.data.families import Progress, add_families, group, read_family_table
from protcli.proteins.store import create_store, open_store
from protcli.proteins.synthetic import synthesize


def table(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "text",
    [
        "id,family\na,one\nb,\nc,two\na,one\n",
        "family\tid\r\none\ta\r\n\tb\r\ntwo\tc\r\n",
        '\ufeffid,family\n"a","one"\n\nb,\nc,two',
    ],
)
def test_a_table_of_families(tmp_path: Path, text: str) -> None:
    path = table(tmp_path / "t.csv", text)
    with pytest.raises(StopIteration) as end:
        next(group("training", ["c", "b", "a"], [""] * 3, path, read_family_table(path)))
    assert list(end.value.value.labels) == ["two", "b", "one"]  # b has no relatives
    assert end.value.value.source == "table t.csv"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"t\.csv is empty: expected a table with the columns id and family"),
        ("id,family,length\na,b,3\n", r"line 1: the columns are id, family, length; expected id and family"),
        ("id,fam\na,b\n", r"line 1: the columns are id, fam; expected id and family"),
        ("id,id\na,b\n", r"line 1: the columns are id, id; expected"),
        ("id,family\na,one\n,two\n", r"t\.csv, line 3: has no id"),
        ("id,family\na,one\nb\n", r"t\.csv, line 3: has 1 fields; expected an id and a family"),
        ("id,family\na,one\nb,two\na,two\n", r"t\.csv, line 4: a has two, but one in an earlier line"),
        ("id,family\na,one\n\na,\n", r"t\.csv, line 4: a has no family, but one in an earlier line"),
        (f"id,family\na,{'x' * 200_000}\n", r"t\.csv, line 2: field larger than field limit"),
    ],
)
def test_mistakes_in_a_table(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ProtcliError, match=message):
        read_family_table(table(tmp_path / "t.csv", text))


def test_a_table_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(ProtcliError, match=r"cannot read .*nowhere\.csv"):
        read_family_table(tmp_path / "nowhere.csv")
    (tmp_path / "picture").write_bytes(b"\xff\xd8\x00")
    with pytest.raises(ProtcliError, match="picture is not text: expected a table"):
        read_family_table(tmp_path / "picture")
    path = table(tmp_path / "t.csv", "id,family\na,one\n")
    with pytest.raises(
        ProtcliError, match=r"has no line for b of training, nor for 1 more of its 3 proteins; a protein"
    ):
        list(group("training", ["a", "b", "c"], [], path, read_family_table(path)))


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Synthetic proteins in a store that does not know their families."""
    with create_store(tmp_path / "s") as writer:
        for split in ("training", "validation"):
            with writer.split(split) as proteins:
                for protein in synthesize(12, seed=3, split=split, max_length=80):
                    proteins.add(protein)
    return tmp_path / "s"


def test_families_by_homology_are_added_to_a_store(store: Path) -> None:
    digest = open_store(store).split("training").digest
    events = list(add_families(store))
    searches = [event for event in events if isinstance(event, Progress)]
    assert list(dict.fromkeys(event.label for event in searches))[:2] == ["training", "validation"]
    assert [(event.done, event.total) for event in searches if event.label == "validation"][-1] == (12, 12)
    split = open_store(store).split("training")
    assert split.digest == digest
    assert "phmmer" in open_store(store).split_info("training")["families"]["source"]
    made = [protein.family for protein in synthesize(12, seed=3, split="training", max_length=80)]
    for i in range(12):
        for j in range(i):
            if split.families[i] == split.families[j]:
                assert made[i] == made[j]
    assert len(set(split.families.tolist())) < 12
    for label in set(split.families.tolist()):
        assert split.ids[split.families.tolist().index(label)] == label  # named after the first


def test_a_table_replaces_them_or_changes_nothing(store: Path, tmp_path: Path) -> None:
    lines = [f"{name},f{index % 3}" for index, name in enumerate(open_store(store).split("training").ids)]
    path = table(tmp_path / "t.csv", "\n".join(["id,family", *lines]))
    before = {file.name: file.read_bytes() for file in store.iterdir()}
    with pytest.raises(ProtcliError, match="has no line for synthetic_validation_0000 of validation"):
        list(add_families(store, path))
    assert {file.name: file.read_bytes() for file in store.iterdir()} == before
    lines += [f"{name}," for name in open_store(store).split("validation").ids]
    list(add_families(store, table(path, "\n".join(["id,family", *lines]))))
    assert open_store(store).split("training").families.tolist() == ["f0", "f1", "f2"] * 4
    validation = open_store(store).split("validation")
    assert validation.families.tolist() == validation.ids
