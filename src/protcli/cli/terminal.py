"""How commands print: one console setup for all, and tables that no terminal truncates."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal, TypeVar

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.progress import track
from rich.table import Table

if TYPE_CHECKING:
    from protcli.experiments.pages import Table as Figures

PIPE_WIDTH = 10_000  # wider than any table
GAP = 3  # between two columns
Item = TypeVar("Item")


def terminal() -> Console:
    """A console without automatic colours; without a terminal it neither wraps lines nor squeezes tables."""
    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console = Console(highlight=False, markup=False, emoji=False, width=PIPE_WIDTH, soft_wrap=True)
    return console


def watched(console: Console, items: Iterable[Item], what: str, total: int) -> list[Item]:
    """Collect slowly produced items, with a progress bar on a terminal."""
    return list(track(items, what, total=total, console=console, transient=True, disable=not console.is_terminal))


def print_table(console: Console, figures: "Figures") -> None:
    """Print a text table and its note. Columns that do not fit follow below, with the first column repeated."""
    rows = (figures.headings, *figures.rows)
    widths = [max(cell_len(row[column]) for row in rows) + GAP for column in range(len(figures.headings))]
    parts = [[0]]
    for column in range(1, len(widths)):
        if len(parts[-1]) > 1 and sum(widths[shown] for shown in (*parts[-1], column)) > console.width:
            parts.append([0])
        parts[-1].append(column)
    for part in parts:
        title = figures.title if part is parts[0] else None
        table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
        for column in part:
            justify: Literal["left", "right"] = "right" if figures.is_figure(column) else "left"
            table.add_column(figures.headings[column], justify=justify, no_wrap=len(part) > 2)
        for row in figures.rows:
            table.add_row(*(row[column] for column in part))
        console.print(table)
    if figures.note:
        console.print(figures.note, style="dim")
