"""Weights on disk: what is saved is loaded, what cannot be loaded is said, nothing stays half-written."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from protcli.errors import ProtcliError
from protcli.training import checkpoint
from protcli.training.checkpoint import load_weights, save_checkpoint


class Net(nn.Module):
    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3)
        self.norm = nn.BatchNorm2d(width)
        self.register_buffer("table", torch.arange(6, dtype=torch.float64).reshape(2, 3).mT)  # column by column


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_round_trip(tmp_path, layout):
    saved = Net().to(memory_format=layout)
    saved.norm(saved.conv(torch.randn(2, 3, 8, 8)))  # running statistics and their integer count
    save_checkpoint(tmp_path, "best", saved.state_dict(), {"model": "net", "epoch": 3})
    assert names(tmp_path) == ["best.json", "best.safetensors"]
    assert json.loads((tmp_path / "best.json").read_text()) == {"model": "net", "epoch": 3}
    loaded = Net()
    load_weights(loaded, tmp_path / "best.safetensors")
    assert loaded.state_dict().keys() == saved.state_dict().keys()
    for key, value in saved.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value)
        assert loaded.state_dict()[key].dtype == value.dtype
    assert loaded.norm.num_batches_tracked == 1
    last = Net().to(memory_format=torch.channels_last)
    load_weights(last, tmp_path / "best.safetensors")
    assert last.conv.weight.is_contiguous(memory_format=torch.channels_last)  # the layout of the network is kept


def test_tied_weights(tmp_path):
    def tied() -> nn.Sequential:
        net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
        net[1].weight = net[0].weight
        return net

    saved, loaded = tied(), tied()
    save_checkpoint(tmp_path, "last", saved.state_dict(), {})
    load_weights(loaded, tmp_path / "last.safetensors")
    assert torch.equal(loaded[1].weight, saved[0].weight)
    assert loaded[1].weight is loaded[0].weight


@pytest.mark.parametrize("stop", [KeyboardInterrupt, OSError])
def test_stopped_half_way_keeps_the_last_good_one(tmp_path, monkeypatch, stop):
    save_checkpoint(tmp_path, "best", Net().state_dict(), {"epoch": 1})
    before = (tmp_path / "best.safetensors").read_bytes()

    def half(tensors, path, metadata=None):
        path.write_bytes(before[:100])
        raise stop("the disk is full")

    monkeypatch.setattr(checkpoint, "save_file", half)
    with pytest.raises(stop):
        save_checkpoint(tmp_path, "best", Net().state_dict(), {"epoch": 2})
    assert names(tmp_path) == ["best.json", "best.safetensors"]
    assert (tmp_path / "best.safetensors").read_bytes() == before
    assert json.loads((tmp_path / "best.json").read_text())["epoch"] == 1


@pytest.mark.parametrize(
    ("old", "new"), [(b'"epoch": 3', b'"epoch": 4'), (b'{\\"sha256', b'{\\"SHA256'), (b"conv.bias", b"conv.bios")]
)
def test_a_changed_header_is_noticed(tmp_path, old, new):
    checkpoint.write_tensors(tmp_path / "w.safetensors", Net().state_dict(), {"epoch": 3})
    tensors, about = checkpoint.read_tensors(tmp_path / "w.safetensors")
    assert about == {"epoch": 3}
    assert set(tensors) == set(Net().state_dict())
    content = (tmp_path / "w.safetensors").read_bytes()
    changed = content.replace(old, new).replace(old.replace(b'"', b'\\"'), new.replace(b'"', b'\\"'))
    assert changed != content
    (tmp_path / "w.safetensors").write_bytes(changed)
    if b"SHA" in new:  # as of another program: it says nothing of a digest
        assert checkpoint.read_tensors(tmp_path / "w.safetensors")[1].keys() == {"SHA256", "epoch"}
        return
    with pytest.raises(ValueError, match="has been changed or damaged"):
        checkpoint.read_tensors(tmp_path / "w.safetensors")


def test_every_bit_of_a_tensor_counts(tmp_path):
    checkpoint.save_checkpoint(tmp_path, "best", Net().state_dict(), {})
    weights = tmp_path / "best.safetensors"
    content = weights.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    for place in (start, (start + len(content)) // 2, len(content) - 1):
        changed = bytearray(content)
        changed[place] ^= 4
        weights.write_bytes(changed)
        with pytest.raises(ProtcliError, match=r"best\.safetensors has been changed or damaged: .*: train the model"):
            load_weights(Net(), weights)


def test_equal_content_makes_equal_files(tmp_path):
    """A resumed training's files equal those of one that never stopped."""
    net = Net()
    for name in ("a", "b", "c"):
        checkpoint.write_tensors(tmp_path / name, net.state_dict(), {"z": 1, "a": [2]})
    assert len({(tmp_path / name).read_bytes() for name in ("a", "b", "c")}) == 1


@pytest.mark.parametrize("other", [Net(width=5), nn.Linear(2, 2)])
def test_another_network(tmp_path, other):
    save_checkpoint(tmp_path, "best", Net().state_dict(), {})
    with pytest.raises(ProtcliError, match=rf"does not fit {type(other).__name__}: its tensors have other names or sh"):
        load_weights(other, tmp_path / "best.safetensors")


@pytest.mark.parametrize("size", [0, 5, 2**31, 2**62, 2**63, 2**64 - 1])
def test_a_header_of_any_stated_length(tmp_path, size):
    with pytest.raises(ProtcliError, match=r"none\.safetensors is not a readable safetensors file \(.+\): train"):
        load_weights(Net(), tmp_path / "none.safetensors")
    save_checkpoint(tmp_path, "best", Net().state_dict(), {})
    path = tmp_path / "best.safetensors"
    path.write_bytes(size.to_bytes(8, "little") + path.read_bytes()[8:])
    with pytest.raises(ProtcliError, match="is not a readable safetensors file"):
        load_weights(Net(), path)


@pytest.mark.parametrize("kind", [torch.complex64, torch.int32, torch.bool])
def test_weights_of_another_kind_of_number(tmp_path, kind):
    weights = {name: value.to(kind) if name == "conv.weight" else value for name, value in Net().state_dict().items()}
    checkpoint.write_tensors(tmp_path / "best.safetensors", weights)
    with pytest.raises(ProtcliError, match=rf"holds {kind} in conv\.weight, where torch\.float32 is expected"):
        load_weights(Net(), tmp_path / "best.safetensors")
