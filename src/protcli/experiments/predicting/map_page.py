"""An interactive page of one predicted map: a single HTML file that needs no network."""

import base64
import json
from importlib.resources import files
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined

from protcli.experiments.predicting.prediction import ChainPrediction
from protcli.proteins.protein import Protein

TEMPLATE = files("protcli.experiments.predicting") / "map_page.html"
LIBRARY = files("plotly") / "package_data" / "plotly.min.js"
STEPS = 100  # of a distance in A
WORST, APART = 20, 6  # pairs listed, and the fewest residues between them


def map_page(prediction: ChainPrediction, known: Protein | None) -> str:
    """The page as HTML.

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
    if known is not None:
        points = known.atom(prediction.atom).astype(np.float64)
        true = np.linalg.norm(points[first] - points[second], axis=-1)
        data["true"] = _packed(np.rint(np.nan_to_num(true, nan=0.0) * STEPS), np.uint16)  # 0: unresolved
        error = np.abs(np.where(second - first >= APART, prediction.distance[first, second] - true, np.nan))
        order = np.argsort(-np.nan_to_num(error, nan=-1.0), kind="stable")[:WORST]
        data["worst"] = [[int(first[pair]), int(second[pair])] for pair in order if np.isfinite(error[pair])]
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        title=f"{prediction.id}, {length} residues",
        lead=f"Predicted by {prediction.model}, run {prediction.run}; distances between C-"
        f"{'alpha' if prediction.atom == 'ca' else 'beta'} atoms in Å.",
        data=json.dumps(data).replace("<", "\\u003c"),  # a name cannot end the script
        library=LIBRARY.read_text(encoding="utf-8"),
        has_truth=known is not None,
        has_distribution=prediction.has_distribution,
    )


def _packed(values: np.ndarray, kind: type) -> str:
    """Whole numbers as base64 of little-endian bytes, cut off at the largest that the type holds."""
    held = np.clip(values, 0, np.iinfo(kind).max).astype(np.dtype(kind).newbyteorder("<"))
    return base64.b64encode(held.tobytes()).decode("ascii")
