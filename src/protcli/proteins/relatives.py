"""Homologous chains of a query, aligned to it residue by residue."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from protcli.proteins.homology import HOMOLOGOUS, SEARCHED, require_phmmer

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
    """Sequences to search for a query's relatives with phmmer, by its E-values in a search of SEARCHED sequences.

    Source: Eddy 2011, PLOS Comput. Biol. 7:e1002195 (HMMER3); Larralde and Zeller 2023, Bioinformatics 39:btad214.
    """

    def __init__(self, sequences: Sequence[str]) -> None:
        """Raises ProtcliError where pyhmmer is not installed."""
        require_phmmer()
        from pyhmmer.easel import Alphabet, DigitalSequenceBlock, TextSequence

        self._alphabet = Alphabet.amino()
        self._chains = DigitalSequenceBlock(
            self._alphabet,
            [
                TextSequence(name=str(index).encode(), sequence=letters).digitize(self._alphabet)
                for index, letters in enumerate(sequences)
            ],
        )

    def relatives(self, sequence: str) -> list[Relative]:
        """The chains with E < HOMOLOGOUS, the best score first; one equal to the query is among them.

        Where several parts of a chain align to one residue of the query, the part with the best score counts.
        """
        from pyhmmer.easel import TextSequence
        from pyhmmer.plan7 import Background, Builder, Pipeline

        if len(sequence) < SHORTEST:  # and an empty one would end the process
            return []
        query = TextSequence(name=b"query", sequence=sequence).digitize(self._alphabet)
        pipeline = Pipeline(self._alphabet, Background(self._alphabet), Z=SEARCHED, E=HOMOLOGOUS)
        # its own stubs contradict each other
        search: Any = pipeline.search_seq
        hits = search(query, self._chains, Builder(self._alphabet)).reported
        found = []
        for hit in hits:
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
