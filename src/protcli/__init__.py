"""protcli: experiments that predict a protein's inter-residue distance matrix."""

from typing import TYPE_CHECKING

from protcli.version import VERSION as __version__

if TYPE_CHECKING:
    from protcli.training.predictor import Predictor

__all__ = ["__version__", "load"]


def load(address: str = "", device: str = "auto") -> "Predictor":
    """Load a trained model: `models:/NAME@ALIAS`, `models:/NAME/NUMBER` or the id of a run; see docs/python.md.

    Without an address it is the one that comes with protcli.

    Raises:
        ProtcliError: there is no such model or run, or its weights are gone or damaged.
    """
    from protcli.experiments.predicting.predict import load  # torch and mlflow only where they are needed

    return load(address, device)
