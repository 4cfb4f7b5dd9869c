"""A protein's true and predicted map, to be drawn."""

import torch
from torch import nn

from protcli.figures.maps import MapPair
from protcli.proteins.batches import collate
from protcli.proteins.maps import distances, pair_mask
from protcli.proteins.metrics import PairErrors
from protcli.proteins.protein import Protein


@torch.inference_mode()
def map_pair(network: nn.Module, protein: Protein, *, atom: str, length: int, device: torch.device) -> MapPair:
    """True and predicted map of a protein's first `length` residues, in A; unresolved pairs of the true map are NaN.

    The network is used as it is: if Fabric has set it up, it predicts at the precision of its run.
    """
    network.eval()
    batch = collate([protein], atom=atom, crop=length).to(device)
    shown = min(len(protein), length)
    true = distances(batch.coords).masked_fill(~pair_mask(batch.mask), torch.nan)[0, :shown, :shown]
    predicted = network(batch.residues).distance.float()
    errors = PairErrors.of(predicted, batch.coords, batch.mask)
    title = f"{protein.id}, {len(protein)} residues, RMSE {errors.rmse:.1f} Å"
    return MapPair(title, true.cpu().numpy(), predicted[0, :shown, :shown].cpu().numpy())
