"""Models of the user's own: from a Python file, or from an installed package that names them as entry points."""

import dataclasses
import hashlib
import inspect
import sys
import traceback
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from protcli.errors import ProtcliError
from protcli.models.spec import ModelSpec, Recipe

GROUP = "protcli.models"

_SOURCES: dict[str, Path] = {}  # of the models loaded from outside, by name: a configured copy keeps its name


def load_model_file(path: Path) -> dict[str, ModelSpec]:
    """Run a Python file and collect the ModelSpec values it defines at module level, by name.

    The file runs anew at each call. It should stand alone (import protcli, torch and installed packages only), since
    a run keeps this one file.

    Raises:
        ProtcliError: there is no such file, it does not compile or run, or defines no sound model.
    """
    if not path.is_file():
        raise ProtcliError(f"there is no model file {path}")
    module = _run(path)
    specs: dict[str, ModelSpec] = {}
    for value in vars(module).values():
        if isinstance(value, ModelSpec):
            _check(value, str(path))
            if specs.setdefault(value.name, value) is not value:
                raise ProtcliError(f"{path}: two models are named {value.name!r}")
    if not specs:
        raise ProtcliError(f"{path}: no ModelSpec at module level; docs/own-model.md shows what a model file holds")
    _SOURCES.update(dict.fromkeys(specs, path.resolve()))
    return specs


def entry_point_names() -> list[str]:
    """Names of the models that installed packages offer."""
    return sorted(entry_points(group=GROUP).names)


def load_entry_point(name: str) -> ModelSpec:
    """The model that an installed package offers under this name.

    Raises:
        ProtcliError: it does not import, is no sound ModelSpec, or calls itself something else.
    """
    (point, *others) = entry_points(group=GROUP, name=name)
    if others:
        raise ProtcliError(f"two installed packages offer a model {name!r}: {point.value} and {others[0].value}")
    where = f"entry point {name} = {point.value}"
    try:
        spec = point.load()
    except Exception as error:
        raise ProtcliError(f"{where}: {type(error).__name__}: {error}") from error
    if not isinstance(spec, ModelSpec):
        raise ProtcliError(f"{where}: expected a ModelSpec, found {type(spec).__name__}")
    _check(spec, where)
    if spec.name != name:
        raise ProtcliError(f"{where}: the model there is named {spec.name!r}")
    file = inspect.getsourcefile(sys.modules[point.module])
    if file is not None:
        _SOURCES[name] = Path(file).resolve()
    return spec


def source_file(spec: ModelSpec) -> Path | None:
    """The Python file that a model from outside protcli was loaded from; None for our own."""
    return _SOURCES.get(spec.name)


def _run(path: Path) -> ModuleType:
    name = f"protcli_model_file_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:16]}"
    try:
        code = compile(path.read_bytes(), str(path), "exec")
    except SyntaxError as error:
        raise ProtcliError(f"{path}, line {error.lineno}: {error.msg}") from None
    except ValueError as error:  # null bytes
        raise ProtcliError(f"{path}: {error}") from None
    module = ModuleType(name)
    module.__file__ = str(path)
    before = sys.modules.get(name)
    sys.modules[name] = module  # dataclasses look their module up there
    try:
        exec(code, vars(module))
    except (Exception, SystemExit) as error:
        if before is None:
            del sys.modules[name]
        else:
            sys.modules[name] = before
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        where = f"{path}, line {lines[-1]}" if lines else str(path)
        raise ProtcliError(f"{where}: {type(error).__name__}: {error}") from error
    return module


def _check(spec: ModelSpec, where: str) -> None:
    if not (isinstance(spec.family, type) and issubclass(spec.family, nn.Module)):
        raise ProtcliError(f"{where}: the family of {spec.name!r} must be a subclass of torch.nn.Module")
    config: Any = spec.config
    if isinstance(config, type) or not dataclasses.is_dataclass(config) or not spec.config.__dataclass_params__.frozen:
        raise ProtcliError(f"{where}: the config of {spec.name!r} must be a value of a @dataclass(frozen=True)")
    if not isinstance(spec.recipe, Recipe):
        raise ProtcliError(f"{where}: the recipe of {spec.name!r} must be a Recipe")
