"""What is particular to study B's networks."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from protcli.models.layers import BatchNormOfCopies
from protcli.models.psp import INPUTS, TAILS, Psp, PspConfig, SeparationInput
from protcli.models.zoo import ZOO


def test_every_choice_has_its_entry_and_every_tail_brings_8_to_256():
    hints = PspConfig.__annotations__
    assert set(hints["inputs"].__args__) == set(INPUTS)
    assert set(hints["tail"].__args__) == set(TAILS)
    with torch.no_grad():
        for tail in TAILS.values():
            assert tail(2048)(torch.zeros(1, 2048, 8, 8)).shape == (1, 1, 256, 256)


def reachable(tail: nn.Module) -> torch.Tensor:
    """Output pixels that depend on the features: bool [256, 256]. All weights positive, so that no ReLU hides one."""
    with torch.no_grad():
        for parameter in tail.parameters():
            parameter.abs_()
        return (tail(torch.ones(1, 2048, 8, 8)) > tail(torch.zeros(1, 2048, 8, 8)))[0, 0]


@pytest.mark.parametrize("name", ["transposed", "transposed-2-2-1-1-8"])
def test_most_pixels_of_psp0_see_nothing(name):
    """Stride 8 fills rows 0, 1, 2 of 8, the last convolution one more on either side of them."""
    seen = reachable(TAILS[name](2048))
    row = torch.zeros(256, dtype=torch.bool)
    for start in range(0, 256, 8):
        row[max(start - 1, 0) : start + 4] = True
    assert torch.equal(seen, row[:, None] & row[None, :])
    assert 1 - seen.float().mean().item() == pytest.approx(1 - 25 / 64, abs=0.006)


@pytest.mark.parametrize("name", ["transposed-k8", "transposed-k16", "transposed-2-2-2-2-2", "nearest", "bilinear"])
def test_every_pixel_of_the_other_tails_sees_something(name):
    assert reachable(TAILS[name](2048)).all()


def test_overlapping_kernels_lay_every_feature_on_its_own_window():
    """k16 s8 with padding 4: feature f reaches rows 8 f - 4 to 8 f + 11, so two of them reach each row inside."""
    up3 = TAILS["transposed-k16"](2048).up3
    with torch.no_grad():
        up3.weight.fill_(1)
        features = torch.zeros(1, 64, 4, 4)
        features[0, 0, 1, 1] = 1
        rows = up3(features)[0, 0].sum(dim=1).nonzero().flatten().tolist()
    assert rows == list(range(4, 20))


def test_shapes_of_tails():
    """Strides are varied at equal parameters: Glorot's bounds follow the shapes, so that the two start alike too."""
    with_gaps, without = (TAILS[f"transposed-{strides}"](2048) for strides in ("2-2-1-1-8", "2-2-2-2-2"))
    assert [p.shape for p in with_gaps.parameters()] == [p.shape for p in without.parameters()]
    shapes = [tuple(layer.weight.shape) for layer in TAILS["bilinear"](2048) if isinstance(layer, nn.Conv2d)]
    assert shapes == [(128, 2048, 3, 3), (64, 128, 3, 3), (32, 64, 3, 3), (32, 32, 3, 3), (32, 32, 3, 3), (1, 32, 3, 3)]


def test_separation_input_is_raw_integers(residues):
    pairs = SeparationInput()(residues([3, 4], 4))
    assert pairs[..., 0].tolist() == [[[0, 1, 2, 3], [1, 0, 1, 2], [2, 1, 0, 1], [3, 2, 1, 0]]]


@pytest.mark.parametrize(("name", "kinds"), [("one-hot", (0,)), ("profile", (1,)), ("both", (0, 1))])
def test_pair_input_is_i_then_j_then_separation(name, kinds, residues):
    protein = residues([4, 6], 6)
    pairs = INPUTS[name]()
    features = pairs(protein)
    single = [(protein.one_hot(), protein.profile)[kind] for kind in kinds]
    assert features.shape == (2, 6, 6, pairs.channels)
    assert pairs.channels == 2 * 21 * len(kinds) + 1
    expected = [value for row in (5, 2) for kind in single for value in kind[1, row]] + [3]
    torch.testing.assert_close(features[1, 5, 2], torch.tensor(expected))
    assert features[0, 4, 5, :-1].eq(0).all()  # both are padding


@pytest.mark.parametrize("name", ["psp0", "psp1"])
def test_only_profile_nets_see_the_protein(name, residues, ready):
    model = ready(ZOO[name]).eval()
    with torch.no_grad():
        one, other = model(residues([64, 50], 64, seed=1)).distance, model(residues([40], 64, seed=2)).distance
    torch.testing.assert_close(one[0], one[1], rtol=0, atol=0)
    torch.testing.assert_close(one[:1], other, rtol=0, atol=0)
    with torch.no_grad():
        maps = ready(ZOO[f"{name}-profile"]).eval()(residues([64, 64], 64)).distance
    assert (maps[0] - maps[1]).abs().max() > 1e-3


class Copies(nn.Module):
    """The separation map once for every protein, as the study fed it."""

    def __init__(self, pairs: nn.Module) -> None:
        super().__init__()
        self.pairs = pairs

    def forward(self, residues):
        return self.pairs(residues).expand(len(residues.sequence), -1, -1, -1)


def test_one_map_through_the_backbone_is_as_good_as_copies(batch):
    """Same predictions and gradients in training, and the same predictions in evaluation after some steps.

    A small backbone shows it in float64, with torch's own batch norm for the copies.
    """
    walks = batch([64, 50, 40], 64)
    target = torch.cdist(walks.coords, walks.coords)
    residues = replace(walks.residues, profile=walks.residues.profile.double())
    torch.manual_seed(0)
    convolutions = nn.Conv2d(1, 8, 5, 8, 2), nn.Conv2d(8, 8, 3, 4, 1)
    tail = TAILS["nearest"](8)
    results = []
    for norm, copied in ((BatchNormOfCopies, False), (nn.BatchNorm2d, True)):
        model = Psp(PspConfig(inputs="separation", tail="nearest", dropout=0.0))
        model.backbone = nn.Sequential(convolutions[0], norm(8), nn.ReLU(), convolutions[1], norm(8))
        model.tail = tail
        if copied:
            model.pairs = Copies(model.pairs)
        model.double()
        for _ in range(3):
            model.zero_grad()
            distance = model(residues).distance
            (distance - target).square().mean().backward()
        gradients = [parameter.grad.clone() for parameter in model.parameters()]
        with torch.no_grad():
            results.append((distance.detach(), gradients, list(model.buffers()), model.eval()(residues).distance))
    torch.testing.assert_close(results[0], results[1], rtol=1e-5, atol=1e-6)


def test_dropout_sits_after_the_backbone_and_draws_for_each_protein(residues, ready):
    assert [ready(ZOO[name]).dropout.p for name in ("psp0", "psp1")] == [0, 0.3]
    model = ready(ZOO["psp1"]).train()
    with torch.no_grad():
        maps = model(residues([64, 64], 64)).distance
    assert (maps[0] - maps[1]).abs().max() > 1e-3


def test_lengths_are_padded_to_32_and_cut_back(residues, ready):
    model = ready(ZOO["psp1"]).eval()
    with torch.no_grad():
        whole, part = model(residues([96], 96)).distance, model(residues([70], 70)).distance
    torch.testing.assert_close(part, whole[:, :70, :70], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["psp0", "psp1-profile"])
def test_the_shortest_chains_train(name, residues, ready):
    assert torch.isfinite(ready(ZOO[name]).train()(residues([2], 2)).distance).all()


def test_bf16_predicts_in_float32(residues, ready):
    model = ready(ZOO["psp0"]).eval()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert model(residues([64], 64)).distance.dtype == torch.float32
