"""FASTA, alignments (a3m, FASTA with gaps, Clustal) and PSI-BLAST matrices."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from protcli.errors import ProtcliError
from protcli.proteins.formats.sequences import Alignment, FastaRecord, read_a3m, read_clustal, read_fasta, read_pssm
from protcli.proteins.residues import AMINO_ACIDS

LETTERS = AMINO_ACIDS + "-"
ORDER = "ARNDCQEGHILKMFPSTWYV"  # of PSI-BLAST's columns
READERS = {"fasta": lambda path: list(read_fasta(path)), "a3m": read_a3m, "aln": read_clustal, "pssm": read_pssm}


def letters(alignment: Alignment) -> list[str]:
    return ["".join(LETTERS[code] for code in row) for row in alignment.rows]


def file(folder: Path, text: str | bytes, name: str) -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def row(number: int, letter: str, scores: dict[str, int], percents: dict[str, int]) -> str:
    of = [" ".join(str(values.get(each, 0)) for each in ORDER) for values in (scores, percents)]
    return f"{number:5} {letter}  {of[0]}  {of[1]}  0.61 0.12\n"


def test_sequences_are_joined_and_named_by_the_first_word(tmp_path: Path) -> None:
    text = "\n>sp|P1|A human protein\r\nMKV LA\r\n\r\nggw*\n>second\nX\n>third\nAC"
    expected = [FastaRecord("sp|P1|A", "MKVLAGGW", 2), FastaRecord("second", "X", 6), FastaRecord("third", "AC", 8)]
    packed = gzip.compress(b"\xef\xbb\xbf" + text.encode())  # with a byte-order mark
    others = (text.encode("utf-16"), text.replace("\r\n", "\r").replace("\n", "\r"), text.replace(">s", "\0>s"), packed)
    for number, content in enumerate([text, *others]):
        assert list(read_fasta(file(tmp_path, content, f"{number}.fasta"))) == expected


def test_insertions_and_annotations_are_dropped(tmp_path: Path) -> None:
    text = "#A3M#\n>ss_pred\nCCHH\n>query of mine\nMK\nXA\n\0>one\nM-aaVb.A\r\n>two|x\n--B-\n\0"
    [alignment] = read_a3m(file(tmp_path, text, "some.a3m"))
    assert (alignment.id, alignment.sequence) == ("query", "MKXA")
    assert letters(alignment) == ["MK-A", "M-VA", "----"]


def test_columns_that_the_first_sequence_lacks_are_dropped(tmp_path: Path) -> None:
    [alignment] = read_a3m(file(tmp_path, ">q\nM-K-A\n>one\nMVKVA\n>two\n-V--C\n", "some.afa"))
    assert (alignment.sequence, letters(alignment)) == ("MKA", ["MKA", "MKA", "--C"])


def test_chains_of_colabfold_are_parted(tmp_path: Path) -> None:
    """Paired rows, and rows of one chain alone."""
    text = "#2,3\t1,1\n>101\t102\nMKVAC\n>p\tq\nMRaVGC\n>101\nMK---\n>102\n--VAC\n"
    first, second = read_a3m(file(tmp_path, text, "some.a3m"))
    assert (first.id, first.sequence, letters(first)) == ("101_1", "MK", ["MK", "MR", "MK", "--"])
    assert (second.id, second.sequence, letters(second)) == ("101_2", "VAC", ["VAC", "VGC", "---", "VAC"])
    [alone] = read_a3m(file(tmp_path, "#2\t2\n>101\nMK\n", "some.a3m"))  # two copies of one
    assert (alone.id, alone.sequence) == ("101", "MK")


def test_stockholm(tmp_path: Path) -> None:
    """As jackhmmer writes it: annotations between the rows, lower-case insertions, blocks."""
    text = "# STOCKHOLM 1.0\n#=GF ID some\n\nq/1-5      MK.V\n#=GR q PP   99.9\none/3-9    MKaV\n#=GC RF     xx.x\n\n"
    text += "q/1-5      AC\none/3-9    -C\n//\n"
    alignment = read_clustal(file(tmp_path, text, "some.sto"))
    assert (alignment.id, alignment.sequence, letters(alignment)) == ("q/1-5", "MKVAC", ["MKVAC", "MKV-C"])


def test_clustal_blocks(tmp_path: Path) -> None:
    text = (
        "CLUSTAL W (1.83) multiple sequence alignment\n\n\nq      MK-V 3\none    mkaV 4\n       **  \n\n"
        "q      AC\none    .C\n        *\n"
    )
    alignment = read_clustal(file(tmp_path, text, "some.aln"))
    assert (alignment.id, alignment.sequence, letters(alignment)) == ("q", "MKVAC", ["MKVAC", "MKV-C"])


def test_percentages_or_else_scores(tmp_path: Path) -> None:
    head = "\nLast position-specific scoring matrix computed\n           " + "  ".join(ORDER) + "\n"
    tail = "\n                      K         Lambda\nStandard Ungapped    0.1347     0.3176\n"
    text = head + row(1, "M", {"M": 6}, {"M": 75, "L": 25}) + row(2, "k", {"K": 5}, {}) + tail
    sequence, profile = read_pssm(file(tmp_path, text, "some.pssm"))
    assert sequence == "MK"
    met, leu, lys = (AMINO_ACIDS.index(letter) for letter in "MLK")
    np.testing.assert_allclose(profile[0, [met, leu, lys]], [0.75, 0.25, 0])
    entropy = -(0.75 * np.log2(0.75) + 0.25 * np.log2(0.25))
    np.testing.assert_allclose(profile[0, 20], 1 - entropy / np.log2(20), rtol=1e-6)
    factor = np.exp(0.3176 * 5)  # of lysine, whose background is 0.05744; the scores of the others are 0
    np.testing.assert_allclose(profile[1, lys], 0.05744 * factor / (0.05744 * factor + 1 - 0.05744), rtol=1e-3)
    np.testing.assert_allclose(profile[:, :20].sum(axis=1), 1, rtol=1e-6)
    scores_alone = file(tmp_path, "1 A " + " ".join(["0"] * 20) + "\n", "scores.pssm")
    assert read_pssm(scores_alone)[1][0, AMINO_ACIDS.index("W")] == pytest.approx(0.0133, abs=1e-4)


@pytest.mark.parametrize(("kind", "text", "said"), [
    ("fasta", "", "is empty: expected a FASTA file"),
    ("fasta", "MKV\n", "line 1: a FASTA file begins with a line '>NAME'"),
    ("fasta", ">a\nMK\n> \nAC\n", "line 3: no name after '>'"),
    ("fasta", ">a\n>b\nAC\n", "line 1: a has no sequence"),
    ("fasta", ">a\n*\n", "line 1: a has no sequence"),
    ("fasta", ">a\nMK\n>b\nAC\n>a\nMK\n", "line 5: a is already the name of the sequence at line 1"),
    ("fasta", b"\xff\xfe>a", "line 1: a FASTA file begins with a line '>NAME', not"),
    ("fasta", ">a\nMK\n>a\0b words\nAC\n", "line 3: the ID 'a.* holds"),
    ("fasta", ">a\nMK\n>a\x1b[2J\nAC\n", "line 3: the ID 'a.* holds"),
    ("fasta", f">a\nMK\n>{'x' * 301}\nAC\n", "line 3: an ID of 301 char"),
    ("a3m", "", "is empty: expected an a3m alignment"),
    ("a3m", "MKV\n", "line 1: an alignment begins with a line '>NAME', not 'MKV'"),
    ("a3m", ">q\nMK\n> \nMK\n", "line 3: no name after '>'"),
    ("a3m", ">q\nMK\n>one\nMKV\n", "line 3: one has 3 aligned letters and gaps, the first sequence 2; lower-case"),
    ("a3m", ">q\nMK\n>one\nM*\n", r"line 3: '\*' in one is neither an amino acid nor a gap"),
    ("a3m", ">q\nM\u00e9\n", "line 1: '\u00e9' in q is neither"),
    ("a3m", ">q\n--\n>one\nMK\n", "line 1: q has no residue"),
    ("a3m", ">ss_pred\nCC\n", "holds no sequence"),
    ("a3m", ">q\nMK\n\0>two\nAC\n", "'two' begins another alignment: give each a file of its own"),
    ("a3m", "#2,3\t1,1\n>101\t102\nMKVAC\n>x\nM\n", "line 4: x has 1 aligned letters"),
    ("a3m", "#2,4\t1,1\n>101\t102\nMKVAC\n", "line 1: expected chains of 5 residues in all, found 6"),
    ("aln", "q MK\none MK\n", "line 1: an alignment begins with a line such as 'CLUSTAL W' or '# S"),
    ("aln", "CLUSTAL\n\nq\n", "line 3: expected a name and aligned letters, not 'q'"),
    ("aln", "CLUSTAL\n\nq MK\none M\n", "line 4: one has 1 aligned letters and gaps, the first sequence 2"),
    ("aln", "CLUSTAL\n", "holds no sequence"),
    *((kind, b"\xff\xfe", "is empty: expected") for kind in ("fasta", "a3m", "aln", "pssm")),
    ("pssm", "", "is empty: expected a PSI-BLAST matrix"),
    ("pssm", "hello\n", "has no row of a PSI-BLAST matrix"),
    ("pssm", "1 M 1 2 3\n", "line 1: expected position 1, its residue, 20 scores and 20 percentages, not '1 M 1 2 3'"),
    ("pssm", row(2, "M", {}, {}), "line 1: expected position 1"),
    ("pssm", "9" * 5000 + " M 1\n", "has no row"),
    ("pssm", row(1, "M", {"M": 101}, {}), "line 1: expected position 1"),
    ("pssm", row(1, "M", {}, {"M": -1}), "line 1: expected position 1"),
    ("pssm", row(1, "M", {}, {}).replace("0 0", "nan nan"), "line 1: expected position 1"),
    ("pssm", "1 M one two\n", "line 1: expected position 1"),
])  # fmt: skip
def test_what_is_none_is_one_sentence(tmp_path: Path, kind: str, text: str | bytes, said: str) -> None:
    with pytest.raises(ProtcliError, match=said) as caught:
        READERS[kind](file(tmp_path, text, f"some.{kind}"))
    assert str(caught.value).isprintable()


def test_the_longest_name_and_a_file_that_is_not_there(tmp_path: Path) -> None:
    path = file(tmp_path, f">fine\nMK\n>{'x' * 300}\nAC\n", "some.fasta")
    assert [len(record.id) for record in read_fasta(path)] == [4, 300]
    with pytest.raises(ProtcliError, match="cannot read"):
        list(read_fasta(tmp_path / "none.fasta"))
