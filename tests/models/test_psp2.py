"""Study B's further work: where it begins, its backbones, and ImageNet's weights with and without a network."""

from collections.abc import Callable
from urllib.error import URLError

import numpy as np
import pytest
import torch
from torchvision.models import ResNet18_Weights, resnet18

from protcli.errors import ProtcliError
from protcli.models.psp2 import BACKBONES, STRIDE
from protcli.models.zoo import ZOO, configure
from protcli.proteins.batches import collate
from protcli.proteins.protein import Protein


def test_it_begins_with_the_mean_distances(chain: Callable[..., Protein]) -> None:
    proteins = [chain(50 + seed, seed, missing=(seed,)) for seed in range(4)]
    network = configure(ZOO["psp2"], ["backbone=resnet18"]).build().eval()
    network.prepare(proteins, "ca")
    with torch.no_grad():
        distance = network(collate(proteins[:2], atom="ca", crop=40).residues).distance
    for apart in (1, 3, 20):
        known = [np.linalg.norm(x[apart:] - x[:-apart], axis=-1) for x in (each.atom("ca") for each in proteins)]
        mean = np.nanmean(np.concatenate(known))
        np.testing.assert_allclose(distance.diagonal(apart, 1, 2).numpy(), mean, rtol=1e-5)


@pytest.mark.parametrize("name", BACKBONES)
def test_a_backbone_gives_what_it_is_said_to(name: str) -> None:
    """Strides 4, 8, 16 and 32 and their channels; the decoder needs them."""
    network = configure(ZOO["psp2"], [f"backbone={name}"]).build().eval()
    x, found = torch.randn(1, 16, 64, 64), {}
    with torch.no_grad():
        for stage, layer in network.backbone.named_children():
            x = layer(x)
            found[stage] = tuple(x.shape[1:])
    chosen = BACKBONES[name]
    expected = [
        (channels, 64 // stride, 64 // stride) for channels, stride in zip(chosen.channels, (4, 8, 16, 32), strict=True)
    ]
    assert [found[stage] for stage in chosen.stages] == expected
    assert x.shape[-1] == 64 // STRIDE


def test_imagenet_weights_are_those_of_torchvision(
    monkeypatch: pytest.MonkeyPatch, chain: Callable[..., Protein]
) -> None:
    """All but the first convolution's; the digest is checked."""
    torch.manual_seed(3)
    stored = resnet18().state_dict()
    asked = []
    monkeypatch.setattr(
        ResNet18_Weights, "get_state_dict", lambda self, **given: asked.append((self, given)) or dict(stored)
    )
    torch.manual_seed(0)
    network = configure(ZOO["psp2-imagenet"], ["backbone=resnet18"]).build()
    first = network.backbone.conv1.weight.clone()
    network.prepare([chain(40)], "ca")
    ((weights, given),) = asked
    assert weights is ResNet18_Weights.IMAGENET1K_V1
    assert given["check_hash"]
    assert torch.equal(network.backbone.conv1.weight, first)
    loaded = network.backbone.state_dict()
    assert len(loaded) == len(stored) - 2  # without the head
    assert all(torch.equal(value, stored[key]) for key, value in loaded.items() if key != "conv1.weight")


def test_without_a_network_imagenet_weights_are_one_sentence(
    monkeypatch: pytest.MonkeyPatch, chain: Callable[..., Protein], tmp_path
) -> None:
    def offline(*args: object, **given: object) -> None:
        raise URLError("no address associated with hostname")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("urllib.request.urlopen", offline)
    monkeypatch.setattr("torch.hub.urlopen", offline)
    network = ZOO["psp2-imagenet"].build()
    with pytest.raises(ProtcliError, match=r"weights of resnet50 cannot be fetched \(no address .* put that file into"):
        network.prepare([chain(40)], "ca")
    assert not any(tmp_path.rglob("*.pth"))
