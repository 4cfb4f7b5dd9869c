"""The files that a prediction can be written as: a new kind is one function and one line in WRITERS."""

import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from protcli.atomic import atomic_write, write_whole
from protcli.errors import ProtcliError
from protcli.experiments.predicting.map_page import map_page
from protcli.experiments.predicting.prediction import ChainPrediction
from protcli.figures.maps import MapPair, draw_gallery, draw_map
from protcli.proteins.map_scores import CONTACT
from protcli.proteins.maps import distances
from protcli.proteins.protein import Protein

NEAREST = 6  # residues apart, from which on CASP's contacts count
LEAST = 0.01  # probability of a contact that is listed
RR_WIDTH = 50  # letters of the sequence on a line


def write_npz(path: Path, prediction: ChainPrediction, known: Protein | None) -> None:
    """NumPy arrays: `distance` float32 [L, L] in A, `sequence`, `id`, `model`, `run`; `probabilities` float16 [L, L, K]
    and `edges` of the bins, and `confidence` [L], where the model predicts a distribution."""
    arrays: dict[str, Any] = {
        "distance": prediction.distance, "sequence": prediction.sequence, "id": prediction.id,
        "model": prediction.model, "run": prediction.run,
    }  # fmt: skip
    if prediction.probabilities is not None:
        arrays |= {
            "probabilities": prediction.probabilities.astype(np.float16), "edges": prediction.edges,
            "confidence": prediction.confidence,
        }  # fmt: skip
    with atomic_write(path) as partial, partial.open("wb") as file:
        np.savez_compressed(file, **arrays)


def write_png(path: Path, prediction: ChainPrediction, known: Protein | None) -> None:
    """A picture of the map, with the true one beside it if that is known."""
    title = f"{prediction.id}, {len(prediction)} residues, predicted by {prediction.model}"
    with atomic_write(path) as partial:
        if known is None:
            draw_map(partial, prediction.distance, title=title)
        else:
            true = distances(torch.from_numpy(known.atom(prediction.atom))).numpy()
            upper = np.triu(np.isfinite(true), 1)
            rmse = np.sqrt(np.mean((prediction.distance - true)[upper] ** 2)) if upper.any() else np.nan
            draw_gallery(partial, [MapPair(f"RMSE {rmse:.1f} Å", true, prediction.distance)], title=title)


def write_rr(path: Path, prediction: ChainPrediction, known: Protein | None) -> None:
    """Contacts in CASP's RR format: residues from 1, the range 0 to 8 A and the probability, the likeliest first.

    Source: https://predictioncenter.org/casp13/index.cgi?page=format#RR
    """
    probability = prediction.contacts(CONTACT)
    first, second = np.triu_indices(len(prediction), NEAREST)
    chosen = probability[first, second] >= LEAST
    order = np.argsort(-probability[first, second][chosen], kind="stable")
    pairs = zip(first[chosen][order], second[chosen][order], strict=True)
    lines = [
        "PFRMAT RR", f"TARGET {prediction.id}", f"METHOD protcli, {prediction.model}",
        f"REMARK contacts of C-{'alpha' if prediction.atom == 'ca' else 'beta'} atoms, run {prediction.run}", "MODEL 1",
        *textwrap.wrap(prediction.sequence, RR_WIDTH),
        *(f"{i + 1} {j + 1} 0 {CONTACT:g} {probability[i, j]:.6f}" for i, j in pairs),
        "END", "",
    ]  # fmt: skip
    write_whole(path, "\n".join(lines))


def write_pdb(path: Path, prediction: ChainPrediction, known: Protein | None) -> None:
    """Coordinates as PDB."""
    prediction.to_pdb(path)


def write_cif(path: Path, prediction: ChainPrediction, known: Protein | None) -> None:
    """Coordinates as mmCIF."""
    prediction.to_cif(path)


def write_html(path: Path, prediction: ChainPrediction, known: Protein | None) -> None:
    """An interactive page; see `map_page`."""
    write_whole(path, map_page(prediction, known))


WRITERS: dict[str, Callable[[Path, ChainPrediction, Protein | None], None]] = {
    "npz": write_npz, "png": write_png, "rr": write_rr, "pdb": write_pdb, "cif": write_cif, "html": write_html,
}  # fmt: skip

WITH_COORDINATES, WITH_PROBABILITIES = {"pdb", "cif"}, {"rr"}  # kinds that need them


def find_writers(kinds: str) -> list[str]:
    """The kinds in `npz,png`, each once. Raises ProtcliError for an unknown one; the message lists the known ones."""
    found = list(dict.fromkeys(kind.strip() for kind in kinds.split(",")))
    for kind in found:
        if kind not in WRITERS:
            raise ProtcliError(f"--write {kinds}: {kind!r} is not one of {', '.join(WRITERS)}")
    return found
