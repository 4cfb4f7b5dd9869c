"""What the distances say of each residue alone: the shape of the chain around it, and how buried it is.

Distances to the residues two, three and four further tell helices, strands and turns apart (they are a dihedral angle,
but for its sign, which no distance shows); the number of residues nearby tells the core from the surface.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

AHEAD = ((2, 6.0, 0.8), (3, 7.5, 2.0), (4, 9.5, 3.0))  # residues further, usual distance and its deviation in A
RADIUS, USUAL, DEVIATION = 10.0, 14.0, 6.0  # A; residues within it, their usual number and its deviation
LOCAL_FEATURES = len(AHEAD) + 1


def local_structure(true: Tensor, pairs: Tensor) -> tuple[Tensor, Tensor]:
    """Features of residues [B, L, LOCAL_FEATURES], about 0 on average with deviation 1, and which are known, bool.

    Args:
        true: distances [B, L, L] in A.
        pairs: bool [B, L, L], the resolved pairs i < j.
    """
    values, known = [], []
    for further, usual, deviation in AHEAD:
        missing = (0, min(further, true.shape[1]))
        values.append(F.pad((true.diagonal(further, 1, 2) - usual) / deviation, missing))
        known.append(F.pad(pairs.diagonal(further, 1, 2), missing))
    near = pairs & (true < RADIUS)
    values.append(((near.sum(dim=1) + near.sum(dim=2)) - USUAL) / DEVIATION)
    known.append(pairs.any(dim=1) | pairs.any(dim=2))
    return torch.stack(values, dim=-1), torch.stack(known, dim=-1)
