"""The models: what a model is, all models by name, and the layers they share.

The names exported here are those that a user's model file needs. They are imported when they are asked for: the command
line reads the settings of a recipe, and must not wait for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from protcli.models.recipe import Recipe
    from protcli.models.spec import ModelSpec, Prediction
    from protcli.proteins.batches import Residues

__all__ = ["ModelSpec", "Prediction", "Recipe", "Residues"]

PLACES = {
    "ModelSpec": "protcli.models.spec",
    "Prediction": "protcli.models.spec",
    "Recipe": "protcli.models.recipe",
    "Residues": "protcli.proteins.batches",
}


def __getattr__(name: str) -> Any:
    if name not in PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(PLACES[name]), name)
