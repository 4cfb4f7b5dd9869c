"""Tables of families, families of a store that has none yet, and what splits share."""

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from protcli.cli import app
from protcli.errors import ProtcliError
from protcli.experiments.data.families import Overlap, add_families, group, overlaps, read_family_table
from protcli.experiments.pages import Progress
from protcli.proteins.residues import AMINO_ACIDS
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


def random_chains(count: int, seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    return ["".join(rng.choice(list(AMINO_ACIDS), 120)) for _ in range(count)]


def mutated(sequence: str, share: float) -> str:
    rng = np.random.default_rng(3)
    return "".join(rng.choice(list(AMINO_ACIDS)) if rng.random() < share else letter for letter in sequence)


@pytest.fixture(scope="module")
def sequences() -> dict[str, list[str]]:
    """Validation has one chain of training and two relatives of others; testing one of validation."""
    first, second = random_chains(8, 1), random_chains(4, 2)
    validation = [*random_chains(5, 3), first[2], mutated(first[3], 0.4), mutated(second[1], 0.5)]
    return {"training_30": first, "training_95": second, "validation": validation, "testing": [validation[0], "AC"]}


def test_same_sequences_and_relatives(sequences: dict[str, list[str]]) -> None:
    events = list(overlaps(sequences, ["training_95", "testing"], homology=True))
    found = [event for event in events if isinstance(event, Overlap)]
    assert found == [
        Overlap("validation", "training_95", 0, 1),
        Overlap("testing", "training_30", 0, 0),
        Overlap("testing", "training_95", 0, 0),
        Overlap("testing", "validation", 1, 1),
    ]  # validation and training_30 were compared when they were imported
    assert [event for event in events if isinstance(event, Progress)][7] == Progress(
        "validation with training_95", 8, 8, "sequences"
    )
    (new, *_) = (event for event in overlaps(sequences, ["validation"], homology=True) if isinstance(event, Overlap))
    assert new == Overlap("validation", "training_30", 1, 2)
    without = [event for event in overlaps(sequences, ["validation"], homology=False)]
    assert without[:2] == [Overlap("validation", "training_30", 1, None), Overlap("validation", "training_95", 0, None)]


def record(identity: str, sequence: str) -> str:
    row = "\t".join(["0.5"] * len(sequence))
    points = "\t".join(str(100 * index) for index in range(3 * len(sequence)))
    profile, positions = "\n".join([row] * 21), "\n".join([points] * 3)
    parts = ("[ID]", identity, "[PRIMARY]", sequence, "[EVOLUTIONARY]", profile, "[TERTIARY]", positions, "[MASK]")
    return "\n".join([*parts, "+" * len(sequence), "", ""])


def test_they_are_told_at_import_and_kept(tmp_path: Path, sequences: dict[str, list[str]]) -> None:
    source = tmp_path / "text"
    source.mkdir()
    for split, chains in sequences.items():
        text = "".join(record(f"{split}{number}", chain) for number, chain in enumerate(chains))
        (source / split).write_text(text, encoding="utf-8")
    (tmp_path / "later").mkdir()
    (source / "training_95").rename(tmp_path / "later" / "training_95")

    def call(*arguments: str) -> str:
        result = CliRunner().invoke(app, ["data", *arguments])
        assert result.exit_code == 0, result.output
        return result.output

    said = call("import", str(source), "--out", "s")
    warning = (
        "Warning: validation: 1 protein with a sequence that training_30 has too, 2 proteins with a relative in "
        "training_30"
    )
    assert warning in said.splitlines()
    assert "testing: 1 protein with a sequence that validation has too" in said
    assert "  testing: none with a relative in training_30" in said.splitlines()
    digests = {name: open_store("s").split(name).digest for name in open_store("s").splits}
    said = call("import", str(tmp_path / "later"), "--out", "s")
    assert "  validation: 1 protein with a relative in training_95" in said.splitlines()
    assert warning not in said  # it was said before
    assert open_store("s").split_info("validation")["overlaps"] == {
        "training_30": {"same": 1, "related": 2},
        "training_95": {"same": 0, "related": 1},
    }
    assert {name: open_store("s").split(name).digest for name in digests} == digests
    table = call("inspect", "s").partition("Proteins that another split knows")[2].partition("Profile")[0]
    rows = [line.split() for line in table.splitlines() if "training" in line or "validation" in line]
    assert rows == [
        ["validation", "8", "training_30", "1", "2"],
        ["validation", "8", "training_95", "0", "1"],
        ["testing", "2", "training_30", "0", "0"],
        ["testing", "2", "validation", "1", "1"],
        ["testing", "2", "training_95", "0", "0"],
    ]
    assert warning in call("families", "s").splitlines()
