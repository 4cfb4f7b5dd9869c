"""Settings: the fields of a dataclass, parsed from text or YAML and checked against their annotations."""

import dataclasses
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter

from protcli.errors import shown

PLAIN = (int, float, bool, str, NoneType)
WORDS = {"none": None, "true": True, "false": False}


def setting_types(owner: Any) -> dict[str, Any]:
    """The annotations of a dataclass's settings (its init fields) by name; `owner` is the class or an instance.

    Raises:
        Exception: whatever reading an annotation raises, e.g. NameError for an undefined name.
    """
    hints = get_type_hints(owner if isinstance(owner, type) else type(owner))
    return {field.name: hints[field.name] for field in dataclasses.fields(owner) if field.init}


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
        if not is_setting(annotation):
            raise ValueError(
                f"{name} is annotated {describe(annotation)}: a setting is an int, float, bool, str or Literal, "
                "a tuple such as tuple[int, ...], or a union of these with None"
            )
        try:
            _checked(getattr(value, name), annotation)
        except ValueError:
            raise _wrong_value(name, getattr(value, name), annotation) from None


def replace_settings(value: Any, changes: Mapping[str, Any]) -> Any:
    """A dataclass value with settings replaced by plain values (a list for a tuple) that match their annotations.

    Raises:
        ValueError: a clause that begins with the setting's name, or the dataclass's own error.
    """
    types, typed = setting_types(value), {}
    for name, change in changes.items():
        try:
            typed[name] = _checked(_as_tuples(change), types[name])
        except ValueError:
            raise _wrong_value(name, change, types[name]) from None
    return dataclasses.replace(value, **typed)


def _wrong_value(name: str, value: Any, annotation: Any) -> ValueError:
    return ValueError(f"{name} must be {describe(annotation)}, not {shown(value)}")


def describe(annotation: Any) -> str:
    """Describe an annotation in words."""
    if get_origin(annotation) is Literal:
        return "one of " + ", ".join(str(choice) for choice in get_args(annotation))
    if is_union(annotation):
        return " or ".join(describe(member) for member in get_args(annotation))
    if annotation is NoneType:
        return "none"
    if annotation is bool:
        return "true or false"
    if get_origin(annotation) is tuple:
        members = get_args(annotation)
        many = "list of" if members[-1] is Ellipsis else f"list of {len(members)}:"
        return f"{many} {', '.join(describe(member) for member in members if member is not Ellipsis)}"
    return annotation.__name__ if isinstance(annotation, type) and not get_args(annotation) else str(annotation)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A hint for a message about an unknown word: ` (did you mean psp1?)`, or an empty string."""
    close = get_close_matches(word, list(known), n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def from_text(text: str, annotation: Any) -> Any:
    """Parse typed text into a plain value; text that does not fit stays text and is rejected later."""
    readings = [_word_or_number(text), text]
    for kind in (annotation, *get_args(annotation)):
        if get_origin(kind) is tuple:
            items = [item.strip() for item in text.strip("()[]").split(",") if item.strip()]
            members = get_args(kind)
            if members[-1:] == (Ellipsis,):
                members = members[:1] * len(items)
            if len(members) == len(items):
                readings.append([from_text(*each) for each in zip(items, members, strict=True)])
    return next((reading for reading in readings if _fits(reading, annotation)), text)


def _word_or_number(text: str) -> Any:
    if text.lower() in WORDS:
        return WORDS[text.lower()]
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return text


def _fits(value: Any, annotation: Any) -> bool:
    try:
        _checked(_as_tuples(value), annotation)
    except ValueError:
        return False
    return True


def _checked(value: Any, annotation: Any) -> Any:
    """The value, with an int turned into a float if needed; raises ValueError if it does not match the annotation."""
    typed = TypeAdapter(annotation).validate_python(value, strict=True)
    if not _is_same(typed, value):
        raise ValueError
    return typed


def _is_same(typed: Any, given: Any) -> bool:
    """Whether at most ints became floats: pydantic accepts True for Literal[1], and a NumPy number for a float."""
    if type(typed) is type(given) is tuple:
        return all(map(_is_same, typed, given))
    return type(typed) is type(given) or (type(typed) is float and type(given) is int)


def _as_tuples(value: Any) -> Any:
    return tuple(map(_as_tuples, value)) if isinstance(value, list | tuple) else value


def is_setting(annotation: Any) -> bool:
    """Whether values of the annotation can be written as text."""
    members = [member for member in get_args(annotation) if member is not Ellipsis]
    if get_origin(annotation) is Literal:
        return all(type(choice) in PLAIN for choice in members)
    if is_union(annotation) or get_origin(annotation) is tuple:
        return all(is_setting(member) for member in members)
    return annotation in PLAIN


def is_union(annotation: Any) -> bool:
    """Whether an annotation is a union, such as `int | None`."""
    return get_origin(annotation) in (Union, UnionType)
