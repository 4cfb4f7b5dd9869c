"""How files are quoted in messages."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protcli.errors import ProtcliError, quote, truncate, without_passwords


@given(st.text() | st.binary().map(lambda data: data.decode("latin-1")))
def test_an_excerpt_is_short_and_can_be_printed(text: str) -> None:
    assert truncate(text, 20).isprintable()
    assert len(truncate(text, 20)) <= 20


def test_excerpts_by_hand() -> None:
    for text, short in (
        ("a  b", "a  b"), ("a\0b\x1b\u202e", r"a\x00b\x1b\u202e"), ("one\n  two", "one two"), ("x" * 60, "x" * 60),
        ("x" * 61, "x" * 57 + "..."),
    ):  # fmt: skip
        assert truncate(text) == short
    assert quote("a\nb") == r"'a\nb'"
    assert quote([1] * 1000) == "[" + "1, " * 18 + "1, 1"[:2] + "..."


@pytest.mark.parametrize(("text", "kept"), [
    ("postgresql+psycopg2://me:s3cret@db:5432/sweeps", "postgresql+psycopg2://me:***@db:5432/sweeps"),
    ("sweep --storage 'mysql://me:p%40ss:word@db/s' --seed 3", "sweep --storage 'mysql://me:***@db/s' --seed 3"),
    ("postgresql://me@db:5432/sweeps", "postgresql://me@db:5432/sweeps"),
    ("http://localhost:5000 me@example.org", "http://localhost:5000 me@example.org"),
    ("sqlite:////srv/a:b@c.db", "sqlite:////srv/a:b@c.db"),
])  # fmt: skip
def test_passwords_are_not_kept(text: str, kept: str) -> None:
    assert without_passwords(text) == kept
    assert str(ProtcliError(f"{text}: check it")) == f"{kept}: check it"
