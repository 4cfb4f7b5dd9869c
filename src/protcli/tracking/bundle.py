"""The content of a registered version: weights, the model's configuration and, for a user's model, its file.

The model that comes with protcli is such a folder, too.
"""

import shutil
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field

from protcli.errors import ProtcliError, truncate
from protcli.models.settings import replace_settings
from protcli.models.zoo import config_dict, find_model, with_config
from protcli.proteins.confidence import Calibration
from protcli.tracking.keys import File
from protcli.training.predictor import SavedModel
from protcli.version import VERSION

BUNDLE = "model"  # folder name
ABOUT, WEIGHTS = "model.json", "weights.safetensors"
SHIPPED = Path(str(files("protcli"))) / "weights"


class _About(BaseModel):
    model: str
    model_file: bool
    config: dict[str, Any]
    recipe: dict[str, Any]
    precision: str
    longest_chain: int = Field(ge=1)
    atom: str = "ca"
    members: int = Field(1, ge=1, le=1000)


def write_bundle(model: SavedModel, folder: Path) -> None:
    """Write a model to a new folder, from which `read_bundle` can load it with protcli alone."""
    folder.mkdir()
    spec, files = model.spec, _weights(len(model.weights))
    about = _About(
        model=spec.name, model_file=spec.source is not None, config=config_dict(spec), recipe=spec.recipe.values(),
        precision=model.precision, longest_chain=model.longest_chain, atom=model.atom, members=len(files),
    )  # fmt: skip
    if spec.source is not None:
        shutil.copyfile(spec.source, folder / File.MODEL)
    if model.calibration is not None:
        (folder / File.CALIBRATION).write_text(model.calibration.to_json(), "utf-8")
    for name, weights in zip(files, model.weights, strict=True):
        shutil.copyfile(weights, folder / name)
    (folder / ABOUT).write_text(about.model_dump_json(indent=2) + "\n", "utf-8")


def read_bundle(folder: Path, name: str = "", run_id: str = "") -> SavedModel:
    """Read the model in a folder. Raises ProtcliError if there is none or it does not load."""
    calibration = None
    try:
        about = _About.model_validate_json((folder / ABOUT).read_bytes(), strict=True)
        if (path := folder / File.CALIBRATION).is_file():
            calibration = Calibration.from_json(path.read_text("utf-8"))
        weights = tuple(folder / name for name in _weights(about.members))
        if missing := [path.name for path in weights if not path.is_file()]:
            raise ValueError(f"it has no {missing[0]}")
    except (OSError, ValueError) as error:
        raise ProtcliError(f"{folder} is not a model registered by protcli promote ({truncate(error, 200)})") from error
    spec = with_config(find_model(about.model, folder / File.MODEL if about.model_file else None), about.config)
    spec = replace(spec, recipe=replace_settings(spec.recipe, about.recipe))
    return SavedModel(spec, weights, about.precision, about.longest_chain, about.atom, calibration, name, run_id)


def shipped_model() -> SavedModel:
    """The model that comes with protcli; the README.md beside it is its card, whose first line says what it is."""
    model = read_bundle(SHIPPED)
    return replace(model, name=f"the {model.spec.name} of protcli {VERSION}")


def _weights(members: int) -> list[str]:
    """Names of the files of weights: of a model, and of the further members of an ensemble."""
    return [WEIGHTS, *(f"{number}-{WEIGHTS}" for number in range(2, members + 1))]
