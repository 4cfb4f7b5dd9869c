"""Settings: the fields of a dataclass, parsed from text or YAML and checked against their annotations."""

import dataclasses
import json
from collections.abc import Mapping
from contextlib import suppress
from inspect import formatannotation
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter
from typing_extensions import TypedDict  # pydantic takes typing's only from Python 3.12 on

from protcli.errors import quote
from protcli.models.recipe import check_ranges
from protcli.yaml_file import describe

WORDS = {"none": None, "true": True, "false": False}


def setting_types(owner: Any) -> dict[str, Any]:
    """The annotations of a dataclass's settings (its init fields) by name; `owner` is the class or an instance.

    Raises:
        Exception: whatever reading an annotation raises, e.g. NameError for an undefined name.
    """
    hints = get_type_hints(owner if isinstance(owner, type) else type(owner))
    return {field.name: hints[field.name] for field in dataclasses.fields(owner) if field.init}


def some_of(owner: type) -> Any:
    """The type of a dict with some of a dataclass's settings."""
    return TypedDict(owner.__name__, setting_types(owner), total=False)  # type: ignore[operator]


def check_settings(value: Any) -> None:
    """Check that each setting can be written as text, and that its value matches its annotation.

    Raises:
        ValueError: the message is a clause that names the setting.
    """
    try:
        types = setting_types(value)
    except Exception as error:
        raise ValueError(f"an annotation cannot be read: {error}") from None
    for name, annotation in types.items():
        if not _is_setting(annotation):
            raise ValueError(
                f"{name} is annotated {formatannotation(annotation)}: a setting is an int, float, bool, str or "
                "Literal, a tuple such as tuple[int, ...], or a union of these with None"
            )
        _checked(name, getattr(value, name), annotation)


def replace_settings(value: Any, changes: Mapping[str, Any]) -> Any:
    """A dataclass value with settings replaced by plain values (a list for a tuple).

    They must match their annotations, and be in the ranges that `recipe.setting` gave them.

    Raises:
        ValueError: a clause that begins with the setting's name, or the dataclass's own error.
        ProtcliError: a value is not in its range.
    """
    types = setting_types(value)
    checked = {name: _checked(name, each, types[name]) for name, each in changes.items()}
    check_ranges(value, checked)
    return dataclasses.replace(value, **checked)


def from_text(text: str, annotation: Any) -> Any:
    """Parse typed text into a plain value; text that does not fit stays text and is rejected later."""
    readings: list[Any] = [_word_or_number(text), text]
    for kind in (annotation, *get_args(annotation)):
        if get_origin(kind) is tuple:
            items = [item.strip() for item in text.strip("()[]").split(",") if item.strip()]
            members = get_args(kind)
            if members[-1:] == (Ellipsis,):
                members = members[:1] * len(items)
            readings.append([from_text(*each) for each in zip(items, members, strict=False)] + items[len(members) :])
    return next((reading for reading in readings if _fits(reading, annotation)), text)


def _word_or_number(text: str) -> Any:
    if text.lower() in WORDS:
        return WORDS[text.lower()]
    for number in (int, float):
        with suppress(ValueError):
            return number(text)
    return text


def _fits(value: Any, annotation: Any) -> bool:
    with suppress(ValueError):
        _checked("", value, annotation)
        return True
    return False


def _checked(name: str, value: Any, annotation: Any) -> Any:
    """The value as a file would give it back; raises ValueError if it does not match the annotation."""
    try:
        return TypeAdapter(annotation).validate_json(json.dumps(value), strict=True)
    except (ValueError, TypeError):
        raise ValueError(f"{name} must be {describe(annotation)}, not {quote(value)}") from None


def _is_setting(annotation: Any) -> bool:
    """Whether values of the annotation can be written as text."""
    if get_origin(annotation) in (Literal, Union, UnionType, tuple):
        return all(_is_setting(each) for each in get_args(annotation) if each is not Ellipsis)
    return annotation in (int, float, bool, str, NoneType) or type(annotation) in (int, float, bool, str)
