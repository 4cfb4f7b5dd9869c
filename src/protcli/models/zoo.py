"""Every model by name, and a model's configuration as text and as plain values."""

import dataclasses
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from protcli.errors import ProtcliError
from protcli.models import improved, psp, sepmean, simple
from protcli.models.external import entry_point_names, load_entry_point, load_model_file
from protcli.models.spec import ModelSpec


class Zoo(dict[str, ModelSpec]):
    """Models by name."""

    def register(self, *specs: ModelSpec) -> None:
        """Add models; raises ValueError where a name is taken."""
        for spec in specs:
            if spec.name in self:
                raise ValueError(f"there is a model {spec.name!r} already")
            self[spec.name] = spec


ZOO = Zoo()
ZOO.register(*sepmean.SPECS)
ZOO.register(*simple.SPECS)
ZOO.register(*improved.SPECS)
ZOO.register(*psp.SPECS)


def model_names(model_file: Path | None = None) -> list[str]:
    """Every name that `find_model` knows: ours, those of `model_file`, those of installed packages."""
    specs = _models_of(model_file) if model_file is not None else {}
    return list(dict.fromkeys([*ZOO, *specs, *entry_point_names()]))


def known_models(model_file: Path | None = None) -> dict[str, ModelSpec]:
    """Every model that `find_model` finds, by name. Raises ProtcliError as it does."""
    specs = _models_of(model_file) if model_file is not None else {}
    outside = {name: load_entry_point(name) for name in entry_point_names() if name not in ZOO and name not in specs}
    return {**ZOO, **specs, **outside}


def find_model(name: str, model_file: Path | None = None) -> ModelSpec:
    """The model of that name: ours, else one that `model_file` defines, else one of an installed package.

    Raises:
        ProtcliError: there is none (naming the known and the closest), or the file or package does not load.
    """
    specs = _models_of(model_file) if model_file is not None else {}
    if name in ZOO:
        return ZOO[name]
    if name in specs:
        return specs[name]
    if name in entry_point_names():
        return load_entry_point(name)
    known = list(dict.fromkeys([*ZOO, *specs, *entry_point_names()]))
    close = get_close_matches(name, known, n=1)
    hint = f" (did you mean {close[0]}?)" if close else ""
    raise ProtcliError(f"there is no model {name!r}{hint}; known: {', '.join(known)}")


def _models_of(model_file: Path) -> dict[str, ModelSpec]:
    specs = load_model_file(model_file)
    for name in specs:
        if name in ZOO:
            raise ProtcliError(f"{model_file}: {name!r} is the name of one of protcli's own models; choose another")
    return specs


def configure(spec: ModelSpec, settings: Sequence[str]) -> ModelSpec:
    """The model with settings replaced, each `name=value` (a tuple as 128,64,32; true or false; none).

    Raises:
        ProtcliError: no such setting, or a value of another type; the sentence lists the settings.
    """
    values: dict[str, Any] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals:
            raise ProtcliError(f"--set {setting}: expected name=value")
        name = name.strip()
        values[name] = _from_text(text.strip(), _annotation(spec, name))
    return with_config(spec, values)


def with_config(spec: ModelSpec, values: Mapping[str, Any]) -> ModelSpec:
    """The model with fields of its config replaced by plain values, as `config_dict` gives them.

    Raises:
        ProtcliError: as `configure` does, and where the config itself refuses the values.
    """
    replaced = {}
    for name, value in values.items():
        annotation = _annotation(spec, name)
        try:
            replaced[name] = _from_plain(value, annotation)
        except ValueError:
            raise ProtcliError(
                f"{spec.name}: {name} must be {_describe(annotation)}, not {value!r}; settings: {_settings(spec)}"
            ) from None
    try:
        return dataclasses.replace(spec, config=dataclasses.replace(spec.config, **replaced))
    except (ValueError, TypeError) as error:
        raise ProtcliError(f"{spec.name}: {error}") from None


def config_dict(spec: ModelSpec) -> dict[str, Any]:
    """The config as plain values for JSON and YAML: tuples become lists. `with_config` takes it back."""

    def plain(value: Any) -> Any:
        return [plain(item) for item in value] if isinstance(value, tuple) else value

    return {field.name: plain(getattr(spec.config, field.name)) for field in _fields(spec)}


def _fields(spec: ModelSpec) -> list[dataclasses.Field]:
    return [field for field in dataclasses.fields(spec.config) if field.init]


def _settings(spec: ModelSpec) -> str:
    hints = get_type_hints(type(spec.config))
    listed = [
        f"{field.name} ({_describe(hints[field.name])}, now {getattr(spec.config, field.name)!r})"
        for field in _fields(spec)
    ]
    return ", ".join(listed) or "none"


def _annotation(spec: ModelSpec, name: str) -> Any:
    if name not in {field.name for field in _fields(spec)}:
        raise ProtcliError(f"{spec.name} has no setting {name!r}; settings: {_settings(spec)}")
    return get_type_hints(type(spec.config))[name]


def _is_union(annotation: Any) -> bool:
    return get_origin(annotation) in (Union, UnionType)


def _describe(annotation: Any) -> str:
    if get_origin(annotation) is Literal:
        return "one of " + ", ".join(str(choice) for choice in get_args(annotation))
    if _is_union(annotation):
        return " or ".join(_describe(member) for member in get_args(annotation))
    if annotation is NoneType:
        return "none"
    return annotation.__name__ if get_origin(annotation) is None else str(annotation)


def _from_text(text: str, annotation: Any) -> Any:
    """What was typed, as the plain value that it stands for; text that fits nothing stays text, and is refused then."""
    if get_origin(annotation) is Literal:
        return next((choice for choice in get_args(annotation) if str(choice) == text), text)
    if _is_union(annotation):
        for member in sorted(get_args(annotation), key=lambda member: member is str):  # text fits str, so try it last
            try:
                return _from_plain(_from_text(text, member), member)
            except ValueError:
                continue
        return text
    if annotation is NoneType:
        return None if text.lower() == "none" else text
    if get_origin(annotation) is tuple:
        items = [item.strip() for item in text.strip("()[]").split(",") if item.strip()]
        members = _member_types(annotation, len(items))
        return text if members is None else [_from_text(*pair) for pair in zip(items, members, strict=True)]
    if annotation is bool:
        return {"true": True, "false": False}.get(text.lower(), text)
    if annotation in (int, float):
        try:
            return annotation(text)
        except ValueError:
            return text
    return text


def _member_types(annotation: Any, length: int) -> list[Any] | None:
    """The type of each of `length` members of a tuple, None where the tuple has another length."""
    types = get_args(annotation)
    if len(types) == 2 and types[1] is Ellipsis:
        return [types[0]] * length
    return list(types) if len(types) == length else None


def _from_plain(value: Any, annotation: Any) -> Any:
    """A plain value as the annotated type; raises ValueError where it is none."""
    if get_origin(annotation) is Literal:
        if any(value == choice and type(value) is type(choice) for choice in get_args(annotation)):
            return value
    elif _is_union(annotation):
        for member in get_args(annotation):
            try:
                return _from_plain(value, member)
            except ValueError:
                continue
    elif get_origin(annotation) is tuple:
        members = _member_types(annotation, len(value)) if isinstance(value, list | tuple) else None
        if members is not None:
            return tuple(_from_plain(*pair) for pair in zip(value, members, strict=True))
    elif annotation is float and type(value) in (int, float):
        return float(value)
    elif type(value) is annotation:
        return value
    raise ValueError
