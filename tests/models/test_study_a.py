"""What is particular to study A's networks."""

import pytest
import torch

from protcli.models.zoo import ZOO, with_config
from protcli.proteins.maps import upper_pairs

STUDY_A = [name for name, spec in ZOO.items() if hasattr(spec.config, "length")]


@pytest.mark.parametrize("name", STUDY_A)
def test_they_always_see_256_residues(name, residues, ready):
    model = ready(ZOO[name]).eval()
    short, padded = residues([40], 40), residues([40], 256)
    padded.sequence[:, :40], padded.profile[:, :40] = short.sequence, short.profile
    with torch.no_grad():
        torch.testing.assert_close(model(short).distance, model(padded).distance[:, :40, :40], rtol=0, atol=0)
        with pytest.raises(ValueError, match="takes 256 residues but got 257"):
            model(residues([257], 257))


def test_simple_by_numpy_order(residues):
    """The dense layer's weights lie in Keras' order: row, column, channel."""
    model = with_config(ZOO["simple"], {"length": 4, "channels": [2]}).build().eval()
    protein = residues([4], 4)
    stacked = torch.stack([protein.profile, protein.one_hot()], 1)
    image = model.layers.norm(torch.relu(model.layers.conv1(stacked)))[0].detach()  # [2, 4, 21]
    flat = torch.tensor([image[c, i, f] for i in range(4) for f in range(21) for c in range(2)])
    points = model.layers.dense(flat).reshape(4, 3)
    torch.testing.assert_close(model(protein).distance[0], torch.cdist(points, points), rtol=1e-4, atol=1e-5)


def test_ablations_differ_where_they_say_and_improved_refuses_lengths_that_do_not_reshape():
    plain, bare, relu = (ZOO[name].build() for name in ("improved", "improved-no-dropout", "improved-relu"))
    rates = [(net.attention_dropout.p, net.points_dropout.p) for net in (plain, bare, relu)]
    assert rates == [(0.3, 0.2), (0, 0), (0.3, 0.2)]
    x = torch.tensor([-1.0, 2.0])
    for layer in (plain.sequence.activation1, bare.profile.activation2):
        assert torch.equal(layer(x), torch.tensor([-0.1, 2.0]))
    assert torch.equal(relu.profile.activation1(x), torch.tensor([0.0, 2.0]))
    for length in (256, 64, 16):
        with_config(ZOO["improved"], {"length": length}).build()
    with pytest.raises(ValueError, match="do not fit length=128: use 256, 64 or 16"):
        with_config(ZOO["improved"], {"length": 128}).build()


@pytest.mark.parametrize("name", STUDY_A)
def test_padding_rows_that_coincide_do_not_stop_training(name, batch, ready):
    """With zero biases the padding's points of improved lie on each other; the loss must fall all the same."""
    spec = with_config(ZOO[name], {"length": 64})
    model = ready(spec)
    walks = batch([30, 20], 64)
    pairs = upper_pairs(walks.mask)
    target = torch.cdist(walks.coords, walks.coords)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3, eps=1e-7)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = (model(walks.residues).distance - target)[pairs].square().mean()
        loss.backward()
        assert all(torch.isfinite(p.grad).all() for p in model.parameters())
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
