"""PSI-BLAST matrices."""

from pathlib import Path

import numpy as np
import pytest

from protcli.errors import ProtcliError
from protcli.proteins.formats.sequences import read_pssm
from protcli.proteins.residues import AMINO_ACIDS

HEAD = "\nLast position-specific scoring matrix computed, weighted observed percentages rounded down\n"
ORDER = "           " + "  ".join("ARNDCQEGHILKMFPSTWYV") + "\n"
TAIL = "\n                      K         Lambda\nStandard Ungapped    0.1347     0.3176\n"


def row(number: int, letter: str, scores: dict[str, int], percents: dict[str, int]) -> str:
    of = [" ".join(str(values.get(each, 0)) for each in "ARNDCQEGHILKMFPSTWYV") for values in (scores, percents)]
    return f"{number:5} {letter}  {of[0]}  {of[1]}  0.61 0.12\n"


def test_percentages_or_else_scores(tmp_path: Path) -> None:
    path = tmp_path / "some.pssm"
    path.write_text(HEAD + ORDER + row(1, "M", {"M": 6}, {"M": 75, "L": 25}) + row(2, "k", {"K": 5}, {}) + TAIL)
    sequence, profile = read_pssm(path)
    assert sequence == "MK"
    met, leu, lys = (AMINO_ACIDS.index(letter) for letter in "MLK")
    np.testing.assert_allclose(profile[0, [met, leu, lys]], [0.75, 0.25, 0])
    entropy = -(0.75 * np.log2(0.75) + 0.25 * np.log2(0.25))
    np.testing.assert_allclose(profile[0, 20], 1 - entropy / np.log2(20), rtol=1e-6)
    factor = np.exp(0.3176 * 5)  # of lysine, whose background is 0.05744; the scores of the others are 0
    np.testing.assert_allclose(profile[1, lys], 0.05744 * factor / (0.05744 * factor + 1 - 0.05744), rtol=1e-3)
    np.testing.assert_allclose(profile[:, :20].sum(axis=1), 1, rtol=1e-6)


def test_scores_alone(tmp_path: Path) -> None:
    path = tmp_path / "some.pssm"
    path.write_text(ORDER + "1 A " + " ".join(["0"] * 20) + "\n")
    assert read_pssm(path)[1][0, AMINO_ACIDS.index("W")] == pytest.approx(0.0133, abs=1e-4)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty: expected a PSI-BLAST matrix"),
        ("hello\n", "has no row of a PSI-BLAST matrix"),
        ("1 M 1 2 3\n", "line 1: expected position 1, its residue, 20 scores and 20 percentages, not '1 M 1 2 3'"),
        (row(2, "M", {}, {}), "line 1: expected position 1"),
        ("9" * 5000 + " M 1\n", "has no row"),
        (row(1, "M", {"M": 101}, {}), "line 1: expected position 1"),
        (row(1, "M", {}, {"M": -1}), "line 1: expected position 1"),
        (row(1, "M", {}, {}).replace("0 0", "nan nan"), "line 1: expected position 1"),
        ("1 M one two\n", "line 1: expected position 1"),
    ],
)
def test_what_is_no_matrix_is_one_sentence(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "some.pssm"
    path.write_text(text)
    with pytest.raises(ProtcliError, match=said):
        read_pssm(path)
