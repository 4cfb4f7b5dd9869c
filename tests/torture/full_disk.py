"""Fill the disk at every stage of a command, make room again, and go on: what was there is intact, nothing is lost.

A place is a file system of its own in memory, made so small that the command runs out of it; mounting one needs root.
"""

import os
import random
import re
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from places import Place, Row, new_place, place_with_file, prepare
from stages import Stage, stages, write_proteinnet

ROOMY, PAGE = 1 << 30, 4096  # bytes
SHARES = {"train": 0.4, "import": 0.3, "suite": 0.1, "promote": 0.2}  # of the full disks


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
        """Make it so large that `free` bytes are free."""
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


def torture_disk(folder: Path, disks: int, seed: int, left_out: Sequence[str] = ()) -> Iterator[Row]:
    """Fill the disk so often over all commands but those left out; a suite that is promoted runs undisturbed."""
    if not _may_mount(folder):
        print("full disks: left out, for no file system may be mounted here")
        return
    draw, data, text = random.Random(seed), prepare(folder / "data"), write_proteinnet(folder / "text")
    with place_with_file(folder / "undisturbed") as reference, small_disk(folder / "disk") as disk:
        place = new_place(folder / "disk", f"sqlite:///{folder}/disk/mlflow.db")
        for stage in stages(reference, data, text, promoted=0):
            needed = stage.name == "suite" and "promote" not in left_out
            if stage.name not in SHARES or (stage.name in left_out and not needed):
                continue
            began, full = time.monotonic(), 0
            place.problems.clear()
            stage.prepare(reference, 0).run(stage.command(0))
            before = disk.used
            code, output, _ = stage.prepare(place, 0).run(stage.command(0))
            if code:
                place.problems.append(f"{stage.name}: {output[-300:]}")
            needs = disk.used - before
            trials = 0 if stage.name in left_out else max(1, round(disks * SHARES[stage.name]))
            for number in range(1, trials + 1):
                stage.prepare(place, number)
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
    return (code == 1 and "Traceback" not in output and last.startswith("Error: ") and re.search(
        "No space left|disk is full", output,
    ) is not None)  # fmt: skip


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
