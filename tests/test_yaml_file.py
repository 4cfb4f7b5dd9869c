"""YAML files."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protcli.errors import ProtcliError
from protcli.yaml_file import read_yaml, write_yaml

PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()


@given(
    st.dictionaries(st.text(), st.recursive(PLAIN, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
)
def test_plain_values_are_read_as_they_were_written(content: dict[str, Any]) -> None:
    assert read_yaml(write_yaml(content), dict[str, Any], "x") == content


@pytest.mark.parametrize(("text", "value"), [
    ("1e-3", 1e-3), ("-2E+4", -2e4), (".5e1", 5.0), ("1.e3", 1e3), ("'1e-3'", "1e-3"), ("1e", "1e"), ("e3", "e3"),
    ("1e3a", "1e3a"), ("2024-01-31", "2024-01-31"),
])  # fmt: skip
def test_numbers_and_dates(text: str, value: float | str) -> None:
    read = read_yaml(f"a: {text}", dict[str, Any], "x")["a"]
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    "text", ["{a: 1, a: 1}", "{1: x, '1': y}", "[[{b: {}, b: {}}]]", "a: 1\n<<: {b: 1}\n<<: {c: 1}"]
)
def test_a_key_twice_is_refused_wherever_it_is(text: str) -> None:
    with pytest.raises(ProtcliError, match=r"^x is not a YAML file: .+ is named twice \(line [123]\)$"):
        read_yaml(text, dict[str, Any], "x")


LEVELS = [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 30)]
BOMB = "\n".join(["a0: &a0 [x, x, x, x, x, x, x, x, x]", *LEVELS])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (BOMB, "its aliases stand for too many values"),
        ("a: &a [*a]", "x"),
        ("a: " + "[" * 100_000, "x is not a YAML file"),
        ("a: " + "9" * 5000, "Exceeds the limit"),
        ("a: !!python/object/apply:os.getcwd []", "could not determine a constructor for the tag"),
        ('a: "\\UFFFFFFFF"', "x is not a YAML file"),
        ("a: " + "b" * 5000 + ": c", "mapping values are not allowed here"),
        ("!!" + "b" * 5000 + " c", "could not determine a constructor"),
    ],
    ids=["bomb", "itself", "nested", "digits", "object", "no character", "colon", "long tag"],
)
def test_hostile_text_is_refused_in_a_short_sentence(text: str, said: str) -> None:
    with pytest.raises(ProtcliError, match=said) as caught:
        read_yaml(text, dict[str, Any], "x")
    assert len(str(caught.value)) <= 600
