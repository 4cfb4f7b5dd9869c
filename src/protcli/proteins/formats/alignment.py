"""Alignments of a sequence with its relatives: a3m and aligned FASTA, and Clustal."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from string import ascii_lowercase

import numpy as np

from protcli.errors import ProtcliError, shown
from protcli.proteins.formats.fasta import fasta_records
from protcli.proteins.formats.files import read_text
from protcli.proteins.formats.limits import check_id
from protcli.proteins.residues import AMINO_ACIDS, encode

A3M_SUFFIXES = (".a3m", ".afa")
CLUSTAL_SUFFIXES = (".aln", ".clustal", ".clu")
_ANNOTATIONS = ("ss_", "sa_", "aa_", "Consensus")  # begin the names of HH-suite's records that are no sequences
_TO_UNKNOWN = str.maketrans("BZJUO", "X" * 5)  # ambiguous and rare residues
_NO_RESIDUE = re.compile(f"[^{AMINO_ACIDS}X-]")
_WITHOUT_INSERTIONS = {ord(letter): None for letter in f"{ascii_lowercase}."}
_LETTERS = np.frombuffer(f"{AMINO_ACIDS}X".encode(), dtype=np.uint8)


@dataclass(frozen=True, eq=False)
class Alignment:
    """An alignment with a column for each residue of its first sequence.

    Attributes:
        id: name of the first sequence.
        sequence: the first sequence, letters of AMINO_ACIDS or X.
        rows: uint8 [N, L], the first sequence first; 20 is a gap or another letter.
    """

    id: str
    sequence: str
    rows: np.ndarray


def read_a3m(path: Path) -> Alignment:
    """Read a3m, or FASTA with gaps: what is no column of the first sequence is dropped, as are HH-suite's annotations.

    Raises:
        ProtcliError: the file cannot be read, holds no sequence, a letter that is no residue, or a sequence that is not
            aligned with the first.
    """
    lines = read_text(path, "an a3m alignment").splitlines()
    commented = ["" if line.startswith("#") else line for line in lines]  # `#A3M#`
    return _aligned(
        path,
        [
            (record.line, record.id, record.sequence.translate(_WITHOUT_INSERTIONS))
            for record in fasta_records(path, commented, "an alignment")
            if not record.id.startswith(_ANNOTATIONS)
        ],
    )


def read_clustal(path: Path) -> Alignment:
    """Read a Clustal alignment, of which the columns of the first sequence are kept.

    Raises:
        ProtcliError: as `read_a3m` does, or the file does not begin with a line that names the program.
    """
    lines = list(enumerate(read_text(path, "a Clustal alignment").splitlines(), start=1))
    written = [(number, line) for number, line in lines if line.strip()]
    number, heading = written[0]
    if not re.search("clustal|alignment", heading, re.IGNORECASE):
        raise ProtcliError(f"{path}, line {number}: a Clustal alignment begins with a line such as 'CLUSTAL W'")
    first: dict[str, int] = {}
    parts: dict[str, list[str]] = {}
    for number, line in written[1:]:
        if line[0].isspace():  # conservation
            continue
        name, *words = line.split()
        if not 1 <= len(words) <= 2:
            raise ProtcliError(f"{path}, line {number}: expected a name and aligned letters, not {shown(line[:20])}")
        try:
            check_id(name)
        except ValueError as error:
            raise ProtcliError(f"{path}, line {number}: {error}") from None
        first.setdefault(name, number)
        parts.setdefault(name, []).append(words[0].upper().replace(".", "-"))
    return _aligned(path, [(first[name], name, "".join(row)) for name, row in parts.items()])


def _aligned(path: Path, sequences: list[tuple[int, str, str]]) -> Alignment:
    """The alignment of sequences of one length, each with its line and name."""
    if not sequences:
        raise ProtcliError(f"{path} holds no sequence")
    line, name, query = sequences[0]
    rows = np.stack(list(_encoded(path, sequences, len(query))))
    kept = np.frombuffer(query.encode("latin-1"), dtype=np.uint8) != ord("-")
    if not kept.any():
        raise ProtcliError(f"{path}, line {line}: {name} has no residue")
    return Alignment(name, _LETTERS[rows[0, kept]].tobytes().decode(), rows[:, kept])


def _encoded(path: Path, sequences: list[tuple[int, str, str]], length: int) -> Iterator[np.ndarray]:
    for line, name, letters in sequences:
        if len(letters) != length:
            raise ProtcliError(
                f"{path}, line {line}: {name} has {len(letters)} aligned letters and gaps, the first sequence "
                f"{length}; lower-case letters are insertions and do not count"
            )
        letters = letters.translate(_TO_UNKNOWN)
        if wrong := _NO_RESIDUE.search(letters):
            raise ProtcliError(f"{path}, line {line}: {shown(wrong[0])} in {name} is neither an amino acid nor a gap")
        yield encode(letters)
