from collections.abc import Callable

import pytest
import torch

from protcli.models import ModelSpec, Residues
from protcli.proteins.batches import Batch
from protcli.proteins.residues import ALPHABET_SIZE, GAP_INDEX


def make_residues(lengths: list[int], padded: int, seed: int = 0) -> Residues:
    """Chains of random sequence and profile, padded as `collate` pads them."""
    generator = torch.Generator().manual_seed(seed)
    shape = (len(lengths), padded)
    mask = torch.arange(padded) < torch.tensor(lengths)[:, None]
    sequence = torch.randint(0, 20, shape, generator=generator).masked_fill(~mask, GAP_INDEX)
    profile = torch.rand(*shape, ALPHABET_SIZE, generator=generator) * mask[..., None]
    index = torch.arange(sequence.shape[1]).expand(sequence.shape)
    return Residues(sequence, profile, mask, index)


def make_batch(lengths: list[int], padded: int, seed: int = 0) -> Batch:
    """The same with random-walk coordinates, steps of 3.8 A, every residue resolved."""
    residues = make_residues(lengths, padded, seed)
    generator = torch.Generator().manual_seed(seed)
    steps = torch.nn.functional.normalize(torch.randn(len(lengths), padded, 3, generator=generator), dim=-1)
    coords = (3.8 * steps).cumsum(1) * residues.mask[..., None]
    return Batch(tuple(f"walk{row}" for row in range(len(lengths))), residues, coords, residues.mask)


def build_ready(spec: ModelSpec) -> torch.nn.Module:
    """A network of the seed 0, or a fitted baseline."""
    torch.manual_seed(0)
    model = spec.build()
    if spec.is_fitted:
        model.fit([make_batch([40, 64], 64)])  # type: ignore[operator]
    return model


@pytest.fixture(scope="session")
def residues() -> Callable[..., Residues]:
    return make_residues


@pytest.fixture(scope="session")
def batch() -> Callable[..., Batch]:
    return make_batch


@pytest.fixture(scope="session")
def ready() -> Callable[[ModelSpec], torch.nn.Module]:
    return build_ready
