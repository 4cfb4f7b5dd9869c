"""Relatives of a chain, with alignments known by how the chains were made."""

import numpy as np
import pytest

from protcli.errors import ProtcliError
from protcli.proteins import homology
from protcli.proteins.formats.proteinnet import read_proteinnet
from protcli.proteins.relatives import SHORTEST, Library
from protcli.proteins.residues import AMINO_ACIDS


def random_sequence(length: int, seed: int) -> str:
    return "".join(np.random.default_rng(seed).choice(list(AMINO_ACIDS), length))


def test_a_relative_is_aligned_around_its_gap() -> None:
    """The relative lacks residues 40 to 49 of the query, has five more at its start, and three others differ."""
    query = random_sequence(100, 1)
    letters = list(query)
    for place in (20, 60, 80):
        letters[place] = "W" if query[place] != "W" else "A"
    relative = random_sequence(5, 2) + "".join(letters[:40] + letters[50:])
    (found,) = Library([random_sequence(100, 3), relative]).relatives(query)
    assert found.chain == 1
    expected = np.concatenate([np.arange(5, 45), np.full(10, -1), np.arange(45, 95)])
    differing = found.residues != expected
    assert differing.sum() <= 4  # which side of the gap equal letters belong to, and the very ends, are a choice
    aligned = found.residues >= 0
    equal = [query[i] == relative[found.residues[i]] for i in np.flatnonzero(aligned)]
    assert found.identity == pytest.approx(np.mean(equal))
    assert 0.95 < found.identity < 1


def test_the_parts_of_one_chain_are_one_relative() -> None:
    """Two halves of the query lie far apart in the chain; where both could align, the better part counts."""
    first, second = random_sequence(60, 1), random_sequence(60, 2)
    chain = first + random_sequence(150, 3) + second
    (found,) = Library([chain]).relatives(first + second)
    np.testing.assert_array_equal(found.residues[2:58], np.arange(2, 58))
    np.testing.assert_array_equal(found.residues[72:118], np.arange(222, 268))  # the first part goes on by chance
    assert found.identity > 0.9


def test_best_first_and_the_query_itself_among_them() -> None:
    query = random_sequence(120, 1)
    half = query[:60] + random_sequence(60, 2)
    found = Library([half, random_sequence(120, 3), query]).relatives(query)
    assert [each.chain for each in found] == [2, 0]
    np.testing.assert_array_equal(found[0].residues, np.arange(120))


@pytest.mark.parametrize("query", ["", "M", "X" * 30, random_sequence(SHORTEST - 1, 1)])
def test_nothing_is_found_for_too_little(query: str) -> None:
    assert Library([random_sequence(100, 1)]).relatives(query) == []


def test_without_pyhmmer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(homology, "find_spec", lambda name: None)
    with pytest.raises(ProtcliError, match=r"^relatives are found with pyhmmer, .* --set templates=0$"):
        Library(["MKV"])


def test_relatives_of_real_chains_have_like_structures(real_data) -> None:
    """Where a relative of half the letters or more is aligned, its distances are the query's."""
    path = next(real_data.glob("**/training_95"))
    proteins = [protein for protein, _ in zip(read_proteinnet(path), range(150), strict=False)]
    library = Library([protein.sequence for protein in proteins])
    differences = []
    for index, protein in enumerate(proteins):
        for relative in library.relatives(protein.sequence):
            if relative.chain == index or relative.identity < 0.5:
                continue
            own, other = protein.atom("ca"), proteins[relative.chain].atom("ca")
            points = np.where(relative.residues[:, None] >= 0, other[relative.residues], np.nan)
            apart = [np.linalg.norm(xyz[:, None] - xyz, axis=-1) for xyz in (own, points)]
            differences.append(np.nanmedian(np.abs(apart[0] - apart[1])))
    assert len(differences) >= 10
    assert np.median(differences) < 1.5
