from pathlib import Path

import pytest

from protcli.errors import ProtcliError
from protcli.proteins.formats.sequences import FastaRecord, read_fasta


def test_sequences_are_joined_and_named_by_the_first_word(tmp_path: Path) -> None:
    path = tmp_path / "some.fasta"
    path.write_text("\n>sp|P1|A human protein\r\nMKV LA\r\n\r\nggw*\n>second\nX\n>third\nAC")
    assert list(read_fasta(path)) == [
        FastaRecord("sp|P1|A", "MKVLAGGW", 2),
        FastaRecord("second", "X", 6),
        FastaRecord("third", "AC", 8),
    ]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty: expected a FASTA file"),
        (b"\n\n", "is empty: expected a FASTA file"),
        (b"MKV\n", "line 1: a FASTA file begins with a line '>NAME'"),
        (b">a\nMK\n> \nAC\n", "line 3: no name after '>'"),
        (b">a\n>b\nAC\n", "line 1: a has no sequence"),
        (b">a\n*\n", "line 1: a has no sequence"),
        (b">a\nMK\n>b\nAC\n>a\nMK\n", "line 5: a is already the name of the sequence at line 1"),
        (b"\xff\xfe>a", "line 1: a FASTA file begins with a line '>NAME', not"),
    ],
)
def test_what_is_no_fasta_is_explained(content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "some.fasta"
    path.write_bytes(content)
    with pytest.raises(ProtcliError, match=r"some\.fasta.*" + said.replace("*", r"\*")):
        list(read_fasta(path))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ProtcliError, match="cannot be read"):
        list(read_fasta(tmp_path / "none.fasta"))


@pytest.mark.parametrize("name", ["a\0b", "a\x1b[2J", "x" * 301])
def test_a_name_that_is_none(name: str, tmp_path: Path) -> None:
    path = tmp_path / "some.fasta"
    path.write_text(f">fine\nMK\n>{name} words\nAC\n")
    with pytest.raises(ProtcliError, match=r"\.fasta, line 3: (the ID 'a.* holds|an ID of 301 char)") as caught:
        list(read_fasta(path))
    assert str(caught.value).isprintable()
    path.write_text(f">fine\nMK\n>{'x' * 300}\nAC\n")
    assert [len(record.id) for record in read_fasta(path)] == [4, 300]
