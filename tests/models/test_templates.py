"""Templates: what a memory finds for chains whose relatives were made by hand."""

import copy
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from protcli.models.templates import FEATURES, STEEPNESS, TemplateMemory, Templates
from protcli.proteins.batches import Residues, collate
from protcli.proteins.homology import SequenceDatabase
from protcli.proteins.protein import Protein


def relative(chain: Protein, changed: int, seed: int) -> Protein:
    """The chain with other letters at some of its residues, and with coordinates of its own."""
    rng = np.random.default_rng(seed)
    letters = list(chain.sequence)
    for place in rng.choice(len(letters), changed, replace=False):
        letters[place] = "A" if letters[place] != "A" else "G"
    moved = chain.coords + rng.normal(size=chain.coords.shape).astype(np.float32)
    return replace(chain, id=f"{chain.id}-{changed}", sequence="".join(letters), coords=moved)


@pytest.fixture(scope="module")
def chains(chain: Callable[..., Protein]) -> list[Protein]:
    """A chain of 80 residues, two relatives with 90 and 75 % of its letters, and another chain."""
    first = chain(80, seed=1, missing=(7,))
    return [relative(first, 8, 2), chain(60, seed=3), first, relative(first, 20, 4)]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where searches are kept."""
    monkeypatch.setenv("PROTCLI_CACHE", str(tmp_path))
    return tmp_path / "relatives"


def memory(chains: list[Protein], most: int = 3) -> TemplateMemory:
    module = TemplateMemory(most).eval()
    module.remember(chains, "ca")
    return module


def residues(chain: Protein, start: int = 0, length: int = 100) -> Residues:
    return collate([chain], atom="ca", crop=length, starts=[start]).residues


def test_relatives_by_identity_with_their_coordinates(chains: list[Protein], chain: Callable[..., Protein]) -> None:
    """Of a chain that the memory does not hold: its relatives' coordinates, residue by residue; none for a stranger."""
    query = relative(chains[2], 1, 9)
    both = collate([query, chain(70, seed=11)], atom="ca", crop=100).residues
    found = memory([chains[0], chains[1], chains[3]])(both)
    assert found.chains.tolist() == [0]
    assert found.points.shape == (1, 3, 100, 3)
    assert found.identity[0].tolist() == pytest.approx([71 / 80, 59 / 80, 0], abs=0.03)
    for place, which in enumerate((0, 3)):
        known = found.known[0, place].numpy()
        assert known.sum() >= 75
        assert not known[[7]].any()  # unresolved in both
        expected = chains[which].atom("ca")
        np.testing.assert_array_equal(found.points[0, place].numpy()[known], expected[known[:80]])
    assert not found.known[0, 2].any()


def test_a_part_of_a_known_chain_is_known_again(chains: list[Protein]) -> None:
    """Its own record comes first, at the place of the crop; relatives are the whole chain's, their identity here."""
    module = memory(chains)
    whole, part = module(residues(chains[2])), module(residues(chains[2], start=30, length=25))
    assert whole.identity[0, 0] == 1
    own = chains[2].sequence[30:55]
    equal = [np.mean([a == b for a, b in zip(own, chains[which].sequence[30:55], strict=True)]) for which in (2, 0, 3)]
    assert part.identity[0].tolist() == pytest.approx(equal)
    torch.testing.assert_close(part.points[0, :, :25], whole.points[0, :, 30:55])


def test_in_training_no_chain_sees_itself_and_near_relatives_are_hidden_at_random(chains: list[Protein]) -> None:
    torch.manual_seed(0)
    module = memory(chains).train()
    best = [module(residues(chains[2])).identity.max().item() for _ in range(200)]
    values = sorted({round(value, 2) for value in best})
    assert len(values) == 3
    assert values[0] == 0  # both hidden
    assert values[1:] == pytest.approx([0.75, 0.9], abs=0.02)
    # a limit is drawn evenly from 0.15 to 1
    assert np.mean([value > 0.85 for value in best]) == pytest.approx((1 - values[2]) / 0.85, abs=0.08)


def test_a_chain_with_the_same_letters_is_hidden_in_training_too(chain: Callable[..., Protein]) -> None:
    """Two chains that share their first half: in training a crop of it has neither of them as a template."""
    first, second = chain(120, 1), chain(120, 2)
    shared = replace(second, sequence=first.sequence[:60] + second.sequence[60:])
    module = memory([first, shared]).train()
    for _ in range(30):
        assert not module(residues(shared, length=60)).known.any()
    found = module.eval()(residues(shared, length=60))
    assert found.identity[0, :2].tolist() == [1, 1]


def test_where_there_is_no_template_and_the_most(chains: list[Protein]) -> None:
    for length in (1, 3, 9):  # a few residues have none
        assert not memory(chains)(residues(chains[0], start=20, length=length)).known.any()
    found = TemplateMemory(2)(residues(chains[0]))  # an empty memory has none
    for each in (found.known, *found.pairs()):
        assert not each.any()
    assert memory(chains, most=1)(residues(chains[3])).points.shape == (1, 1, 100, 3)


def test_the_closest_do_not_crowd_out_others(chain: Callable[..., Protein]) -> None:
    """Of many near relatives only as many are kept as are used, so that in training there are remoter ones."""
    first = chain(80, seed=1)
    module = memory([relative(first, 2, seed) for seed in range(10)] + [relative(first, 30, 20)], most=2).train()
    torch.manual_seed(0)
    best = {round(module(residues(first)).identity.max().item(), 1) for _ in range(100)}
    assert 0.6 in best


def test_the_memory_is_in_the_weights(chains: list[Protein]) -> None:
    """Loaded into an empty one, and into one that has searched before; a copy finds the same."""
    module = memory(chains)
    expected = module(residues(chains[0]))
    other = memory(chains[1:2])
    other(residues(chains[0]))
    for fresh in (TemplateMemory(3).eval(), other, copy.deepcopy(module)):
        fresh.load_state_dict(module.state_dict())
        found = fresh(residues(chains[0]))
        for name in ("points", "known", "identity"):
            assert torch.equal(getattr(found, name), getattr(expected, name))


def same(found: Templates, expected: Templates) -> bool:
    return all(torch.equal(getattr(found, name), getattr(expected, name)) for name in vars(expected))


def test_a_chain_is_searched_once_by_all_who_have_the_memory(
    chains: list[Protein], chain: Callable[..., Protein], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Known chains, others, and one without a relative; another memory, or another number of templates, searches."""
    query, stranger = relative(chains[2], 1, 9), chain(70, seed=11)
    first, searched = memory(chains), []
    asked = collate([*chains, query, stranger], atom="ca", crop=100).residues
    assert list(first.search([each.sequence for each in (*chains, query, stranger)])) == [1, 2, 3, 4, 5, 6]
    relatives = SequenceDatabase.relatives
    monkeypatch.setattr(
        SequenceDatabase, "relatives", lambda self, letters: searched.append(letters) or relatives(self, letters)
    )
    expected = first(asked)
    assert not searched
    assert same(memory(chains)(asked), expected)
    assert same(
        memory(chains)(residues(chains[2], start=30, length=25)), first(residues(chains[2], start=30, length=25))
    )
    assert not searched
    memory(chains, most=2)(residues(query))
    memory(chains[:3])(residues(query))
    assert searched == [query.sequence] * 2


@pytest.mark.parametrize("damage", [b"no search", b"", None])
def test_without_a_usable_file_all_is_searched(chains: list[Protein], cache: Path, damage: bytes | None) -> None:
    expected = memory(chains)(residues(chains[2]))
    (file,) = cache.glob("*/*")
    if damage is None:  # there can be no folder
        shutil.rmtree(cache)
        cache.write_text("")
    else:
        file.write_bytes(damage)
    assert same(memory(chains)(residues(chains[2])), expected)
    assert damage is None or file.read_bytes() not in (b"no search", b"")  # it is mended


def test_pair_features_by_hand() -> None:
    """Two templates of three residues on a line; the second one lacks the last residue."""
    points = torch.tensor([[[0.0, 0, 0], [4, 0, 0], [10, 0, 0]], [[0, 0, 0], [6, 0, 0], [0, 0, 0]]])
    known = torch.tensor([[[True, True, True], [True, True, False]]])
    identity = torch.tensor([[0.5, 0.25]])
    features, mean = Templates(points[None], known, identity, torch.tensor([0])).pairs()
    assert features.shape == (1, 3, 3, FEATURES)
    near = 1 / (1 + np.exp(-STEEPNESS * 0.25))  # weight of the first template where both know the pair
    expected = near * 4 + (1 - near) * 6
    spread = np.sqrt(near * (4 - expected) ** 2 + (1 - near) * (6 - expected) ** 2)
    assert mean[0, 0, 1].item() == pytest.approx(expected, rel=1e-5)
    assert features[0, 0, 1].tolist() == pytest.approx(
        [1, 0.5, np.log(3), spread / 5, expected / 20, np.exp(-expected / 8)], rel=1e-5
    )
    assert mean[0, 0, 2].item() == pytest.approx(10)
    assert features[0, 1, 2].tolist() == pytest.approx([1, 0.5, np.log(2), 0, 6 / 20, np.exp(-6 / 8)], rel=1e-5)
    torch.testing.assert_close(features, features.transpose(1, 2))
