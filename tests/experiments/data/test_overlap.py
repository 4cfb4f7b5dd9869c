"""What splits share: the same sequences, and relatives of them."""

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from protcli.cli import app
from protcli.experiments.data.families import Overlap, Progress, overlaps
from protcli.proteins.residues import AMINO_ACIDS
from protcli.proteins.store import open_store


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
