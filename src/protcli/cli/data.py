"""protcli data: import, profiles, families, split, features, embed, inspect, fetch, synth."""

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from protcli.cli.options import Database, Device

if TYPE_CHECKING:
    from rich.console import Console

    from protcli.experiments.data.families import Overlap
    from protcli.experiments.data.import_files import Plan
    from protcli.experiments.pages import Progress
    from protcli.proteins.store import SplitWriter

PLURALS = {"family": "families"}
LISTED = 5  # dropped records listed for each reason; the manifest lists all of them

TABLE = "CSV or TSV file with the columns id and family"

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

Alignments = Annotated[
    Path,
    typer.Option(
        metavar="DIR",
        help="Folder of the chains' alignments, which give the profiles: 1abc_A.a3m, .sto, .aln (.gz), "
        "1abc_A/a3m/*.a3m, or nanoFold's .npz.",
    ),
]
Out = Annotated[Path, typer.Option("--out", help="Store folder: a new one, or an existing store to add splits to.")]


@app.command("import")
def import_(
    sources: Annotated[
        list[Path],
        typer.Argument(
            metavar="SOURCE...",
            help="A ProteinNet folder or ProteinNet files (text or TFRecord); ProMod3's structure_db.dat; PDB or mmCIF "
            "files, or a folder of them.",
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
    alignments: Alignments | None = None,
) -> None:
    """Import proteins from files into a store, and find their families.

    A broken record aborts the import and nothing is kept, unless --skip-bad is given.
    """
    from contextlib import closing
    from time import perf_counter

    from protcli.cli.terminal import ProgressLine, terminal
    from protcli.experiments.data.families import Overlap
    from protcli.experiments.data.import_files import Plan, import_data
    from protcli.experiments.pages import Progress
    from protcli.proteins.store import SplitWriter

    console = terminal()
    began, size, kept, reading = perf_counter(), 0, 0, 0.0
    with (
        _unchanged(f"{out} is unchanged"),
        closing(
            import_data(sources, out, as_split=as_split, skip_bad=skip_bad, families=families, alignments=alignments)
        ) as events,
        ProgressLine(console) as line,
    ):
        for event in events:
            match event:
                case Plan():
                    size = event.size
                    _print_plan(console, event)
                case Progress():
                    seconds = line.show(event.label, event.done, event.total, event.unit)
                    reading += seconds * (event.unit == "bytes")  # comparing sequences is no part of its speed
                case SplitWriter():
                    kept += event.entry["records"]
                    _print_split(console, event)
                case Overlap():
                    _print_overlap(console, event)
    console.print(
        f"{out}: {_count(kept, 'protein')}, {size / 1e6:,.1f} MB in {perf_counter() - began:.1f} s, read at "
        f"{size / 1e6 / max(reading, 1e-3):.0f} MB/s"
    )


@app.command()
def profiles(
    folder: Annotated[Path, typer.Argument(metavar="STORE", help="A store; it stays as it is.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the new store.")],
    alignments: Alignments | None = None,
    database: Database = None,
    skip_bad: Annotated[bool, typer.Option(help="Skip alignments that are broken or of another protein.")] = False,
) -> None:
    """Write a new store with the same proteins, and profiles of alignments, or of relatives found in a database.

    A chain without an alignment keeps its profile; the database is searched for those that have none.
    """
    from protcli.experiments.data.profiles import give_profiles

    _show_new_store(give_profiles(folder, out, alignments=alignments, database=database, skip_bad=skip_bad), out)


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

    from protcli.cli.terminal import ProgressLine, terminal
    from protcli.experiments.data.families import Overlap, add_families
    from protcli.proteins.store import open_store

    console = terminal()
    with (
        _unchanged(f"{folder} is unchanged"),
        closing(add_families(folder, table)) as events,
        ProgressLine(console) as line,
    ):
        for event in events:
            if isinstance(event, Overlap):
                _print_overlap(console, event)
            else:
                line.show(event.label, event.done, event.total, event.unit)
    store = open_store(folder)
    for name in store.splits:
        found = store.split_info(name)["families"]
        console.print(f"{name}: {_families(found['count'], found['largest'])}")
    console.print(f"{folder}: complete")


@app.command()
def split(
    folder: Annotated[Path, typer.Argument(metavar="STORE", help="A store with families; it stays as it is.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the new store.")],
    validation: Annotated[int, typer.Option(min=0, help="Proteins for validation.")],
    testing: Annotated[int, typer.Option(min=0, help="Proteins for testing.")],
    seed: Annotated[int, typer.Option(help="Seed of the draw.")] = 0,
    class_10: Annotated[
        float,
        typer.Option("--class-10", min=0, max=1, help="Share of them of which phmmer finds no relative in training."),
    ] = 0.5,
) -> None:
    """Make validation and testing out of a training split, in a new store, with ProteinNet's classes.

    Each chain drawn is of a family of its own; what is related to what, phmmer decides.
    """
    from protcli.experiments.data.split import split_data

    _show_new_store(split_data(folder, out, validation=validation, testing=testing, seed=seed, class_10=class_10), out)


@app.command()
def features(
    folder: Annotated[Path, typer.Argument(metavar="STORE", help="A store; it stays as it is.")],
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...",
            help="safetensors or npz files with an array [L, D] for each chain, by its id; or a folder of them, or of "
            "an npy file for each chain, named by its id.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder of the new store.")],
) -> None:
    """Give the chains of a store numbers for each residue, as a language model's embeddings, in a new store.

    Models read them with --set features=true. They are kept as float16, and are part of the data's digest.
    """
    from protcli.experiments.data.features import add_features

    _show_new_store(add_features(folder, files, out), out)


@app.command()
def embed(
    folder: Annotated[Path, typer.Argument(metavar="STORE", help="A store; it stays as it is.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the new store.")],
    model: Annotated[
        str, typer.Option(help="A protein language model on the Hugging Face Hub, or its folder.")
    ] = "facebook/esm2_t12_35M_UR50D",
    batch: Annotated[int, typer.Option(min=1, help="Chains computed together.")] = 8,
    device: Device = "auto",
) -> None:
    """Compute the features of all chains with a protein language model, in a new store.

    Needs transformers: pip install 'protcli[esm]'. The features are the last hidden layer of each residue.
    """
    from protcli.experiments.data.embed import embed

    _show_new_store(embed(folder, model, out, batch=batch, device=device), out)


@app.command()
def inspect(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A store made by import or synth.")],
    plot: Annotated[Path | None, typer.Option(help="Write a page of figures to this PNG file.")] = None,
) -> None:
    """Show what a store holds: counts, lengths, missing residues, classes, families and profiles."""
    from protcli.cli.terminal import print_table, terminal
    from protcli.experiments.data.inspect import inspect_data, picture_data
    from protcli.proteins.store import TESTING

    console = terminal()
    store, tables = inspect_data(folder)
    entries = {name: store.split_info(name) for name in store.splits}
    kind = "SYNTHETIC proteins, generated by protcli" if store.synthetic else "proteins"
    total = sum(entry["records"] for entry in entries.values())
    console.print(f"{store.name}: {total:,} {kind}, in {store.path}")
    if about := store.manifest.get("about"):
        console.print(about)
    for table in tables:
        print_table(console, table)
    if without := [name for name, entry in entries.items() if "families" not in entry]:
        console.print(
            f"The store holds no families of {', '.join(without)}: each protein counts as its own; "
            f"`protcli data families {folder}` adds them."
        )
    for name, entry in entries.items():
        for reason, records in entry.get("dropped", {}).items():
            _print_dropped(console, f"{name}, dropped, {reason}", records)
        for note in entry.get("notes", ()):
            console.print(f"  {name}: {note}")
    if ignored := store.manifest.get("ignored"):
        console.print(f"ignored files: {', '.join(ignored)}")
    if TESTING in entries:
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

    from protcli.cli.terminal import ProgressLine, terminal
    from protcli.experiments.data.fetch import OFFICIAL, fetch_data

    console, phase = terminal(), ""
    with (
        _unchanged("repeat the command to resume"),
        closing(fetch_data(release, out, layout=layout, base_url=url or OFFICIAL)) as events,
        ProgressLine(console) as line,
    ):
        for event in events:
            phase = event.label
            line.show(f"{release}, {phase}", event.done, event.total, event.unit)
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
    with _unchanged(f"{out} is unchanged"), console.status("generating synthetic proteins"):
        store = write_synthetic(
            out, train=train, valid=valid, test=test, seed=seed, min_length=min_length, max_length=max_length
        )
    for name in store.splits:
        info = store.split_info(name)
        console.print(f"{name}: {info['records']:,} SYNTHETIC proteins, digest {info['digest'][:12]}")
    console.print(f"{out}: complete")


def _show_new_store(events: "Generator[Progress]", out: Path) -> None:
    """Show the progress of making a store, and the store."""
    from contextlib import closing

    from protcli.cli.terminal import ProgressLine, terminal

    with _unchanged(f"{out} was not made"), closing(events), ProgressLine(terminal()) as line:
        for event in events:
            line.show(event.label, event.done, event.total, event.unit)
    inspect(out)


@contextmanager
def _unchanged(what: str) -> Iterator[None]:
    """Say what a command that is stopped has left."""
    try:
        yield
    except KeyboardInterrupt:
        typer.echo(f"Stopped: {what}.", err=True)
        raise


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun if number == 1 else PLURALS.get(noun, noun + 's')}"


def _families(count: int, largest: int) -> str:
    return f"{_count(count, 'family')}, the largest of {_count(largest, 'protein')}"


def _print_plan(console: "Console", plan: "Plan") -> None:
    files = _count(sum(map(len, plan.splits.values())), "file")
    console.print(f"reading {files}, {plan.size / 1e6:,.1f} MB, into {', '.join(plan.splits)}")
    if plan.ignored:
        console.print(f"ignored: {', '.join(plan.ignored)}")


def _print_split(console: "Console", split: "SplitWriter") -> None:
    entry = split.entry
    text = f"{split.name}: {_count(entry['read'], 'record')} read, {entry['records']:,} kept"
    text += "".join(f", {len(records):,} dropped ({reason})" for reason, records in entry["dropped"].items())
    console.print(f"{text}; {entry['lengths']['total']:,} residues, digest {entry['digest'][:12]}")
    if found := entry.get("families"):
        console.print(f"  {_families(found['count'], found['largest'])} ({found['source']})")
    for reason, records in entry["dropped"].items():
        _print_dropped(console, reason, records)
    for note in entry["notes"]:
        console.print(f"  {note}")


def _print_overlap(console: "Console", event: "Overlap") -> None:
    found = [f"{_count(event.same, 'protein')} with a sequence that {event.other} has too"] if event.same else []
    related = f"{_count(event.related, 'protein') if event.related else 'none'} with a relative in {event.other}"
    found += [f"relatives in {event.other} were not looked for" if event.related is None else related]
    console.print(f"{'Warning: ' if event.same else '  '}{event.split}: {', '.join(found)}")


def _print_dropped(console: "Console", reason: str, records: Sequence[str]) -> None:
    more = f" and {len(records) - LISTED:,} more, all listed in the manifest" if len(records) > LISTED else ""
    console.print(f"  {reason}: {'; '.join(records[:LISTED])}{more}")
