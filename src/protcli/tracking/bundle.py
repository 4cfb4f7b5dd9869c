"""The content of a registered version: weights, the model's configuration and, for a user's model, its file."""

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, NotRequired

from pydantic import Field, TypeAdapter
from typing_extensions import TypedDict

from protcli.errors import ProtcliError, excerpt
from protcli.models.settings import replace_settings
from protcli.models.zoo import config_dict, find_model, with_config
from protcli.proteins.confidence import Calibration
from protcli.training.predictor import SavedModel

BUNDLE = "model"  # folder name
ABOUT, WEIGHTS, MODEL_FILE = "model.json", "weights.safetensors", "model.py"
CALIBRATION = "calibration.json"


class _About(TypedDict):
    model: str
    model_file: bool
    config: dict[str, Any]
    recipe: dict[str, Any]
    precision: str
    longest_chain: Annotated[int, Field(ge=1)]
    atom: NotRequired[str]
    members: NotRequired[Annotated[int, Field(ge=1, le=1000)]]


_CHECKED = TypeAdapter(_About)


@dataclass(frozen=True)
class Bundle:
    """A registered model: its weights, the length of the longest chain it accepts, in residues, and the atom that its
    distances are between."""

    saved: SavedModel
    longest_chain: int
    atom: str = "ca"


def write_bundle(parent: Path, bundle: Bundle) -> Path:
    """Write a trained model to a new folder that `read_bundle` can load with protcli alone."""
    (folder := parent / BUNDLE).mkdir()
    spec = bundle.saved.spec
    files = _weights(1 + len(bundle.saved.others))
    about = {
        "model": spec.name,
        "model_file": spec.source is not None,
        "config": config_dict(spec),
        "recipe": spec.recipe.values(),
        "precision": bundle.saved.precision,
        "longest_chain": bundle.longest_chain,
        "atom": bundle.atom,
        "members": len(files),
    }
    if spec.source is not None:
        shutil.copyfile(spec.source, folder / MODEL_FILE)
    if bundle.saved.calibration is not None:
        (folder / CALIBRATION).write_text(bundle.saved.calibration.to_json(), encoding="utf-8")
    for name, weights in zip(files, (bundle.saved.weights, *bundle.saved.others), strict=True):
        shutil.copyfile(weights, folder / name)
    (folder / ABOUT).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    return folder


def read_bundle(folder: Path) -> Bundle:
    """Read the model in a folder. Raises ProtcliError if there is none or it does not load."""
    calibration = None
    try:
        about = _CHECKED.validate_json((folder / ABOUT).read_bytes(), strict=True)
        if (path := folder / CALIBRATION).is_file():
            calibration = Calibration.from_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ProtcliError(f"{folder} is not a model registered by protcli promote ({excerpt(error, 200)})") from error
    spec = find_model(about["model"], folder / MODEL_FILE if about["model_file"] else None)
    spec = with_config(spec, about["config"])
    spec = replace(spec, recipe=replace_settings(spec.recipe, about["recipe"]))
    first, *others = (folder / name for name in _weights(about.get("members", 1)))
    for path in (first, *others):
        if not path.is_file():
            raise ProtcliError(f"{folder} is not a model registered by protcli promote (it has no {path.name})")
    saved = SavedModel(spec, first, about["precision"], calibration, tuple(others))
    return Bundle(saved, about["longest_chain"], about.get("atom", "ca"))


def _weights(members: int) -> list[str]:
    """Names of the files of weights: of a model, and of the further members of an ensemble."""
    return [WEIGHTS, *(f"{number}-{WEIGHTS}" for number in range(2, members + 1))]
