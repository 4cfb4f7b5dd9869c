"""User-defined models: from a Python file, or from the entry points of an installed package."""

import dataclasses
import hashlib
import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import entry_points
from pathlib import Path
from traceback import walk_tb
from types import ModuleType

import torch
from torch import nn

from protcli.errors import ProtcliError, truncate
from protcli.models.recipe import Recipe
from protcli.models.settings import check_settings
from protcli.models.spec import ModelSpec

GROUP = "protcli.models"


def load_model_file(path: Path) -> dict[str, ModelSpec]:
    """Run a Python file and collect the ModelSpec values it defines at module level, by name.

    The file runs again at each call. It should be self-contained (import only protcli, torch and installed packages),
    since a run keeps only this file.

    Raises:
        ProtcliError: the file does not exist, does not compile or run, or defines no valid model.
    """
    if not is_file(path):
        raise ProtcliError(f"there is no model file {truncate(path, 200)}")
    module = _run(path)
    specs: dict[str, ModelSpec] = {}
    for value in vars(module).values():
        if isinstance(value, ModelSpec):
            _check(value, str(path))
            if specs.setdefault(value.name, value) is not value:
                raise ProtcliError(f"{path}: two models are named {value.name!r}")
    if not specs:
        raise ProtcliError(f"{path}: no ModelSpec at module level; docs/own-model.md shows what a model file holds")
    return {name: dataclasses.replace(spec, source=path.resolve()) for name, spec in specs.items()}


def is_file(path: Path) -> bool:
    """Whether there is a file of that name, whatever the name."""
    try:
        return path.is_file()
    except OSError:  # such as a name that is too long
        return False


def entry_point_names() -> list[str]:
    """Names of the models provided by installed packages."""
    return sorted(entry_points(group=GROUP).names)


def load_entry_point(name: str) -> ModelSpec:
    """The model that an installed package provides under this name.

    Raises:
        ProtcliError: it does not import, is not a valid ModelSpec, or has another name.
    """
    (point, *others) = entry_points(group=GROUP, name=name)
    if others:
        raise ProtcliError(f"two installed packages provide a model {name!r}: {point.value} and {others[0].value}")
    where = f"entry point {name} = {point.value}"
    try:
        spec = point.load()
    except (Exception, SystemExit) as error:
        raise ProtcliError(f"{where}: {_error_text(error)}") from error
    if not isinstance(spec, ModelSpec):
        raise ProtcliError(f"{where}: expected a ModelSpec, found {type(spec).__name__}")
    _check(spec, where)
    if spec.name != name:
        raise ProtcliError(f"{where}: the model there is named {spec.name!r}")
    file = inspect.getsourcefile(sys.modules[point.module])
    return spec if file is None else dataclasses.replace(spec, source=Path(file).resolve())


@contextmanager
def as_user_error(spec: ModelSpec) -> Iterator[None]:
    """Turn an error in a user's model into one sentence with its file and line.

    An error is the model's if its file is in the traceback, or if torch was building, calling or differentiating a
    network. Other errors pass through, as do protcli's own ValueErrors, a lack of memory and KeyboardInterrupt.

    Raises:
        ProtcliError: `FILE, line N: RuntimeError: the first line of its message`.
    """
    try:
        yield
    except (Exception, SystemExit) as error:
        if spec.source is None or isinstance(error, ProtcliError) or is_lack_of_memory(error):
            raise
        place = _place(spec.source, error)
        if place == str(spec.source) and not _is_of_network(error):
            raise
        raise ProtcliError(f"{place}: {_error_text(error)}") from error


@contextmanager
def memory_as_user_error(spec: ModelSpec, advice: str) -> Iterator[None]:
    """Turn any of torch's out-of-memory errors into one sentence that ends with the advice.

    Raises:
        ProtcliError: there is not enough memory for the model's batches.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_lack_of_memory(error):
            raise
        size = f"batches of {spec.recipe.batch_size} and crop {spec.recipe.crop}"
        raise ProtcliError(f"{spec.name} does not fit in memory with {size}: {advice}") from error


@contextmanager
def compiling_as_user_error(spec: ModelSpec) -> Iterator[None]:
    """Turn an error of torch.compile, such as a missing compiler, into one sentence.

    Raises:
        ProtcliError: the model cannot be compiled.
    """
    try:
        yield
    except Exception as error:
        if not type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
            raise
        reason = truncate(str(error).strip().partition("\n")[0], 200)
        raise ProtcliError(f"{spec.name} cannot be compiled ({reason}): leave out --compile") from error


def _place(path: Path, error: BaseException) -> str:
    """A file, and its innermost line in the error's traceback, if any."""
    whole = path.resolve()
    lines = [line for frame, line in walk_tb(error.__traceback__) if Path(frame.f_code.co_filename).resolve() == whole]
    return f"{path}, line {lines[-1]}" if lines else str(path)


def is_lack_of_memory(error: BaseException) -> bool:
    """Whether an error means a lack of memory, including torch's errors on the CPU."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "alloc_cpu" in str(error)


def _is_of_network(error: BaseException) -> bool:
    """Whether an error without a line in the model's file (e.g. a missing forward) is still the model's."""
    modules = [frame.f_globals.get("__name__", "") for frame, _ in walk_tb(error.__traceback__)]
    if isinstance(error, ValueError) and modules[-1].startswith("protcli."):
        return False
    return any(module.startswith((ModelSpec.__module__, "torch.nn.", "torch.autograd")) for module in modules)


def _error_text(error: BaseException) -> str:
    """An error's class and the first line of its message."""
    return ": ".join([type(error).__name__, *str(error).strip().splitlines()[:1]])


def _run(path: Path) -> ModuleType:
    module = ModuleType(f"protcli_model_file_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:16]}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # dataclasses look up their module there
    try:
        exec(compile(path.read_bytes(), str(path), "exec"), vars(module))
    except (Exception, SystemExit) as error:
        del sys.modules[module.__name__]
        if isinstance(error, SyntaxError) and error.filename == str(path):
            place = f"{path}, line {error.lineno}" if error.lineno else path  # none if the file is not text
            raise ProtcliError(f"{place}: {error.msg}") from None
        if isinstance(error, OSError) and error.filename == str(path):
            raise ProtcliError(f"cannot read {path}: {error.strerror}") from error
        raise ProtcliError(f"{_place(path, error)}: {_error_text(error)}") from error
    return module


def _check(spec: ModelSpec, where: str) -> None:
    name, network, config, recipe = spec.name, spec.network, spec.config, spec.recipe
    is_frozen = getattr(getattr(config, "__dataclass_params__", None), "frozen", False)
    rules = {
        f"a ModelSpec's name and summary must be text, not {name!r}, {spec.summary!r}": (
            isinstance(name, str) and name and isinstance(spec.summary, str)
        ),
        f"the network of {name!r} must be a subclass of torch.nn.Module": (
            isinstance(network, type) and issubclass(network, nn.Module)
        ),
        f"the config of {name!r} must be a value of a @dataclass(frozen=True)": (
            is_frozen and not isinstance(config, type)
        ),
        f"the recipe of {name!r} must be a Recipe": isinstance(recipe, Recipe),
    }
    for rule, is_kept in rules.items():
        if not is_kept:
            raise ProtcliError(f"{where}: {rule}")
    for part, settings in (("config", config), ("recipe", recipe)):
        try:
            check_settings(settings)
        except ValueError as error:
            raise ProtcliError(f"{where}: {part} of {spec.name!r}: {error}") from None
