"""How commands print: nothing is cut off, wherever it goes."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from protcli.cli.terminal import print_table, terminal
from protcli.experiments.pages import Table

cells = st.text(st.sampled_from("ab0.[]/,-Å "), max_size=25).map(str.strip)


@given(
    rows=st.integers(1, 8).flatmap(lambda n: st.lists(st.tuples(*[cells] * n), min_size=1, max_size=4)),
    width=st.integers(60, 200),
)
def test_a_table_is_whole_at_any_width(rows, width):
    """Each cell stands on one line, in its row's, and no line is wider than the terminal."""
    headings = tuple(f"heading {column}" for column in range(len(rows[0])))
    file = io.StringIO()
    print_table(Console(file=file, width=width, markup=False), Table("a title", headings, tuple(rows)))
    lines = file.getvalue().splitlines()
    assert lines[0].strip() == "a title"
    assert all(len(line) <= width for line in lines)
    for row in (headings, *rows):
        for cell in row:
            assert any(cell in line for line in lines)
        assert any(row[0] in line and row[-1] in line for line in lines)


def test_columns_that_do_not_fit_follow_below():
    file = io.StringIO()
    table = Table("costs", ("model", "seconds", "parameters"), (("psp1", "12.0", "25,935,553"),))
    print_table(Console(file=file, width=22), table)
    words = [line.split() for line in file.getvalue().splitlines() if line.split() and "─" not in line]
    assert words == [["costs"], ["model", "seconds"], ["psp1", "12.0"], ["model", "parameters"], ["psp1", "25,935,553"]]


def test_without_a_terminal_lines_stay_whole(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    console = terminal()
    sentence = "a sentence [of] some length, " * 20
    console.print(sentence)
    print_table(console, Table("", ("model", *"bcdef"), (("x" * 50, *["y" * 50] * 5),)))
    said = capsys.readouterr().out.splitlines()
    assert said[0] == sentence
    assert any(line.split() == ["x" * 50, *["y" * 50] * 5] for line in said)


@pytest.mark.parametrize("name", ["[bold]", "[/red]", ":smile:", "[link=x]"])
def test_names_are_no_markup(capsys, name):
    print_table(terminal(), Table(name, (name,), ((name,),)))
    assert capsys.readouterr().out.count(name) == 3
