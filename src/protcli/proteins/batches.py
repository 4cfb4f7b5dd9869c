"""Proteins as tensors: padded, cropped, in an order that a seed decides."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from protcli.proteins.protein import Protein
from protcli.proteins.residues import ALPHABET_SIZE, GAP_INDEX, encode


@dataclass  # not frozen: Fabric rebuilds it field by field when it casts a model's inputs
class Residues:
    """What a model sees of B chains, padded to L residues.

    Attributes:
        sequence: int64 [B, L], 0..19 in alphabetical order, 20 for an unknown residue and for padding.
        profile: float [B, L, 21], zero in padding.
        mask: bool [B, L], True where the chain has a residue, resolved or not; False in padding.
    """

    sequence: Tensor
    profile: Tensor
    mask: Tensor

    def one_hot(self) -> Tensor:
        """One-hot sequence in the profile's dtype: [B, L, 21], zero in padding."""
        hot = torch.nn.functional.one_hot(self.sequence, ALPHABET_SIZE).to(self.profile.dtype)
        return hot * self.mask[..., None]

    def to(self, device: torch.device | str) -> "Residues":
        return Residues(self.sequence.to(device), self.profile.to(device), self.mask.to(device))


@dataclass(frozen=True)
class Batch:
    """B proteins with their targets.

    Attributes:
        ids: of the proteins, in order.
        residues: what the model sees.
        coords: float32 [B, L, 3] of the run's atom in angstrom, 0 where `mask` is False.
        mask: bool [B, L], True where that atom is resolved.
    """

    ids: tuple[str, ...]
    residues: Residues
    coords: Tensor
    mask: Tensor

    def __len__(self) -> int:
        return len(self.ids)

    def to(self, device: torch.device | str) -> "Batch":
        return Batch(self.ids, self.residues.to(device), self.coords.to(device), self.mask.to(device))


def collate(proteins: Sequence[Protein], *, atom: str, crop: int, starts: Sequence[int] | None = None) -> Batch:
    """Crop each protein to `crop` residues from its start (0 by default) and pad all of them to exactly `crop`.

    The padded size never depends on the other proteins of a batch, so that no prediction does.
    """
    size = (len(proteins), crop)
    sequence = np.full(size, GAP_INDEX, dtype=np.int64)
    profile = np.zeros((*size, ALPHABET_SIZE), dtype=np.float32)
    present = np.zeros(size, dtype=bool)
    coords = np.zeros((*size, 3), dtype=np.float32)
    mask = np.zeros(size, dtype=bool)
    for row, protein in enumerate(proteins):
        start = starts[row] if starts is not None else 0
        window = slice(start, start + crop)
        length = len(protein.sequence[window])
        sequence[row, :length] = encode(protein.sequence[window])
        profile[row, :length] = protein.profile[window]
        present[row, :length] = True
        xyz = protein.atom(atom)[window]
        mask[row, :length] = ~np.isnan(xyz).any(axis=1)
        coords[row, :length] = np.where(mask[row, :length, None], xyz, 0)
    residues = Residues(torch.from_numpy(sequence), torch.from_numpy(profile), torch.from_numpy(present))
    ids = tuple(protein.id for protein in proteins)
    return Batch(ids, residues, torch.from_numpy(coords), torch.from_numpy(mask))


def ordered_batches(proteins: Sequence[Protein], *, atom: str, crop: int, batch_size: int) -> Iterator[Batch]:
    """All proteins in their stored order, each from its first residue: evaluation, and the fit of a baseline."""
    for first in range(0, len(proteins), batch_size):
        chosen = [proteins[index] for index in range(first, min(first + batch_size, len(proteins)))]
        yield collate(chosen, atom=atom, crop=crop)


def shuffled_batches(
    proteins: Sequence[Protein],
    *,
    atom: str,
    crop: int,
    batch_size: int,
    seed: int,
    epoch: int,
    random_crop: bool,
) -> Iterator[Batch]:
    """One epoch of training: every protein once, in an order and with crops that follow from (seed, epoch) alone."""
    order = np.random.default_rng([seed, epoch, 0]).permutation(len(proteins))
    crops = np.random.default_rng([seed, epoch, 1])
    for first in range(0, len(order), batch_size):
        chosen = [proteins[int(index)] for index in order[first : first + batch_size]]
        starts = [int(crops.integers(max(len(p) - crop, 0), endpoint=True)) if random_crop else 0 for p in chosen]
        yield collate(chosen, atom=atom, crop=crop, starts=starts)
