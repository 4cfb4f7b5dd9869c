"""How files are quoted in messages."""

from hypothesis import given
from hypothesis import strategies as st

from protcli.errors import excerpt, shown


@given(st.text() | st.binary().map(lambda data: data.decode("latin-1")))
def test_an_excerpt_is_short_and_can_be_printed(text: str) -> None:
    assert excerpt(text, 20).isprintable()
    assert len(excerpt(text, 20)) <= 20


def test_excerpts_by_hand() -> None:
    assert excerpt("a  b") == "a  b"
    assert excerpt("a\0b\x1b\u202e") == r"a\x00b\x1b\u202e"
    assert excerpt("one\n  two") == "one two"
    assert excerpt("x" * 60) == "x" * 60
    assert excerpt("x" * 61) == "x" * 57 + "..."
    assert shown("a\nb") == r"'a\nb'"
    assert shown([1] * 1000) == "[" + "1, " * 18 + "1, 1"[:2] + "..."
