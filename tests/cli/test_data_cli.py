import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from protcli.cli.data import app
from protcli.errors import ProtcliError
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


def protcli_data(*args: object) -> Result:
    return CliRunner().invoke(app, [str(arg) for arg in args])


def said(*args: object) -> str:
    result = protcli_data(*args)
    assert result.exit_code == 0, result.output
    return result.output


def test_import_says_what_it_read_kept_and_ignored(release: Path, tmp_path: Path) -> None:
    output = said("import", release, "--out", tmp_path / "s")
    assert "reading 2 files" in output
    assert "ignored: README" in output
    assert "training_30: 3 records read, 2 kept, 1 dropped (id seen before in the split)" in output
    assert "id seen before in the split: 2ABC_1_A" in output
    assert "MB/s" in output
    assert open_store(tmp_path / "s").splits == ("training_30", "testing")


def test_import_of_a_single_file_with_as(release: Path, tmp_path: Path) -> None:
    output = said("import", release / "testing", "--as", "valid", "--out", tmp_path / "s")
    assert "validation: 1 record read, 1 kept; 3 residues" in output


def test_import_skips_bad_records_when_told(release: Path, tmp_path: Path) -> None:
    (release / "testing").write_text(RECORD.format(id="good") + RECORD.format(id="bad").replace("+++", "++"))
    result = protcli_data("import", release, "--out", tmp_path / "s")
    assert isinstance(result.exception, ProtcliError)
    assert not (tmp_path / "s").exists()
    output = said("import", release, "--out", tmp_path / "s", "--skip-bad")
    assert "1 dropped (broken record)" in output
    assert "record bad" in output


def test_families_of_an_import_from_none_to_a_table(release: Path, tmp_path: Path) -> None:
    assert "2 families, the largest of 1 protein (homology: phmmer" in said("import", release, "--out", tmp_path / "h")
    said("import", release, "--out", tmp_path / "s", "--families", "none")
    assert (
        f"The store holds no families of training_30, testing: each protein counts as its own; `protcli data families "
        f"{tmp_path / 's'}` adds them." in said("inspect", tmp_path / "s")
    )
    (tmp_path / "t.tsv").write_text("id\tfamily\n1ABC_1_A\tone\n2ABC_1_A\tone\nFM#T0001\t\n")
    (tmp_path / "few.tsv").write_text("id\tfamily\n1ABC_1_A\tone\n2ABC_1_A\tone\n")
    result = protcli_data("families", tmp_path / "s", "--families", tmp_path / "few.tsv")
    assert (result.exit_code, result.stdout) == (1, "")  # it claims no success for the first split
    output = said("families", tmp_path / "s", "--families", tmp_path / "t.tsv")
    assert "training_30: 1 family, the largest of 2 proteins" in output
    assert "testing: 1 family, the largest of 1 protein" in output
    output = said("inspect", tmp_path / "s")
    assert "no families" not in output
    [line] = [line for line in output.splitlines() if "table t.tsv" in line and "training_30" in line]
    assert line.split() == ["training_30", "1", "2", "table", "t.tsv"]
    said("import", release, "--out", tmp_path / "t", "--families", tmp_path / "t.tsv")
    assert open_store(tmp_path / "t").split("training_30").families.tolist() == ["one", "one"]


def test_an_import_leaves_the_families_of_a_large_split_to_a_command_of_their_own(
    release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("protcli.experiments.data.import_files.MOST_COMPARED", 1)
    output = said("import", release, "--out", tmp_path / "s")
    assert (
        f"no families: comparing more than 1 sequences takes long; `protcli data families {tmp_path / 's'}`" in output
    )
    store = open_store(tmp_path / "s")
    assert [store.split(name).has_families for name in store.splits] == [False, True]
    said("families", tmp_path / "s")
    assert open_store(tmp_path / "s").split("training_30").has_families


def test_a_table_that_lacks_a_protein_leaves_no_store(release: Path, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("id,family\n1ABC_1_A,one\n2ABC_1_A,one\n")
    result = protcli_data("import", release, "--out", tmp_path / "s", "--families", tmp_path / "t.csv")
    assert isinstance(result.exception, ProtcliError)
    assert "has no line for FM#T0001 of testing" in str(result.exception)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["casp", "t.csv"]


def test_inspect_shows_figures_and_draws(release: Path, tmp_path: Path) -> None:
    said("import", release, "--out", tmp_path / "s")
    output = said("inspect", tmp_path / "s", "--plot", tmp_path / "page.png")
    for words in (
        "s: 3 proteins",
        "training_30",
        "id seen before",
        "FM",
        "information",
        "66.67%",
        "testing was not opened",
    ):
        assert words in output
    assert (tmp_path / "page.png").stat().st_size > 0


def test_synth_is_named_synthetic_everywhere(tmp_path: Path) -> None:
    output = said("synth", "--out", tmp_path / "s", "--train", 2, "--valid", 1, "--test", 0, "--max-length", 60)
    assert "training: 2 SYNTHETIC proteins" in output
    assert open_store(tmp_path / "s").splits == ("training", "validation")
    assert "3 SYNTHETIC proteins" in said("inspect", tmp_path / "s")


def test_fetch_of_an_unknown_release(tmp_path: Path) -> None:
    result = protcli_data("fetch", "casp99", "--out", tmp_path)
    assert isinstance(result.exception, ProtcliError)
    assert "casp7" in str(result.exception)


@pytest.mark.parametrize(
    "args",
    [
        ["inspect", "nowhere"],
        ["inspect", "."],
        ["import", "nowhere", "--out", "s"],
        ["import", "words", "--out", "s", "--as", "train"],
        ["import", "words", "--out", "s", "--as", "train", "--families", "words"],
        ["families", "nowhere"],
    ],
)
def test_mistakes_are_one_sentence(tmp_path: Path, args: list[str]) -> None:
    (tmp_path / "words").write_text("these are no proteins\n")
    done = subprocess.run(
        [sys.executable, "-c", "from protcli.cli import main; main()", "data", *args],
        cwd=tmp_path,
        env=os.environ | {"COLUMNS": "80"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    [sentence] = done.stderr.splitlines()
    assert sentence.startswith("Error: ")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["words"]
