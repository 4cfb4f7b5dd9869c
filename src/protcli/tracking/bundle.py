"""What a registered version holds: weights, what the model is built from, and its file where it is the user's own."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path

from protcli.errors import ProtcliError
from protcli.models.external import source_file
from protcli.models.spec import ModelSpec, Recipe
from protcli.models.zoo import config_dict, find_model, with_config
from protcli.training.engine import find_device
from protcli.training.predictor import Predictor

BUNDLE = "model"  # the folder's name
ABOUT, WEIGHTS, MODEL_FILE = "model.json", "weights.safetensors", "model.py"


def write_bundle(parent: Path, spec: ModelSpec, weights: Path, *, precision: str) -> Path:
    """Put a trained model into a new folder, from which `read_bundle` needs nothing but protcli."""
    (folder := parent / BUNDLE).mkdir()
    source = source_file(spec)
    about = {
        "model": spec.name,
        "model_file": source is not None,
        "config": config_dict(spec),
        "recipe": asdict(spec.recipe),
        "precision": precision,
    }
    if source is not None:
        shutil.copyfile(source, folder / MODEL_FILE)
    shutil.copyfile(weights, folder / WEIGHTS)
    (folder / ABOUT).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    return folder


def read_bundle(folder: Path, device: str = "auto") -> Predictor:
    """The model ready for use. Raises ProtcliError where the folder holds none, or one that does not load."""
    try:
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ProtcliError(f"{folder} is no model that protcli promote has registered ({error})") from error
    spec = find_model(about["model"], folder / MODEL_FILE if about["model_file"] else None)
    spec = with_config(spec, about["config"])
    spec = ModelSpec(spec.name, spec.family, spec.config, Recipe(**about["recipe"]), spec.summary)
    return Predictor(spec, folder / WEIGHTS, precision=about["precision"], device=find_device(device))
