"""Blocks that are computed again in the backward pass: the same gradients and statistics, in less memory."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn

from protcli.models.zoo import find_model
from protcli.proteins.batches import Batch, collate
from protcli.proteins.maps import distances, upper_pairs
from protcli.proteins.protein import Protein
from protcli.training.activation_checkpointing import blocks, checkpoint_activations
from protcli.training.losses import find_loss


@pytest.fixture
def batch(chain: Callable[..., Protein]) -> Batch:
    return collate([chain(40, 1), chain(31, 2)], atom="ca", crop=64)


def step(network: nn.Module, batch: Batch) -> float:
    torch.manual_seed(7)  # of dropout
    total, weight = find_loss("mse")(network(batch.residues), distances(batch.coords), upper_pairs(batch.mask))
    (total / weight).backward()
    return total.item()


def both(name: str) -> tuple[nn.Module, nn.Module]:
    """A network plainly, and the same with its activations computed again."""
    torch.manual_seed(0)
    plain = find_model(name).build().train()
    again = copy.deepcopy(plain)
    checkpoint_activations(again)
    return plain, again


@pytest.mark.parametrize("name", ["pairmix", "psp1", "crossattn"])
def test_the_same_to_the_bit(name: str, batch: Batch) -> None:
    plain, again = both(name)
    assert step(again, batch) == step(plain, batch)
    for (key, mine), (_, theirs) in zip(again.named_parameters(), plain.named_parameters(), strict=True):
        assert (mine.grad is None) == (theirs.grad is None)
        assert mine.grad is None or torch.equal(mine.grad, theirs.grad), key
    assert again.state_dict().keys() == plain.state_dict().keys()
    for key, value in plain.state_dict().items():
        assert torch.equal(again.state_dict()[key], value), key  # running statistics too


def test_what_is_kept_for_the_backward_pass(batch: Batch) -> None:
    def kept(network: nn.Module) -> int:
        sizes = []
        count = lambda tensor: sizes.append(tensor.nbytes) or tensor  # noqa: E731
        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            network(batch.residues)
        return sum(sizes)

    plain, again = both("pairmix")
    assert kept(again) < 0.4 * kept(plain)


def test_blocks_by_hand() -> None:
    part = nn.Sequential(nn.Linear(2, 2))
    one, other = nn.TransformerEncoderLayer(4, 2), nn.TransformerEncoderLayer(4, 2)
    network = nn.Sequential(nn.Linear(2, 2), nn.ModuleList([one, nn.ReLU(), nn.Sequential(other)]), part)
    assert list(blocks(network)) == [one, other]
    assert list(blocks(find_model("simple").build())) == []
