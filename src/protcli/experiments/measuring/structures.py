"""Coordinates made of predicted distances, compared with the true ones beside what the baselines can do."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from torch import nn

from protcli.proteins.batches import collate
from protcli.proteins.confidence import deviation
from protcli.proteins.coordinates import predicted_trace
from protcli.proteins.protein import Protein
from protcli.proteins.structure_scores import gdt_ts, radius_of_gyration, random_chain, tm_score

FEWEST = 5  # resolved residues of a chain that is scored
PREDICTORS = ("model", "sepmean", "random")


@torch.inference_mode()
def score_structures(
    networks: Sequence[nn.Module], proteins: Sequence[Protein], length: int, device: torch.device
) -> pd.DataFrame:
    """TM-score and GDT_TS of the first residues of each protein, one row each; NaN for one with too few resolved ones.

    A network's structure is made of its distances alone, by `coordinates.trace`; one that predicts a distribution
    weighs them by its deviations. The random chain has the true radius of gyration, and its own seed for each protein.

    Args:
        networks: the model and `sepmean`, for C-alpha atoms.
        proteins: in the order of the rows.
        length: residues of each chain.
        device: of the networks.
    """
    rows = []
    for number, protein in enumerate(proteins):
        true = protein.atom("ca")[:length].astype(np.float64)
        known = ~np.isnan(true).any(axis=1)
        row: dict[str, object] = {"id": protein.id, "class": protein.category, "residues": len(protein)}
        row |= {f"{name}_{score}": np.nan for name in PREDICTORS for score in ("tm_score", "gdt_ts")}
        if known.sum() >= FEWEST:
            found = [_structure(network, protein, length, device) for network in networks]
            rng = np.random.default_rng(number)
            found.append(random_chain(len(true), radius_of_gyration(true[known]), rng))
            for name, coords in zip(PREDICTORS, found, strict=True):
                row[f"{name}_tm_score"] = tm_score(coords[known], true[known])
                row[f"{name}_gdt_ts"] = gdt_ts(coords[known], true[known])
        rows.append(row)
    return pd.DataFrame(rows)


def _structure(network: nn.Module, protein: Protein, length: int, device: torch.device) -> np.ndarray:
    """C-alpha atoms as predicted: float64 [L, 3]."""
    prediction = network(collate([protein], atom="ca", crop=length).residues.to(device))
    own = 0, slice(len(protein)), slice(len(protein))
    distance = prediction.distance[own].double().cpu().numpy()
    if prediction.logits is None or prediction.bins is None:
        return predicted_trace(distance).coords
    probabilities = prediction.logits[own].double().softmax(dim=-1).cpu().numpy()
    return predicted_trace(distance, deviation(probabilities, prediction.bins.double().cpu().numpy())).coords
