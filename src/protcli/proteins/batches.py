"""Proteins as tensors: batches, and how proteins are grouped, ordered and cropped."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from protcli.proteins.protein import Protein
from protcli.proteins.residues import ALPHABET_SIZE, GAP_INDEX, encode


@dataclass  # not frozen: Fabric rebuilds it field by field when it casts a model's inputs
class Residues:
    """The model input for B chains, padded to L residues.

    Attributes:
        sequence: int64 [B, L], 0..19 in alphabetical order, 20 for an unknown residue and for padding.
        profile: float [B, L, 21], zero in padding.
        mask: bool [B, L], True where the chain has a residue, resolved or not; False in padding.
        index: int64 [B, L], each residue's position in its whole chain, from 0; it continues through the padding.
    """

    sequence: Tensor
    profile: Tensor
    mask: Tensor
    index: Tensor

    def one_hot(self) -> Tensor:
        """One-hot sequence in the profile's dtype: [B, L, 21], zero in padding."""
        # by comparison, because torch's one_hot reads the values and so waits for the device
        hot = self.sequence[..., None] == torch.arange(ALPHABET_SIZE, device=self.sequence.device)
        return (hot & self.mask[..., None]).to(self.profile.dtype)

    def to(self, device: torch.device | str) -> "Residues":
        return Residues(*(to_device(each, device) for each in (self.sequence, self.profile, self.mask, self.index)))


@dataclass(frozen=True)
class Batch:
    """B proteins with their targets.

    Attributes:
        ids: protein IDs, in order.
        residues: model input.
        coords: float32 [B, L, 3], positions of the run's atom in angstrom, 0 where `mask` is False.
        mask: bool [B, L], True where that atom is resolved.
    """

    ids: tuple[str, ...]
    residues: Residues
    coords: Tensor
    mask: Tensor

    def __len__(self) -> int:
        return len(self.ids)

    def to(self, device: torch.device | str) -> "Batch":
        """Move the batch to a device, see `to_device`."""
        return Batch(self.ids, self.residues.to(device), to_device(self.coords, device), to_device(self.mask, device))


def to_device(tensor: Tensor, device: torch.device | str) -> Tensor:
    """Move a tensor; from CPU to GPU it goes through pinned memory, so that the host does not wait."""
    if torch.device(device).type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.contiguous().pin_memory()  # which cannot copy an expanded tensor
    return tensor.to(device, non_blocking=True)


def check_padded_lengths(lengths: Sequence[int], crop: int) -> None:
    """Raise ValueError, with a clause, unless the lengths increase from 2 or more to at least the crop, or are none."""
    if lengths and (lengths[0] < 2 or lengths[-1] < crop or list(lengths) != sorted(set(lengths))):
        raise ValueError(
            f"padded_lengths is {list(lengths)}: give increasing lengths, the last at least the crop {crop}"
        )


class Batches(Protocol):
    """A split as seen by the training loop: the number of batches per epoch, and the batches of any epoch.

    The implementation decides the order of the proteins, how they are cropped and padded, and which of them this
    process takes.
    """

    def __len__(self) -> int:
        """Number of batches per epoch, the same for every epoch and every process."""
        ...

    def epoch(self, number: int, first: int = 0, step: int = 1) -> Iterator[Batch]:
        """Every `step`th batch of epoch `number` (from 1), beginning with `first`; they depend only on the number."""
        ...


@dataclass(frozen=True, kw_only=True)
class ProteinBatches:
    """`Batches` of proteins from a store or a list.

    Attributes:
        proteins: each appears once per epoch.
        atom: `ca` or `cb`.
        batch_size: proteins per batch, over all processes.
        crop: maximum residues taken per chain.
        padded_lengths: increasing lengths to pad batches to, the last at least `crop`. A protein is batched with others
            of the same padded length, the shortest that holds its crop, so that no prediction depends on its
            neighbours. Empty: all are padded to `crop`.
        seed: seed of order and crops; None keeps the stored order.
        random_crop: whether longer chains are cropped at a random position; otherwise the first residues are taken.
        rank, ranks: index of this process and number of processes; each takes its share of every batch. One for which
            none is left takes the batch's first protein with nothing resolved, for all take part in every step.
        gather: makes a batch of the proteins with these numbers, from these first residues, cropped and padded as
            `collate` does; None: they are read one by one and given to it.
    """

    proteins: Sequence[Protein]
    atom: str
    batch_size: int
    crop: int
    padded_lengths: tuple[int, ...] = ()
    seed: int | None = None
    random_crop: bool = False
    rank: int = 0
    ranks: int = 1
    gather: Callable[[Sequence[int], Sequence[int], int, int], Batch] | None = None

    def __post_init__(self) -> None:
        """Raises ValueError if padded lengths do not increase or are below the crop, or if the rank is invalid."""
        check_padded_lengths(self.padded_lengths, self.crop)
        if not 0 <= self.rank < self.ranks:
            raise ValueError(f"rank {self.rank} is out of range for {self.ranks} processes")

    def __len__(self) -> int:
        return sum(-(-int(count) // self.batch_size) for count in np.bincount(self._groups))

    def epoch(self, number: int = 1, first: int = 0, step: int = 1) -> Iterator[Batch]:
        """See `Batches`; order and crops are drawn from (seed, number)."""
        order = np.arange(len(self.proteins))
        starts = np.zeros_like(order)
        if self.seed is not None:
            order = np.random.default_rng([self.seed, number, 0]).permutation(order)
        if self.random_crop and self.seed is not None:
            spare = np.maximum(self.lengths[order] - self.crop, 0)
            starts[order] = np.random.default_rng([self.seed, number, 1]).integers(spare, endpoint=True)
        padded = self.padded_lengths or (self.crop,)
        for place, (group, members) in enumerate(self._grouped(order)):
            if place >= first and (place - first) % step == 0:
                own = members[self.rank :: self.ranks]
                batch = self._collate(own or members[:1], starts, padded[group])
                yield batch if own else replace(batch, ids=(), mask=torch.zeros_like(batch.mask))

    def _collate(self, chosen: list[int], starts: np.ndarray, padded_length: int) -> Batch:
        first = starts[chosen].tolist()
        if self.gather is not None:
            return self.gather(chosen, first, self.crop, padded_length)
        proteins = [self.proteins[index] for index in chosen]
        return collate(proteins, atom=self.atom, crop=self.crop, padded_length=padded_length, starts=first)

    def _grouped(self, order: np.ndarray) -> Iterator[tuple[int, list[int]]]:
        """Group proteins in order by padded length; a batch is yielded when it is full."""
        waiting: dict[int, list[int]] = {}
        for index, group in zip(order.tolist(), self._groups[order].tolist(), strict=True):
            members = waiting.setdefault(group, [])
            members.append(index)
            if len(members) == self.batch_size:
                yield group, waiting.pop(group)
        yield from waiting.items()

    @cached_property
    def lengths(self) -> np.ndarray:
        """Lengths of whole chains: int64 [N]."""
        stored = getattr(self.proteins, "lengths", None)  # a stored split knows the lengths without reading proteins
        return np.array([len(protein) for protein in self.proteins], dtype=np.int64) if stored is None else stored

    @cached_property
    def _groups(self) -> np.ndarray:
        """Index of each protein's padded length: int64 [N]."""
        if not self.padded_lengths:
            return np.zeros(len(self.proteins), dtype=np.int64)
        return np.searchsorted(self.padded_lengths, np.minimum(self.lengths, self.crop))


def collate(
    proteins: Sequence[Protein],
    *,
    atom: str,
    crop: int,
    padded_length: int | None = None,
    starts: Sequence[int] | None = None,
) -> Batch:
    """Take at most `crop` residues of each protein from its start (0 by default) and pad all to one length.

    That length is `padded_length` (default: `crop`), never the longest protein of the batch, so that no prediction
    depends on the other proteins in it.
    """
    padded_length = crop if padded_length is None else padded_length
    size = (len(proteins), padded_length)
    sequence = np.full(size, GAP_INDEX, dtype=np.int64)
    profile = np.zeros((*size, ALPHABET_SIZE), dtype=np.float32)
    present = np.zeros(size, dtype=bool)
    coords = np.zeros((*size, 3), dtype=np.float32)
    mask = np.zeros(size, dtype=bool)
    first = np.zeros(len(proteins), dtype=np.int64) if starts is None else np.asarray(starts, dtype=np.int64)
    for row, protein in enumerate(proteins):
        window = slice(first[row], first[row] + crop)
        length = len(protein.sequence[window])
        sequence[row, :length] = encode(protein.sequence[window])
        profile[row, :length] = protein.profile[window]
        present[row, :length] = True
        xyz = protein.atom(atom)[window]
        mask[row, :length] = ~np.isnan(xyz).any(axis=1)
        coords[row, :length] = np.where(mask[row, :length, None], xyz, 0)
    index = first[:, None] + np.arange(padded_length)
    residues = Residues(*(torch.from_numpy(each) for each in (sequence, profile, present, index)))
    ids = tuple(protein.id for protein in proteins)
    return Batch(ids, residues, torch.from_numpy(coords), torch.from_numpy(mask))
