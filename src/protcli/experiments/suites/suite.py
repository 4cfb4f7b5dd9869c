"""A suite: a question, the models that answer it, and what they are compared with, in one YAML file."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.resources import files
from itertools import chain, combinations, product, starmap
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import FiniteFloat

from protcli.errors import ProtcliError, quote, truncate
from protcli.experiments.comparing.figures import FIGURES
from protcli.experiments.config import check_recipe
from protcli.experiments.statistics.contrasts import FEWEST_SEEDS
from protcli.experiments.sweeps.space import Tuning
from protcli.models.external import load_model_file
from protcli.models.recipe import Recipe
from protcli.models.settings import replace_settings, some_of
from protcli.models.spec import ModelSpec
from protcli.models.zoo import config_dict, find_model, with_config
from protcli.tracking.keys import Param
from protcli.yaml_file import read_yaml, write_yaml

MOST_CELLS, MOST_SEEDS = 400, 1000
TRACK_EPOCHS = 20  # of a training whose proteins are counted, so that each is a twentieth of them
SUITES = files("protcli") / "suites"
if TYPE_CHECKING:
    RecipeChanges = dict[str, Any]
else:
    RecipeChanges = some_of(Recipe)


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One of the models that a suite compares, as its file describes it.

    Attributes:
        model: its name.
        name: unique within the suite; the model's, if none is given.
        file: of a user's own model.
        set, recipe: settings of the model and of its recipe that are not its own.
    """

    model: str
    name: str = ""
    file: str | None = None
    set: dict[str, Any] = field(default_factory=dict)
    recipe: RecipeChanges = field(default_factory=dict)

    @property
    def model_file(self) -> Path | None:
        """The file of a user's own model."""
        return Path(self.file) if self.file else None

    @cached_property
    def spec(self) -> ModelSpec:
        """The model with its configuration and recipe. Raises ProtcliError or ValueError if they cannot be used."""
        spec = with_config(find_model(self.model, self.model_file), self.set)
        spec = replace(spec, recipe=replace_settings(spec.recipe, self.recipe))
        check_recipe(spec)
        return spec

    @property
    def training(self) -> tuple[Path | None, str, dict[str, Any], Recipe]:
        """What decides its training. Specs are not compared: a user's file makes other classes each time it is run."""
        return self.model_file, self.spec.name, config_dict(self.spec), self.spec.recipe

    def applicable(self, recipe: dict[str, Any]) -> dict[str, Any]:
        """The settings of a recipe for all cells that apply to this one: a baseline is fitted once, to all proteins."""
        no_settings = (
            ("epochs", "train_share", "epoch_samples") if find_model(self.model, self.model_file).is_fitted else ()
        )
        return {key: value for key, value in recipe.items() if key not in no_settings}


@dataclass(frozen=True)
class Published:
    """What a study published for the cells, one run each, to compare with one's own figures.

    Attributes:
        unit: `legacy_sse_pm2` or `mse`.
        validation: by epoch, then by cell.
        best_epoch, last_five: by cell (epoch of lowest validation error, mean error of the last five epochs).
    """

    unit: Literal["legacy_sse_pm2", "mse"]
    validation: dict[int, dict[str, FiniteFloat]]
    best_epoch: dict[str, int] = field(default_factory=dict)
    last_five: dict[str, FiniteFloat] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class TrainShares:
    """The cells that differ in their training proteins alone; see `learning_curve`.

    Attributes:
        cells: their names.
        target: the ratio to sepmean's MSE whose number of proteins is asked for.
    """

    cells: tuple[str, ...]
    target: FiniteFloat | None = None


@dataclass(frozen=True, kw_only=True)
class Factors:
    """Every combination of some settings. A factor is a setting of the model, of its recipe, or `model` itself.

    Attributes:
        model, file, recipe: of all of them.
        factors: levels by factor, in order; the first level of each is the one that the others are compared with.
    """

    model: str | None = None
    file: str | None = None
    recipe: RecipeChanges = field(default_factory=dict)
    factors: dict[str, tuple[Any, ...]]

    @property
    def combinations(self) -> list[tuple[str, dict[str, Any]]]:
        """The names of the cells, and the level of each factor."""
        combined = (dict(zip(self.factors, levels, strict=True)) for levels in product(*self.factors.values()))
        return [(", ".join(starmap(level_name, levels.items())), levels) for levels in combined]

    def arm(self, name: str, levels: dict[str, Any]) -> Arm:
        """The cell with these levels."""
        model = levels.get(Param.MODEL, self.model)
        if not isinstance(model, str):
            raise ValueError("factorial: name the model with `model: NAME`, or make it a factor")
        recipe = {factor: level for factor, level in levels.items() if factor in Recipe.__dataclass_fields__}
        settings = {factor: level for factor, level in levels.items() if factor not in (Param.MODEL, *recipe)}
        return Arm(name=name, model=model, file=self.file, set=settings, recipe=self.recipe | recipe)


@dataclass(frozen=True, kw_only=True)
class SuiteFile:
    """What a suite's file says; docs/own-suite.md explains each setting.

    Attributes:
        question: the question its report answers.
        reference: name of the cell that the others are compared with.
        primary: the one comparison that answers the question, of the first cell with the second; None if the file names
            none.
        pairs: further comparisons, of the first cell with the second.
        seeds: how many runs of each cell.
        looks: numbers of seeds at which the primary comparison may be decided, ascending; the last one is `seeds`.
            Empty if it is looked at once, at the end.
        equal_within: per cent of MSE within which two models may be called equal; None claims no equality.
        at_epochs: epochs at which validation error is tabulated (if training reached them; its last epoch always is).
        figures: of the report, in its order.
        recipe: settings of all recipes.
        steps: optimiser steps of every training, which decide its epochs; None leaves the epochs to the recipes.
        samples: proteins that every training sees in all, in TRACK_EPOCHS epochs; None leaves them to the recipes.
        tuned: whether the recipes are those that were best in the suite's sweep.
        tuning: how they are tuned.
        cells: what is compared, in the order of the tables.
        factorial: more of them.
        learning_curve: which of them are trained on shares of the proteins.
        published: a study's figures.
    """

    question: str
    reference: str
    primary: tuple[str, str] | None = None
    pairs: tuple[tuple[str, str], ...] = ()
    seeds: int = 5
    looks: tuple[int, ...] = ()
    equal_within: FiniteFloat | None = None
    at_epochs: tuple[int, ...] = ()
    figures: tuple[str, ...] = FIGURES
    recipe: RecipeChanges = field(default_factory=dict)
    steps: int | None = None
    samples: int | None = None
    tuned: bool = False
    tuning: Tuning = field(default_factory=Tuning)
    cells: tuple[Arm, ...] = ()
    factorial: Factors | None = None
    learning_curve: TrainShares | None = None
    published: Published | None = None


@dataclass(frozen=True, kw_only=True)
class Suite(SuiteFile):
    """A suite that can be run: all cells of its file with their final recipes.

    Attributes:
        name: of the suite; its MLflow experiment is `suite-NAME`.
        source: the file's text.
    """

    name: str
    source: str

    @property
    def factors(self) -> dict[str, tuple[Any, ...]]:
        """Levels by factor; empty if there is no factorial."""
        return self.factorial.factors if self.factorial else {}

    @property
    def levels(self) -> dict[str, dict[str, Any]]:
        """By cell, its level of each factor; empty for one outside the factorial."""
        return {cell.name: {} for cell in self.cells} | dict(self.factorial.combinations if self.factorial else [])

    @property
    def makeup(self) -> list[tuple[Any, ...]]:
        """What its runs consist of: suites with the same makeup can report the same runs, whatever they ask."""
        return [(cell.name, *cell.training[1:]) for cell in self.cells]

    def with_recipe(self, **changes: Any) -> "Suite":
        """The same suite with some settings of every cell's recipe replaced; None leaves a setting unchanged.

        Raises:
            ProtcliError: something else decides that setting.
        """
        given = {key: value for key, value in changes.items() if value is not None}
        decided = {"batch_size": self.tuned, "epochs": self.tuned or self.steps or self.samples}
        for key in given:
            if decided.get(key):
                source = "its sweep" if self.tuned else "its file"
                raise ProtcliError(f"{source} decides that of suite {self.name}: leave out --{key.replace('_', '-')}")
        cells = [replace(cell, recipe=cell.recipe | cell.applicable(given)) for cell in self.cells]
        return replace(self, cells=tuple(cells))


def suite_names() -> list[str]:
    """The suites that come with protcli."""
    return sorted(entry.name.removesuffix(".yaml") for entry in SUITES.iterdir() if entry.name.endswith(".yaml"))


def find_suite(name: str, model_file: Path | None = None) -> Suite:
    """The suite with that name, or the one in a user's own file (`my_suite.yaml`).

    Args:
        name: of the suite, or of its file.
        model_file: of a user's own models, each of which becomes one more cell of a suite of protcli's.

    Raises:
        ProtcliError: there is none, or its file does not describe one.
    """
    if name in suite_names():
        text, where = (SUITES / f"{name}.yaml").read_text("utf-8"), f"suite {name}"
        if model_file is not None:
            content = read_yaml(text, dict[str, Any], where)
            own = [{"model": each, "file": str(model_file.absolute())} for each in load_model_file(model_file)]
            text = write_yaml(content | {"cells": [*content.get("cells", []), *own]})
        return read_suite(name, text, where, Path())
    path, where = Path(name), truncate(name, 200)
    if path.suffix not in (".yaml", ".yml"):
        raise ProtcliError(f"there is no suite {quote(name)}: choose {', '.join(suite_names())}, or name a .yaml file")
    if model_file is not None:
        raise ProtcliError(f"{where} is your own suite: name your model among its cells, with `file`")
    try:
        text = path.read_text("utf-8")
    except (OSError, ValueError) as error:
        raise ProtcliError(f"cannot read {where}: {getattr(error, 'strerror', None) or error}") from error
    if not is_suite_name(path.stem):
        raise ProtcliError(f"{where}: a suite is named after its file; use only letters, digits, - and _")
    return read_suite(path.stem, text, str(path), path.parent)


def is_suite_name(text: str) -> bool:
    """Whether a suite can have this name, which is that of an MLflow experiment."""
    return text.replace("-", "").replace("_", "").isalnum()


def read_suite(name: str, text: str, where: str, folder: Path) -> Suite:
    """A suite from YAML text; error messages begin with `where`, model files are looked for in `folder`.

    Raises:
        ProtcliError: it is not a suite; the message says what is wrong.
    """
    content = read_yaml(text, SuiteFile, where)
    try:
        suite = Suite(**vars(content) | {"cells": _cells(content, folder)}, name=name, source=text)
        for clause in _contradictions(suite):
            raise ValueError(clause)
    except (ProtcliError, ValueError) as error:
        raise ProtcliError(f"{where}: {error}") from error
    return replace(suite, question=" ".join(suite.question.split()))


def _cells(content: SuiteFile, folder: Path) -> tuple[Arm, ...]:
    """All cells, with the recipe that is common to them, and their models found."""
    described = [(f"cells[{index}]", cell) for index, cell in enumerate(content.cells)]
    counted = {}
    if (samples := content.samples) is not None:
        if samples < 1 or samples % TRACK_EPOCHS:
            raise ValueError(f"samples: give a multiple of {TRACK_EPOCHS}, such as 20000, not {samples}")
        counted = {"epochs": TRACK_EPOCHS, "epoch_samples": samples // TRACK_EPOCHS}
    if grid := content.factorial:
        for factor, levels in grid.factors.items():
            if not levels:
                raise ValueError(f"factorial.factors.{factor} is empty: give a list, such as [1, 2]")
        if (count := len(described) + prod(map(len, grid.factors.values()))) > MOST_CELLS:  # before they are made
            raise ValueError(f"it has {count:,} cells: a suite compares at most {MOST_CELLS}")
        described += [("factorial", grid.arm(*combination)) for combination in grid.combinations]
    cells = []
    for place, cell in described:
        file = str((folder / cell.file).absolute()) if cell.file else None
        try:
            cell = replace(cell, file=file)
            if clashing := counted.keys() & (content.recipe | cell.recipe):
                raise ValueError(f"the suite's samples decide the {min(clashing)}: leave that out of the recipes")
            cell = replace(cell, recipe=cell.applicable(content.recipe | counted) | cell.recipe)
            spec = cell.spec  # also of a cell with a name: its mistakes are said here
            cells.append(replace(cell, name=cell.name or spec.name))
        except (ProtcliError, ValueError) as error:
            raise ProtcliError(f"{place}: {error}") from error
    return tuple(cells)


def _contradictions(suite: Suite) -> Iterator[str]:
    """What its settings cannot mean together, a clause each."""
    cells, names = suite.cells, [cell.name for cell in suite.cells]
    listed = truncate(", ".join(names), 200)
    if len(cells) < 2:
        yield f"a suite compares two or more cells, and here is {listed or 'none'}"
    for first, second in combinations(cells, 2):
        if first.name == second.name:
            yield f"two cells are named {truncate(first.name)}: give one of them another `name`"
        if first.training == second.training:
            both = f"{truncate(first.name)} and {truncate(second.name)}"
            yield f"{both} are the same model with the same settings and recipe"
    if suite.reference not in names:
        yield f"the reference {quote(suite.reference)} is not one of its cells: {listed}"
    for place, pairs in (("primary", [suite.primary] if suite.primary else []), ("pairs", suite.pairs)):
        for pair in pairs:
            if len(set(pair) & set(names)) != 2:
                yield f"{place}: {quote(list(pair))} is not a pair of its cells: {listed}"
    for figure in suite.figures:
        if figure not in FIGURES:
            yield f"figures: {quote(figure)} is not one of {', '.join(FIGURES)}"
    if not 1 <= suite.seeds <= MOST_SEEDS:
        yield f"seeds: give 1 or more, and at most {MOST_SEEDS:,}"
    if looks := suite.looks:
        if list(looks) != sorted(set(looks)) or looks[0] < FEWEST_SEEDS or looks[-1] != suite.seeds:
            yield (
                f"looks: give ascending numbers of seeds from {FEWEST_SEEDS} on, the last of them {suite.seeds} "
                f"(`seeds`), not {quote(list(looks))}"
            )
        if suite.primary is None:
            yield "looks: are at the primary comparison, so name it with `primary: [cell, other cell]`"
    if suite.equal_within is not None and not 0 < suite.equal_within < 100:
        yield f"equal_within: give per cent between 0 and 100, not {suite.equal_within:g}"
    if (first_epoch := min(suite.at_epochs, default=1)) < 1:
        yield f"at_epochs: give epochs from 1, not {first_epoch}"
    for clause in suite.tuning.contradictions():
        yield f"tuning: {clause}"
    if suite.samples and (suite.tuned or suite.steps is not None):
        yield f"samples decide how long it trains: leave out {'tuned' if suite.tuned else 'steps'}"
    if suite.steps is not None:
        if suite.steps < 1:
            yield "steps: give 1 or more"
        if suite.tuning.steps is not None:
            yield "tuning.steps: the suite's own steps are fixed, so leave one of them out"
        if any("epochs" in recipe for recipe in (suite.recipe, *(cell.recipe for cell in cells))):
            yield "steps decide the epochs: leave epochs out of the recipes"
    if curve := suite.learning_curve:
        on_shares = [cell for cell in cells if cell.name in curve.cells]
        if len(on_shares) < max(len(curve.cells), 2):
            yield f"learning_curve.cells: {quote(list(curve.cells))} are not two or more of its cells: {listed}"
        shares = {cell.spec.recipe.train_share for cell in on_shares}
        alike, *others = [replace(cell, recipe=cell.recipe | {"train_share": 1.0}).training for cell in on_shares]
        if len(shares) < len(on_shares) or any(other != alike for other in others):
            yield "learning_curve.cells: must differ in the recipe's train_share, and in nothing else"
        if curve.target is not None and curve.target <= 0:
            yield f"learning_curve.target: give a ratio to sepmean's MSE above 0, not {curve.target:g}"
    if published := suite.published:
        tables: list[Iterable[str]] = [*published.validation.values(), published.best_epoch, published.last_five]
        for name in chain.from_iterable(tables):
            if name not in names:
                yield f"published: {quote(name)} is not one of the cells {listed}"


def level_name(factor: str, level: Any) -> str:
    """`bilinear`, `dropout 0.3`: a word is clear by itself, a number needs its factor."""
    return level if isinstance(level, str) else f"{factor} {level}"
