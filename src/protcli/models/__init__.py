"""The models: what a model is, every model by name, and the layers they share.

The names exported here are what a model file of the user's own needs.
"""

from protcli.models.spec import ModelSpec, Prediction, Recipe
from protcli.proteins.batches import Residues

__all__ = ["ModelSpec", "Prediction", "Recipe", "Residues"]
