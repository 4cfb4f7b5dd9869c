"""Study B's further work: where it begins, its backbones, and ImageNet's weights with and without a network."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from urllib.error import URLError

import numpy as np
import pytest
import torch
from torchvision.models import resnet18

from protcli.errors import ProtcliError
from protcli.models.psp import STRIDE
from protcli.models.psp2 import BACKBONES, fetch_weights
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
    expected = [(channels, side, side) for channels, side in zip(chosen.channels, (16, 8, 4, 2), strict=True)]
    assert [found[stage] for stage in chosen.stages] == expected
    assert x.shape[-1] == 64 // STRIDE


@pytest.fixture
def stored(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """torchvision's file of a ResNet18, named after its digest as in its cache; without counts of batches."""
    torch.manual_seed(3)
    weights = {key: value for key, value in resnet18().state_dict().items() if "num_batches" not in key}
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.save(weights, folder / "new.pth")
    name = f"resnet18-{hashlib.sha256((folder / 'new.pth').read_bytes()).hexdigest()[:8]}.pth"
    offered = {BACKBONES["resnet18"].weights: SimpleNamespace(url=f"https://example.org/models/{name}")}
    monkeypatch.setattr("torchvision.models.get_model_weights", {"resnet18": offered}.__getitem__)
    return (folder / "new.pth").rename(folder / name)


def test_imagenet_weights_are_those_of_torchvision(stored: Path, chain: Callable[..., Protein]) -> None:
    """All but the first convolution's."""
    torch.manual_seed(0)
    network = configure(ZOO["psp2-imagenet"], ["backbone=resnet18"]).build()
    first = network.backbone.conv1.weight.clone()
    network.prepare([chain(40)], "ca")
    assert torch.equal(network.backbone.conv1.weight, first)
    expected = torch.load(stored)
    loaded = network.backbone.state_dict()
    same = [key for key, value in loaded.items() if key in expected and torch.equal(value, expected[key])]
    assert set(same) == set(expected) - {"conv1.weight", "fc.weight", "fc.bias"}


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>"])
def test_another_file_in_their_place_is_refused(stored: Path, content: bytes) -> None:
    stored.write_bytes(content)
    with pytest.raises(ProtcliError, match=rf"{stored.name} is not the file that https://\S+ is: delete it"):
        fetch_weights("resnet18")


def test_without_a_network_imagenet_weights_are_one_sentence(monkeypatch, chain, tmp_path) -> None:
    def offline(*args: object, **given: object) -> None:
        raise URLError("no address associated with hostname")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("urllib.request.urlopen", offline)
    monkeypatch.setattr("torch.hub.urlopen", offline)
    network = ZOO["psp2-imagenet"].build()
    with pytest.raises(ProtcliError, match=r"weights of resnet50 cannot be fetched \(no address .* put that file into"):
        network.prepare([chain(40)], "ca")
    assert not any(tmp_path.rglob("*.pth"))
