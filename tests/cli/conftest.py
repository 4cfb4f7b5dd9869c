"""Commands in this process: what they say, and the one sentence that they refuse with."""

from collections.abc import Callable

import pytest
from typer.testing import CliRunner

from protcli.cli import app


def succeed(*arguments: object) -> str:
    result = CliRunner().invoke(app, [*map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def said() -> Callable[..., str]:
    """`said("train", ...)`: what a command that succeeds prints, on one line."""

    return lambda *arguments: " ".join(succeed(*arguments).split())


@pytest.fixture
def printed() -> Callable[..., list[str]]:
    """The lines that it prints."""
    return lambda *arguments: succeed(*arguments).splitlines()


@pytest.fixture
def refused() -> Callable[..., str]:
    """What a command that must fail says: one line on stderr, no traceback, exit code 1."""

    def call(*arguments: object) -> str:
        result = CliRunner().invoke(app, [*map(str, arguments)])
        assert result.exit_code == 1, result.output
        assert result.stdout == "" or arguments[:2] == ("data", "import")  # which says what it read so far
        assert result.stderr.startswith("Error: ")
        assert result.stderr.count("\n") == 1
        return result.stderr.strip()

    return call
