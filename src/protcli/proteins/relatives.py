"""Homologous chains of a query, aligned to it residue by residue."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from protcli.proteins.homology import digitized, phmmer, require_phmmer

SHORTEST = 10  # aligned residues of a relative


@dataclass(frozen=True, eq=False)
class Relative:
    """A chain of the library aligned to a query of L residues.

    Attributes:
        chain: its index in the library.
        identity: share of the aligned residues that are equal.
        residues: int32 [L], the residue of the relative at each residue of the query; -1 where none is aligned.
    """

    chain: int
    identity: float
    residues: np.ndarray


class Library:
    """Sequences to search for a query's relatives with phmmer, see `homology`.

    Source: Eddy 2011, PLOS Comput. Biol. 7:e1002195 (HMMER3); Larralde and Zeller 2023, Bioinformatics 39:btad214.
    """

    def __init__(self, sequences: Sequence[str]) -> None:
        """Raises ProtcliError where pyhmmer is not installed."""
        require_phmmer("relatives", "choose a model without templates, as pairmix is with --set templates=0")
        from pyhmmer.easel import Alphabet, DigitalSequenceBlock

        self._chains = DigitalSequenceBlock(Alphabet.amino(), digitized(sequences))

    def has_relative(self, sequence: str) -> bool:
        """Whether any chain has E < HOMOLOGOUS. Several threads may ask at once."""
        return bool(len(phmmer(digitized([sequence])[0], self._chains)))

    def relatives(self, sequence: str) -> list[Relative]:
        """The chains with E < HOMOLOGOUS, the best score first; one equal to the query is among them.

        Where several parts of a chain align to one residue of the query, the part with the best score counts.
        """
        if len(sequence) < SHORTEST:
            return []
        found = []
        for hit in phmmer(digitized([sequence])[0], self._chains):
            residues = np.full(len(sequence), -1, dtype=np.int32)
            equal = 0
            for domain in sorted(hit.domains.reported, key=lambda domain: -domain.score):
                equal += _align(domain.alignment, residues)
            if (aligned := int((residues >= 0).sum())) >= SHORTEST:
                found.append(Relative(int(hit.name), equal / aligned, residues))
        return found


def _align(alignment: Any, residues: np.ndarray) -> int:
    """Enter a domain's alignment where no other is yet; returns how many of the residues entered are equal."""
    query, target, equal = alignment.hmm_from - 1, alignment.target_from - 1, 0
    for own, other in zip(alignment.hmm_sequence, alignment.target_sequence, strict=True):
        in_query, in_target = own not in ".-", other not in ".-"
        if in_query and in_target and residues[query] < 0:
            residues[query] = target
            equal += own.upper() == other.upper()
        query, target = query + in_query, target + in_target
    return equal
