"""How commands print: one console setup for all, and tables that no terminal truncates."""

from collections.abc import Iterable
from time import perf_counter
from typing import TYPE_CHECKING, Literal, TypeVar

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn, track
from rich.table import Table

if TYPE_CHECKING:
    from protcli.experiments.pages import Table as Figures

PIPE_WIDTH = 10_000  # wider than any table
GAP = 3  # between two columns
LINE_SECONDS = 10  # between progress lines when there is no terminal
Item = TypeVar("Item")


def terminal() -> Console:
    """A console without automatic colours; without a terminal it neither wraps lines nor squeezes tables."""
    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width, console.soft_wrap = PIPE_WIDTH, True
    return console


def watched(console: Console, items: Iterable[Item], what: str, total: int) -> list[Item]:
    """Collect slowly produced items, with a progress bar on a terminal."""
    return list(track(items, what, total=total, console=console, transient=True, disable=not console.is_terminal))


class ProgressLine:
    """How far something is: a bar on a terminal; elsewhere a line every LINE_SECONDS."""

    def __init__(self, console: Console) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
        self._console = console
        self._bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._bar.add_task("")
        self._topic = ""
        self._first, self._since, self._shown = 0, 0.0, perf_counter()
        self._last = perf_counter()

    def __enter__(self) -> "ProgressLine":
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def show(self, label: str, done: int, total: int | None, unit: str) -> float:
        """Show that `done` of `total` bytes, or sequences, are done; returns the seconds since it was called last."""
        now = perf_counter()
        passed, self._last = now - self._last, now
        topic = f"{label.partition(',')[0]} {unit}"
        if topic != self._topic:
            self._topic, self._first, self._since = topic, done, now
            self._bar.reset(self._task, total=total)
        self._bar.update(self._task, completed=done, total=total, description=label)
        if not self._console.is_terminal and now - self._shown >= LINE_SECONDS:
            self._shown = now
            scale, what = (1e6, "MB") if unit == "bytes" else (1, {"sequences": "sequences compared"}.get(unit, unit))
            of = "" if total is None else f" of {total / scale:,.0f}"
            rate = (done - self._first) / max(now - self._since, 1e-9)
            left = f", {(total - done) / rate:,.0f} s left" if total is not None and rate else ""
            self._console.print(f"{label}: {done / scale:,.0f}{of} {what}{left}")
        return passed


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
