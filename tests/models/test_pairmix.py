"""The flagship: what must hold whatever it has learned."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from protcli.models.pairmix import BINS, CLASSES, LONGEST, PairMix, between, distance_bins, dropped, separation_class
from protcli.models.summary import summarize
from protcli.models.zoo import ZOO, configure
from protcli.proteins.batches import Residues, collate
from protcli.proteins.protein import Protein
from protcli.proteins.residues import sequence_profile

SMALL = ["channels=16", "heads=2", "blocks=1", "pair_channels=8", "pair_blocks=2", "bottleneck=4", "triangle=4"]
SMALL += ["head=8"]


@pytest.fixture(scope="module")
def proteins(chain: Callable[..., Protein]) -> list[Protein]:
    """Ten chains; the second half are relatives of the first."""
    first = [chain(60 + 3 * seed, seed=seed, missing=(seed,)) for seed in range(5)]
    moved = [replace(each, id=f"{each.id}b", sequence=f"{each.sequence[:-5]}AAAAA") for each in first]
    return first + moved


def trained(proteins: list[Protein], *settings: str) -> PairMix:
    """A network in which every layer does something, as after training."""
    torch.manual_seed(0)
    network = configure(ZOO["pairmix"], [*SMALL, *settings]).build()
    network.prepare(proteins, "ca")
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return network.eval()


def test_bins_and_separation_classes() -> None:
    edges = distance_bins()
    assert len(edges) == BINS + 1 == 65
    torch.testing.assert_close(edges[:41], torch.arange(2, 22.5, 0.5))
    assert edges[-1].item() == pytest.approx(120)
    ratios = edges[41:] / edges[40:-1]
    torch.testing.assert_close(ratios, torch.full_like(ratios, (120 / 22) ** (1 / 24)))
    classes = separation_class(torch.arange(2 * LONGEST))
    assert classes[:33].tolist() == [*range(32), 32]
    assert (classes.diff() >= 0).all()
    assert set(classes.tolist()) == set(range(CLASSES))


def test_untrained_it_predicts_the_mean_distance_of_a_separation(proteins: list[Protein]) -> None:
    """Without templates; the mean over the pairs of each separation, computed here pair by pair."""
    network = configure(ZOO["pairmix"], ["templates=0"]).build().eval()
    network.prepare(proteins, "ca")
    distance = network(collate(proteins[:1], atom="ca", crop=64).residues).distance[0].detach()
    for apart in (1, 2, 5):
        known = [
            np.linalg.norm(xyz[i + apart] - xyz[i])
            for xyz in (protein.atom("ca") for protein in proteins)
            for i in range(len(xyz) - apart)
        ]
        # within what bins of 0.5 A can say, and the few pairs that every bin has beforehand
        assert distance[0, apart].item() == pytest.approx(np.nanmean(known), abs=0.3)
        assert (distance.diagonal(apart) == distance[0, apart]).all()


def test_the_distance_is_the_mean_of_the_distogram(proteins: list[Protein]) -> None:
    """The mean is taken in single precision, whatever the layers compute in."""
    off = ~torch.eye(64, dtype=torch.bool)
    for half in (False, True):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
            prediction = trained(proteins)(collate(proteins, atom="ca", crop=64).residues)
        prediction.check(10, 64)
        assert prediction.distance.dtype == torch.float32
        edges = prediction.bins.double()
        mean = prediction.logits.double().softmax(-1) @ ((edges[1:] + edges[:-1]) / 2)
        torch.testing.assert_close(prediction.distance[:, off], mean[:, off].float(), rtol=1e-5, atol=1e-4)
        assert torch.equal(prediction.logits, prediction.logits.transpose(1, 2))


@pytest.mark.parametrize("length", [48, 50, 51])
def test_neither_padding_nor_neighbours_matter(proteins: list[Protein], length: int) -> None:
    network = trained(proteins)
    with torch.no_grad():
        alone = network(collate(proteins[:1], atom="ca", crop=length).residues).distance[0]
        both = network(collate(proteins[3::-3], atom="ca", crop=length, padded_length=83).residues).distance[1]
    torch.testing.assert_close(both[:length, :length], alone, rtol=1e-4, atol=1e-3)


def test_every_input_matters_and_the_protein_is_seen(proteins: list[Protein]) -> None:
    network = trained(proteins)
    given = collate(proteins[:1], atom="ca", crop=60).residues
    with torch.no_grad():
        found = network(given).distance
        for changed in (
            replace(given, sequence=given.sequence.flip(1)),
            replace(given, profile=given.profile.flip(1)),
            replace(given, mask=given.mask & (torch.arange(60) < 50)),
        ):
            assert (network(changed).distance - found)[:, :40, :40].abs().max() > 1e-3


def test_a_template_moves_the_prediction_towards_it(proteins: list[Protein]) -> None:
    """Untrained already, of a chain that the memory holds a relative of."""
    plain, helped = (configure(ZOO["pairmix"], [*SMALL, f"templates={count}"]).build().eval() for count in (0, 2))
    for network in (plain, helped):
        network.prepare(proteins[5:], "ca")
    batch = collate(proteins[:5], atom="ca", crop=64)
    pairs = batch.mask[:, :, None] & batch.mask[:, None]
    true = torch.cdist(batch.coords, batch.coords)[pairs]
    errors = [(network(batch.residues).distance[pairs] - true).square().mean().item() for network in (plain, helped)]
    assert errors[1] < errors[0] / 4


QUIET = ("dropout=0.0", "profile_noise=0.0", "profile_dropout=0.0")


def test_training_drops_the_profile_and_varies(proteins: list[Protein]) -> None:
    def distance(network: PairMix, given: Residues) -> Tensor:
        torch.manual_seed(0)  # of the pairs that are looked at
        return network(given).distance

    network = trained(proteins, "templates=0", *QUIET[:2], "profile_dropout=1.0").train()
    given = collate(proteins[:2], atom="ca", crop=60).residues
    without = replace(given, profile=torch.zeros_like(given.profile))
    assert torch.equal(distance(network, given), distance(network, without))
    blind = trained(proteins, "profile=false", "templates=0")
    assert torch.equal(distance(blind, given), distance(blind, without))
    alone = [replace(each, profile=sequence_profile(each.sequence)) for each in proteins[:2]]
    seeing = trained(proteins, "templates=0")  # of the same seed
    assert torch.equal(seeing(collate(alone, atom="ca", crop=60).residues).distance, blind(given).distance)
    whole = "looks=16"
    varied = trained(proteins, "templates=0", "dropout=0.0", "profile_dropout=0.0", whole).train()
    first, second = (varied(given) for _ in range(2))
    assert not torch.equal(first.distance[:, first.at.argsort()], second.distance[:, second.at.argsort()])


@pytest.mark.parametrize("length", [60, 50, 3])
def test_training_looks_at_some_pairs_of_the_map_that_it_predicts(proteins: list[Protein], length: int) -> None:
    """With as many looks as there are places in a pair of rows, at each pair i < j twice."""
    given = collate([proteins[0], proteins[3]], atom="ca", crop=length).residues
    network = trained(proteins[5:], *QUIET, "looks=16")  # templates of relatives
    whole = network(given)
    network.memory.train(False)
    for module in (network, *network.pair_blocks, *network.blocks):
        module.training = True
    seen = network(given)
    i, j = seen.at // length, seen.at % length
    assert (i <= j).all()
    pairs, counts = torch.unique(seen.at[i < j], return_counts=True)
    assert len(pairs) == length * (length - 1) / 2
    assert set(counts.tolist()) == {2}
    off = i < j
    torch.testing.assert_close(seen.distance[:, off], whole.of(whole.distance)[:, i, j][:, off], rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(seen.logits[:, off], whole.logits[:, i, j][:, off], rtol=1e-4, atol=1e-4)
    assert torch.equal(seen.of(whole.distance), whole.distance[:, i, j])
    few = trained(proteins[5:], *QUIET, "looks=3").train()
    drawn = {tuple(few(given).at.tolist()) for _ in range(20)}
    assert len(drawn) > 1
    assert {len(at) for at in drawn} <= set(range(3 * (length // 4 + 1) ** 2 + 1))


@pytest.mark.parametrize("stride", [1, 2, 3, 4])
def test_between_rows_it_interpolates_as_torch_does(stride: int) -> None:
    rows = torch.randn(2, 7, 5)
    expected = F.interpolate(rows.mT, scale_factor=stride, mode="linear").mT
    for offset in range(stride):
        for count in (6, 4, 1):
            found = between(rows, 1, offset, stride, count)
            torch.testing.assert_close(found, expected[:, offset::stride][:, :count])


def test_a_dropped_value_is_zero_and_the_mean_is_kept() -> None:
    torch.manual_seed(0)
    values = dropped(torch.ones(301, 999), 0.1)
    assert values.unique().tolist() == pytest.approx([0, 1 / 0.9])
    assert (values == 0).double().mean().item() == pytest.approx(0.1, abs=4 * (0.09 / values.numel()) ** 0.5)
    columns = (values == 0).double().mean(dim=0)
    assert columns.std().item() == pytest.approx((0.09 / 301) ** 0.5, rel=0.1)  # independent of each other
    assert torch.equal(dropped(values, 0.0), values)


def test_it_takes_chains_of_any_length_at_a_cost_within_limits(chain, proteins: list[Protein]) -> None:
    with torch.no_grad():
        trained(proteins)(collate([chain(701, seed=5)], atom="ca", crop=701).residues).check(1, 701)
    summary = summarize(ZOO["pairmix"], 256)
    assert summary.gmac < 6
    assert summary.parameters < 2.6e6
    assert summary.bins == BINS


def test_a_small_set_has_a_prior_of_the_pairs_that_there_are(chain: Callable[..., Protein]) -> None:
    """Two chains: no separation has a thousand pairs, and beyond the longest one its shares go on."""
    network = configure(ZOO["pairmix"], ["templates=0"]).build()
    network.prepare([chain(30, 1), chain(30, 2)], "ca")
    shares = network.prior.exp()
    torch.testing.assert_close(shares.sum(dim=1), torch.ones(LONGEST))
    assert shares[1].argmax() == 3  # 3.8 A is in the bin from 3.5 A on
    assert shares[1].max() > 0.9
    assert torch.equal(shares[30], shares[500])
