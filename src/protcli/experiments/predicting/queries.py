"""The chains to predict, from files of any kind that holds sequences."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from protcli.errors import ProtcliError
from protcli.proteins.formats.files import read_blocks
from protcli.proteins.formats.proteinnet import read_proteinnet
from protcli.proteins.formats.sequences import (
    A3M_SUFFIXES,
    CLUSTAL_SUFFIXES,
    PSSM_SUFFIXES,
    Alignment,
    read_a3m,
    read_clustal,
    read_fasta,
    read_pssm,
)
from protcli.proteins.formats.structures import is_structure, read_structure
from protcli.proteins.profiles import alignment_profile
from protcli.proteins.protein import Protein

KINDS = (
    "FASTA, an alignment (.a3m, .afa, .aln, .clustal), a PSI-BLAST matrix (.pssm), ProteinNet text, or a structure "
    "(.pdb, .cif)"
)


@dataclass(frozen=True, eq=False)
class Query:
    """One chain to predict.

    Attributes:
        id: its name.
        place: where it comes from, for messages.
        sequence: as in the file, unchecked.
        profile: float [L, 21], or None if there is none.
        known: the chain with its true structure, if the file holds one.
    """

    id: str
    place: str
    sequence: str
    profile: np.ndarray | None = None
    known: Protein | None = None


def read_queries(path: Path) -> Iterator[Query]:
    """Read the chains of a file in order, one at a time if the file holds many.

    The name decides what kind of file it is and, if it does not, the first character.

    Raises:
        ProtcliError: the file cannot be read, or is broken, or is of no such kind.
    """
    yield from _reader(path)(path)


def _reader(path: Path) -> Callable[[Path], Iterator[Query]]:
    """What reads a file of this kind."""
    suffix = Path(path.name.lower().removesuffix(".gz")).suffix
    if is_structure(path):
        return _of_structure
    for suffixes, read in ((A3M_SUFFIXES, _of_a3m), (CLUSTAL_SUFFIXES, _of_clustal), (PSSM_SUFFIXES, _of_pssm)):
        if suffix in suffixes:
            return read
    begins = next(read_blocks(path), b"")[:4096].decode("utf-8-sig", "replace").lstrip()[:1]
    if not begins:
        raise ProtcliError(f"{path} is empty: expected {KINDS}")
    if begins not in (">", "["):
        raise ProtcliError(f"{path} is of no kind that holds a sequence: expected {KINDS}")
    return _of_fasta if begins == ">" else _of_proteinnet


def _of_structure(path: Path) -> Iterator[Query]:
    for protein in read_structure(path):
        yield Query(protein.id, f"{path}, chain {protein.id}", protein.sequence, None, protein)


def _of_a3m(path: Path) -> Iterator[Query]:
    return _of_alignment(path, read_a3m(path))


def _of_clustal(path: Path) -> Iterator[Query]:
    return _of_alignment(path, read_clustal(path))


def _of_alignment(path: Path, alignment: Alignment) -> Iterator[Query]:
    yield Query(alignment.id, f"{path}: {alignment.id}", alignment.sequence, alignment_profile(alignment.rows))


def _of_pssm(path: Path) -> Iterator[Query]:
    sequence, profile = read_pssm(path)
    yield Query(path.name.removesuffix(path.suffix), str(path), sequence, profile)


def _of_fasta(path: Path) -> Iterator[Query]:
    for record in read_fasta(path):
        yield Query(record.id, f"{path}, line {record.line}: {record.id}", record.sequence)


def _of_proteinnet(path: Path) -> Iterator[Query]:
    for protein in read_proteinnet(path):
        known = protein if protein.mask.any() else None
        yield Query(protein.id, f"{path}: {protein.id}", protein.sequence, protein.profile, known)
