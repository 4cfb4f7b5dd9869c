"""`protcli data`."""

from pathlib import Path

import pytest

from protcli.proteins.store import open_store

RECORD = "\n".join(
    ["[ID]", "{id}", "[PRIMARY]", "ACD", "[EVOLUTIONARY]", *["0.5\t0\t1"] * 21, "[TERTIARY]"]
    + ["100\t200\t300\t400\t500\t600\t700\t800\t900"] * 3
    + ["[MASK]", "+++", "", ""]
)


@pytest.fixture
def release(tmp_path: Path) -> Path:
    folder = tmp_path / "casp"
    folder.mkdir()
    for split, ids in (("training_30", ["1ABC_1_A", "2ABC_1_A", "2ABC_1_A"]), ("testing", ["FM#T0001"])):
        (folder / split).write_text("".join(RECORD.format(id=identity) for identity in ids))
    (folder / "README").write_text("words")
    return folder


def test_import_says_what_it_read_kept_and_ignored(said, release: Path, tmp_path: Path) -> None:
    output = said("data", "import", release, "--out", tmp_path / "s")
    assert "reading 2 files" in output
    assert "ignored: README" in output
    assert "training_30: 3 records read, 2 kept, 1 dropped (id seen before in the split)" in output
    assert "id seen before in the split: 2ABC_1_A" in output
    assert "MB/s" in output
    assert open_store(tmp_path / "s").splits == ("training_30", "testing")
    output = said("data", "import", release / "testing", "--as", "valid", "--out", tmp_path / "one")
    assert "validation: 1 record read, 1 kept; 3 residues" in output


def test_families_of_an_import_from_none_to_a_table(said, refused, release: Path, tmp_path: Path) -> None:
    output = said("data", "import", release, "--out", tmp_path / "h")
    assert "2 families, the largest of 1 protein (homology: phmmer" in output
    said("data", "import", release, "--out", tmp_path / "s", "--families", "none")
    none = "The store holds no families of training_30, testing: each protein counts as its own; `protcli data families"
    assert f"{none} {tmp_path / 's'}` adds them." in said("data", "inspect", tmp_path / "s")
    (tmp_path / "t.tsv").write_text("id\tfamily\n1ABC_1_A\tone\n2ABC_1_A\tone\nFM#T0001\t\n")
    (tmp_path / "few.tsv").write_text("id\tfamily\n1ABC_1_A\tone\n2ABC_1_A\tone\n")
    refused("data", "families", tmp_path / "s", "--families", tmp_path / "few.tsv")  # also claims nothing before it
    output = said("data", "families", tmp_path / "s", "--families", tmp_path / "t.tsv")
    assert "training_30: 1 family, the largest of 2 proteins" in output
    assert "testing: 1 family, the largest of 1 protein" in output
    output = said("data", "inspect", tmp_path / "s")
    assert "no families" not in output
    assert "training_30 1 2 table t.tsv" in output
    said("data", "import", release, "--out", tmp_path / "t", "--families", tmp_path / "t.tsv")
    assert open_store(tmp_path / "t").split("training_30").families.tolist() == ["one", "one"]


def test_an_import_leaves_the_families_of_a_large_split_to_their_own_command(said, release, tmp_path, monkeypatch):
    monkeypatch.setattr("protcli.experiments.data.import_files.MOST_COMPARED", 1)
    output = said("data", "import", release, "--out", tmp_path / "s")
    assert f"no families: comparing more than 1 sequences takes long; `protcli data families {tmp_path}/s`" in output
    store = open_store(tmp_path / "s")
    assert [store.split(name).family_source is None for name in store.splits] == [True, False]
    said("data", "families", tmp_path / "s")
    assert open_store(tmp_path / "s").split("training_30").family_source


def test_inspect_shows_figures_and_draws(said, release: Path, tmp_path: Path) -> None:
    said("data", "import", release, "--out", tmp_path / "s", "--families", "none")
    output = said("data", "inspect", tmp_path / "s", "--plot", tmp_path / "page.png")
    for words in ("s: 3 proteins", "training_30", "id seen before", "FM", "information", "66.67%"):
        assert words in output
    assert "testing was not opened" in output
    assert (tmp_path / "page.png").stat().st_size > 0


def test_synth_is_named_synthetic_everywhere(said, tmp_path: Path) -> None:
    output = said("data", "synth", "--out", tmp_path / "s", "--train", 2, "--valid", 1, "--test", 0, "--max-length", 60)
    assert "training: 2 SYNTHETIC proteins" in output
    assert open_store(tmp_path / "s").splits == ("training", "validation")
    assert "3 SYNTHETIC proteins" in said("data", "inspect", tmp_path / "s")


def test_mistakes_are_one_sentence_and_leave_nothing(refused, release: Path, tmp_path: Path) -> None:
    (tmp_path / "words").write_text("these are no proteins\n")
    (tmp_path / "t.csv").write_text("id,family\n1ABC_1_A,one\n2ABC_1_A,one\n")
    for arguments in (
        *(("inspect", "nowhere"), ("inspect", "."), ("families", "nowhere"), ("import", "nowhere", "--out", "s")),
        ("import", "words", "--out", "s", "--as", "train"),
        ("import", "words", "--out", "s", "--as", "train", "--families", "words"),
    ):
        refused("data", *arguments)
    assert "casp7" in refused("data", "fetch", "casp99", "--out", tmp_path)
    lacking = refused("data", "import", release, "--out", tmp_path / "s", "--families", tmp_path / "t.csv")
    assert "has no line for FM#T0001 of testing" in lacking
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["casp", "t.csv", "words"]


def test_a_split_is_reported_by_families_classes_and_what_was_dropped(said, refused, tmp_path: Path) -> None:
    said("data", "synth", "--out", tmp_path / "s", "--train", 40, "--max-length", 60)
    count = open_store(tmp_path / "s").split_info("training")["families"]["count"]
    output = said(
        *("data", "split", tmp_path / "s", "--out", tmp_path / "new", "--validation", 6, "--testing", 4, "--seed", 2)
    )
    new = open_store(tmp_path / "new")
    assert new.synthetic
    entries = {name: new.split_info(name) for name in new.splits}
    assert [entries[name]["records"] for name in ("validation", "testing")] == [6, 4]
    assert entries["training"]["families"]["count"] < count
    for name, entry in entries.items():
        assert f"{name} {entry['families']['count']} {entry['families']['largest']} " in output
    (dropped,) = entries["training"]["dropped"].items()
    for words in ("Proteins by ProteinNet class", "seed 2, 50% of class 10", f"dropped, {dropped[0]}: {dropped[1][0]}"):
        assert words in output
    assert "exists already" in refused(
        "data", "split", tmp_path / "s", "--out", new.path, "--validation", 1, "--testing", 1
    )


def test_profiles_from_alignments(said, refused, release: Path, tmp_path: Path) -> None:
    said("data", "import", release, "--out", tmp_path / "s", "--families", "none")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1abc_A.a3m").write_text(">q\nACD\n>r\nA-D\n")
    output = said("data", "profiles", tmp_path / "s", "--alignments", tmp_path / "a", "--out", tmp_path / "new")
    assert "profiles from the alignments in a: 1; 1 keep what they have: 2ABC_1_A" in output
    assert open_store(tmp_path / "new").splits == ("training_30", "testing")
    more = ("--out", tmp_path / "t", "--families", "none", "--alignments", tmp_path / "a")
    assert "profiles from the alignments in a: 1" in said("data", "import", release, *more)
    (tmp_path / "a" / "1abc_A.a3m").write_text(">q\nWWW\n")
    sentence = refused("data", "import", release, *more[2:], "--out", tmp_path / "u")
    assert (
        "1abc_A.a3m: 0% of its first sequence are in 1ABC_1_A; expected 95% of the shorter one (--skip-bad" in sentence
    )
    assert not (tmp_path / "u").exists()
