"""PSI-BLAST's position-specific scoring matrices as text (`-out_ascii_pssm`)."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from protcli.errors import ProtcliError, shown
from protcli.proteins.formats.files import read_text
from protcli.proteins.profiles import with_information
from protcli.proteins.residues import AMINO_ACIDS

PSSM_SUFFIXES = (".pssm",)
_ORDER = "ARNDCQEGHILKMFPSTWYV"  # of the columns
_COLUMNS = [_ORDER.index(letter) for letter in AMINO_ACIDS]
_LAMBDA = 0.3176  # of the scores, in nats: ungapped BLOSUM62's
# Robinson and Robinson 1991, PNAS 88:8880, in the order of AMINO_ACIDS: PSI-BLAST's background frequencies
_BACKGROUND = np.array(
    [
        *(0.07805, 0.01925, 0.05364, 0.06295, 0.03856, 0.07377, 0.02199, 0.05142, 0.05744, 0.09019),
        *(0.02243, 0.04487, 0.05203, 0.04264, 0.05129, 0.07120, 0.05841, 0.06441, 0.01330, 0.03216),
    ]
)
_HIGHEST = 100  # score that is still one; those of a real matrix are -20 to 20
_ROW = re.compile(r"\s*([0-9]{1,9})\s+([A-Za-z])\s+(.*)")


@dataclass(frozen=True, eq=False)
class Pssm:
    """A sequence and its profile, float32 [L, 21] as in `Protein`."""

    sequence: str
    profile: np.ndarray


def read_pssm(path: Path) -> Pssm:
    """Read a matrix: the observed percentages or, in rows without any, frequencies computed from the scores.

    A score is the logarithm of a frequency over the background's, so the frequency is background * exp(lambda * score),
    scaled to the sum 1.

    Raises:
        ProtcliError: the file cannot be read, has no rows, or a row that is none.
    """
    sequence: list[str] = []
    scores: list[list[float]] = []
    percents: list[list[float]] = []
    for number, line in enumerate(read_text(path, "a PSI-BLAST matrix").splitlines(), start=1):
        match = _ROW.fullmatch(line)
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
                f"percentages, not {shown(line.strip())}"
            )
        sequence.append(letter.upper())
        scores.append(values[:20])
        percents.append(values[20:40] or [0.0] * 20)
    if not sequence:
        raise ProtcliError(f"{path} has no row of a PSI-BLAST matrix, such as '1 M  -1 -2 ...'")
    expected = _BACKGROUND * np.exp(_LAMBDA * np.array(scores)[:, _COLUMNS])
    observed = np.array(percents)[:, _COLUMNS]
    frequency = np.where(observed.sum(axis=1, keepdims=True) > 0, observed, expected)
    return Pssm("".join(sequence), with_information(frequency / frequency.sum(axis=1, keepdims=True)))
