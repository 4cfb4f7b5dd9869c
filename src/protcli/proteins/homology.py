"""Homologous proteins, found by comparing their sequences: families of a split, and the relatives of a query.

Source: Eddy 2011, PLOS Comput. Biol. 7:e1002195 (HMMER3); Larralde and Zeller 2023, Bioinformatics 39:btad214.
"""

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from protcli.errors import ProtcliError, quote
from protcli.proteins.formats.sequences import read_fasta
from protcli.proteins.profiles import alignment_profile
from protcli.proteins.protein import Protein
from protcli.proteins.residues import GAP_INDEX, decode, encode

HOMOLOGOUS = 1e-3  # expected number of chance hits as good, in a search of SEARCHED sequences
SEARCHED = 10_000  # about the size of ProteinNet's training_30
SHORTEST = 10  # aligned residues of a relative
DOUBTFUL = 0.1  # E-value from which on the other of two sequences, asked in turn, says no as well (99.4 % of pairs)
PROFILE_ROWS = 29  # of an alignment that stands for a profile, but for the first
ITERATIONS = 3  # of a search that gives a profile
BOTH_WAYS = 20_000  # sequences up to which all are compared in both directions
SOURCE = f"homology: phmmer, single linkage at E < {HOMOLOGOUS:g} in {SEARCHED:,} sequences"


def has_phmmer() -> bool:
    """Whether pyhmmer is installed; there is none for Windows."""
    return find_spec("pyhmmer") is not None


def require_phmmer(what: str = "families", remedy: str = "give them with --families FILE, or --families none") -> None:
    """Raise ProtcliError where pyhmmer is not installed: what is found with it, and what to do instead."""
    if not has_phmmer():
        raise ProtcliError(
            f"{what} are found with pyhmmer, which is not installed (there is none for Windows): {remedy}"
        )


def search_threads() -> ThreadPoolExecutor:
    """As many threads as there are cores, for searches, which run without the GIL."""
    return ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="phmmer")


def _digitized(sequences: Sequence[str]) -> Any:
    """A block of sequences as `_phmmer` takes them, each named by its index."""
    from pyhmmer.easel import Alphabet, DigitalSequenceBlock, TextSequence

    alphabet = Alphabet.amino()
    texts = (TextSequence(name=str(index).encode(), sequence=text) for index, text in enumerate(sequences))
    return DigitalSequenceBlock(alphabet, [text.digitize(alphabet) for text in texts])


def _phmmer(query: Any, chains: Any, limit: float = HOMOLOGOUS) -> Any:
    """pyhmmer's hits of a query with E < limit in SEARCHED sequences, the best first.

    Args:
        query: of a block that `_digitized` makes, not empty: that would end the process.
        chains: such a block.
        limit: at most DOUBTFUL; beyond it most are lost in phmmer's filters.
    """
    from pyhmmer.plan7 import Background, Builder, Pipeline

    alphabet = query.alphabet
    search = Pipeline(alphabet, Background(alphabet), Z=SEARCHED, E=limit).search_seq
    return search(query, chains, Builder(alphabet)).reported


def homologous_families(sequences: Sequence[str]) -> Iterator[tuple[int, np.ndarray]]:
    """Group proteins into families: phmmer's hits by single linkage, whichever of two sequences finds the other.

    The E-value is that of a search among SEARCHED sequences, however many there are: so whether two proteins are linked
    depends on these two alone, and a family does not fall apart because a split grows. Two proteins that are in one
    family already are not compared, since another link would change nothing: a large family costs little more than its
    first search, and what remains is phmmer's filter, quadratic in the number of residues.

    Of more than BOTH_WAYS sequences, each searches only those after it, and is searched in turn by one that it finds
    with HOMOLOGOUS < E <= DOUBTFUL. This misses 0.3 % of the pairs and saves almost half of the time.

    Yields:
        How many sequences have been compared with all others, and the families so far: int64 [N], the index of each
        family's first member.

    Raises:
        ProtcliError: pyhmmer is not installed.
    """
    require_phmmer()
    chains = _digitized(sequences)
    families = np.arange(len(chains))
    doubtful: dict[int, list[int]] = {}  # for each sequence, earlier ones that almost found it
    together = 4 * (os.cpu_count() or 1)

    def hits(query: int) -> list[Any]:
        searched = np.arange(len(chains)) >= (query - query % together if len(chains) > BOTH_WAYS else 0)
        searched[doubtful.pop(query, [])] = True
        others = [chains[i] for i in np.flatnonzero(searched & (families != families[query]))]
        return list(_phmmer(chains[query], type(chains)(chains.alphabet, others), DOUBTFUL))

    with search_threads() as threads:
        for first in range(0, len(chains), together):
            queries = range(first, min(first + together, len(chains)))
            for query, found in zip(queries, list(threads.map(hits, queries)), strict=True):
                for hit in found:
                    target = int(hit.name)
                    if hit.evalue > HOMOLOGOUS:
                        doubtful.setdefault(target, []).append(query)
                        continue
                    pair = families[query], families[target]
                    families[families == max(pair)] = min(pair)
            yield queries.stop, families


@dataclass(frozen=True, eq=False)
class Relative:
    """A chain of the database aligned to a query of L residues.

    Attributes:
        chain: its index in the database.
        identity: share of the aligned residues that are equal.
        residues: int32 [L], the residue of the relative at each residue of the query; -1 where none is aligned.
    """

    chain: int
    identity: float
    residues: np.ndarray


class SequenceDatabase:
    """Sequences to search for a query's relatives with phmmer, or with jackhmmer for a profile."""

    def __init__(self, sequences: Sequence[str]) -> None:
        """Raises ProtcliError where pyhmmer is not installed."""
        require_phmmer("relatives", "choose a model without templates, as pairmix is with --set templates=0")
        self._chains = _digitized(sequences)

    @classmethod
    def read(cls, path: Path) -> "SequenceDatabase":
        """The sequences of a FASTA file.

        Raises:
            ProtcliError: as `read_fasta` does; a sequence is too long or holds other signs; pyhmmer is not installed.
        """
        require_phmmer("relatives", "leave out --database")
        sequences = [record.sequence for record in read_fasta(path)]
        if wrong := [each for each in sequences if not re.fullmatch("[A-Z*]{1,100000}", each)]:  # HMMER takes no more
            raise ProtcliError(f"{path}: expected sequences of at most 100,000 letters, not {quote(wrong[0])}")
        return cls(sequences)

    def give_profiles(self, proteins: Iterable[Protein]) -> Iterator[Protein]:
        """The proteins, those without a profile with that of their relatives, if any is found; a few are in memory."""
        waiting = iter(proteins)
        with search_threads() as threads:
            while batch := list(islice(waiting, os.cpu_count())):
                yield from threads.map(self._with_profile, batch)

    def _with_profile(self, protein: Protein) -> Protein:
        if protein.has_profile or len(rows := self.alignment(protein.sequence)) < 2:
            return protein
        return replace(protein, profile=alignment_profile(rows), has_profile=True)

    def alignment(self, sequence: str) -> np.ndarray:
        """A query of L residues, and the chains that ITERATIONS of jackhmmer align with it: uint8 [N, L], as `encode`.

        Their E-value is below HOMOLOGOUS in this database. What is aligned is as in `relatives`.
        """
        from pyhmmer.plan7 import Background, Pipeline

        rows = [encode(sequence)]
        if len(sequence) >= SHORTEST:
            query = _digitized([sequence])[0]
            alphabet, limit = query.alphabet, HOMOLOGOUS
            pipeline = Pipeline(alphabet, Background(alphabet), E=limit, incE=limit, domE=limit)
            search = pipeline.iterate_seq(query, self._chains)
            *_, last = islice(search, ITERATIONS)
            for hit in last.hits.reported:
                residues = _aligned(hit, len(sequence))[0]
                codes = np.minimum(self._chains[int(hit.name)].sequence, GAP_INDEX)
                rows.append(np.where(residues < 0, GAP_INDEX, codes[residues]))
        return np.array(rows, np.uint8)

    def has_relative(self, sequence: str) -> bool:
        """Whether any chain has E < HOMOLOGOUS. Several threads may ask at once."""
        return bool(len(_phmmer(_digitized([sequence])[0], self._chains)))

    def relatives(self, sequence: str) -> list[Relative]:
        """The chains with E < HOMOLOGOUS, the best score first; one equal to the query is among them.

        Where several parts of a chain align to one residue of the query, the part with the best score counts.
        """
        if len(sequence) < SHORTEST:
            return []
        relatives = []
        for hit in _phmmer(_digitized([sequence])[0], self._chains):
            residues, identity = _aligned(hit, len(sequence))
            if (residues >= 0).sum() >= SHORTEST:
                relatives.append(Relative(int(hit.name), identity, residues))
        return relatives

    def kin(self, chain: int) -> dict[int, float]:
        """The relatives of one of its own chains, whichever of the two finds the other: identities by index.

        Several threads may ask at once.
        """
        own, found = self._chains[chain], {}
        for hit in _phmmer(own, self._chains, DOUBTFUL):
            other, query = int(hit.name), own
            if hit.evalue > HOMOLOGOUS:
                query = self._chains[other]
                hit = next(iter(_phmmer(query, type(self._chains)(own.alphabet, [own]))), None)
            if hit is not None and other != chain:
                found[other] = _aligned(hit, len(query))[1]
        return found

    def profile_kin(self, protein: Protein) -> set[int]:
        """The chains that a search with the profile of a protein finds with E < HOMOLOGOUS. Several threads may ask.

        The profile HMM is made of an alignment whose first row is the protein, and whose others have in each column as
        many of each residue as the profile says.
        """
        from pyhmmer.easel import DigitalMSA
        from pyhmmer.plan7 import Background, Builder, Pipeline

        shares = np.cumsum(protein.profile[:, :GAP_INDEX], axis=1, dtype=np.float64)  # [L, 20]
        places = (np.arange(PROFILE_ROWS) + 0.5) / PROFILE_ROWS * shares[:, -1:]  # [L, rows]
        codes = (shares[:, None] <= places[..., None]).sum(axis=-1)  # [L, rows]; X where no residue has a share
        rows, alphabet = _digitized([protein.sequence, *map(decode, codes.T)]), self._chains.alphabet
        alignment = DigitalMSA(alphabet=alphabet, name=b"profile", sequences=rows)
        hmm, *_ = Builder(alphabet, weighting="none").build_msa(alignment, Background(alphabet))
        search = Pipeline(alphabet, Background(alphabet), Z=SEARCHED, E=HOMOLOGOUS).search_hmm
        return {int(hit.name) for hit in search(hmm, self._chains).reported}


def _aligned(hit: Any, length: int) -> tuple[np.ndarray, float]:
    """What each of a query's residues is aligned to, as `Relative` has it, and the share of these that are equal."""
    residues = np.full(length, -1, dtype=np.int32)
    domains = sorted(hit.domains.reported, key=lambda domain: -domain.score)
    equal = sum(_align(domain.alignment, residues) for domain in domains)
    return residues, equal / max(1, int((residues >= 0).sum()))


def _align(alignment: Any, residues: np.ndarray) -> int:
    """Enter a domain's alignment where no other is yet; returns how many of the residues entered are equal."""
    query, target, equal = alignment.hmm_from - 1, alignment.target_from - 1, 0
    for here, there in zip(alignment.hmm_sequence, alignment.target_sequence, strict=True):
        in_query, in_target = here not in ".-", there not in ".-"
        if in_query and in_target and residues[query] < 0:
            residues[query] = target
            equal += here.upper() == there.upper()
        query, target = query + in_query, target + in_target
    return equal
