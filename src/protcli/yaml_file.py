"""YAML files: checked against a type when read, and written so that they read back unchanged."""

import json
import re
from dataclasses import is_dataclass
from itertools import islice
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml
from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails
from typing_extensions import is_typeddict

from protcli.errors import ProtcliError, did_you_mean, quote, truncate

T = TypeVar("T")

EXPONENT = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)[eE][-+]?[0-9]+$")  # YAML 1.1 does not read 1e-3 as a number
UNKNOWN = ("extra_forbidden", "unexpected_keyword_argument")
MOST_VALUES = 1_000_000  # and what stands between them


class Loader(yaml.SafeLoader):
    """Reads 1e-3 as a number and rejects duplicate keys in a mapping."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.MarkedYAMLError(problem=f"{key.value} is named twice", problem_mark=key.start_mark)
                seen.add(key.value)
        return node


class Dumper(yaml.SafeDumper):
    """Quotes text that `Loader` would read as a number, and escapes a line break that it would read as a space."""

    def represent_str(self, data: str) -> yaml.ScalarNode:
        return self.represent_scalar("tag:yaml.org,2002:str", data, style='"' if "\x85" in data else None)


Dumper.add_representer(str, Dumper.represent_str)
for _each in (Loader, Dumper):
    _each.add_implicit_resolver("tag:yaml.org,2002:float", EXPONENT, list("-+.0123456789"))


def write_yaml(content: dict[str, Any]) -> str:
    """Write plain values as YAML text for `read_yaml`."""
    return yaml.dump(content, Dumper=Dumper, sort_keys=False, allow_unicode=True)


def read_yaml(text: str, kind: type[T], where: str) -> T:
    """Read a value of `kind` from YAML text without conversions, such as text to a number or bool to int.

    Args:
        kind: a dataclass of settings, of tuples and dicts of them, and of other such dataclasses.
        where: begins the error messages.

    Raises:
        ProtcliError: the text is not YAML, or a setting is unknown, missing or of the wrong type.
    """
    try:
        written = json.JSONEncoder(default=str).iterencode(yaml.load(text, Loader))
        if len(parts := list(islice(written, MOST_VALUES))) == MOST_VALUES:
            raise ValueError("its aliases stand for too many values")
    except (yaml.YAMLError, ArithmeticError, ValueError, TypeError, RecursionError) as error:  # such as an invalid date
        mark = getattr(error, "problem_mark", None)
        line = f" (line {mark.line + 1})" if mark else ""
        problem = truncate(getattr(error, "problem", error), 200)
        raise ProtcliError(f"{where} is not a YAML file: {problem}{line}") from error
    try:  # as JSON, in which a list may be a tuple
        return TypeAdapter(kind).validate_json("".join(parts), strict=True, extra="forbid")
    except ValidationError as error:
        errors = sorted(
            error.errors(), key=lambda each: each["type"] not in UNKNOWN
        )  # what is misspelt is also missing
        raise ProtcliError(f"{where}: {_clause(errors[0], kind)}") from None


def _clause(error: ErrorDetails, kind: Any) -> str:
    """Describe an error in a value of a kind: where it is, what was expected and what was found."""
    place, owner = "", kind
    for key in error["loc"]:
        if key == "[key]":  # pydantic's mark for the key that was named before
            kind = get_args(owner)[0]
            continue
        place += f"[{key}]" if isinstance(key, int) else f".{truncate(key)}"
        owner, members = kind, get_args(kind) or (None,)
        kind = _settings(owner).get(str(key), members[0 if isinstance(key, int) else -1])
    place, known, inner = place.lstrip("."), _settings(owner), _settings(kind)
    if error["type"] == "missing":
        return f"missing setting {place}: expected {', '.join(known)}"
    if error["type"] in UNKNOWN:
        return f"unknown setting {place}{did_you_mean(str(error['loc'][-1]), known)}: expected {', '.join(known)}"
    if inner:
        found = "nothing" if error["input"] is None else quote(error["input"])
        return f"{place}{': ' if place else ''}expected the settings {', '.join(inner)}, found {found}"
    return f"{place} must be {describe(kind)}, not {quote(error['input'])}"


def describe(kind: Any) -> str:
    """Describe an annotation in words."""
    members = get_args(kind)
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(map(str, members))
    if get_origin(kind) in (Union, UnionType):
        return " or ".join(map(describe, members))
    if get_origin(kind) is tuple:
        if members[0] is Any:
            return "a list"
        count = "list of" if members[-1] is Ellipsis else f"list of {len(members)}:"
        return f"{count} {', '.join(describe(member) for member in members if member is not Ellipsis)}"
    if get_origin(kind) is dict:
        return "a mapping"
    words = {NoneType: "none", bool: "true or false"}
    return words.get(kind) or (kind.__name__ if isinstance(kind, type) and not members else str(kind))


def _settings(kind: Any) -> dict[str, Any]:
    """The settings of a dataclass or typed dict (or None) by name; empty for any other annotation."""
    union = get_args(kind) if get_origin(kind) in (Union, UnionType) else ()
    owners = [each for each in (kind, *union) if is_dataclass(each) or is_typeddict(each)]
    return get_type_hints(owners[0]) if owners else {}
