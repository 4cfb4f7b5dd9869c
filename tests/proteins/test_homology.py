"""Families by homology: against phmmer itself with SciPy's components, and against
families that others found; relatives of a chain, with alignments known by how the chains were made."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from pyhmmer.easel import Alphabet, DigitalSequenceBlock, TextSequence
from pyhmmer.hmmer import phmmer
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from protcli.errors import ProtcliError
from protcli.proteins import homology
from protcli.proteins.formats.proteinnet import read_proteinnet
from protcli.proteins.homology import HOMOLOGOUS, SEARCHED, SHORTEST, SequenceDatabase, homologous_families
from protcli.proteins.residues import AMINO_ACIDS
from protcli.proteins.synthetic import synthesize


def families_of(sequences: Sequence[str]) -> np.ndarray:
    *_, (done, families) = homologous_families(sequences)
    assert done == len(sequences)
    return families


def same_family(families: Sequence) -> np.ndarray:
    """Whether each pair i < j shares a family: bool [N (N - 1) / 2]."""
    labels = np.asarray(families)
    return (labels[:, None] == labels)[np.triu_indices(len(labels), 1)]


def by_brute_force(sequences: Sequence[str]) -> np.ndarray:
    """Every pair compared, in both directions."""
    alphabet = Alphabet.amino()
    chains = [TextSequence(name=str(i).encode(), sequence=s).digitize(alphabet) for i, s in enumerate(sequences)]
    block = DigitalSequenceBlock(alphabet, chains)
    found = phmmer(block, block, Z=SEARCHED, E=HOMOLOGOUS)
    links = [(query, int(hit.name)) for query, hits in enumerate(found) for hit in hits.reported]
    rows, columns = np.array(links).T
    graph = coo_array((np.ones(len(links)), (rows, columns)), shape=(len(chains),) * 2)
    return connected_components(graph, directed=False)[1]


@pytest.fixture(scope="module")
def sequences() -> list[str]:
    return [protein.sequence for protein in synthesize(40, seed=3, split="training", max_length=80)]


def test_families_are_the_components_of_all_hits_whatever_the_order_and_the_company(sequences: list[str]) -> None:
    families = families_of(sequences)
    assert 1 < len(set(families.tolist())) < len(sequences)
    np.testing.assert_array_equal(same_family(families), same_family(by_brute_force(sequences)))
    for index, first in enumerate(families):
        assert first == np.flatnonzero(families == families[index])[0]
    order = np.random.default_rng(0).permutation(len(sequences))
    shuffled = np.empty(len(order), dtype=int)
    shuffled[order] = families_of([sequences[index] for index in order])
    np.testing.assert_array_equal(same_family(families), same_family(shuffled))
    one = np.flatnonzero(families == np.bincount(families).argmax())
    assert len(one) > 2
    assert len(set(families_of([sequences[index] for index in one]).tolist())) == 1
    assert families_of(["A", "AAAA", "XXXXX", "ACDX"]).tolist() == [0, 1, 2, 3]  # they are like nothing


def test_of_many_sequences_each_searches_those_after_it_and_those_that_almost_found_it(
    sequences: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last finds the first with E = 0.0008, and would be found by it with 0.003."""
    rng, letters = np.random.default_rng(101), list(AMINO_ACIDS)
    first = rng.choice(letters, 60)
    changed = np.where(rng.random(60) < 0.62, rng.choice(letters, 60), first)
    last = np.concatenate([rng.choice(letters, 120), changed])
    chains = ["".join(first), *sequences, "".join(last)]
    assert SequenceDatabase(chains[-1:]).has_relative(chains[0]) is False
    assert SequenceDatabase(chains[:1]).has_relative(chains[-1]) is True
    database = SequenceDatabase(chains)
    assert database.kin(0).keys() == {len(chains) - 1}
    assert database.kin(len(chains) - 1).keys() == {0}
    assert database.kin(0)[len(chains) - 1] == pytest.approx((first == changed).mean(), abs=0.1)
    families = families_of(chains)
    assert families[-1] == 0
    monkeypatch.setattr(homology, "BOTH_WAYS", 0)
    monkeypatch.setattr(homology.os, "cpu_count", lambda: 1)  # four are searched for together, in both directions
    np.testing.assert_array_equal(families_of(chains), families)
    monkeypatch.setattr(homology, "DOUBTFUL", HOMOLOGOUS)
    assert families_of(chains)[-1] == len(chains) - 1


def test_without_pyhmmer_there_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(homology, "find_spec", lambda name: None)
    with pytest.raises(ProtcliError, match=r"pyhmmer, which is not installed .*: give them with --families FILE"):
        next(homologous_families(["ACD"]))
    with pytest.raises(ProtcliError, match=r"^relatives are found with pyhmmer, .* --set templates=0$"):
        SequenceDatabase(["MKV"])


def test_real_families_are_those_of_the_manifest(real_data: Path) -> None:
    """Its 85 families of validation are components over all splits at E < 1e-3 among about 1,700 sequences.

    Ours need a better E-value and no protein of another split joins them, so they may only be finer.
    """
    with (real_data / "MANIFEST.tsv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file, delimiter="\t") if row["split"] == "validation"]
    theirs = {row["id"]: row["family"] for row in rows}
    proteins = list(read_proteinnet(real_data / "validation"))
    assert len(proteins) == len(theirs) == 111
    assert len(set(theirs.values())) == 85
    ours = families_of([protein.sequence for protein in proteins])
    found, known = same_family(ours), same_family([theirs[protein.id] for protein in proteins])
    assert not (found & ~known).any()
    assert known.sum() == 32
    assert found.sum() >= 29
    assert len(set(ours.tolist())) <= 88


def random_sequence(length: int, seed: int) -> str:
    return "".join(np.random.default_rng(seed).choice(list(AMINO_ACIDS), length))


def test_a_relative_is_aligned_around_its_gap() -> None:
    """The relative lacks residues 40 to 49 of the query, has five more at its start, and three others differ."""
    query = random_sequence(100, 1)
    letters = list(query)
    for place in (20, 60, 80):
        letters[place] = "W" if query[place] != "W" else "A"
    relative = random_sequence(5, 2) + "".join(letters[:40] + letters[50:])
    itself, found = SequenceDatabase([random_sequence(100, 3), relative, query]).relatives(query)
    np.testing.assert_array_equal(itself.residues, np.arange(100))  # the best is first
    assert (itself.chain, itself.identity, found.chain) == (2, 1, 1)
    expected = np.concatenate([np.arange(5, 45), np.full(10, -1), np.arange(45, 95)])
    differing = found.residues != expected
    assert differing.sum() <= 4  # which side of the gap equal letters belong to, and the very ends, are a choice
    aligned = found.residues >= 0
    equal = [query[i] == relative[found.residues[i]] for i in np.flatnonzero(aligned)]
    assert found.identity == pytest.approx(np.mean(equal))
    assert 0.95 < found.identity < 1


def test_the_parts_of_one_chain_are_one_relative_and_nothing_is_found_for_too_little() -> None:
    """Two halves of the query lie far apart in the chain; where both could align, the better part counts."""
    first, second = random_sequence(60, 1), random_sequence(60, 2)
    database = SequenceDatabase([first + random_sequence(150, 3) + second])
    (found,) = database.relatives(first + second)
    np.testing.assert_array_equal(found.residues[2:58], np.arange(2, 58))
    np.testing.assert_array_equal(found.residues[72:118], np.arange(222, 268))  # the first part goes on by chance
    assert found.identity > 0.9
    for query in ("", "M", "X" * 30, random_sequence(SHORTEST - 1, 1)):
        assert database.relatives(query) == []
