"""protcli data: import, families, inspect, fetch, synth."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from protcli.experiments.data.import_files import Imported, Plan
    from protcli.experiments.data.inspect import SplitSummary
    from protcli.experiments.data.overlap import Compared, Overlap
    from protcli.proteins.store import Store

LINE_SECONDS = 10  # between progress lines when there is no terminal
PLURALS = {"family": "families"}
LISTED = 5  # dropped records listed for each reason; the manifest lists all of them

TABLE = "CSV or TSV file with the columns id and family"

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

Out = Annotated[Path, typer.Option("--out", help="Store folder: a new one, or an existing store to add splits to.")]


@app.command("import")
def import_(
    sources: Annotated[
        list[Path],
        typer.Argument(
            metavar="SOURCE...",
            help="A ProteinNet folder or ProteinNet files (text or TFRecord); PDB or mmCIF files, or a folder of them.",
        ),
    ],
    out: Out,
    as_split: Annotated[
        str | None,
        typer.Option("--as", help="Split name for the files: train, valid, test or a name like training_30."),
    ] = None,
    skip_bad: Annotated[bool, typer.Option(help="Skip broken records and list them.")] = False,
    families: Annotated[
        str | None,
        typer.Option(help=f"{TABLE}, or none (default: from the sequences of each split).", metavar="FILE"),
    ] = None,
) -> None:
    """Import proteins from files into a store, and find their families.

    A broken record aborts the import and nothing is kept, unless --skip-bad is given.
    """
    from contextlib import closing
    from time import perf_counter

    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.progress import Progress as Bar

    from protcli.cli.terminal import terminal
    from protcli.experiments.data.import_files import Imported, Plan, Progress, import_data
    from protcli.experiments.data.overlap import Compared, Overlap

    console = terminal()
    bar = Bar(
        TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn(),
        console=console, transient=True, disable=not console.is_terminal,
    )  # fmt: skip
    started = last_event = last_line = perf_counter()
    comparing = 0.0  # seconds, which are no part of the reading speed
    searches = _Searches()
    size = 0
    done: list[Imported] = []
    try:
        with closing(import_data(sources, out, as_split=as_split, skip_bad=skip_bad, families=families)) as events, bar:
            for event in events:
                now = perf_counter()
                comparing += (now - last_event) * isinstance(event, Compared)
                last_event = now
                match event:
                    case Plan():
                        size = event.size
                        task = bar.add_task("", total=size)
                        _print_plan(console, event)
                    case Progress():
                        label = f"{event.split}, {_count(event.records, 'record')}"
                        bar.update(task, completed=event.done, description=label)
                        if not console.is_terminal and event.done and now - last_line >= LINE_SECONDS:
                            last_line, rate = now, event.done / (now - started - comparing)
                            console.print(
                                f"{label}: {event.done / 1e6:,.0f} of {size / 1e6:,.0f} MB at {rate / 1e6:.0f} MB/s, "
                                f"{(size - event.done) / rate:.0f} s left"
                            )
                    case Compared():
                        label = searches.line(event, now)
                        bar.update(task, description=label)
                        if not console.is_terminal and now - last_line >= LINE_SECONDS:
                            last_line = now
                            console.print(label)
                    case Imported():
                        done.append(event)
                        _print_split(console, event)
                    case Overlap():
                        _print_overlap(console, event)
    except KeyboardInterrupt:
        typer.echo(f"Stopped: {out} is unchanged.", err=True)
        raise
    seconds = perf_counter() - started
    kept = sum(event.entry["records"] for event in done)
    console.print(
        f"{out}: {_count(kept, 'protein')}, {size / 1e6:,.1f} MB in {seconds:.1f} s, read at "
        f"{size / 1e6 / (seconds - comparing):.0f} MB/s"
    )


@app.command()
def families(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A store made by import or synth.")],
    table: Annotated[
        Path | None,
        typer.Option("--families", help=f"{TABLE} (default: from the sequences of each split).", metavar="FILE"),
    ] = None,
) -> None:
    """Add families of homologous proteins to a store, or replace them; its proteins and digests stay the same."""
    from contextlib import closing
    from time import perf_counter

    from protcli.cli.terminal import terminal
    from protcli.experiments.data.families import add_families
    from protcli.experiments.data.overlap import Compared, Overlap

    console = terminal()
    searches = _Searches()
    last_line = perf_counter()
    try:
        with closing(add_families(folder, table)) as events, console.status("comparing sequences") as status:
            for event in events:
                if isinstance(event, Overlap):
                    _print_overlap(console, event)
                    continue
                if not isinstance(event, Compared):
                    console.print(f"{event.split}: {_families(event.families.count, event.families.largest)}")
                    continue
                now = perf_counter()
                line = searches.line(event, now)
                status.update(line)
                if not console.is_terminal and now - last_line >= LINE_SECONDS:
                    last_line = now
                    console.print(line)
    except KeyboardInterrupt:
        typer.echo(f"Stopped: {folder} is unchanged.", err=True)
        raise
    console.print(f"{folder}: complete")


@app.command()
def inspect(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A store made by import or synth.")],
    plot: Annotated[Path | None, typer.Option(help="Write a page of figures to this PNG file.")] = None,
) -> None:
    """Show what a store holds: counts, lengths, missing residues, classes, families and profiles."""
    from protcli.cli.terminal import terminal
    from protcli.experiments.data.inspect import inspect_data, picture_data
    from protcli.proteins.store import TESTING

    console = terminal()
    store, summaries = inspect_data(folder)
    kind = "SYNTHETIC proteins, generated by protcli" if store.synthetic else "proteins"
    console.print(f"{store.name}: {sum(s.records for s in summaries):,} {kind}, in {store.path}")
    if about := store.manifest.get("about"):
        console.print(about)
    tables = (_splits_table, _atoms_table, _classes_table, _families_table, _overlaps_table)
    for table in filter(None, (make(summaries) for make in tables)):
        console.print(table)
    if without := [s.name for s in summaries if s.families is None]:
        console.print(
            f"The store holds no families of {', '.join(without)}: each protein counts as its own; "
            f"`protcli data families {folder}` adds them."
        )
    console.print(_profile_table(summaries))
    _print_dropped(console, store, summaries)
    if TESTING in store.splits:
        console.print(f"{TESTING} was not opened: its figures were counted at import.")
    if plot is not None:
        console.print(f"figures: {picture_data(folder, plot)}")


@app.command()
def fetch(
    release: Annotated[str, typer.Argument(metavar="RELEASE", help="A ProteinNet release: casp7 to casp12.")],
    out: Annotated[Path, typer.Option("--out", help="Folder to fetch into; the release gets a subfolder.")],
    layout: Annotated[str, typer.Option("--format", help="File format: text or tfrecord.")] = "text",
    url: Annotated[str | None, typer.Option(help="A mirror of the official archive.")] = None,
) -> None:
    """Fetch a ProteinNet release from the official archive and unpack it for import.

    To resume an interrupted download, repeat the command.
    """
    from contextlib import closing
    from time import perf_counter

    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.progress import Progress as Bar

    from protcli.cli.terminal import terminal
    from protcli.experiments.data.fetch import OFFICIAL, fetch_data

    console = terminal()
    bar = Bar(
        TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn(),
        console=console, transient=True, disable=not console.is_terminal,
    )  # fmt: skip
    phase, started = "", perf_counter()
    last_line = started
    try:
        # for mypy: the iterator is a generator and has close()
        with closing(fetch_data(release, out, layout=layout, base_url=url or OFFICIAL)) as events, bar:  # type: ignore[arg-type, type-var]
            task = bar.add_task("")
            for event in events:
                if event.phase != phase:
                    phase = event.phase
                    bar.reset(task, total=event.total, description=f"{release}: {phase}")
                bar.update(task, completed=event.done, total=event.total)
                now = perf_counter()
                if not console.is_terminal and now - last_line >= LINE_SECONDS:
                    last_line = now
                    total = f" of {event.total / 1e6:,.0f}" if event.total else ""
                    console.print(f"{release}, {phase}: {event.done / 1e6:,.0f}{total} MB, {now - started:.0f} s")
    except KeyboardInterrupt:
        typer.echo("Stopped: repeat the command to resume.", err=True)
        raise
    folder = out / release
    console.print(f"{folder}: {'already present' if phase == 'present' else 'complete'}; digest in {folder}.json")
    console.print(f"next: protcli data import {folder} --out STORE")


@app.command()
def synth(
    out: Out,
    train: Annotated[int, typer.Option(help="Number of training proteins.")] = 128,
    valid: Annotated[int, typer.Option(help="Number of validation proteins.")] = 32,
    test: Annotated[int, typer.Option(help="Number of test proteins.")] = 32,
    seed: Annotated[int, typer.Option(help="Random seed; the same seed gives the same proteins.")] = 0,
    min_length: Annotated[int, typer.Option(help="Shortest chain, in residues.")] = 50,
    max_length: Annotated[int, typer.Option(help="Longest chain, in residues.")] = 300,
) -> None:
    """Make a store of synthetic proteins like the built-in sample."""
    from protcli.cli.terminal import terminal
    from protcli.proteins.synthetic import write_synthetic

    console = terminal()
    try:
        with console.status("generating synthetic proteins"):
            store = write_synthetic(
                out, train=train, valid=valid, test=test, seed=seed, min_length=min_length, max_length=max_length
            )
    except KeyboardInterrupt:
        typer.echo(f"Stopped: {out} is unchanged.", err=True)
        raise
    for name in store.splits:
        info = store.split_info(name)
        console.print(f"{name}: {info['records']:,} SYNTHETIC proteins, digest {info['digest'][:12]}")
    console.print(f"{out}: complete")


class _Searches:
    """Says how far the search for the families of each split is, and how long it will take."""

    def __init__(self) -> None:
        self._first: dict[str, tuple[int, float]] = {}  # what was done first, and when

    def line(self, event: "Compared", now: float) -> str:
        """How far the search is at a time, in seconds."""
        done, since = self._first.setdefault(event.split, (event.done, now))
        text = f"{event.split}: {event.done:,} of {event.total:,} sequences compared"
        if event.done == done:
            return text
        return f"{text}, {(event.total - event.done) * (now - since) / (event.done - done):,.0f} s left"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun if number == 1 else PLURALS.get(noun, noun + 's')}"


def _families(count: int, largest: int) -> str:
    return f"{_count(count, 'family')}, the largest of {_count(largest, 'protein')}"


def _print_plan(console: "Console", plan: "Plan") -> None:
    console.print(
        f"reading {_count(len(plan.files), 'file')}, {plan.size / 1e6:,.1f} MB, into {', '.join(plan.splits)}"
    )
    if plan.ignored:
        console.print(f"ignored: {', '.join(plan.ignored)}")


def _print_split(console: "Console", event: "Imported") -> None:
    entry = event.entry
    text = f"{event.split}: {_count(entry['read'], 'record')} read, {entry['records']:,} kept"
    text += "".join(f", {len(records):,} dropped ({reason})" for reason, records in entry["dropped"].items())
    console.print(f"{text}; {entry['lengths']['total']:,} residues, digest {entry['digest'][:12]}")
    if found := entry.get("families"):
        console.print(f"  {_families(found['count'], found['largest'])} ({found['source']})")
    for reason, records in entry["dropped"].items():
        _print_dropped_records(console, reason, records)
    for note in entry["notes"]:
        console.print(f"  {note}")


def _print_overlap(console: "Console", event: "Overlap") -> None:
    found = [f"{_count(event.same, 'protein')} with a sequence that {event.other} has too"] if event.same else []
    found += [f"{_count(event.related, 'protein')} with a relative in {event.other}"] if event.related else []
    if found:
        console.print(f"{'Warning: ' if event.same else '  '}{event.split}: {', '.join(found)}")


def _print_dropped_records(console: "Console", reason: str, records: Sequence[str]) -> None:
    more = f" and {len(records) - LISTED:,} more, all listed in the manifest" if len(records) > LISTED else ""
    console.print(f"  {reason}: {'; '.join(records[:LISTED])}{more}")


def _print_dropped(console: "Console", store: "Store", summaries: Sequence["SplitSummary"]) -> None:
    for summary in summaries:
        for reason, records in store.split_info(summary.name).get("dropped", {}).items():
            _print_dropped_records(console, f"{summary.name}, dropped, {reason}", records)
        for note in summary.notes:
            console.print(f"  {summary.name}: {note}")
    if ignored := store.manifest.get("ignored"):
        console.print(f"ignored files: {', '.join(ignored)}")


def _table(title: str, first: str, columns: Sequence[str]) -> "Table":
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(first)
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _splits_table(summaries: Sequence["SplitSummary"]) -> "Table":
    columns = ("read", "kept", "dropped", "shortest", "median", "longest", "residues", "real profile", "digest")
    table = _table("Splits", "split", columns)
    for s in summaries:
        counts = (s.read, s.records, sum(s.dropped.values()), s.shortest, s.median, s.longest, s.residues)
        share = f"{s.real_profiles / s.records:.1%}"
        table.add_row(
            s.name, *(f"{value:,g}" if value < 1e6 else f"{value:,.0f}" for value in counts), share, s.digest[:12]
        )
    return table


def _atoms_table(summaries: Sequence["SplitSummary"]) -> "Table":
    atoms = list(summaries[0].atoms)
    table = _table("Resolved residues: share with each atom", "split", ["missing", *atoms])
    for s in summaries:
        table.add_row(s.name, f"{s.missing:.2%}", *(f"{s.atoms[atom]:.2%}" for atom in atoms))
    return table


def _classes_table(summaries: Sequence["SplitSummary"]) -> "Table | None":
    """Proteins by ProteinNet class, the prefix of the id; None if no protein has one."""
    shown = [s for s in summaries if any(s.classes)]
    if not shown:
        return None
    classes = sorted({name for s in shown for name in s.classes}, key=lambda name: (not name.isdigit(), name))
    table = _table("Proteins by ProteinNet class", "split", [name or "none" for name in classes])
    for s in shown:
        table.add_row(s.name, *(f"{s.classes.get(name, 0):,}" for name in classes))
    return table


def _overlaps_table(summaries: Sequence["SplitSummary"]) -> "Table | None":
    """What splits to measure on have in common with others."""
    shown = [(s, other, *found) for s in summaries for other, found in s.overlaps.items()]
    if not shown:
        return None
    table = _table("Proteins that another split knows", "split", ("proteins", "in", "same sequence", "a relative"))
    for summary, other, same, related in shown:
        found = "not compared" if related is None else f"{related:,}"
        table.add_row(summary.name, f"{summary.records:,}", other, f"{same:,}", found)
    return table


def _families_table(summaries: Sequence["SplitSummary"]) -> "Table | None":
    """Families of homologous proteins; None if the store holds none."""
    shown = [s for s in summaries if s.families is not None]
    if not shown:
        return None
    table = _table("Families of homologous proteins", "split", ("families", "largest", "from"))
    for s in shown:
        table.add_row(s.name, f"{s.families:,}", f"{s.largest_family:,}", s.family_source)
    return table


def _profile_table(summaries: Sequence["SplitSummary"]) -> "Table":
    from protcli.proteins.residues import AMINO_ACIDS

    title = "Profile columns: mean, and share of residues with a nonzero value"
    table = _table(title, "column", [s.name for s in summaries])
    for column, name in enumerate([*AMINO_ACIDS, "information"]):
        cells = (f"{s.profile_mean[column]:.4f} {s.profile_nonzero[column]:7.2%}" for s in summaries)
        table.add_row(name, *cells)
    return table
