"""What a model is: a name, a network class, its frozen configuration and the recipe it is trained by."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn


@dataclass  # not frozen: Fabric rebuilds it field by field when it casts a model's outputs
class Prediction:
    """What a model says of B proteins.

    Attributes:
        distance: float [B, L, L] in angstrom, symmetric, zero on the diagonal.
    """

    distance: Tensor


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a model is trained unless the command line says otherwise.

    Attributes:
        epochs: passes over the training split.
        batch_size: proteins a step (before accumulation).
        lr: learning rate.
        optimizer, loss, schedule: names known to `protcli.training`.
        accumulate: batches whose gradients are summed before a step.
        clip: largest gradient norm, or None.
        crop: residues a chain is cut or padded to.
        random_crop: whether training cuts long chains at a random place (evaluation always takes the first residues).
        note: where and why this departs from the study's own training, with the figure that says so.
    """

    epochs: int
    batch_size: int
    lr: float = 1e-3
    optimizer: str = "adam"
    loss: str = "mse"
    schedule: str = "constant"
    accumulate: int = 1
    clip: float | None = None
    crop: int = 256
    random_crop: bool = False
    note: str = ""


@dataclass(frozen=True)
class ModelSpec:
    """A named model.

    Attributes:
        name: as typed on the command line.
        family: an `nn.Module` class made from `config` alone, whose `forward(residues: Residues) -> Prediction`. One
            with a method `fit(batches: Iterable[Batch]) -> None` is fitted in one pass instead of being trained.
        config: frozen dataclass of the family's settings; `--set name=value` replaces one.
        recipe: how it is trained.
        summary: one line for `protcli models list`.
    """

    name: str
    family: type[nn.Module]
    config: Any
    recipe: Recipe
    summary: str

    @property
    def is_fitted(self) -> bool:
        """Whether the family is fitted in closed form rather than trained by gradient descent."""
        return hasattr(self.family, "fit")

    def build(self) -> nn.Module:
        """A freshly initialised network."""
        return self.family(self.config)
