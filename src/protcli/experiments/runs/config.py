"""Everything that decides a run, as a value and as the YAML file that repeats the run."""

import math
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from protcli.errors import ProtcliError, excerpt
from protcli.models.documents import read_document, settings_of, write_document
from protcli.models.external import is_file
from protcli.models.spec import ModelSpec, Recipe
from protcli.models.zoo import config_dict, find_model, with_config
from protcli.proteins.batches import check_padded_lengths
from protcli.proteins.dataset import SAMPLE
from protcli.training.losses import find_loss
from protcli.training.optimizers import OPTIMIZERS, SCHEDULES
from protcli.version import VERSION

if TYPE_CHECKING:
    WholeRecipe = dict[str, Any]
else:
    WholeRecipe = settings_of(Recipe, total=True)


@dataclass(frozen=True)
class ModelSection:
    """The model, its file and its settings."""

    name: str
    file: str | None
    config: dict[str, Any]


@dataclass(frozen=True)
class DataSection:
    """The proteins."""

    source: str
    train_split: str | None
    atom: str
    evaluate_length: int | None
    digest: str | None
    held_out: float = 0.0


@dataclass(frozen=True)
class RunSection:
    """Everything else that decides a run, by the names of `RunConfig`."""

    seed: int
    precision: str | int  # YAML reads a bare 32 as a number
    device: str
    threads: int | None = None
    devices: int = 1
    strategy: str = "auto"
    activation_checkpointing: bool = False
    compile: bool = False


@dataclass(frozen=True, kw_only=True)
class ConfigFile:
    """A run's config.yaml. `protcli` is the version that wrote it; `made_with` decides nothing."""

    protcli: Any = None
    model: ModelSection
    recipe: WholeRecipe
    data: DataSection
    run: RunSection
    made_with: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """The configuration of a run.

    Attributes:
        spec: the model with its final configuration and recipe.
        model_file: the file of a model that is not one of protcli's own.
        data: `sample` or the folder of a store.
        train_split: None takes the store's only one.
        atom: `ca` or `cb`.
        evaluate_length: how many residues of each chain are evaluated; None takes the crop.
        digest: of the data that a repeated run must use; None accepts any data.
        held_out: share of the training proteins held out, by whole families, for validation; 0 takes the validation
            split.
        seed: for initial weights, dropout, data order and crops.
        precision, device: names known to `training.engine`.
        threads: of the CPU; sums over another number of threads round differently. None: as many as torch takes.
        devices: how many processes train together, each on a device of its own.
        strategy: how they do so, see `training.engine.STRATEGIES`.
        activation_checkpointing: whether blocks are computed again in the backward pass.
        compile: whether torch.compile makes kernels for the network; sums then round differently.
        made_with: the conditions of the run that wrote this, see `provenance.conditions`; they decide nothing here.
    """

    spec: ModelSpec
    model_file: Path | None = None
    data: str = SAMPLE
    train_split: str | None = None
    atom: str = "ca"
    evaluate_length: int | None = None
    digest: str | None = None
    held_out: float = 0.0
    seed: int = 0
    precision: str = "32"
    device: str = "auto"
    threads: int | None = None
    devices: int = 1
    strategy: str = "auto"
    activation_checkpointing: bool = False
    compile: bool = False
    made_with: dict[str, str] = field(default_factory=dict, compare=False)

    @property
    def evaluated_length(self) -> int:
        """How many residues of each chain, from the first, the model is measured on."""
        return self.spec.recipe.crop if self.evaluate_length is None else self.evaluate_length

    def with_recipe(self, **changes: Any) -> "RunConfig":
        """The same run with some settings of its recipe replaced; None leaves a setting unchanged."""
        given = {key: value for key, value in changes.items() if value is not None}
        return replace(self, spec=replace(self.spec, recipe=replace(self.spec.recipe, **given)))

    def with_model_file(self, path: Path) -> "RunConfig":
        """The same run with another path to its model file."""
        return replace(self, model_file=path)

    @property
    def identity(self) -> str:
        """Text of what decides its results: not the data's place, the release, or the device and its like."""
        content = replace(self, data="", device="", model_file=None).to_document()
        del content["protcli"], content["made_with"]
        for name in ("threads", "devices", "strategy", "activation_checkpointing", "compile"):
            del content["run"][name]
        source = self.model_file.read_text(encoding="utf-8", errors="backslashreplace") if self.model_file else ""
        return write_document(content) + source

    def to_yaml(self) -> str:
        """The YAML text that `read_config` reads."""
        return write_document(self.to_document())

    def to_document(self) -> dict[str, Any]:
        """The plain values of that text."""
        content = ConfigFile(
            protcli=VERSION,
            model=ModelSection(
                self.spec.name, str(self.model_file) if self.model_file else None, config_dict(self.spec)
            ),
            recipe=self.spec.recipe.values(),
            data=DataSection(self.data, self.train_split, self.atom, self.evaluate_length, self.digest, self.held_out),
            run=RunSection(**{each.name: getattr(self, each.name) for each in fields(RunSection)}),
            made_with=self.made_with,
        )
        return asdict(content)


def read_config(path: Path) -> RunConfig:
    """Read what `RunConfig.to_yaml` wrote; its model file is looked for in the same folder.

    Raises:
        ProtcliError: no such file, not YAML, an unknown or missing setting, or one of the wrong type.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ProtcliError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:  # not UTF-8
        raise ProtcliError(f"{path} is not a YAML file: {excerpt(error, 200)}") from error
    content = read_document(text, ConfigFile, str(path))
    model, data, run = content.model, content.data, content.run
    model_file = path.parent / model.file if model.file else None
    if model_file is not None and not is_file(model_file):
        raise ProtcliError(
            f"{path} needs the model file {excerpt(model_file, 200)}, which is missing: a run's artifacts hold both"
        )
    try:
        spec = with_config(find_model(model.name, model_file), model.config)
        spec = replace(spec, recipe=Recipe(**content.recipe))
        check_recipe(spec)
    except ProtcliError as error:
        raise ProtcliError(f"{path}: {error}") from error
    return RunConfig(
        spec=spec,
        model_file=model_file,
        data=data.source,
        train_split=data.train_split,
        atom=data.atom,
        evaluate_length=data.evaluate_length,
        digest=data.digest,
        held_out=data.held_out,
        made_with=content.made_with,
        **asdict(replace(run, precision=str(run.precision))),
    )


def check_recipe(spec: ModelSpec) -> None:
    """Raise ProtcliError for a recipe that cannot be used for training."""
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
    if recipe.max_grad_norm is not None and not recipe.max_grad_norm > 0:
        raise ProtcliError(f"--max-grad-norm is {recipe.max_grad_norm}: give a number above 0")
    if not 0 <= recipe.weight_decay < math.inf:
        raise ProtcliError(f"--weight-decay is {recipe.weight_decay}: give 0 or more")
    if not 0 < recipe.train_share <= 1:
        raise ProtcliError(f"--train-share is {recipe.train_share}: give more than 0, and at most 1")
    for option, share in (("--warmup", recipe.warmup), ("--ema", recipe.ema)):
        if not 0 <= share < 1:
            raise ProtcliError(f"{option} is {share}: give 0 or more, and less than 1")
    try:
        check_padded_lengths(recipe.padded_lengths, recipe.crop)
    except ValueError as error:
        raise ProtcliError(str(error)) from None
    find_loss(recipe.loss)
    for option, value, known in (
        ("optimizer", recipe.optimizer, OPTIMIZERS),
        ("schedule", recipe.schedule, SCHEDULES),
    ):
        if value not in known:
            raise ProtcliError(f"unknown {option} {value!r}: choose one of {', '.join(known)} with --{option}")
    if spec.is_fitted and recipe.train_share != 1:
        raise ProtcliError(f"{spec.name} is fitted to all training proteins: leave out --train-share")
    if spec.is_fitted and recipe.epochs != 1:
        raise ProtcliError(f"{spec.name} is fitted in one pass: leave out --epochs")
