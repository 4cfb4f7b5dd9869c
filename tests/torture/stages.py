"""The commands that are disturbed, and how their results are compared with those of undisturbed ones."""

import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from places import Place, compare_runs


@dataclass(frozen=True)
class Stage:
    """A command, tried again and again; 0 is the undisturbed one.

    Attributes:
        name: for the table.
        command: its arguments, by the number of the trial.
        compare: notes where its results are not those of the undisturbed one.
        prepare: the place where it runs, with what it needs.
    """

    name: str
    command: Callable[[int], Sequence[str]]
    compare: Callable[[Place, int], None]
    prepare: Callable[[Place, int], Place] = lambda place, number: place


def stages(reference: Place, data: Path, text: Path, promoted: int) -> Iterator[Stage]:
    """Each with what it needs of those before; disturbed promotions are of suite number `promoted`."""
    small = ("train", "small", "--model-file", "model.py", "--data", str(data), "--seed", "3", "--threads", "1")

    def compare_training(place: Place, number: int) -> None:
        ((whole, _),) = reference.runs("train 0")
        finished = [run for run, status in place.runs(f"train {number}") if status == "FINISHED"]
        if len(finished) != 1:
            place.problems.append(f"train {number}: {len(finished)} finished runs")
        for run in finished:
            compare_runs(place, reference, whole, run, f"train {number}")

    def compare_store(place: Place, number: int) -> None:
        if tree(place.folder / f"imported{number}") != tree(reference.folder / "imported0"):
            place.problems.append(f"import {number}: other files than undisturbed")

    def prepare_suite(place: Place, number: int) -> Place:  # a suite is named after its file
        shutil.copy(place.folder / "which.yaml", place.folder / f"which{number}.yaml")
        return place

    def compare_suite(place: Place, number: int) -> None:
        wanted, found = cells(reference, "which0"), cells(place, f"which{number}")
        if found.keys() != wanted.keys():
            place.problems.append(f"suite {number}: it has {sorted(found)}")
        for cell in found.keys() & wanted.keys():
            compare_runs(place, reference, wanted[cell], found[cell], f"suite {number}, {cell}")

    def promote(number: int) -> Sequence[str]:
        return ("promote", "--suite", f"which{promoted if number else 0}", "--model-name", f"model{number}")

    def compare_versions(place: Place, number: int) -> None:
        if (found := versions(place, f"model{number}")) != (wanted := versions(reference, "model0")):
            place.problems.append(f"promote {number}: {found}, undisturbed {wanted}")

    def prepare_sync(place: Place, number: int) -> Place:
        """A place of its own in `place`, with one run trained offline."""
        own = Place(place.folder / f"offline{number}", place.uri, problems=place.problems)
        own.folder.mkdir()
        shutil.copy(place.folder / "model.py", own.folder)
        code, output, _ = own.run([*small, "--experiment", own.folder.name, "--offline"])
        if code:
            place.problems.append(f"offline: {output[-300:]}")
        return own

    def compare_sync(place: Place, number: int) -> None:
        ((whole, _),), runs = reference.runs("offline0"), place.runs(f"offline{number}")
        if [status for _, status in runs] != ["FINISHED"]:
            place.problems.append(f"sync {number}: {runs}")
        else:
            compare_runs(place, reference, whole, runs[0][0], f"sync {number}")

    train = (*small, "--checkpoint-every", "3", "--experiment")
    yield Stage("train", lambda number: (*train, f"train {number}"), compare_training)
    imported = ("data", "import", str(text), "--out")
    yield Stage("import", lambda number: (*imported, f"imported{number}/store"), compare_store)
    suite = ("--data", str(data), "--jobs", "2")
    yield Stage("suite", lambda number: ("suite", "run", f"which{number}.yaml", *suite), compare_suite, prepare_suite)
    yield Stage("promote", promote, compare_versions)
    yield Stage("sync", lambda number: ("sync",), compare_sync, prepare_sync)


def cells(place: Place, suite: str = "which") -> dict[str, str]:
    """The finished runs of a suite by cell and seed."""
    found = place.rows(
        "SELECT cell.value || ' ' || seed.value, run_uuid FROM runs JOIN tags suite USING (run_uuid) "
        "JOIN tags cell USING (run_uuid) JOIN tags seed USING (run_uuid) WHERE suite.key = 'suite' AND "
        "suite.value = ? AND cell.key = 'suite.cell' AND seed.key = 'suite.seed' AND status = 'FINISHED'",
        suite,
    )
    return dict(found) if len(dict(found)) == len(found) else {f"{cell} {run}": run for cell, run in found}


def versions(place: Place, name: str) -> list[tuple]:
    """What the registry says of a model: versions, their decisions and aliases."""
    versions = place.rows(
        "SELECT version, (SELECT value FROM model_version_tags t WHERE t.name = v.name AND t.version = v.version AND "
        "key = 'promotion.decision') FROM model_versions v WHERE name = ? AND current_stage != 'Deleted_Internal' "
        "ORDER BY version",
        name,
    )
    aliases = place.rows("SELECT alias, version FROM registered_model_aliases WHERE name = ? ORDER BY alias", name)
    return [tuple(versions), tuple(aliases)]


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def write_proteinnet(folder: Path) -> Path:
    """A folder of three small splits as ProteinNet text."""
    folder.mkdir(parents=True)
    draw = random.Random(5)
    for split, count in (("training_30", 60), ("validation", 9), ("testing", 9)):
        text = ""
        for number in range(count):
            length = draw.randint(20, 50)
            letters = "".join(draw.choice("ACDEFGHIKLMNPQRSTVWY") for _ in range(length))
            identity = f"10#{split[:3].upper()}{number}" if split != "training_30" else f"{number}ABC_1_A"
            profile = ["\t".join(f"{draw.random():.4f}" for _ in range(length)) for _ in range(21)]
            points = ["\t".join(f"{draw.uniform(-3000, 3000):.1f}" for _ in range(3 * length)) for _ in range(3)]
            lines = ["[ID]", identity, "[PRIMARY]", letters, "[EVOLUTIONARY]", *profile, "[TERTIARY]", *points]
            text += "\n".join([*lines, "[MASK]", "+" * length, "", ""])
        (folder / split).write_text(text, encoding="utf-8")
    return folder
