"""What is shown, as values: progress; tables, pictures and paragraphs of a report, as Markdown or one HTML page."""

import base64
import re
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, StrictUndefined

NUMBER = re.compile(r"-?[\d.,]+( |$)")  # at the beginning of a cell; a run's hexadecimal id does not match
TEMPLATE = files("protcli.experiments") / "page.html"


@dataclass(frozen=True)
class Table:
    """Rows of text under headings.

    Attributes:
        title: one line on what it shows.
        headings: one per column.
        rows: cells as they are printed.
        note: what a reader must know to read it.
    """

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""

    def __post_init__(self) -> None:
        """Raise ValueError if a row is not as wide as the headings."""
        if any(len(row) != len(self.headings) for row in self.rows):
            raise ValueError(f"table {self.title!r}: a row is not {len(self.headings)} cells wide")

    def is_figure(self, column: int) -> bool:
        """Whether a column is aligned right: most of its cells begin with a number."""
        cells = [row[column] for row in self.rows if row[column]]
        return 2 * sum(NUMBER.match(cell) is not None for cell in cells) > len(cells)

    def to_markdown(self) -> str:
        """The title, a pipe table and the note."""
        lines = [
            "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in (self.headings, *self.rows)
        ]
        rules = ("---:" if self.is_figure(column) else "---" for column in range(len(self.headings)))
        lines.insert(1, f"|{'|'.join(rules)}|")
        return "\n\n".join(filter(None, (f"**{self.title}**", "\n".join(lines), self.note)))


@dataclass(frozen=True)
class Progress:
    """How far something is.

    Attributes:
        label: what it is about, such as `training_30, 512 records`.
        done, total: of `unit`; the total is None where nobody knows it.
        unit: `bytes` or `sequences`.
    """

    label: str
    done: int
    total: int | None
    unit: str


@dataclass(frozen=True)
class Picture:
    """A PNG file and what it shows."""

    path: Path
    caption: str

    @property
    def data_uri(self) -> str:
        """The whole picture as a data URI, for a page that needs no other file."""
        return "data:image/png;base64," + base64.b64encode(self.path.read_bytes()).decode("ascii")


@dataclass(frozen=True)
class Section:
    """Part of a page, in this order: paragraphs, points, tables, pictures, shell commands.

    Attributes:
        heading: its title.
        paragraphs, points: plain text; points become a list.
        tables, pictures: in order.
        commands: shell commands, one per line.
    """

    heading: str
    paragraphs: tuple[str, ...] = ()
    points: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    pictures: tuple[Picture, ...] = ()
    commands: tuple[str, ...] = ()

    def to_markdown(self) -> str:
        """The section as Markdown, under a second-level heading; pictures are linked as files in the page's folder."""
        parts = [f"## {self.heading}", *self.paragraphs]
        if self.points:
            parts.append("\n".join(f"- {point}" for point in self.points))
        parts += (table.to_markdown() for table in self.tables)
        parts += (f"![{picture.caption}]({picture.path.name})\n\n*{picture.caption}*" for picture in self.pictures)
        if self.commands:
            parts.append("```sh\n" + "\n".join(self.commands) + "\n```")
        return "\n\n".join(parts)


@dataclass(frozen=True)
class Page:
    """A whole report.

    Attributes:
        title: its name.
        lead: the question it answers.
        warning: what readers must not miss, such as that the proteins are synthetic; may be empty.
        sections: in order.
    """

    title: str
    lead: str
    warning: str
    sections: tuple[Section, ...]

    def to_markdown(self) -> str:
        """The page as Markdown, for a repository: its pictures are files in the same folder."""
        warning = f"> **{self.warning}**" if self.warning else ""
        parts = [f"# {self.title}", f"*{self.lead}*", warning, *(section.to_markdown() for section in self.sections)]
        return "\n\n".join(filter(None, parts)) + "\n"

    def to_html(self) -> str:
        """The page as one self-contained HTML file."""
        environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
        return environment.from_string(TEMPLATE.read_text("utf-8")).render(page=self)
