"""A suite: a question, the models that answer it, and what they are compared with, described in one YAML file."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from importlib.resources import files
from itertools import chain, combinations, product
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import FiniteFloat

from protcli.errors import ProtcliError, excerpt, shown
from protcli.experiments.comparing.figures import FIGURES
from protcli.experiments.config import check_recipe
from protcli.experiments.statistics.contrasts import FEWEST_SEEDS
from protcli.experiments.tuning.space import Tuning
from protcli.models.recipe import Recipe
from protcli.models.settings import replace_settings, some_of
from protcli.models.spec import ModelSpec
from protcli.models.zoo import config_dict, find_model, with_config
from protcli.tracking.keys import Param
from protcli.yaml_file import read_yaml

MOST_CELLS, MOST_SEEDS = 400, 1000
SUITES = files("protcli") / "suites"
if TYPE_CHECKING:
    RecipeChanges = dict[str, Any]
else:
    RecipeChanges = some_of(Recipe)


@dataclass(frozen=True)
class Cell:
    """One of the models that a suite compares.

    Attributes:
        name: unique within the suite.
        spec: the model with its configuration and recipe.
        model_file: the file of a user's own model.
        levels: the cell's level of each of the suite's factors; empty for a cell outside the factorial.
    """

    name: str
    spec: ModelSpec
    model_file: Path | None = None
    levels: dict[str, Any] = field(default_factory=dict)

    @property
    def training(self) -> tuple[Path | None, str, dict[str, Any], Recipe]:
        """What decides its training. Specs are not compared: a user's file makes other classes each time it is run."""
        return self.model_file, self.spec.name, config_dict(self.spec), self.spec.recipe


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
class LearningCurveFile:
    """The cells that differ in their training proteins alone, as a suite file names them; see `learning_curve`."""

    cells: tuple[str, ...]
    target: FiniteFloat | None = None


@dataclass(frozen=True, kw_only=True)
class CellFile:
    """A cell as a suite file describes it."""

    model: str
    name: str | None = None
    file: str | None = None
    set: dict[str, Any] = field(default_factory=dict)
    recipe: RecipeChanges = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class FactorialFile:
    """Every combination of some settings, as a suite file describes them.

    A factor is a setting of the model, a setting of its recipe, or `model` itself.
    """

    model: str | None = None
    file: str | None = None
    recipe: RecipeChanges = field(default_factory=dict)
    factors: dict[str, tuple[Any, ...]]


@dataclass(frozen=True, kw_only=True)
class SuiteFile:
    """A suite file; docs/own-suite.md explains each setting."""

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
    tuned: bool = False
    tuning: Tuning = field(default_factory=Tuning)
    cells: tuple[CellFile, ...] = ()
    factorial: FactorialFile | None = None
    learning_curve: LearningCurveFile | None = None
    published: Published | None = None


@dataclass(frozen=True)
class Suite:
    """Attributes:
    name: of the suite; its MLflow experiment is `suite-NAME`.
    question: the question its report answers.
    cells: what is compared, in the order of the tables.
    reference: name of the cell that the others are compared with.
    primary: the one comparison that answers the question, of the first cell with the second; None if the file names
        none.
    pairs: further comparisons, of the first cell with the second.
    seeds: how many runs of each cell.
    looks: numbers of seeds at which the primary comparison may be decided, ascending; the last one is `seeds`. Empty
        if it is looked at once, at the end.
    equal_within: per cent of MSE within which two models may be called equal; None claims no equality.
    at_epochs: epochs at which validation error is tabulated (if training reached them; its last epoch always is).
    figures: of the report, in its order.
    steps: optimiser steps of every training, which decide its epochs; None leaves the epochs to the recipes.
    tuned: whether the recipes are those that were best in the suite's sweep.
    tuning: how they are tuned.
    learning_curve: names of the cells that are trained on shares of the proteins, and the ratio to sepmean's MSE
        whose number of proteins is asked for; None if there is none.
    factors: levels by factor, in order; the first level of each is the one that the others are compared with.
    published: a study's figures.
    source: the file's text.
    """

    name: str
    question: str
    cells: tuple[Cell, ...]
    reference: str
    primary: tuple[str, str] | None
    pairs: tuple[tuple[str, str], ...]
    seeds: int
    looks: tuple[int, ...]
    equal_within: float | None
    at_epochs: tuple[int, ...]
    figures: tuple[str, ...]
    steps: int | None
    tuned: bool
    tuning: Tuning
    factors: dict[str, tuple[Any, ...]]
    learning_curve: LearningCurveFile | None
    published: Published | None
    source: str

    @property
    def makeup(self) -> list[tuple[str, str, dict[str, Any], Recipe]]:
        """What its runs consist of: suites with the same makeup can report the same runs, whatever they ask."""
        return [(cell.name, cell.spec.name, config_dict(cell.spec), cell.spec.recipe) for cell in self.cells]

    def with_recipe(self, **changes: Any) -> "Suite":
        """The same suite with some settings of every cell's recipe replaced; None leaves a setting unchanged.

        Raises:
            ProtcliError: a recipe cannot be used for training, or something else decides that setting.
        """
        given = {key: value for key, value in changes.items() if value is not None}
        decided = {"batch_size": self.tuned, "epochs": self.tuned or self.steps}
        for key in given:
            if decided.get(key):
                source = "its sweep" if self.tuned else "its steps"
                raise ProtcliError(f"{source} decides that of suite {self.name}: leave out --{key.replace('_', '-')}")
        cells = []
        for cell in self.cells:
            spec = replace(cell.spec, recipe=replace(cell.spec.recipe, **_for_model(given, cell.spec)))
            check_recipe(spec)
            cells.append(replace(cell, spec=spec))
        return replace(self, cells=tuple(cells))


def suite_names() -> list[str]:
    """The suites that come with protcli."""
    return sorted(entry.name.removesuffix(".yaml") for entry in SUITES.iterdir() if entry.name.endswith(".yaml"))


def find_suite(name: str) -> Suite:
    """The suite with that name, or the one in a user's own file (`my_suite.yaml`).

    Raises:
        ProtcliError: there is none, or its file does not describe one.
    """
    if name in suite_names():
        return read_suite(name, (SUITES / f"{name}.yaml").read_text(encoding="utf-8"), f"suite {name}", Path())
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        raise ProtcliError(f"there is no suite {shown(name)}: choose {', '.join(suite_names())}, or name a .yaml file")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ProtcliError(
            f"{excerpt(path, 200)} cannot be read: {getattr(error, 'strerror', None) or error}"
        ) from error
    if not path.stem.replace("-", "").replace("_", "").isalnum():
        raise ProtcliError(f"{excerpt(path, 200)}: a suite is named after its file; use only letters, digits, - and _")
    return read_suite(path.stem, text, str(path), path.parent)


def read_suite(name: str, text: str, where: str, folder: Path) -> Suite:
    """A suite from YAML text; error messages begin with `where`, model files are looked for in `folder`.

    Raises:
        ProtcliError: it is not a suite; the message says what is wrong.
    """
    content = read_yaml(text, SuiteFile, where)
    try:
        return _suite(name, text, content, folder)
    except (ProtcliError, ValueError) as error:
        raise ProtcliError(f"{where}: {error}") from error


def _suite(name: str, text: str, content: SuiteFile, folder: Path) -> Suite:
    combined = prod(map(len, content.factorial.factors.values())) if content.factorial else 0
    if len(content.cells) + combined > MOST_CELLS:
        raise ValueError(f"it has {len(content.cells) + combined:,} cells: a suite compares at most {MOST_CELLS}")
    cells = [_cell(f"cells[{index}]", cell, content.recipe, folder) for index, cell in enumerate(content.cells)]
    factors: dict[str, tuple[Any, ...]] = {}
    if grid := content.factorial:
        factors = grid.factors
        for factor, levels in factors.items():
            if not levels:
                raise ValueError(f"factorial.factors.{factor} is empty: give a list, such as [1, 2]")
        for levels in product(*factors.values()):
            chosen = dict(zip(factors, levels, strict=True))
            described = _combination(grid, chosen)
            cells.append(replace(_cell("factorial", described, content.recipe, folder), levels=chosen))
    names = [cell.name for cell in cells]
    listed = excerpt(", ".join(names), 200)
    if len(cells) < 2:
        raise ValueError(f"a suite compares two or more cells, and here is {excerpt(names[0]) if names else 'none'}")
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(f"two cells are named {excerpt(twice)}: give one of them another `name`")
    for first, second in combinations(cells, 2):
        if first.training == second.training:
            raise ValueError(
                f"{excerpt(first.name)} and {excerpt(second.name)} are the same model with the same settings and recipe"
            )
    if content.reference not in names:
        raise ValueError(f"the reference {shown(content.reference)} is not one of its cells: {listed}")
    for place, pairs in (("primary", [content.primary] if content.primary else []), ("pairs", content.pairs)):
        for pair in pairs:
            if len(set(pair) & set(names)) != 2:
                raise ValueError(f"{place}: {shown(list(pair))} is not a pair of its cells: {listed}")
    for figure in content.figures:
        if figure not in FIGURES:
            raise ValueError(f"figures: {shown(figure)} is not one of {', '.join(FIGURES)}")
    if not 1 <= content.seeds <= MOST_SEEDS:
        raise ValueError(f"seeds: give 1 or more, and at most {MOST_SEEDS:,}")
    if looks := content.looks:
        if list(looks) != sorted(set(looks)) or looks[0] < FEWEST_SEEDS or looks[-1] != content.seeds:
            raise ValueError(
                f"looks: give ascending numbers of seeds from {FEWEST_SEEDS} on, the last of them {content.seeds} "
                f"(`seeds`), not {shown(list(looks))}"
            )
        if content.primary is None:
            raise ValueError("looks: are at the primary comparison, so name it with `primary: [cell, other cell]`")
    if content.equal_within is not None and not 0 < content.equal_within < 100:
        raise ValueError(f"equal_within: give per cent between 0 and 100, not {content.equal_within:g}")
    if low := [epoch for epoch in content.at_epochs if epoch < 1]:
        raise ValueError(f"at_epochs: give epochs from 1, not {low[0]}")
    _check_steps(content)
    if curve := content.learning_curve:
        if len(set(curve.cells) & set(names)) < max(len(curve.cells), 2):
            raise ValueError(
                f"learning_curve.cells: {shown(list(curve.cells))} are not two or more of its cells: {listed}"
            )
        on_shares = [cell for cell in cells if cell.name in curve.cells]
        shares = {cell.spec.recipe.train_share for cell in on_shares}
        alike = [(*each, replace(recipe, train_share=1.0)) for *each, recipe in (cell.training for cell in on_shares)]
        if len(shares) < len(on_shares) or any(each != alike[0] for each in alike):
            raise ValueError("learning_curve.cells: must differ in the recipe's train_share, and in nothing else")
        if curve.target is not None and curve.target <= 0:
            raise ValueError(f"learning_curve.target: give a ratio to sepmean's MSE above 0, not {curve.target:g}")
    if published := content.published:
        tables: list[Iterable[str]] = [*published.validation.values(), published.best_epoch, published.last_five]
        for cell in chain.from_iterable(tables):
            if cell not in names:
                raise ValueError(f"published: {shown(cell)} is not one of the cells {listed}")
    return Suite(
        name=name,
        question=" ".join(content.question.split()),
        cells=tuple(cells),
        reference=content.reference,
        primary=content.primary,
        pairs=content.pairs,
        seeds=content.seeds,
        looks=content.looks,
        equal_within=content.equal_within,
        at_epochs=content.at_epochs,
        figures=content.figures,
        steps=content.steps,
        tuned=content.tuned,
        tuning=content.tuning,
        factors=factors,
        learning_curve=content.learning_curve,
        published=published,
        source=text,
    )


def _check_steps(content: SuiteFile) -> None:
    try:
        content.tuning.check()
    except ProtcliError as error:
        raise ValueError(f"tuning: {error}") from error
    if content.steps is None:
        return
    if content.steps < 1:
        raise ValueError("steps: give 1 or more")
    if content.tuning.steps is not None:
        raise ValueError("tuning.steps: the suite's own steps are fixed, so leave one of them out")
    recipes = [content.recipe, *(cell.recipe for cell in content.cells)]
    if any("epochs" in recipe for recipe in (*recipes, content.factorial.recipe if content.factorial else {})):
        raise ValueError("steps decide the epochs: leave epochs out of the recipes")


def level_name(factor: str, level: Any) -> str:
    """`bilinear`, `dropout 0.3`: a word is clear by itself, a number needs its factor."""
    return level if isinstance(level, str) else f"{factor} {level}"


def _combination(grid: FactorialFile, chosen: dict[str, Any]) -> CellFile:
    """The cell with one level of each factor."""
    model = chosen.get(Param.MODEL, grid.model)
    if not isinstance(model, str):
        raise ValueError("factorial: name the model with `model: NAME`, or make it a factor")
    recipe = {factor: level for factor, level in chosen.items() if factor in Recipe.__dataclass_fields__}
    return CellFile(
        name=", ".join(level_name(factor, level) for factor, level in chosen.items()),
        model=model,
        file=grid.file,
        set={factor: level for factor, level in chosen.items() if factor not in (Param.MODEL, *recipe)},
        recipe=grid.recipe | recipe,
    )


def _cell(place: str, content: CellFile, common: dict[str, Any], folder: Path) -> Cell:
    model_file = folder / content.file if content.file else None
    try:
        spec = with_config(find_model(content.model, model_file), content.set)
        spec = replace(spec, recipe=replace_settings(spec.recipe, _for_model(common, spec) | content.recipe))
        check_recipe(spec)
    except (ProtcliError, ValueError) as error:
        raise ProtcliError(f"{place}: {error}") from error
    name = spec.name if content.name is None else content.name
    return Cell(name, spec, model_file.absolute() if model_file else None)


def _for_model(recipe: dict[str, Any], spec: ModelSpec) -> dict[str, Any]:
    """The settings of a recipe for all cells that apply to one model: a baseline is fitted once, to all proteins."""
    return {key: value for key, value in recipe.items() if key not in ("epochs", "train_share") or not spec.is_fitted}
