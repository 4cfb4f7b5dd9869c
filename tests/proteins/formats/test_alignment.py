"""Alignments: a3m, FASTA with gaps, Clustal."""

from pathlib import Path

import pytest

from protcli.errors import ProtcliError
from protcli.proteins.formats.sequences import Alignment, read_a3m, read_clustal
from protcli.proteins.residues import AMINO_ACIDS

LETTERS = AMINO_ACIDS + "-"


def letters(alignment: Alignment) -> list[str]:
    return ["".join(LETTERS[code] for code in row) for row in alignment.rows]


def file(folder: Path, text: str, name: str = "some.a3m") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_insertions_and_annotations_are_dropped(tmp_path: Path) -> None:
    text = "#A3M#\n>ss_pred\nCCHH\n>query of mine\nMK\nXA\n>one\nM-aaVb.A\r\n>two|x\n--B-\n"
    alignment = read_a3m(file(tmp_path, text))
    assert (alignment.id, alignment.sequence) == ("query", "MKXA")
    assert letters(alignment) == ["MK-A", "M-VA", "----"]


def test_columns_that_the_first_sequence_lacks_are_dropped(tmp_path: Path) -> None:
    alignment = read_a3m(file(tmp_path, ">q\nM-K-A\n>one\nMVKVA\n>two\n-V--C\n", "some.afa"))
    assert alignment.sequence == "MKA"
    assert letters(alignment) == ["MKA", "MKA", "--C"]


def test_clustal_blocks(tmp_path: Path) -> None:
    text = (
        "CLUSTAL W (1.83) multiple sequence alignment\n\n\nq      MK-V 3\none    mkaV 4\n       **  \n\n"
        "q      AC\none    .C\n        *\n"
    )
    alignment = read_clustal(file(tmp_path, text, "some.aln"))
    assert (alignment.id, alignment.sequence) == ("q", "MKVAC")
    assert letters(alignment) == ["MKVAC", "MKV-C"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty: expected an a3m alignment"),
        ("MKV\n", "line 1: an alignment begins with a line '>NAME', not 'MKV'"),
        (">q\nMK\n> \nMK\n", "line 3: no name after '>'"),
        (">q\nMK\n>one\nMKV\n", "line 3: one has 3 aligned letters and gaps, the first sequence 2; lower-case"),
        (">q\nMK\n>one\nM*\n", r"line 3: '\*' in one is neither an amino acid nor a gap"),
        (">q\nM\u00e9\n", "line 1: '\u00e9' in q is neither"),
        (">q\n--\n>one\nMK\n", "line 1: q has no residue"),
        (">ss_pred\nCC\n", "holds no sequence"),
    ],
)
def test_what_is_no_a3m_is_one_sentence(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ProtcliError, match=said):
        read_a3m(file(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("q MK\none MK\n", "line 1: a Clustal alignment begins with a line such as 'CLUSTAL W'"),
        ("CLUSTAL\n\nq\n", "line 3: expected a name and aligned letters, not 'q'"),
        ("CLUSTAL\n\nq MK\none M\n", "line 4: one has 1 aligned letters and gaps, the first sequence 2"),
        ("CLUSTAL\n", "holds no sequence"),
    ],
)
def test_what_is_no_clustal_is_one_sentence(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ProtcliError, match=said):
        read_clustal(file(tmp_path, text, "some.aln"))
