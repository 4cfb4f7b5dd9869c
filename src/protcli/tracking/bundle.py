"""What a registered version holds: weights, what the model is built from, and its file where it is the user's own."""

import json
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from protcli.errors import ProtcliError
from protcli.models.settings import replace_settings
from protcli.models.zoo import config_dict, find_model, with_config
from protcli.training.saved_model import SavedModel

BUNDLE = "model"  # the folder's name
ABOUT, WEIGHTS, MODEL_FILE = "model.json", "weights.safetensors", "model.py"


@dataclass(frozen=True)
class Bundle:
    """A registered model: its weights, and how many residues the longest chain has that it is asked for."""

    saved: SavedModel
    longest_chain: int


def write_bundle(parent: Path, bundle: Bundle) -> Path:
    """Put a trained model into a new folder, from which `read_bundle` needs nothing but protcli."""
    (folder := parent / BUNDLE).mkdir()
    spec = bundle.saved.spec
    about = {
        "model": spec.name,
        "model_file": spec.source is not None,
        "config": config_dict(spec),
        "recipe": asdict(spec.recipe),
        "precision": bundle.saved.precision,
        "longest_chain": bundle.longest_chain,
    }
    if spec.source is not None:
        shutil.copyfile(spec.source, folder / MODEL_FILE)
    shutil.copyfile(bundle.saved.weights, folder / WEIGHTS)
    (folder / ABOUT).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    return folder


def read_bundle(folder: Path) -> Bundle:
    """The model in a folder. Raises ProtcliError where the folder holds none, or one that does not load."""
    try:
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ProtcliError(f"{folder} is not a model that protcli promote has registered ({error})") from error
    spec = find_model(about["model"], folder / MODEL_FILE if about["model_file"] else None)
    spec = with_config(spec, about["config"])
    spec = replace(spec, recipe=replace_settings(spec.recipe, about["recipe"]))
    return Bundle(SavedModel(spec, folder / WEIGHTS, about["precision"]), about["longest_chain"])
