"""A split as a few tensors on a device, from which batches are gathered without reading a protein."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from protcli.proteins.batches import Batch, ProteinBatches, Residues, to_device
from protcli.proteins.protein import Protein
from protcli.proteins.residues import ALPHABET_SIZE, GAP_INDEX, encode

BYTES = 4 * ALPHABET_SIZE + 4 * 3 + 2  # of each residue
SHARE = 0.25  # of the device's free memory that proteins may take


def kept_on(device: torch.device, batches: ProteinBatches) -> ProteinBatches:
    """The same batches, gathered from proteins that are kept on a GPU, where they fit; else as they are.

    In the memory of a CPU there is nothing to gain: a store is mapped into it.
    """
    if device.type != "cuda" or batches.lengths.sum() * BYTES > SHARE * torch.cuda.mem_get_info(device)[0]:
        return batches
    return packed(batches, device)


def packed(batches: ProteinBatches, device: torch.device) -> ProteinBatches:
    """The same batches, gathered on a device from proteins that are kept there."""
    proteins = PackedProteins(batches.proteins, batches.lengths, batches.atom, device)
    return replace(batches, gather=proteins.gather)


class PackedProteins:
    """N proteins of R residues in all, one after the other; what `proteins.batches.collate` needs of them.

    Attributes:
        ids: of each protein.
        ends: int64 [N + 1]: residue r of protein i is at ends[i] + r.
        sequence: uint8 [R].
        profile: float32 [R, 21].
        coords: float32 [R, 3], of one atom, 0 where it is not resolved.
        mask: bool [R], where it is.
    """

    def __init__(self, proteins: Sequence[Protein], lengths: np.ndarray, atom: str, device: torch.device) -> None:
        """Read every protein once. `lengths`: int64 [N]."""
        ends = np.concatenate([[0], np.cumsum(lengths)])
        sequence = np.empty(ends[-1], dtype=np.uint8)
        profile = np.empty((ends[-1], ALPHABET_SIZE), dtype=np.float32)
        coords = np.empty((ends[-1], 3), dtype=np.float32)
        self.ids = []
        for protein, first, last in zip(proteins, ends[:-1], ends[1:], strict=True):
            self.ids.append(protein.id)
            sequence[first:last] = encode(protein.sequence)
            profile[first:last] = protein.profile
            coords[first:last] = protein.atom(atom)
        mask = ~np.isnan(coords).any(axis=1)
        coords[~mask] = 0
        self.ends = torch.from_numpy(ends).to(device)
        self.sequence, self.profile, self.coords, self.mask = (
            torch.from_numpy(each).to(device) for each in (sequence, profile, coords, mask)
        )

    def gather(self, chosen: Sequence[int], starts: Sequence[int], crop: int, padded_length: int) -> Batch:
        """The batch that `collate` makes of the chosen proteins, on the device; to the bit."""
        device = self.ends.device
        which, first = (to_device(torch.tensor(each, dtype=torch.int64), device) for each in (chosen, starts))
        position = torch.arange(padded_length, device=device)
        length = (self.ends[which + 1] - self.ends[which] - first).clamp(max=crop)
        present = position < length[:, None]
        place = torch.where(present, (self.ends[which] + first)[:, None] + position, 0)

        def taken(column: Tensor, padding: float) -> Tensor:
            inside = present if column.dim() == 1 else present[..., None]
            return torch.where(inside, column[place], padding)

        residues = Residues(
            taken(self.sequence, GAP_INDEX).long(), taken(self.profile, 0.0), present, first[:, None] + position
        )
        mask = present & self.mask[place]
        return Batch(tuple(self.ids[index] for index in chosen), residues, taken(self.coords, 0.0), mask)
