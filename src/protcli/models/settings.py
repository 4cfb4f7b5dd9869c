"""Settings: the fields of a dataclass, from what was typed or read and checked against their annotations."""

import dataclasses
from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

PLAIN = (int, float, bool, str, NoneType)


def setting_types(owner: Any) -> dict[str, Any]:
    """The annotations of a dataclass's settings by name, of the class or of a value: the fields that are given to it.

    Raises:
        Exception: whatever reading an annotation raises, NameError where it names what is not there.
    """
    hints = get_type_hints(owner if isinstance(owner, type) else type(owner))
    return {field.name: hints[field.name] for field in dataclasses.fields(owner) if field.init}


def check_settings(value: Any) -> None:
    """Check that each setting can be typed and kept as text, and that its value is what its annotation says.

    Raises:
        ValueError: a clause that names the setting.
    """
    try:
        types = setting_types(value)
    except Exception as error:
        raise ValueError(f"an annotation cannot be read: {error}") from None
    for name, annotation in types.items():
        if not _is_setting(annotation):
            raise ValueError(
                f"{name} is annotated {describe(annotation)}: a setting is an int, float, bool, str or Literal, "
                "a tuple such as tuple[int, ...], or one of these or None"
            )
        given = getattr(value, name)
        if (typed := as_type(name, given, annotation)) is not given and typed != given:  # a list, a number as text
            raise _no(name, given, annotation)


def replace_settings(value: Any, changes: Mapping[str, Any]) -> Any:
    """A dataclass value with settings replaced by plain values (a list for a tuple), each as its annotation says.

    Raises:
        ValueError: a clause that begins with the setting's name, or what the dataclass itself refuses.
    """
    types = setting_types(value)
    typed = {name: as_type(name, change, types[name]) for name, change in changes.items()}
    return dataclasses.replace(value, **typed)


def as_type(name: str, value: Any, annotation: Any) -> Any:
    """A plain value as the annotated type; a number as text, as YAML 1.1 reads 1e-3, does for a float.

    Raises:
        ValueError: it is none; the clause begins with `name`.
    """
    try:
        return from_plain(value, annotation)
    except (ValueError, OverflowError):
        raise _no(name, value, annotation) from None


def _no(name: str, value: Any, annotation: Any) -> ValueError:
    return ValueError(f"{name} must be {describe(annotation)}, not {value!r}")


def describe(annotation: Any) -> str:
    """An annotation in words."""
    if get_origin(annotation) is Literal:
        return "one of " + ", ".join(str(choice) for choice in get_args(annotation))
    if _is_union(annotation):
        return " or ".join(describe(member) for member in get_args(annotation))
    if annotation is NoneType:
        return "none"
    if get_origin(annotation) is tuple:
        members = get_args(annotation)
        many = "list of" if members[-1] is Ellipsis else f"list of {len(members)}:"
        return f"{many} {', '.join(describe(member) for member in members if member is not Ellipsis)}"
    return annotation.__name__ if isinstance(annotation, type) and not get_args(annotation) else str(annotation)


def from_text(text: str, annotation: Any) -> Any:
    """What was typed, as the plain value that it stands for; text that fits nothing stays text, and is refused then."""
    if get_origin(annotation) is Literal:
        return next((choice for choice in get_args(annotation) if str(choice) == text), text)
    if _is_union(annotation):
        for member in sorted(get_args(annotation), key=lambda member: member is str):  # text fits str, so try it last
            try:
                return from_plain(from_text(text, member), member)
            except ValueError:
                continue
        return text
    if annotation is NoneType:
        return None if text.lower() == "none" else text
    if get_origin(annotation) is tuple:
        items = [item.strip() for item in text.strip("()[]").split(",") if item.strip()]
        members = _member_types(annotation, len(items))
        return text if members is None else [from_text(*pair) for pair in zip(items, members, strict=True)]
    if annotation is bool:
        return {"true": True, "false": False}.get(text.lower(), text)
    if annotation in (int, float):
        try:
            return annotation(text)
        except ValueError:
            return text
    return text


def from_plain(value: Any, annotation: Any) -> Any:
    """A plain value as the annotated type; raises ValueError where it is none."""
    if get_origin(annotation) is Literal:
        if any(value == choice and type(value) is type(choice) for choice in get_args(annotation)):
            return value
    elif _is_union(annotation):
        for member in sorted(get_args(annotation), key=lambda member: member is float):  # text may be a number
            try:
                return from_plain(value, member)
            except ValueError:
                continue
    elif get_origin(annotation) is tuple:
        members = _member_types(annotation, len(value)) if isinstance(value, list | tuple) else None
        if members is not None:
            return tuple(from_plain(*pair) for pair in zip(value, members, strict=True))
    elif annotation is float and type(value) in (int, float, str):
        return float(value)
    elif type(value) is annotation:
        return value
    raise ValueError


def _is_setting(annotation: Any) -> bool:
    members = [member for member in get_args(annotation) if member is not Ellipsis]
    if get_origin(annotation) is Literal:
        return all(type(choice) in PLAIN for choice in members)
    if _is_union(annotation) or get_origin(annotation) is tuple:
        return all(_is_setting(member) for member in members)
    return annotation in PLAIN


def _is_union(annotation: Any) -> bool:
    return get_origin(annotation) in (Union, UnionType)


def _member_types(annotation: Any, length: int) -> list[Any] | None:
    """The type of each of `length` members of a tuple, None where the tuple has another length."""
    types = get_args(annotation)
    if len(types) == 2 and types[1] is Ellipsis:
        return [types[0]] * length
    return list(types) if len(types) == length else None
