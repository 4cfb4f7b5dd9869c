"""The files that a prediction can be written as: a new kind is one function and one line in WRITERS."""

import base64
import json
import textwrap
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined

from protcli.atomic import atomic_write, write_whole
from protcli.errors import ProtcliError
from protcli.figures.maps import MapPair, draw_gallery, draw_map
from protcli.proteins.map_scores import CONTACT
from protcli.training.predictor import ChainPrediction

NEAREST = 6  # residues apart, from which on CASP's contacts count
LEAST = 0.01  # probability of a contact that is listed
RR_WIDTH = 50  # letters of the sequence on a line
TEMPLATE = files("protcli.experiments.predicting") / "map_page.html"
STEPS = 100  # of a distance in Å, on an interactive page
WORST = 20  # pairs that it lists


def write_npz(path: Path, prediction: ChainPrediction) -> None:
    """NumPy arrays: `distance` float32 [L, L] in Å, `sequence`, `id`, `model`, `run`; `probabilities` float16 [L, L, K]
    and `edges` of the bins, and `confidence` [L], where the model predicts a distribution."""
    arrays: dict[str, Any] = {
        "distance": prediction.distance, "sequence": prediction.sequence, "id": prediction.id,
        "model": prediction.model.name, "run": prediction.model.run_id,
    }  # fmt: skip
    if prediction.probabilities is not None:
        arrays |= {
            "probabilities": prediction.probabilities.astype(np.float16), "edges": prediction.edges,
            "confidence": prediction.confidence,
        }  # fmt: skip
    with atomic_write(path) as partial, partial.open("wb") as file:
        np.savez_compressed(file, **arrays)


def write_png(path: Path, prediction: ChainPrediction) -> None:
    """A picture of the map, with the true one beside it if that is known."""
    title = f"{prediction.id}, {len(prediction)} residues, predicted by {prediction.model.name}"
    with atomic_write(path) as partial:
        if not prediction.has_truth:
            draw_map(partial, prediction.distance, title=title)
        else:
            true = _true_distance(prediction)
            upper = np.triu(np.isfinite(true), 1)
            rmse = np.sqrt(np.mean((prediction.distance - true)[upper] ** 2)) if upper.any() else np.nan
            draw_gallery(partial, [MapPair(f"RMSE {rmse:.1f} Å", true, prediction.distance)], title=title)


def write_rr(path: Path, prediction: ChainPrediction) -> None:
    """Contacts in CASP's RR format: residues from 1, the range 0 to 8 Å and the probability, the likeliest first.

    Source: https://predictioncenter.org/casp13/index.cgi?page=format#RR
    """
    probability = prediction.contacts(CONTACT)
    first, second = np.triu_indices(len(prediction), NEAREST)
    chosen = probability[first, second] >= LEAST
    order = np.argsort(-probability[first, second][chosen], kind="stable")
    pairs = zip(first[chosen][order], second[chosen][order], strict=True)
    model, atom = prediction.model, "alpha" if prediction.model.atom == "ca" else "beta"
    lines = [
        "PFRMAT RR", f"TARGET {prediction.id}", f"METHOD protcli, {model.name}",
        f"REMARK contacts of C-{atom} atoms, {model.origin}", "MODEL 1",
        *textwrap.wrap(prediction.sequence, RR_WIDTH),
        *(f"{i + 1} {j + 1} 0 {CONTACT:g} {probability[i, j]:.6f}" for i, j in pairs),
        "END", "",
    ]  # fmt: skip
    write_whole(path, "\n".join(lines))


def map_page(prediction: ChainPrediction) -> str:
    """An interactive page of a map, as one HTML file that needs no network.

    It shows the map with its values under the pointer, the sequence linked to it, contacts below a distance that the
    reader chooses, the distribution of a pair where the model predicts one, and, beside a known structure, the true map
    and the pairs with the largest errors.
    """
    length = len(prediction)
    first, second = np.triu_indices(length, 1)
    data: dict[str, Any] = {
        "id": prediction.id, "sequence": prediction.sequence, "steps": STEPS,
        "predicted": _packed(np.rint(prediction.distance[first, second] * STEPS), np.uint16),
    }  # fmt: skip
    if prediction.probabilities is not None and prediction.edges is not None:
        data |= {
            "probabilities": _packed(np.rint(255 * prediction.probabilities[first, second]), np.uint8),
            "edges": [round(float(edge), 3) for edge in prediction.edges],
            "confidence": [round(float(value), 3) for value in np.nan_to_num(prediction.confidence)],
        }
    if prediction.has_truth:
        true = _true_distance(prediction)[first, second]
        data["true"] = _packed(np.rint(np.nan_to_num(true, nan=0.0) * STEPS), np.uint16)  # 0: unresolved
        error = np.abs(np.where(second - first >= NEAREST, prediction.distance[first, second] - true, np.nan))
        order = np.argsort(-np.nan_to_num(error, nan=-1.0), kind="stable")[:WORST]
        data["worst"] = [[int(first[pair]), int(second[pair])] for pair in order if np.isfinite(error[pair])]
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(TEMPLATE.read_text("utf-8")).render(
        title=f"{prediction.id}, {length} residues",
        lead=f"Predicted by {prediction.model.origin}; distances between C-"
        f"{'alpha' if prediction.model.atom == 'ca' else 'beta'} atoms in Å.",
        data=json.dumps(data).replace("<", "\\u003c"),  # a name cannot end the script
        calibration=prediction.model.calibration,
        has_truth=prediction.has_truth,
        has_distribution=prediction.has_distribution,
    )


def _true_distance(prediction: ChainPrediction) -> np.ndarray:
    """The distances in the known structure in Å: float64 [L, L], NaN for unresolved residues."""
    points = prediction.chain.atom(prediction.model.atom).astype(np.float64)
    return np.linalg.norm(points[:, None] - points[None], axis=-1)  # [L, L]


def _packed(values: np.ndarray, kind: type) -> str:
    """Whole numbers as base64 of little-endian bytes, cut off at the largest that the type holds."""
    held = np.clip(values, 0, np.iinfo(kind).max).astype(np.dtype(kind).newbyteorder("<"))
    return base64.b64encode(held.tobytes()).decode("ascii")


WRITERS: dict[str, Callable[[Path, ChainPrediction], None]] = {
    "npz": write_npz,
    "png": write_png,
    "rr": write_rr,
    "pdb": lambda path, prediction: prediction.to_pdb(path),
    "cif": lambda path, prediction: prediction.to_cif(path),
    "html": lambda path, prediction: write_whole(path, map_page(prediction)),
}

WITH_COORDINATES, WITH_PROBABILITIES = {"pdb", "cif"}, {"rr"}  # kinds that need them


def find_writers(kinds: str) -> list[str]:
    """The kinds in `npz,png`, each once. Raises ProtcliError for an unknown one; the message lists the known ones."""
    found = list(dict.fromkeys(kind.strip() for kind in kinds.split(",")))
    for kind in found:
        if kind not in WRITERS:
            raise ProtcliError(f"--write {kinds}: {kind!r} is not one of {', '.join(WRITERS)}")
    return found
