"""A split as a few tensors on a device, from which batches are gathered without reading a protein."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

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
        ends: int64 [N + 1]: residue r of protein i is at ends[i] + r. On the CPU.
        sequence: uint8 [R + 1]. Here and below the last is padding.
        profile: float32 [R + 1, 21].
        coords: float32 [R + 1, 3], of one atom, 0 where it is not resolved.
        mask: bool [R + 1], where it is.
    """

    def __init__(self, proteins: Sequence[Protein], lengths: np.ndarray, atom: str, device: torch.device) -> None:
        """Read every protein once. `lengths`: int64 [N]."""
        self.ends = np.concatenate([[0], np.cumsum(lengths)])
        sequence = np.full(self.ends[-1] + 1, GAP_INDEX, dtype=np.uint8)
        profile = np.zeros((self.ends[-1] + 1, ALPHABET_SIZE), dtype=np.float32)
        coords = np.full((self.ends[-1] + 1, 3), np.nan, dtype=np.float32)
        self.ids = []
        for protein, first, last in zip(proteins, self.ends[:-1], self.ends[1:], strict=True):
            self.ids.append(protein.id)
            sequence[first:last] = encode(protein.sequence)
            profile[first:last] = protein.profile
            coords[first:last] = protein.atom(atom)
        mask = ~np.isnan(coords).any(axis=1)
        coords[~mask] = 0
        self.sequence, self.profile, self.coords, self.mask = (
            torch.from_numpy(each).to(device) for each in (sequence, profile, coords, mask)
        )

    def gather(self, chosen: Sequence[int], starts: Sequence[int], crop: int, padded_length: int) -> Batch:
        """The batch that `collate` makes of the chosen proteins, on the device; to the bit."""
        which, start = np.asarray(chosen)[:, None], np.asarray(starts)[:, None]
        index = start + np.arange(padded_length)
        place = self.ends[which] + index
        padding = len(self.sequence) - 1
        place[place >= np.minimum(self.ends[which] + start + crop, self.ends[which + 1])] = padding
        # all is decided on the CPU, so that few kernels are started: a GPU is faster than that
        index, place = to_device(torch.from_numpy(np.stack([index, place])), self.mask.device)
        residues = Residues(self.sequence[place].long(), self.profile[place], place < padding, index)
        return Batch(tuple(self.ids[number] for number in chosen), residues, self.coords[place], self.mask[place])
