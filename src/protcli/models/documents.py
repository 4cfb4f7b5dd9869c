"""YAML documents: checked against a type when read, and written so that they read back unchanged."""

import json
import re
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from itertools import chain
from typing import Any, NotRequired, TypeVar, get_args, get_origin, get_type_hints

import yaml
from pydantic import TypeAdapter, ValidationError
from typing_extensions import TypedDict, is_typeddict  # pydantic takes typing's only from Python 3.12 on

from protcli.errors import SHOWN, ProtcliError, excerpt, shown
from protcli.models.settings import describe, did_you_mean, is_setting, is_union, setting_types

T = TypeVar("T")

FLOAT = "tag:yaml.org,2002:float"
EXPONENT = re.compile(
    r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)[eE][-+]?[0-9]+$"
)  # as in YAML 1.2; YAML 1.1 does not read 1e-3 as a number
MOST_VALUES, LONGEST_NUMBER = 100_000, 100
UNKNOWN = ("extra_forbidden", "unexpected_keyword_argument")


class Loader(yaml.SafeLoader):
    """Reads 1e-3 as a number and rejects duplicate keys in a mapping, and what would take long to read."""

    def get_single_node(self) -> yaml.Node | None:
        root = super().get_single_node()
        if root is not None and _values(root, {}) > MOST_VALUES:
            raise yaml.YAMLError(f"its aliases stand for more than {MOST_VALUES:,} values")
        return root

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        if len(node.value) > LONGEST_NUMBER:  # YAML 1.1 reads 1:1:1 in base 60, digit by digit
            problem = f"a number of {len(node.value)} characters"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
        return super().construct_yaml_int(node)

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.MarkedYAMLError(problem=f"{key.value} is named twice", problem_mark=key.start_mark)
                seen.add(key.value)
        return node


Loader.add_constructor("tag:yaml.org,2002:int", Loader.construct_yaml_int)


def _values(node: yaml.Node, known: dict[int, int]) -> int:
    """How many values a node holds, its aliases followed; `known` are those of nodes, by identity."""
    if id(node) not in known:
        known[id(node)] = 0  # an alias of what it is in: refused later
        inside = node.value if isinstance(node, yaml.CollectionNode) else []
        parts = chain.from_iterable(inside) if isinstance(node, yaml.MappingNode) else inside
        known[id(node)] = 1 + sum(_values(part, known) for part in parts)
    return known[id(node)]


class Dumper(yaml.SafeDumper):
    """Quotes text that `Loader` would read as a number, and escapes a line break that it would read as a space."""

    def represent_str(self, data: str) -> yaml.ScalarNode:
        return self.represent_scalar("tag:yaml.org,2002:str", data, style='"' if "\x85" in data else None)


Dumper.add_representer(str, Dumper.represent_str)

for _each in (Loader, Dumper):
    _each.add_implicit_resolver(FLOAT, EXPONENT, list("-+.0123456789"))


def write_document(content: dict[str, Any]) -> str:
    """Write plain values as YAML text for `read_document`."""
    return yaml.dump(content, Dumper=Dumper, sort_keys=False, allow_unicode=True)


def read_document(text: str, kind: type[T], where: str) -> T:
    """Read a value of `kind` from YAML text without conversions, such as text to a number or bool to int.

    Args:
        kind: a dataclass of settings, of tuples and dicts of them, and of other such dataclasses.
        where: begins the error messages.

    Raises:
        ProtcliError: the text is not YAML, or a setting is unknown, missing or of the wrong type.
    """
    try:
        data = json.dumps(yaml.load(text, Loader), default=str, ensure_ascii=False).encode()
    except yaml.MarkedYAMLError as error:
        line = f" (line {error.problem_mark.line + 1})" if error.problem_mark else ""
        raise ProtcliError(f"{where} is not a YAML file: {excerpt(error.problem, 200)}{line}") from error
    except (yaml.YAMLError, ArithmeticError, ValueError, TypeError, RecursionError) as error:  # such as an invalid date
        raise ProtcliError(f"{where} is not a YAML file: {excerpt(error, 200)}") from error
    try:
        return TypeAdapter(kind).validate_json(
            data, strict=True, extra="forbid"
        )  # as JSON, in which a list may be a tuple
    except ValidationError as error:
        errors = error.errors(include_url=False)
        first = next(
            (each for each in errors if each["type"] in UNKNOWN), errors[0]
        )  # a misspelt setting is also reported as missing
        raise ProtcliError(f"{where}: {_clause(first['loc'], '', json.loads(data), kind)}") from None


def settings_of(owner: type, *, total: bool) -> Any:
    """The type of a dict with all (`total`) or some of a dataclass's settings; later ones may be missing from all."""
    later = {each.name for each in fields(owner) if each.metadata.get("later")}
    types = {name: NotRequired[kind] if name in later else kind for name, kind in setting_types(owner).items()}
    return TypedDict(owner.__name__, types, total=total)  # type: ignore[operator]


def _clause(loc: Sequence[Any], place: str, content: Any, annotation: Any) -> str:
    """Describe the error at `loc` in the content: where it is, what was expected and what was found."""
    settings = _settings(annotation)
    if not loc and settings:
        return f"{place}{': ' if place else ''}expected the settings {', '.join(settings)}, found {shown(content)}"
    is_many = get_args(annotation)[1:] == (Ellipsis,)
    if not loc or (is_setting(annotation) and not is_many):  # one of several types, or a list of a given length
        kind = {dict: "a mapping", tuple: "a list"}
        expected = describe(annotation) if is_setting(annotation) else kind[get_origin(annotation)]
        return f"{place} must be {expected}, not {shown(content)}"
    key, *rest = loc
    within = f"{place}[{key}]" if isinstance(key, int) else f"{place}.{_word(key)}".lstrip(".")
    if settings and key not in content:
        return f"missing setting {within}: expected {', '.join(settings)}"
    if settings and key not in settings:
        return f"unknown setting {within}{did_you_mean(key, settings)}: expected {', '.join(settings)}"
    if rest == ["[key]"]:  # pydantic's mark for a key
        return f"{place}: the key {shown(key)} must be {describe(get_args(annotation)[0])}"
    inner = settings[key] if settings else get_args(annotation)[1 if isinstance(content, dict) else 0]
    return _clause(rest, within, content[key], inner)


def _settings(annotation: Any) -> dict[str, Any]:
    """The settings of a dataclass or typed dict (or None) by name; empty for any other annotation."""
    for kind in get_args(annotation) if is_union(annotation) else [annotation]:
        if is_dataclass(kind) or is_typeddict(kind):
            return get_type_hints(kind)
    return {}


def _word(key: str) -> str:
    return key if key.isprintable() and len(key) <= SHOWN else shown(key)
