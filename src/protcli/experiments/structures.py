"""Coordinates made of predicted distances, compared with the true ones beside what the baselines can do."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from torch import nn

from protcli.proteins.batches import collate
from protcli.proteins.confidence import deviation
from protcli.proteins.coordinates import trace
from protcli.proteins.protein import Protein
from protcli.proteins.structure_scores import gdt_ts, radius_of_gyration, random_chain, tm_score

LEAST_RESOLVED = 5  # residues of a chain that is scored
PREDICTORS = ("model", "sepmean", "random")
SCORES = {"tm_score": tm_score, "gdt_ts": gdt_ts}


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
    rows: list[dict[str, object]] = []
    for number, protein in enumerate(proteins):
        true = protein.atom("ca")[:length].astype(np.float64)
        known = ~np.isnan(true).any(axis=1)
        rows.append({"id": protein.id, "class": protein.category, "residues": len(protein)})
        if known.sum() >= LEAST_RESOLVED:
            structures = [_structure(network, protein, length, device) for network in networks]
            rng = np.random.default_rng(number)
            structures.append(random_chain(len(true), radius_of_gyration(true[known]), rng))
            for predictor, coords in zip(PREDICTORS, structures, strict=True):
                for name, score in SCORES.items():
                    rows[-1][f"{predictor}_{name}"] = score(coords[known], true[known])
    columns = [f"{predictor}_{name}" for predictor in PREDICTORS for name in SCORES]
    return pd.DataFrame(rows, columns=["id", "class", "residues", *columns])


def _structure(network: nn.Module, protein: Protein, length: int, device: torch.device) -> np.ndarray:
    """C-alpha atoms as predicted: float64 [L, 3]."""
    prediction = network(collate([protein], atom="ca", crop=length).residues.to(device))
    chain = 0, slice(len(protein)), slice(len(protein))
    distance, deviations = prediction.distance[chain].double().cpu().numpy(), None
    if prediction.logits is not None and prediction.bins is not None:
        probabilities = prediction.logits[chain].double().softmax(dim=-1).cpu().numpy()
        deviations = deviation(probabilities, prediction.bins.double().cpu().numpy())
    return trace(distance, deviations).coords
