"""Everything that decides a run, as one value: the YAML that repeats it, the options of `protcli train`, MLflow's
parameters and its identity. A setting is one field of a section. Importing this does not import torch or pydantic.
"""

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields, make_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from protcli.errors import ProtcliError, choose, truncate
from protcli.models.recipe import BLANK, OMITTED, Recipe, Settings, between, check_ranges, setting
from protcli.proteins import SAMPLE
from protcli.version import VERSION, git_commit

if TYPE_CHECKING:
    import torch

    from protcli.models.spec import ModelSpec
    from protcli.tracking.run import Run
    from protcli.training.predictor import SavedModel

PACKAGES = ("torch", "torchvision", "mlflow", "lightning-fabric", "numpy", "pyarrow")  # that a result may depend on


@dataclass(frozen=True, kw_only=True)
class DataConfig(Settings):
    """The proteins.

    Attributes without help in their settings:
        digest: of the data that a repeated run must use; None accepts any data.
    """

    source: str = setting(
        SAMPLE, "`sample` (built in, the default) or a store folder.", option="--data", identity=BLANK
    )
    train_split: str | None = setting(None, "Training split, if there are several; or several, with commas.")
    atom: str = setting("ca", "Atoms to measure distances between: ca (the default) or cb.")
    evaluate_length: int | None = setting(
        None, "Residues per chain that are evaluated (default: the crop).", parameter="evaluated_length"
    )
    digest: str | None = setting(None)
    held_out: float = setting(
        0.0,
        "Validate on this share of the training proteins, held out by whole families, instead of the validation split.",
        metavar="SHARE",
    )


class Text:
    """In an annotation: a file may give the text as a number, as YAML reads a bare 32."""

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        from pydantic_core.core_schema import no_info_before_validator_function

        return no_info_before_validator_function(
            lambda value: str(value) if type(value) is int else value, handler(str)
        )


@dataclass(frozen=True, kw_only=True)
class RunOptions(Settings):
    """Everything else: of the seed and the precision, and how a run is carried out."""

    seed: int = setting(0, "Seed of weights, dropout, data order and crops (default: 0).", range=between(0, 2**32 - 1))
    precision: Annotated[str, Text()] = setting("32", "Precision: 32 (the default), tf32 or bf16.")
    device: str = setting("auto", "auto (the default: CUDA if available), cpu or cuda:N.", identity=BLANK)
    threads: int | None = setting(
        None,
        "CPU threads (default: as many as torch takes); they decide the last digits.",
        identity=OMITTED,
        range=between(1, 1024),  # far above it, OpenMP ends the process
    )
    devices: int = setting(
        1,
        "Train with this number of processes, each on a GPU of its own, or with its share of the cores.",
        identity=OMITTED,
        range=(lambda value: value >= 1, "a number of processes, 1 or more"),
    )
    strategy: str = setting(
        "auto",
        "How several processes train: ddp (auto) copies the weights to each, fsdp divides them.",
        identity=OMITTED,
    )
    activation_checkpointing: bool = setting(
        False,
        "Compute each block again in the backward pass: less memory, about a third more time.",
        identity=OMITTED,
    )
    compile: bool = setting(False, "Let torch.compile make kernels for the model; needs a compiler.", identity=OMITTED)


@dataclass(frozen=True)
class ModelSection:
    """The model of a run's config.yaml, its file and its settings."""

    name: str
    file: str | None
    config: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """The configuration of a run.

    Attributes:
        spec: the model with its final configuration and recipe.
        model_file: the file of a model that is not one of protcli's own.
        data: the proteins.
        run: everything else.
        made_with: the conditions of the run that wrote this, see `conditions`; they decide nothing here.
    """

    spec: "ModelSpec"
    model_file: Path | None = None
    data: DataConfig = field(default_factory=DataConfig)
    run: RunOptions = field(default_factory=RunOptions)
    made_with: dict[str, str] = field(default_factory=dict, compare=False)

    @classmethod
    def section_types(cls) -> dict[str, type[Settings]]:
        """The sections of settings by name, in the order of the file."""
        sections: dict[str, Any] = {each.name: each.default_factory for each in fields(cls)}
        own = {name: kind for name, kind in sections.items() if isinstance(kind, type) and issubclass(kind, Settings)}
        return {"recipe": Recipe, **own}

    @property
    def sections(self) -> dict[str, Any]:
        """The values of the sections."""
        return {name: self.spec.recipe if name == "recipe" else getattr(self, name) for name in self.section_types()}

    @property
    def evaluated_length(self) -> int:
        """How many residues of each chain, from the first, the model is measured on."""
        return self.spec.recipe.crop if self.data.evaluate_length is None else self.data.evaluate_length

    def saved_model(self, *weights: Path) -> "SavedModel":
        """The model with weights that were trained."""
        from protcli.training.predictor import SavedModel

        return SavedModel(
            self.spec, weights, self.run.precision, self.evaluated_length, self.data.atom, name=self.spec.name
        )

    def with_settings(self, **changes: Any) -> "RunConfig":
        """The same run with other settings of any section by name. Raises TypeError if no section has such a one."""
        sections = {}
        for name, section in self.sections.items():
            own = {each.name for each in fields(section)}
            sections[name] = replace(section, **{key: changes.pop(key) for key in own & set(changes)})
        if changes:
            raise TypeError(f"a run has no settings {', '.join(changes)}")
        return replace(self, spec=replace(self.spec, recipe=sections.pop("recipe")), **sections)

    def with_features(self, count: int) -> "RunConfig":
        """The same run with the number of features that the data have, if the model reads any."""
        from protcli.models.zoo import with_config

        return replace(self, spec=with_config(self.spec, {"features": count})) if self.spec.features else self

    def with_absolute_source(self) -> "RunConfig":
        """The same run with the place of its data as other working folders know it."""
        source = self.data.source
        return self if source == SAMPLE else self.with_settings(source=str(Path(source).absolute()))

    @property
    def identity(self) -> str:
        """Text of what decides its results: not the data's place, the release, or the device and its like."""
        from protcli.yaml_file import write_yaml

        content = {"model": self._model(None), **{name: part.identity() for name, part in self.sections.items()}}
        source = self.model_file.read_text(encoding="utf-8", errors="backslashreplace") if self.model_file else ""
        return write_yaml(content) + source

    @property
    def parameters(self) -> dict[str, Any]:
        """All settings by their names in MLflow, and the conditions that it was made with."""
        from protcli.models.zoo import config_dict

        sections = {
            "model": config_dict(self.spec),
            **{name: part.parameters() for name, part in self.sections.items()},
        }
        flat = {f"{section}.{name}": value for section, part in sections.items() for name, value in part.items()}
        return {"model": self.spec.name, **flat, **self.made_with}

    def to_yaml(self) -> str:
        """The YAML text that `read_config` reads."""
        from protcli.yaml_file import write_yaml

        model = self._model(str(self.model_file) if self.model_file else None)
        sections = {name: part.values() for name, part in self.sections.items()}
        return write_yaml({"protcli": VERSION, "model": model, **sections, "made_with": self.made_with})

    def _model(self, file: str | None) -> dict[str, Any]:
        from protcli.models.zoo import config_dict

        return {"name": self.spec.name, "file": file, "config": config_dict(self.spec)}


def read_config(path: Path, kind: type[RunConfig] = RunConfig) -> RunConfig:
    """Read what `RunConfig.to_yaml` wrote; its model file is looked for in the same folder.

    Settings that it does not name have their defaults.

    Raises:
        ProtcliError: no such file, not YAML, an unknown setting, or one of the wrong type.
    """
    from protcli.models.external import is_file
    from protcli.models.zoo import find_model, with_config
    from protcli.yaml_file import read_yaml

    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise ProtcliError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise ProtcliError(f"{path} is not a YAML file: it is not text in UTF-8") from error
    file_type = make_dataclass(
        "ConfigFile",
        [
            ("protcli", Any, field(default=None)),  # the version that wrote it
            ("model", ModelSection),
            *kind.section_types().items(),
            ("made_with", dict[str, str], field(default_factory=dict)),
        ],
        kw_only=True,
    )
    content: Any = read_yaml(text, file_type, str(path))
    model = content.model
    model_file = path.parent / model.file if model.file else None
    if model_file is not None and not is_file(model_file):
        raise ProtcliError(
            f"{path} needs the model file {truncate(model_file, 200)}, which is missing: a run's artifacts hold both"
        )
    try:
        spec = replace(with_config(find_model(model.name, model_file), model.config), recipe=content.recipe)
        check_recipe(spec)
    except ProtcliError as error:
        raise ProtcliError(f"{path}: {error}") from error
    sections = {name: getattr(content, name) for name in kind.section_types() if name != "recipe"}
    return kind(spec=spec, model_file=model_file, made_with=content.made_with, **sections)


def check_recipe(spec: "ModelSpec") -> None:
    """Raise ProtcliError for a recipe that cannot be used for training."""
    from protcli.proteins.batches import check_padded_lengths
    from protcli.training.losses import find_loss
    from protcli.training.optimizers import OPTIMIZERS, SCHEDULES

    recipe = spec.recipe
    check_ranges(recipe)
    try:
        check_padded_lengths(recipe.padded_lengths, recipe.crop)
    except ValueError as error:
        raise ProtcliError(str(error)) from None
    find_loss(recipe.loss)
    choose("optimizer", recipe.optimizer, OPTIMIZERS)
    choose("schedule", recipe.schedule, SCHEDULES)
    for option, is_given in (("train-share", recipe.train_share != 1), ("epoch-samples", recipe.epoch_samples)):
        if spec.is_fitted and is_given:
            raise ProtcliError(f"{spec.name} is fitted to all training proteins: leave out --{option}")
    if spec.is_fitted and recipe.epochs != 1:
        raise ProtcliError(f"{spec.name} is fitted in one pass: leave out --epochs")


def recorded_config(run: "Run", data: str | None = None) -> RunConfig:
    """A run's configuration, with its data at the place given, or where they are. Raises ProtcliError if it is not a
    training run."""
    from protcli.tracking.keys import File

    path = run.path(File.CONFIG)
    if File.MODEL in run.files():
        run.path(File.MODEL)  # the configuration names it, and it lies beside it
    config = read_config(path)
    return config.with_settings(source=data or _place_of(config, run))


def _place_of(config: RunConfig, run: "Run") -> str:
    """Where a run's data are: in the working folder, by an end of the recorded path, if they are the same there.

    What is there is also taken if nothing is at the recorded place, so that an error names it.
    """
    from protcli.proteins.dataset import find_store, find_validation
    from protcli.tracking.keys import Param

    recorded = Path(config.data.source)
    ends = [recorded.relative_to(each).absolute() for each in reversed(recorded.parents)]
    here = [each for each in ends if each.is_dir() and each != recorded]
    for place in here:
        with suppress(ProtcliError):
            valid = find_validation(find_store(str(place)), config.data.train_split, config.data.held_out)
            if valid.digest == run.params.get(Param.VALID_DIGEST):
                return str(place)
    return config.data.source if os.access(recorded, os.R_OK) or not here else str(here[0])


def best_model(config: RunConfig, *runs: "Run") -> "SavedModel":
    """A run's best weights; those of several runs of one configuration as an ensemble, which is not calibrated.

    Raises:
        ProtcliError: a run has none, or a file is damaged.
    """
    from protcli.proteins.confidence import Calibration
    from protcli.tracking.keys import File, weights_path

    calibration, run = None, runs[0]
    if len(runs) == 1 and File.CALIBRATION in run.files():
        path = run.path(File.CALIBRATION)
        try:
            calibration = Calibration.from_json(path.read_text("utf-8"))
        except ValueError as error:
            raise ProtcliError(f"cannot read {File.CALIBRATION} of run {run.id}: {error}") from error
    saved = config.saved_model(*(each.path(weights_path(File.BEST)) for each in runs))
    return replace(saved, calibration=calibration, run_id=run.id)


def baseline_model(config: RunConfig, run: "Run", name: str = "sepmean") -> "SavedModel":
    """The baseline with that name fitted to a run's own training split. Raises ProtcliError if the run has none."""
    from protcli.models.zoo import find_model
    from protcli.tracking.keys import weights_path

    return replace(config.saved_model(run.path(weights_path(name))), spec=find_model(name))


def conditions(device: "torch.device") -> dict[str, str]:
    """Parameters of a run: its device's name, the commit, and the versions of all that a result may depend on."""
    import platform
    from importlib.metadata import version

    import torch

    from protcli.tracking.keys import Param

    gpu = device.type == "cuda"
    # the processor's vector instructions that torch uses decide bits
    processor = f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
    return {
        Param.DEVICE_NAME: torch.cuda.get_device_name(device) if gpu else processor,
        Param.COMMIT: git_commit(),
        Param.PROTCLI: VERSION,
        Param.PYTHON: platform.python_version(),
        **{f"{Param.VERSION_SECTION}{package}": version(package) for package in PACKAGES},
    }


def other_conditions(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """What has changed since a run was made, a clause each."""
    return [
        f"{key} is {now.get(key) or 'unknown'}, was {value or 'unknown'}"
        for key, value in before.items()
        if now.get(key, "") != value
    ]
