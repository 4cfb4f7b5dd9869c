from collections.abc import Callable

import numpy as np
import pytest
import torch

from protcli.models import ModelSpec, Residues
from protcli.proteins.batches import Batch
from protcli.proteins.protein import Protein
from protcli.proteins.residues import ALPHABET_SIZE, GAP_INDEX, decode, sequence_profile


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
    return Batch(
        tuple(f"walk{row}" for row in range(len(lengths))), residues, coords, residues.mask, residues.sequence * 0
    )


def build_ready(spec: ModelSpec) -> torch.nn.Module:
    """A network of the seed 0, or a fitted baseline."""
    torch.manual_seed(0)
    model = spec.build()
    if spec.is_fitted:
        model.fit([make_batch([40, 64], 64)])  # type: ignore[operator]
    if hasattr(model, "prepare") and getattr(spec.config, "weights", "") != "imagenet":  # those may have to be fetched
        model.prepare(relatives(make_batch([64, 50], 64)), "ca")  # type: ignore[operator]
    return model


def relatives(batch: Batch) -> list[Protein]:
    """Proteins like those of the batch: with its coordinates, and with every third letter another one."""
    found = []
    for row, count in enumerate(batch.residues.mask.sum(dim=1).tolist()):
        letters = list(decode(batch.residues.sequence[row, :count].numpy()))
        letters[::3] = ["A" if letter != "A" else "G" for letter in letters[::3]]
        xyz = batch.coords[row, :count, None].expand(-1, 3, -1).numpy()
        sequence = "".join(letters)
        found.append(Protein(f"like{row}", sequence, sequence_profile(sequence), xyz, np.ones(count, dtype=bool)))
    return found


@pytest.fixture(scope="session")
def residues() -> Callable[..., Residues]:
    return make_residues


@pytest.fixture(scope="session")
def batch() -> Callable[..., Batch]:
    return make_batch


@pytest.fixture(scope="session")
def ready() -> Callable[[ModelSpec], torch.nn.Module]:
    return build_ready
