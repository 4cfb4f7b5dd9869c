"""Everything that decides a run, as a value and as the YAML file from which the run is repeated."""

import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from protcli import __version__
from protcli.errors import ProtcliError
from protcli.models.settings import as_type, setting_types
from protcli.models.spec import ModelSpec, Recipe
from protcli.models.zoo import config_dict, find_model, with_config
from protcli.proteins.dataset import SAMPLE
from protcli.training.losses import find_loss
from protcli.training.optimizers import OPTIMIZERS, SCHEDULES

SECTIONS: dict[str, dict[str, Any]] = {  # the type of each setting
    "model": {"name": str, "file": str | None, "config": dict},
    "recipe": setting_types(Recipe),
    "data": {"source": str, "train_split": str | None, "atom": str, "digest": str | None},
    "run": {"seed": int, "precision": str | int, "device": str},  # YAML reads a bare 32 as a number
}
VERSION = "protcli"  # the key of the version that wrote the file


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """What a run is made of.

    Attributes:
        spec: the model with its configuration and recipe, after all choices.
        model_file: where the model comes from when it is none of protcli's own.
        data: `sample` or the folder of a store.
        train_split: None for the store's only one.
        atom: `ca` or `cb`.
        digest: of the data that a repeated run must find; None takes whatever is there.
        seed: of initial weights, dropout, data order and crops.
        precision, device: names known to `training.engine`.
    """

    spec: ModelSpec
    model_file: Path | None = None
    data: str = SAMPLE
    train_split: str | None = None
    atom: str = "ca"
    digest: str | None = None
    seed: int = 0
    precision: str = "32"
    device: str = "auto"

    def with_recipe(self, **changes: Any) -> "RunConfig":
        """The same run with some settings of its recipe replaced; None leaves one as it is."""
        given = {key: value for key, value in changes.items() if value is not None}
        return replace(self, spec=replace(self.spec, recipe=replace(self.spec.recipe, **given)))

    def with_model_file(self, path: Path) -> "RunConfig":
        """The same run with its model file elsewhere."""
        return replace(self, model_file=path)

    def to_yaml(self) -> str:
        """The YAML text that `read_config` reads."""
        sections = {
            VERSION: __version__,
            "model": {
                "name": self.spec.name,
                "file": str(self.model_file) if self.model_file else None,
                "config": config_dict(self.spec),
            },
            "recipe": asdict(self.spec.recipe),
            "data": {
                "source": self.data,
                "train_split": self.train_split,
                "atom": self.atom,
                "digest": self.digest,
            },
            "run": {"seed": self.seed, "precision": self.precision, "device": self.device},
        }
        return yaml.safe_dump(sections, sort_keys=False, allow_unicode=True)


def read_config(path: Path) -> RunConfig:
    """Read what `RunConfig.to_yaml` wrote; a model file in it is looked for beside it.

    Raises:
        ProtcliError: no such file, no YAML, an unknown or missing setting, or one of the wrong type.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ProtcliError(f"{path} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, ValueError) as error:  # not UTF-8, or a date that is none
        raise ProtcliError(f"{path} is no YAML file: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ProtcliError(f"{path} is no run configuration: expected the sections {', '.join(SECTIONS)}")
    for name in content:
        if name not in (VERSION, *SECTIONS):
            raise ProtcliError(f"{path}: unknown section {name}: expected {', '.join(SECTIONS)}")
    model, recipe, data, run = (_section(path, name, content.get(name)) for name in SECTIONS)
    model_file = path.parent / model["file"] if model["file"] else None
    if model_file is not None and not model_file.is_file():
        raise ProtcliError(f"{path} belongs to the model file {model_file}, which is not there: a run holds both")
    try:
        spec = with_config(find_model(model["name"], model_file), model["config"])
        spec = replace(spec, recipe=Recipe(**recipe))
        check_recipe(spec)
    except ProtcliError as error:
        raise ProtcliError(f"{path}: {error}") from error
    return RunConfig(
        spec=spec,
        model_file=model_file,
        data=data["source"],
        train_split=data["train_split"],
        atom=data["atom"],
        digest=data["digest"],
        seed=run["seed"],
        precision=str(run["precision"]),
        device=run["device"],
    )


def _section(path: Path, name: str, section: Any) -> dict[str, Any]:
    """One section with each setting as its type; raises ProtcliError for one that is unknown, missing or of another."""
    if not isinstance(section, dict):
        raise ProtcliError(f"{path} has no section {name}: a run's own config.yaml shows a complete one")
    types = SECTIONS[name]
    for key in [*(key for key in section if key not in types), *(key for key in types if key not in section)]:
        what = "unknown" if key in section else "missing"
        raise ProtcliError(f"{path}: {what} setting {name}.{key}: expected {', '.join(sorted(types))}")
    try:
        return {key: as_type(f"{name}.{key}", section[key], annotation) for key, annotation in types.items()}
    except ValueError as error:
        raise ProtcliError(f"{path}: {error}") from None


def check_recipe(spec: ModelSpec) -> None:
    """Raise ProtcliError for a recipe that cannot be trained by."""
    recipe = spec.recipe
    for option, count, least in (
        ("--epochs", recipe.epochs, 1),
        ("--batch-size", recipe.batch_size, 1),
        ("--accumulate", recipe.accumulate, 1),
        ("--crop", recipe.crop, 2),
    ):
        if count < least:
            raise ProtcliError(f"{option} is {count}: give {least} or more")
    if not 0 < recipe.lr < math.inf:
        raise ProtcliError(f"--lr is {recipe.lr}: give a number above 0")
    if recipe.clip is not None and not recipe.clip > 0:
        raise ProtcliError(f"--clip is {recipe.clip}: give a number above 0")
    find_loss(recipe.loss)
    for option, value, known in (
        ("optimizer", recipe.optimizer, OPTIMIZERS),
        ("schedule", recipe.schedule, SCHEDULES),
    ):
        if value not in known:
            raise ProtcliError(f"unknown {option} {value!r}: choose one of {', '.join(known)} with --{option}")
    if spec.is_fitted and recipe.epochs != 1:
        raise ProtcliError(f"{spec.name} is fitted in one pass: leave --epochs out")
