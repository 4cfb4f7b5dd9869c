"""Fill the disk at every stage of a command, make room again, and go on: what was there is intact, nothing is lost.

A place is a file system of its own in memory, made so small that the command runs out of it; mounting one needs root.
"""

import os
import random
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from places import (
    Place,
    Row,
    cells,
    compare_runs,
    new_place,
    place_with_file,
    prepare,
    tree,
    versions,
    write_proteinnet,
)

ROOMY, PAGE = 1 << 30, 4096  # bytes
TRAIN = ("train", "small", "--model-file", "model.py", "--seed", "3", "--checkpoint-every", "3", "--threads", "1")


class Disk:
    """A file system in memory at a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def used(self) -> int:
        """Bytes."""
        about = os.statvfs(self.folder)
        return (about.f_blocks - about.f_bfree) * about.f_frsize

    def leave(self, free: int) -> None:
        """Make it so large that so many bytes are free."""
        size = (self.used + free) // PAGE * PAGE
        subprocess.run(["mount", "-o", f"remount,size={size}", str(self.folder)], check=True)


@contextmanager
def small_disk(folder: Path) -> Iterator[Disk]:
    """A disk at a new folder."""
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={ROOMY}", "tmpfs", str(folder)]
    subprocess.run(mount, check=True, stderr=subprocess.DEVNULL)
    try:
        yield Disk(folder)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def _may_mount(folder: Path) -> bool:
    """Whether this user may mount a disk here."""
    try:
        with small_disk(folder / "try"):
            return True
    except (OSError, subprocess.CalledProcessError):
        return False


@dataclass(frozen=True)
class Stage:
    """A command.

    Attributes:
        name: for the table.
        share: of the full disks.
        command: its arguments, by the number of the trial.
        compare: notes where its results are not those of an undisturbed one.
    """

    name: str
    share: float
    command: Callable[[int], Sequence[str]]
    compare: Callable[[Place, int], None]


def torture_disk(folder: Path, disks: int, seed: int) -> Iterator[Row]:
    """Fill the disk so often over all commands."""
    if not _may_mount(folder):
        print("full disks: left out, for no file system may be mounted here")
        return
    draw, data = random.Random(seed), prepare(folder / "data")
    text = folder / "text"
    text.mkdir()
    write_proteinnet(text)
    with place_with_file(folder / "undisturbed") as reference, small_disk(folder / "disk") as disk:
        place = new_place(folder / "disk", f"sqlite:///{folder}/disk/mlflow.db")
        for each in (reference, place):
            for number in range(disks + 1):  # a suite is named after its file
                shutil.copy(each.folder / "which.yaml", each.folder / f"which{number}.yaml")
        for stage in _stages(reference, data, text):
            began, full = time.monotonic(), 0
            place.problems.clear()
            reference.run(stage.command(0))
            before = disk.used
            code, output, _ = place.run(stage.command(0))
            if code:
                place.problems.append(f"{stage.name}: {output[-300:]}")
            needs = disk.used - before
            trials = max(1, round(disks * stage.share))
            for number in range(1, trials + 1):
                disk.leave(round(needs * (number - 1 + draw.random()) / trials))
                code, output, _ = place.run(stage.command(number))
                disk.leave(ROOMY)
                full += code != 0
                if code and not _is_clear(code, output):
                    place.problems.append(f"{stage.name} {number}: exit code {code}: {output[-2000:]}")
                if code:
                    _go_on(place, stage, number)
                stage.compare(place, number)
            place.run(["runs", "--clean"])
            problems = (*place.problems, *(f"left: {each}" for each in place.left()))
            yield Row(stage.name, "file", trials, (full, "full disks"), time.monotonic() - began, problems)


def _is_clear(code: int, output: str) -> bool:
    """Whether a command ended with one sentence that says what is wrong."""
    last = output.strip().rpartition("\n")[2]
    return (
        code == 1
        and "Traceback" not in output
        and last.startswith("Error: ")
        and re.search("No space left|disk is full", output) is not None
    )


def _go_on(place: Place, stage: Stage, number: int) -> None:
    """Continue a training whose disk was full, or repeat another command."""
    arguments = stage.command(number)
    begun = place.runs(f"train {number}") if stage.name == "train" else []
    for run, status in begun:
        place.run(["runs"])  # the next command that meets it
        ((status,),) = place.rows("SELECT status FROM runs WHERE run_uuid = ?", run)
        if status != "FAILED":
            place.problems.append(f"{stage.name} {number}: its run is {status}")
        arguments = ["train", "--resume", run]
    code, output, _ = place.run(arguments)
    if code and begun and "before its training began" in output:
        code, output, _ = place.run(stage.command(number))
    if code:
        place.problems.append(f"{stage.name} {number}: it does not go on: {output[-500:]}")


def _stages(reference: Place, data: Path, text: Path) -> Iterator[Stage]:
    """The commands, each with what it needs of those before."""

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

    def compare_suite(place: Place, number: int) -> None:
        wanted, found = cells(reference, "which0"), cells(place, f"which{number}")
        if found.keys() != wanted.keys():
            place.problems.append(f"suite {number}: it has {sorted(found)}")
        for cell in found.keys() & wanted.keys():
            compare_runs(place, reference, wanted[cell], found[cell], f"suite {number}, {cell}")

    def compare_versions(place: Place, number: int) -> None:
        if (found := versions(place, f"model{number}")) != (wanted := versions(reference, "model0")):
            place.problems.append(f"promote {number}: {found}, undisturbed {wanted}")

    yield Stage("train", 0.4, lambda n: (*TRAIN, "--data", str(data), "--experiment", f"train {n}"), compare_training)
    yield Stage("import", 0.3, lambda n: ("data", "import", str(text), "--out", f"imported{n}/store"), compare_store)
    yield Stage("suite", 0.1, lambda n: ("suite", "run", f"which{n}.yaml", "--data", str(data)), compare_suite)
    yield Stage(
        "promote", 0.2, lambda n: ("promote", "--suite", "which0", "--model-name", f"model{n}"), compare_versions
    )
