"""Families of homologous proteins, found by comparing their sequences."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from typing import Any

import numpy as np

from protcli.errors import ProtcliError

HOMOLOGOUS = 1e-3  # expected number of chance hits as good, in a search of SEARCHED sequences
SEARCHED = 10_000  # about the size of ProteinNet's training_30
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


def digitized(sequences: Sequence[str]) -> list[Any]:
    """Sequences as `phmmer` takes them, each named by its index."""
    from pyhmmer.easel import Alphabet, TextSequence

    alphabet = Alphabet.amino()
    return [
        TextSequence(name=str(index).encode(), sequence=letters).digitize(alphabet)
        for index, letters in enumerate(sequences)
    ]


def phmmer(query: Any, chains: Any) -> Any:
    """pyhmmer's hits of a query with E < HOMOLOGOUS in SEARCHED sequences, the best first.

    Args:
        query: as `digitized` makes it, not empty: that would end the process.
        chains: a block of such sequences.
    """
    from pyhmmer.plan7 import Background, Builder, Pipeline

    alphabet = query.alphabet
    search = Pipeline(alphabet, Background(alphabet), Z=SEARCHED, E=HOMOLOGOUS).search_seq
    return search(query, chains, Builder(alphabet)).reported


def homologous_families(sequences: Sequence[str]) -> Iterator[tuple[int, np.ndarray]]:
    """Group proteins into families: phmmer's hits by single linkage, whichever of two sequences finds the other.

    The E-value is that of a search among SEARCHED sequences, however many there are: so whether two proteins are linked
    depends on these two alone, and a family does not fall apart because a split grows. Two proteins that are in one
    family already are not compared, since another link would change nothing: a large family costs little more than its
    first search, and what remains is phmmer's filter, quadratic in the number of residues.

    Yields:
        How many sequences have been compared with all others, and the families so far: int64 [N], the index of each
        family's first member.

    Raises:
        ProtcliError: pyhmmer is not installed.

    Source: Eddy 2011, PLOS Comput. Biol. 7:e1002195 (HMMER3); Larralde and Zeller 2023, Bioinformatics 39:btad214.
    """
    require_phmmer()
    from pyhmmer.easel import DigitalSequenceBlock

    chains = digitized(sequences)
    families = np.arange(len(chains))

    def hits(query: int) -> list[int]:
        chain = chains[query]
        others = DigitalSequenceBlock(chain.alphabet, [chains[i] for i in np.flatnonzero(families != families[query])])
        return [int(hit.name) for hit in phmmer(chain, others)]

    workers = os.cpu_count() or 1
    with ThreadPoolExecutor(workers, thread_name_prefix="phmmer") as threads:  # it runs without the GIL
        for first in range(0, len(chains), 4 * workers):
            queries = range(first, min(first + 4 * workers, len(chains)))
            for query, found in zip(queries, list(threads.map(hits, queries)), strict=True):
                for target in found:
                    pair = families[query], families[target]
                    families[families == max(pair)] = min(pair)
            yield queries.stop, families
