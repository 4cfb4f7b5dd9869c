"""Sequences and what is aligned with them: FASTA, a3m and aligned FASTA, Clustal, PSI-BLAST's matrices, nanoFold's npz.

pyhmmer's `MSAFile` reads alignments too, but it is not to be had on Windows, does not drop HH-suite's annotations, and
does not say in which line a sequence is too long.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from itertools import accumulate, pairwise
from pathlib import Path
from string import ascii_lowercase

import numpy as np

from protcli.errors import ProtcliError, quote, truncate
from protcli.proteins.formats.files import check_id, read_text
from protcli.proteins.profiles import with_information
from protcli.proteins.residues import AMINO_ACIDS, GAP_INDEX, decode, encode

A3M_SUFFIXES = (".a3m", ".afa")
CLUSTAL_SUFFIXES = (".aln", ".clustal", ".clu", ".sto", ".stk", ".stockholm")
PSSM_SUFFIXES = (".pssm",)
_TOKENS_SUFFIX = ".npz"
ALIGNMENT_SUFFIXES = (*A3M_SUFFIXES, *CLUSTAL_SUFFIXES, _TOKENS_SUFFIX)

_ANNOTATIONS = ("ss_", "sa_", "aa_", "Consensus")  # begin the names of HH-suite's records that are no sequences
_TO_UNKNOWN = str.maketrans("BZJUO", "X" * 5)  # ambiguous and rare residues
_NO_RESIDUE = re.compile(f"[^{AMINO_ACIDS}X-]")
_WITHOUT_INSERTIONS = {ord(letter): None for letter in f"{ascii_lowercase}."}

_PSSM_ORDER = "ARNDCQEGHILKMFPSTWYV"  # of the columns
_PSSM_COLUMNS = [_PSSM_ORDER.index(letter) for letter in AMINO_ACIDS]
_TOKENS = np.append(encode(_PSSM_ORDER), [GAP_INDEX] * 3)  # of nanoFold: the residues, then unknown, gap and mask
_LAMBDA = 0.3176  # of the scores, in nats: ungapped BLOSUM62's
# Robinson and Robinson 1991, PNAS 88:8880, in the order of AMINO_ACIDS: PSI-BLAST's background frequencies
_BACKGROUND = np.array(
    [
        *(0.07805, 0.01925, 0.05364, 0.06295, 0.03856, 0.07377, 0.02199, 0.05142, 0.05744, 0.09019),
        *(0.02243, 0.04487, 0.05203, 0.04264, 0.05129, 0.07120, 0.05841, 0.06441, 0.01330, 0.03216),
    ]
)
_HIGHEST = 100  # score that is still one; those of a real matrix are -20 to 20
_PSSM_ROW = re.compile(r"\s*([0-9]{1,9})\s+([A-Za-z])\s+(.*)")


@dataclass(frozen=True)
class FastaRecord:
    """One sequence in a file.

    Attributes:
        id: the first word after `>`.
        sequence: its letters, unchecked: each model decides which it accepts.
        line: its first line, from 1.
    """

    id: str
    sequence: str
    line: int


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

    def fit(self, sequence: str) -> tuple[float, np.ndarray]:
        """Fit it to a chain of L residues: how alike that is to the first sequence, and the rows, uint8 [N, L].

        They are alike by the share of equal residues among those of the shorter one, or half of the chain's if these
        are more. The first row is the chain itself; residues that the first sequence has not are gaps in the others.
        """
        if sequence == self.sequence:
            return 1, self.rows
        columns = np.full(len(sequence), -1)
        for own, other, size in SequenceMatcher(None, self.sequence, sequence, autojunk=False).get_matching_blocks():
            columns[other : other + size] = np.arange(own, own + size)
        found = columns >= 0
        rows = np.where(found, self.rows[:, columns], np.uint8(GAP_INDEX))
        rows[0] = encode(sequence)
        return found.sum() / max(min(len(sequence), len(self.sequence)), len(sequence) / 2), rows


def suffix_of(path: Path) -> str:
    """What a file's name ends with, in small letters; `.gz` does not count."""
    return Path(path.name.lower().removesuffix(".gz")).suffix


def read_alignments(path: Path) -> list[Alignment]:
    """The alignments of a file whose name ends with one of ALIGNMENT_SUFFIXES; one of them but for `read_a3m`.

    Raises:
        ProtcliError: as the reader of its kind does.
    """
    if suffix_of(path) in A3M_SUFFIXES:
        return read_a3m(path)
    return [(read_tokens if suffix_of(path) == _TOKENS_SUFFIX else read_clustal)(path)]


def read_tokens(path: Path) -> Alignment:
    """Read the alignment of an .npz of nanoFold's features: `aatype` int [L], its sequence, and `msa` int [N, L].

    Raises:
        ProtcliError: the file cannot be read, or has no such arrays.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            sequence, rows = (_TOKENS[arrays[name]] for name in ("aatype", "msa"))
        rows[0] = sequence
    except Exception as error:  # NumPy raises a dozen kinds for a damaged file
        expected = "expected nanoFold's features, whole numbers aatype [L] and msa [N, L]"
        raise ProtcliError(f"{path}: {expected} ({truncate(error, 200)})") from error
    return Alignment(path.stem, decode(sequence), rows)


def read_fasta(path: Path) -> Iterator[FastaRecord]:
    """Read the sequences of a file in order, without white space and one final `*` (a stop).

    Raises:
        ProtcliError: the file cannot be read, is not FASTA or has no sequence, or a record has no name, no sequence or
            a duplicate name.
    """
    first_line: dict[str, int] = {}
    text = read_text(path, "a FASTA file").replace("\n\0", "\n")  # NUL ends an entry of MMseqs2's
    for record in _records(path, text.splitlines(), "a FASTA file"):
        sequence = record.sequence.upper().removesuffix("*")
        if not sequence:
            raise ProtcliError(f"{path}, line {record.line}: {record.id} has no sequence")
        if first_line.setdefault(record.id, record.line) != record.line:
            raise ProtcliError(
                f"{path}, line {record.line}: {record.id} is already the name of the sequence at line "
                f"{first_line[record.id]}"
            )
        yield FastaRecord(record.id, sequence, record.line)


def _records(path: Path, lines: Iterable[str], what: str) -> Iterator[FastaRecord]:
    """The records of lines in order, with their letters as they are but for white space; `what` is for messages.

    Raises:
        ProtcliError: there is something before the first record, or a record without a name that can be printed.
    """
    name, first = "", 0
    parts: list[str] = []
    for number, line in enumerate([*lines, ">end"], start=1):
        if line.startswith(">"):
            if first:
                yield FastaRecord(name, "".join(parts), first)
            if not line[1:].split():
                raise ProtcliError(f"{path}, line {number}: no name after '>': write '>NAME'")
            name, first, parts = _name(path, number, line[1:].split()[0]), number, []
        elif first:
            parts += line.split()
        elif line.strip():
            raise ProtcliError(
                f"{path}, line {number}: {what} begins with a line '>NAME', not {quote(line.strip()[:20])}"
            )


def _name(path: Path, line: int, name: str) -> str:
    """A sequence's name, if it can be one."""
    try:
        check_id(name)
    except ValueError as error:
        raise ProtcliError(f"{path}, line {line}: {error}") from None
    return name


def read_a3m(path: Path) -> list[Alignment]:
    """Read a3m, or FASTA with gaps: what is no column of the first sequence is dropped, as are HH-suite's annotations.

    There is one alignment, or one for each chain where ColabFold's first line states several (`#16,16<tab>1,1`).

    Raises:
        ProtcliError: the file cannot be read, holds no sequence, a letter that is no residue, or a sequence that is not
            aligned with the first; the lengths of chains are not those of the first sequence; or a second alignment
            follows.
    """
    text = read_text(path, "an a3m alignment")
    commented = ["" if line.startswith("#") else line for line in text.replace("\0", "").splitlines()]  # `#A3M#`
    records = [
        replace(record, sequence=record.sequence.translate(_WITHOUT_INSERTIONS))
        for record in _records(path, commented, "an alignment")
        if not record.id.startswith(_ANNOTATIONS)
    ]
    other = re.search("\0>(.+)\n([A-Z]+)\n", text)  # NUL ends an alignment in MMseqs2's databases, and some write more
    if other and records and other[2] != records[0].sequence:
        raise ProtcliError(f"{path}: {quote(other[1])} begins another alignment: give each a file of its own")
    whole = _aligned(path, records)
    header = re.match(r"#(\d+(?:,\d+)+)\t", text)
    if header is None:
        return [whole]
    ends = [0, *accumulate(map(int, header[1].split(",")))]
    if ends[-1] != len(whole.sequence):
        raise ProtcliError(
            f"{path}, line 1: expected chains of {len(whole.sequence)} residues in all, found {ends[-1]}"
        )
    return [
        Alignment(f"{whole.id}_{number}", whole.sequence[start:end], whole.rows[:, start:end])
        for number, (start, end) in enumerate(pairwise(ends), start=1)
    ]


def read_clustal(path: Path) -> Alignment:
    """Read a Clustal or Stockholm alignment, of which the columns of the first sequence are kept.

    Raises:
        ProtcliError: as `read_a3m` does, or the file does not begin with a line that names program or format.
    """
    text = read_text(path, "an alignment").partition("\n//")[0]  # ends a Stockholm alignment
    lines = enumerate(text.splitlines(), start=1)
    (number, heading), *blocks = [(number, line) for number, line in lines if line.strip()]
    if not re.search("clustal|alignment|stockholm", heading, re.IGNORECASE):
        raise ProtcliError(
            f"{path}, line {number}: an alignment begins with a line such as 'CLUSTAL W' or '# STOCKHOLM 1.0'"
        )
    by_name: dict[str, tuple[int, list[str]]] = {}
    for number, line in blocks:
        if line[0].isspace() or line[0] == "#":  # conservation, or annotations
            continue
        name, *words = line.split()
        if not 1 <= len(words) <= 2:
            raise ProtcliError(f"{path}, line {number}: expected a name and aligned letters, not {quote(line[:20])}")
        parts = by_name.setdefault(_name(path, number, name), (number, []))[1]
        parts.append(words[0].upper().replace(".", "-"))
    return _aligned(path, [FastaRecord(name, "".join(parts), number) for name, (number, parts) in by_name.items()])


def _aligned(path: Path, records: list[FastaRecord]) -> Alignment:
    """The alignment of sequences of one length."""
    if not records:
        raise ProtcliError(f"{path} holds no sequence")
    query = records[0]
    rows = []
    for record in records:
        letters, where = record.sequence.translate(_TO_UNKNOWN), f"{path}, line {record.line}: "
        if len(letters) != len(query.sequence):
            raise ProtcliError(
                f"{where}{record.id} has {len(letters)} aligned letters and gaps, the first sequence "
                f"{len(query.sequence)}; lower-case letters are insertions and do not count"
            )
        if wrong := _NO_RESIDUE.search(letters):
            raise ProtcliError(f"{where}{quote(wrong[0])} in {record.id} is neither an amino acid nor a gap")
        rows.append(encode(letters))
    kept = [column for column, letter in enumerate(query.sequence) if letter != "-"]
    if not kept:
        raise ProtcliError(f"{path}, line {query.line}: {query.id} has no residue")
    columns = np.stack(rows)[:, kept]
    return Alignment(query.id, decode(columns[0]), columns)


def read_pssm(path: Path) -> tuple[str, np.ndarray]:
    """Read a PSI-BLAST matrix as text (`-out_ascii_pssm`): its sequence and profile, float32 [L, 21] as in `Protein`.

    The profile is the observed percentages or, in rows without any, frequencies computed from the scores. A score is
    the logarithm of a frequency over the background's, so the frequency is background * exp(lambda * score), scaled to
    the sum 1.

    Raises:
        ProtcliError: the file cannot be read, has no rows, or a row that is none.
    """
    sequence, rows = "", []
    for number, line in enumerate(read_text(path, "a PSI-BLAST matrix").splitlines(), start=1):
        match = _PSSM_ROW.fullmatch(line)
        if match is None:
            continue  # headings and statistics
        position, letter, rest = match.groups()
        try:
            values = [float(word) for word in rest.split()]
        except ValueError:
            values = []
        in_range = all(abs(value) <= _HIGHEST for value in values[:40]) and all(value >= 0 for value in values[20:40])
        if len(values) not in (20, 40, 42) or int(position) != len(sequence) + 1 or not in_range:
            raise ProtcliError(
                f"{path}, line {number}: expected position {len(sequence) + 1}, its residue, 20 scores and 20 "
                f"percentages, not {quote(line.strip())}"
            )
        sequence += letter.upper()
        rows.append([*values, *[0.0] * 20][:40])
    if not rows:
        raise ProtcliError(f"{path} has no row of a PSI-BLAST matrix, such as '1 M  -1 -2 ...'")
    scores, percents = np.array(rows).reshape(-1, 2, 20)[:, :, _PSSM_COLUMNS].swapaxes(0, 1)  # [L, 20] each
    expected = _BACKGROUND * np.exp(_LAMBDA * scores)
    frequency = np.where(percents.sum(axis=1, keepdims=True) > 0, percents, expected)
    return sequence, with_information(frequency / frequency.sum(axis=1, keepdims=True))
