"""A suite: one question, the models that answer it, and what they are compared with. It is data, in one YAML file."""

from dataclasses import dataclass, field, replace
from importlib.resources import files
from itertools import product
from pathlib import Path
from typing import Any

import yaml

from protcli.errors import ProtcliError
from protcli.experiments.runs.config import check_recipe
from protcli.models.settings import as_type, setting_types
from protcli.models.spec import ModelSpec, Recipe
from protcli.models.zoo import config_dict, find_model, with_config

SUITES = files("protcli") / "suites"
UNITS = ("legacy_sse_pm2", "mse")
FIGURES = ("mse", "epochs", "maps", "separation", "length")
KEYS = {
    "question": str,
    "reference": str,
    "pairs": list,
    "seeds": int,
    "at_epochs": tuple[int, ...],
    "figures": tuple[str, ...],
    "recipe": dict,
    "cells": list,
    "factorial": dict,
    "published": dict,
}


@dataclass(frozen=True)
class Cell:
    """One of the models that a suite compares.

    Attributes:
        name: within the suite.
        spec: the model with its configuration and recipe.
        model_file: of a model of the user's own.
        levels: of the suite's factors, by factor; empty for a cell outside the factorial.
    """

    name: str
    spec: ModelSpec
    model_file: Path | None = None
    levels: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Published:
    """What a study printed for the cells, one run each: to lay beside one's own figures.

    Attributes:
        unit: `legacy_sse_pm2` or `mse`.
        validation: by epoch, then by cell.
        best_epoch, last_five: by cell (the epoch of lowest validation, the mean validation of the last five epochs).
    """

    unit: str
    validation: dict[int, dict[str, float]]
    best_epoch: dict[str, int] = field(default_factory=dict)
    last_five: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Suite:
    """Attributes:
    name: of the suite, and of its MLflow experiment: `suite-NAME`.
    question: that its report answers.
    cells: what is compared, in the order of the tables.
    reference: name of the cell that the others are compared with.
    pairs: of cells that are compared besides, the first with the second.
    seeds: how many runs of each cell.
    at_epochs: validation is tabulated there (as far as training went, and at its end).
    figures: of the report, in its order.
    factors: levels by factor, in order; the first level of each is the one that the others are compared with.
    published: a study's figures.
    source: the file's text.
    """

    name: str
    question: str
    cells: tuple[Cell, ...]
    reference: str
    pairs: tuple[tuple[str, str], ...]
    seeds: int
    at_epochs: tuple[int, ...]
    figures: tuple[str, ...]
    factors: dict[str, tuple[Any, ...]]
    published: Published | None
    source: str

    @property
    def makeup(self) -> list[tuple[str, str, dict[str, Any], Recipe]]:
        """What its runs are of: two suites of the same are reported on alike, whatever they ask."""
        return [(cell.name, cell.spec.name, config_dict(cell.spec), cell.spec.recipe) for cell in self.cells]

    def with_recipe(self, **changes: Any) -> "Suite":
        """The same with some settings of every cell's recipe replaced; None leaves one as it is.

        Raises:
            ProtcliError: a recipe that cannot be trained by.
        """
        given = {key: value for key, value in changes.items() if value is not None}
        cells = []
        for cell in self.cells:
            spec = replace(cell.spec, recipe=replace(cell.spec.recipe, **_of_all(given, cell.spec)))
            check_recipe(spec)
            cells.append(replace(cell, spec=spec))
        return replace(self, cells=tuple(cells))


def suite_names() -> list[str]:
    """The suites that come with protcli."""
    return sorted(entry.name.removesuffix(".yaml") for entry in SUITES.iterdir() if entry.name.endswith(".yaml"))


def find_suite(name: str) -> Suite:
    """The suite of that name, or the one in a file of the user's own (`my_suite.yaml`).

    Raises:
        ProtcliError: there is none, or its file does not describe one.
    """
    if name in suite_names():
        return read_suite(name, (SUITES / f"{name}.yaml").read_text(encoding="utf-8"), f"suite {name}", Path())
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        raise ProtcliError(f"there is no suite {name!r}: choose {', '.join(suite_names())}, or name a .yaml file")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ProtcliError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if not path.stem.replace("-", "").replace("_", "").isalnum():
        raise ProtcliError(f"{path}: a suite is named by its file; use letters, digits, - and _ only")
    return read_suite(path.stem, text, str(path), path.parent)


def read_suite(name: str, text: str, where: str, folder: Path) -> Suite:
    """A suite from YAML text; `where` begins error sentences, model files are looked for in `folder`.

    Raises:
        ProtcliError: it is not a suite; the sentence says what is wrong.
    """
    try:
        return _suite(name, text, folder)
    except yaml.YAMLError as error:
        raise ProtcliError(f"{where} is no YAML file: {' '.join(str(error).split())}") from error
    except (ProtcliError, ValueError) as error:
        raise ProtcliError(f"{where}: {error}") from error


def _suite(name: str, text: str, folder: Path) -> Suite:
    content = yaml.safe_load(text)
    if not isinstance(content, dict):
        raise ValueError(f"expected the settings {', '.join(KEYS)}, found {content!r:.60}")
    content = _typed(content, KEYS, required=("question", "reference"))
    common = content.get("recipe", {})
    cells = [_cell(each, common, folder) for each in content.get("cells", [])]
    factors: dict[str, tuple[Any, ...]] = {}
    if grid := content.get("factorial"):
        grid = _typed(
            grid,
            {"model": str, "file": str | None, "recipe": dict, "factors": dict},
            required=("model", "factors"),
        )
        for factor, levels in grid["factors"].items():
            if not isinstance(levels, list) or not levels:
                raise ValueError(f"factorial: the levels of {factor} are {levels!r}: give a list, such as [1, 2]")
        factors = {factor: tuple(levels) for factor, levels in grid["factors"].items()}
        for levels in product(*factors.values()):
            chosen = dict(zip(factors, levels, strict=True))
            name_of = ", ".join(level_name(*each) for each in chosen.items())
            each = {key: grid[key] for key in ("model", "file", "recipe") if key in grid}
            cell = _cell(each | {"name": name_of, "set": chosen}, common, folder)
            cells.append(replace(cell, levels=chosen))
    names = [cell.name for cell in cells]
    if len(cells) < 2 or len(set(names)) < len(names):
        raise ValueError(f"a suite compares two or more cells of different names, not {', '.join(names) or 'none'}")
    if content["reference"] not in names:
        raise ValueError(f"the reference {content['reference']!r} is none of its cells: {', '.join(names)}")
    for pair in content.get("pairs", ()):
        if not isinstance(pair, list) or len(pair) != 2 or len(set(map(str, pair)) & set(names)) != 2:
            raise ValueError(f"pairs: {pair!r} is no pair of its cells: {', '.join(names)}")
    for figure in content.get("figures", ()):
        if figure not in FIGURES:
            raise ValueError(f"figures: {figure!r} is none of {', '.join(FIGURES)}")
    if content.get("seeds", 5) < 1:
        raise ValueError("seeds: give 1 or more")
    return Suite(
        name=name,
        question=" ".join(content["question"].split()),
        cells=tuple(cells),
        reference=content["reference"],
        pairs=tuple((model, other) for model, other in content.get("pairs", [])),
        seeds=content.get("seeds", 5),
        at_epochs=content.get("at_epochs", ()),
        figures=content.get("figures", FIGURES),
        factors=factors,
        published=_published(content["published"], names) if "published" in content else None,
        source=text,
    )


def level_name(factor: str, level: Any) -> str:
    """`bilinear`, `dropout 0.3`: a word says what it is a level of, a number does not."""
    return level if isinstance(level, str) else f"{factor} {level}"


def _cell(content: Any, common: dict[str, Any], folder: Path) -> Cell:
    types = {"name": str, "model": str, "file": str | None, "set": dict, "recipe": dict}
    content = _typed(content, types, required=("model",))
    model_file = folder / content["file"] if content.get("file") else None
    spec = with_config(find_model(content["model"], model_file), content.get("set", {}))
    recipe = _typed(_of_all(common, spec) | content.get("recipe", {}), setting_types(Recipe))
    spec = replace(spec, recipe=replace(spec.recipe, **recipe))
    check_recipe(spec)
    return Cell(content.get("name", spec.name), spec, model_file.absolute() if model_file else None)


def _of_all(recipe: dict[str, Any], spec: ModelSpec) -> dict[str, Any]:
    """What a recipe that is said of all cells means for one: a baseline, fitted in one pass, has no epochs."""
    return {key: value for key, value in recipe.items() if key != "epochs" or not spec.is_fitted}


def _published(content: dict[str, Any], cells: list[str]) -> Published:
    types = {"unit": str, "validation": dict, "best_epoch": dict, "last_five": dict}
    content = _typed(content, types, required=("unit", "validation"))
    if content["unit"] not in UNITS:
        raise ValueError(f"published.unit is {content['unit']!r}: expected {' or '.join(UNITS)}")
    for epoch in content["validation"]:
        if not isinstance(epoch, int):
            raise ValueError(f"published.validation: {epoch!r} is no epoch")
    for table in (*content["validation"].values(), content.get("best_epoch", {}), content.get("last_five", {})):
        if not isinstance(table, dict) or not all(isinstance(value, int | float) for value in table.values()):
            raise ValueError(f"published: {table!r} is no table of figures by cell")
        for name in table:
            if name not in cells:
                raise ValueError(f"published: {name!r} is none of the cells {', '.join(cells)}")
    return Published(**content)


def _typed(content: Any, types: dict[str, Any], required: tuple[str, ...] = ()) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise ValueError(f"expected settings among {', '.join(types)}, found {content!r}")
    for key in [*(key for key in content if key not in types), *(key for key in required if key not in content)]:
        raise ValueError(f"{'unknown' if key in content else 'missing'} setting {key}: expected {', '.join(types)}")
    return {key: as_type(key, value, types[key]) for key, value in content.items()}
