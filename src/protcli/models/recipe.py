"""Settings that describe themselves, and those of a model's training. Importing this does not import torch."""

import math
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any

from protcli.errors import ProtcliError

BLANK = "blank"  # of a setting whose value does not decide a result; its name stands in identities of suites
OMITTED = "omitted"  # of one that does not even stand there
MEASURED_AT = (5, 10, 25, 50, 100)  # per cent of the proteins of a training that counts them

Range = tuple[Callable[[Any], bool], str]  # whether a value is allowed, and the values that are, in words
POSITIVE: Range = (lambda value: 0 < value < math.inf, "a number above 0")
NOT_NEGATIVE: Range = (lambda value: 0 <= value < math.inf, "0 or more")
SHARE: Range = (lambda value: 0 < value <= 1, "more than 0, and at most 1")
BELOW_1: Range = (lambda value: 0 <= value < 1, "0 or more, and less than 1")


def at_least(least: int) -> Range:
    """The range of a count."""
    return lambda value: value >= least, f"{least} or more"


def between(least: int, most: int) -> Range:
    """The range of a number that libraries limit."""
    return lambda value: least <= value <= most, f"a number from {least} to {most}"


def setting(default: Any = MISSING, help: str = "", **metadata: Any) -> Any:
    """A field of `Settings` with its default, and with one line of help if it is an option of `protcli train`.

    Args:
        metadata: what differs from the rule: `option` (as typed), `metavar`, `parameter` (its name in MLflow, None if
            it is no parameter), `identity` (BLANK or OMITTED: it decides no result), `range` (of values that are
            allowed), `later` (True: files written by earlier versions lack it, and none mentions it while it is off).
    """
    return field(default=default, metadata={"help": help, **metadata})


def count(default: int, least: int = 1) -> Any:
    """A field of a model's config that is a number of things."""
    return setting(default, range=at_least(least))


def share(default: float) -> Any:
    """A field of a model's config that is from 0 to 1, such as dropout."""
    return setting(default, range=(lambda value: 0 <= value <= 1, "a number from 0 to 1"))


@dataclass(frozen=True, kw_only=True)
class Settings:
    """A dataclass whose fields are made by `setting`."""

    def _stated(self) -> list[tuple[Field[Any], Any]]:
        """The fields with their values, but for later ones that are off: so they change no older configuration."""
        values = [(each, getattr(self, each.name)) for each in fields(self)]
        return [(each, value) for each, value in values if not each.metadata.get("later") or value != each.default]

    def values(self) -> dict[str, Any]:
        """All settings by name."""
        return {each.name: value for each, value in self._stated()}

    def parameters(self) -> dict[str, Any]:
        """The values by their names in MLflow."""
        named = {each.metadata.get("parameter", each.name): value for each, value in self._stated()}
        return {name: value for name, value in named.items() if name is not None}

    def identity(self) -> dict[str, Any]:
        """What decides a result."""
        kinds = [(each.name, each.metadata.get("identity"), value) for each, value in self._stated()]
        return {name: "" if kind == BLANK else value for name, kind, value in kinds if kind != OMITTED}


def option_of(of: Field[Any]) -> str:
    """The option of `protcli train` that sets a field; one without help is a model's."""
    if not of.metadata["help"]:
        return f"--set {of.name}"
    return of.metadata.get("option") or "--" + of.name.replace("_", "-")


def check_ranges(owner: Any, values: Mapping[str, Any] | None = None) -> None:
    """Raise ProtcliError, which names the option, if a value (by default, one of the owner) is not in its range."""
    values = vars(owner) if values is None else values
    for each in fields(owner):
        (is_allowed, allowed), value = each.metadata.get("range", (bool, "")), values.get(each.name)
        if allowed and value is not None and not is_allowed(value):
            raise ProtcliError(f"{option_of(each)} is {value}: give {allowed}")


@dataclass(frozen=True, kw_only=True)
class Recipe(Settings):
    """How a model is trained unless options override it. A batch may be accumulated: its gradients are then summed.

    Attributes without help in their settings:
        random_crop: whether training crops long chains at a random position (evaluation takes the first residues).
        padded_lengths: lengths to pad training batches to; each batch holds proteins of similar length. Empty pads all
            to the crop.
        note: where and why the recipe differs from the study's, with the measured effect.
    """

    epochs: int = setting(help="Passes over the training split.", range=at_least(1))
    batch_size: int = setting(help="Proteins per batch.", range=at_least(1))
    lr: float = setting(1e-3, "Learning rate.", range=POSITIVE)
    optimizer: str = setting("adam", "Optimizer: adam, adamw, sgd, rmsprop or muon.")
    loss: str = setting("mse", "mse, mae, huber, log-cosh, mse-inverse-distance, distogram or distogram-mse.")
    schedule: str = setting("constant", "Learning-rate schedule: constant, linear or cosine.")
    accumulate: int = setting(1, "Batches per optimizer step.", range=at_least(1))
    max_grad_norm: float | None = setting(
        None, "Clip the gradient to this norm.", range=(lambda value: value > 0, POSITIVE[1])
    )
    weight_decay: float = setting(0.0, "Weight decay of the optimizer.", range=NOT_NEGATIVE)
    warmup: float = setting(0.0, "Share of steps over which the learning rate warms up.", range=BELOW_1)
    ema: float = setting(0.0, "Decay of a moving average of the weights, e.g. 0.999.", range=BELOW_1)
    crop: int = setting(256, "Maximum residues per chain in training.", range=at_least(2))
    short_crops: float = setting(
        0.0, "Share of the training batches that take half a crop, which costs a quarter.", range=BELOW_1, later=True
    )
    random_crop: bool = setting(False)
    padded_lengths: tuple[int, ...] = setting(())
    train_share: float = setting(
        1.0,
        "Train on this share of the training proteins, whole families that the seed chooses.",
        range=SHARE,
        later=True,
    )
    epoch_samples: int | None = setting(
        None,
        "Training proteins of an epoch (default: all of the split, once); the next one goes on where it ended.",
        range=at_least(1),
        later=True,
    )
    note: str = setting("", parameter=None)

    @property
    def milestones(self) -> dict[int, int]:
        """Epochs after which validation is measured by proteins seen, and how many these are; none without a count."""
        epochs = {-(-self.epochs * share // 100) for share in MEASURED_AT}
        return {epoch: epoch * self.epoch_samples for epoch in sorted(epochs)} if self.epoch_samples else {}
