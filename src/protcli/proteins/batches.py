"""Proteins as tensors: batches, and how proteins are grouped, ordered and cropped."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from protcli.proteins.protein import Protein
from protcli.proteins.residues import ALPHABET_SIZE, GAP_INDEX, encode

READY = 2  # batches that wait for their step, see `prefetch`
PACKED_BYTES = 4 * ALPHABET_SIZE + 4 * 3 + 3  # of each residue
PACKED_SHARE = 0.25  # of a GPU's free memory that proteins may take


@dataclass  # not frozen: Fabric rebuilds it field by field when it casts a model's inputs
class Residues:
    """The model input for B chains, padded to L residues.

    Attributes:
        sequence: int64 [B, L], 0..19 in alphabetical order, 20 for an unknown residue and for padding.
        profile: float [B, L, 21], zero in padding.
        mask: bool [B, L], True where the chain has a residue, resolved or not; False in padding.
        index: int64 [B, L], each residue's position in its whole chain, from 0; it continues through the padding.
        features: float [B, L, D], numbers from elsewhere (see `Protein`), zero in padding; None if there are none.
    """

    sequence: Tensor
    profile: Tensor
    mask: Tensor
    index: Tensor
    features: Tensor | None = None

    def one_hot(self) -> Tensor:
        """One-hot sequence in the profile's dtype: [B, L, 21], zero in padding."""
        # by comparison, because torch's one_hot reads the values and so waits for the device
        hot = self.sequence[..., None] == torch.arange(ALPHABET_SIZE, device=self.sequence.device)
        return (hot & self.mask[..., None]).to(self.profile.dtype)

    def to(self, device: torch.device | str) -> "Residues":
        tensors = (self.sequence, self.profile, self.mask, self.index, self.features)
        return Residues(*(None if each is None else to_device(each, device) for each in tensors))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Batch:
    """B proteins with their targets.

    Attributes:
        ids: protein IDs, in order.
        residues: model input.
        coords: float32 [B, L, 3], positions of the run's atom in angstrom, 0 where `mask` is False.
        mask: bool [B, L], True where that atom is resolved.
        secondary: int64 [B, L], places of the secondary structure in `residues.DSSP`, 0 where it is unknown.
    """

    ids: tuple[str, ...]
    residues: Residues
    coords: Tensor
    mask: Tensor
    secondary: Tensor

    def __len__(self) -> int:
        return len(self.ids)

    def to(self, device: torch.device | str) -> "Batch":
        """Move the batch to a device, see `to_device`."""
        truth = (to_device(tensor, device) for tensor in (self.coords, self.mask, self.secondary))
        return Batch(self.ids, self.residues.to(device), *truth)


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
    """A split as seen by the training loop: the number of batches of any epoch, and the batches.

    The implementation decides the order of the proteins, how they are cropped and padded, and which of them this
    process takes.
    """

    def length(self, number: int = 1) -> int:
        """Number of batches of epoch `number` (from 1), the same for every process."""
        ...

    def epoch(self, number: int, first: int = 0, step: int = 1) -> Iterator[Batch]:
        """Every `step`th batch of epoch `number` (from 1), beginning with `first`; they depend only on the number."""
        ...


@dataclass(frozen=True, kw_only=True)
class ProteinBatches:
    """`Batches` of proteins from a store or a list.

    Attributes:
        proteins: each appears once per pass.
        atom: `ca` or `cb`.
        batch_size: proteins per batch, over all processes.
        crop: maximum residues taken per chain.
        padded_lengths: increasing lengths to pad batches to, the last at least `crop`. A protein is batched with others
            of the same padded length, the shortest that holds its crop, so that no prediction depends on its
            neighbours. Empty: all are padded to `crop`.
        seed: seed of order and crops; None keeps the stored order.
        epoch_samples: proteins of an epoch, which goes on in the pass where the one before it ended; None takes a pass.
        random_crop: whether longer chains are cropped at a random position; otherwise the first residues are taken.
        short_crops: share of the batches, drawn by the seed, of which only half a crop is taken, at a random position.
        rank, ranks: index of this process and number of processes; each takes its share of every batch. One for which
            none is left takes the batch's first protein with nothing resolved, for all take part in every step.
        packed: the proteins on a device, from which batches are gathered; None: each batch reads its own.
    """

    proteins: Sequence[Protein]
    atom: str
    batch_size: int
    crop: int
    padded_lengths: tuple[int, ...] = ()
    seed: int | None = None
    epoch_samples: int | None = None
    random_crop: bool = False
    short_crops: float = 0.0
    rank: int = 0
    ranks: int = 1
    packed: "PackedProteins | None" = None

    def __post_init__(self) -> None:
        """Raises ValueError if padded lengths do not increase or are below the crop, or if the rank is invalid."""
        check_padded_lengths(self.padded_lengths, self.crop)
        if not 0 <= self.rank < self.ranks:
            raise ValueError(f"rank {self.rank} is out of range for {self.ranks} processes")

    def length(self, number: int = 1) -> int:
        """See `Batches`."""
        groups = self._groups if self.epoch_samples is None else self._groups[self._drawn(number)[0]]
        return sum(-(-int(count) // self.batch_size) for count in np.bincount(groups))

    def epoch(self, number: int = 1, first: int = 0, step: int = 1) -> Iterator[Batch]:
        """See `Batches`; order and crops are drawn from the seed and the number of the pass."""
        drawn = self._drawn(number)
        padded, half = self.padded_lengths or (self.crop,), max(self.crop // 2, 2)
        shortened, shifts = np.random.default_rng([self.seed or 0, number, 2]).random(drawn.shape)
        for place, (group, members) in enumerate(self._grouped(drawn[0])):
            if place >= first and (place - first) % step == 0:
                share = members[self.rank :: self.ranks]
                indices, starts = drawn[:, taken := share or members[:1]]
                crop, padded_length = self.crop, padded[group]
                if shortened[members[0]] < self.short_crops:
                    crop, padded_length = half, min(padded_length, *(each for each in padded if each >= half))
                    spare = np.maximum(np.minimum(self.lengths[indices], self.crop) - half, 0)
                    starts = starts + (shifts[taken] * (spare + 1)).astype(np.int64)
                batch = self._collate(indices, starts, crop, padded_length)
                yield batch if share else replace(batch, ids=(), mask=torch.zeros_like(batch.mask))

    def _drawn(self, number: int) -> np.ndarray:
        """Indices of an epoch's proteins in order, and the residues that their crops start at: int64 [2, samples]."""
        if self.epoch_samples is None:
            return self._pass(number)
        before, skipped = divmod((number - 1) * self.epoch_samples, len(self.proteins))
        passes = -(-(skipped + self.epoch_samples) // len(self.proteins))
        drawn = np.concatenate([self._pass(before + each) for each in range(1, passes + 1)], axis=1)
        return drawn[:, skipped : skipped + self.epoch_samples]

    def _pass(self, number: int) -> np.ndarray:
        """As `_drawn`, of every protein once."""
        order = np.arange(len(self.proteins))
        starts = np.zeros_like(order)
        if self.seed is not None:
            order = np.random.default_rng([self.seed, number, 0]).permutation(order)
        if self.random_crop and self.seed is not None:
            spare = np.maximum(self.lengths[order] - self.crop, 0)
            starts = np.random.default_rng([self.seed, number, 1]).integers(spare, endpoint=True)
        return np.stack([order, starts])

    def _collate(self, indices: np.ndarray, starts: np.ndarray, crop: int, padded_length: int) -> Batch:
        if self.packed is not None:
            return self.packed.gather(indices.tolist(), starts, crop, padded_length)
        proteins = [self.proteins[index] for index in indices.tolist()]
        return collate(proteins, atom=self.atom, crop=crop, padded_length=padded_length, starts=starts.tolist())

    def _grouped(self, order: np.ndarray) -> Iterator[tuple[int, list[int]]]:
        """Group the places of proteins in this order by padded length; a batch is yielded when it is full."""
        waiting: dict[int, list[int]] = {}
        for place, group in enumerate(self._groups[order].tolist()):
            members = waiting.setdefault(group, [])
            members.append(place)
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


@dataclass(frozen=True)
class PackedProteins:
    """N proteins, or windows of them, of R residues in all, one after the other; batches are gathered from it.

    Attributes:
        ids: of each protein.
        origins: int64 [N], where each protein's residue 0 is, or would be if its window had it. On the CPU.
        ends: int64 [N], where its last residue is, plus 1. On the CPU.
        sequence: uint8 [R + 1]. Here and below the last is padding.
        profile: float32 [R + 1, 21].
        coords: float32 [R + 1, 3], of one atom, 0 where it is not resolved.
        mask: bool [R + 1], where it is.
        secondary: uint8 [R + 1].
        features: float16 [R + 1, D], or None.
    """

    ids: tuple[str, ...]
    origins: np.ndarray
    ends: np.ndarray
    sequence: Tensor
    profile: Tensor
    coords: Tensor
    mask: Tensor
    secondary: Tensor
    features: Tensor | None = None

    @classmethod
    def read(cls, proteins: Sequence[Protein], atom: str, starts: np.ndarray, crop: int) -> "PackedProteins":
        """Read at most `crop` residues of every protein once, from its start: int64 [N]."""
        ids, rows, features = [], [], []
        for protein, start in zip(proteins, starts.tolist(), strict=True):
            window = slice(start, start + crop)
            ids.append(protein.id)
            letters, points = encode(protein.sequence[window]), protein.atom(atom)[window]
            known = np.zeros_like(letters) if protein.secondary is None else protein.secondary[window]
            rows.append((letters, protein.profile[window], points, known))
            if protein.features is not None:
                features.append(protein.features[window])
        padding = (np.array([GAP_INDEX]), np.zeros((1, ALPHABET_SIZE)), np.full((1, 3), np.nan), np.zeros(1))
        ends = np.cumsum([len(row[0]) for row in rows])
        kinds = (np.uint8, np.float32, np.float32, np.uint8)
        sequence, profile, coords, secondary = (
            np.concatenate(column, dtype=kind, casting="unsafe")
            for column, kind in zip(zip(*rows, padding, strict=True), kinds, strict=True)
        )
        mask = ~np.isnan(coords).any(axis=1)
        coords[~mask] = 0
        arrays = [sequence, profile, coords, mask, secondary]
        if features:
            arrays.append(np.concatenate([*features, np.zeros_like(features[0][:1])]))
        tensors = map(torch.from_numpy, arrays)
        return cls(tuple(ids), np.concatenate([[0], ends[:-1]]) - starts, ends, *tensors)

    def to(self, device: torch.device) -> "PackedProteins":
        """Move the tensors."""
        tensors = [self.sequence, self.profile, self.coords, self.mask, self.secondary]
        tensors += [] if self.features is None else [self.features]
        return PackedProteins(self.ids, self.origins, self.ends, *(tensor.to(device) for tensor in tensors))

    def gather(self, indices: Sequence[int], starts: np.ndarray, crop: int, padded_length: int) -> Batch:
        """A batch of the proteins with these indices, from these first residues; see `collate`."""
        which, start = np.asarray(indices)[:, None], starts[:, None]
        index = start + np.arange(padded_length)
        place = self.origins[which] + index
        padding = len(self.sequence) - 1
        place[place >= np.minimum(self.origins[which] + start + crop, self.ends[which])] = padding
        # all is decided on the CPU, so that few kernels are started: a GPU is faster than that
        index, place = to_device(torch.from_numpy(np.stack([index, place])), self.mask.device)
        features = None if self.features is None else self.features[place].float()
        residues = Residues(self.sequence[place].long(), self.profile[place], place < padding, index, features)
        truth = self.coords[place], self.mask[place], self.secondary[place].long()
        return Batch(tuple(self.ids[number] for number in indices), residues, *truth)


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
    first = np.zeros(len(proteins), dtype=np.int64) if starts is None else np.asarray(starts)
    packed = PackedProteins.read(proteins, atom, first, crop)
    return packed.gather(range(len(proteins)), first, crop, crop if padded_length is None else padded_length)


def kept_on(device: torch.device, batches: ProteinBatches) -> ProteinBatches:
    """The same batches, gathered from proteins that are kept on a GPU, where they fit; else as they are.

    In the memory of a CPU there is nothing to gain: a store is mapped into it.
    """
    if device.type != "cuda":
        return batches
    features = batches.proteins[0].features if len(batches.proteins) else None
    each = PACKED_BYTES + (0 if features is None else 2 * features.shape[1])
    if batches.lengths.sum() * each > PACKED_SHARE * torch.cuda.mem_get_info(device)[0]:
        return batches
    return packed_on(device, batches)


def packed_on(device: torch.device, batches: ProteinBatches) -> ProteinBatches:
    """The same batches, gathered on a device from proteins that are kept there."""
    starts = np.zeros(len(batches.proteins), dtype=np.int64)
    packed = PackedProteins.read(batches.proteins, batches.atom, starts, int(batches.lengths.max(initial=0)))
    return replace(batches, packed=packed.to(device))


def on_device(batches: Iterator[Batch], device: torch.device) -> Iterator[Batch]:
    """The batches on a device. A GPU's are read and queued ahead of its steps; on a CPU nothing would wait for them."""
    sent = (batch.to(device) for batch in batches)
    return sent if device.type == "cpu" else prefetch(sent)


def prefetch(batches: Iterator[Batch]) -> Iterator[Batch]:
    """The same batches, made by a thread while the caller uses those before.

    Raises:
        What making a batch raises, where that batch would come.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="batches") as reader:
        ready = deque(reader.submit(next, batches, None) for _ in range(READY))
        while (batch := ready.popleft().result()) is not None:
            ready.append(reader.submit(next, batches, None))
            yield batch
