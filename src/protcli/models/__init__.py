"""The models: what a model is, all models by name, and the layers they share.

The names exported here are those that a user's model file needs.
"""

from protcli.models.spec import ModelSpec, Prediction, Recipe
from protcli.proteins.batches import Residues

__all__ = ["ModelSpec", "Prediction", "Recipe", "Residues"]
