"""Kill protcli at random moments and let it go on, until nothing is left to do: nothing may be lost, nothing twice.

The kills are SIGKILL, each drawn uniformly over the time that the command takes undisturbed.
"""

import os
import random
import shutil
import signal
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

from places import (
    Place,
    Row,
    cells,
    compare_runs,
    new_place,
    place_with_file,
    place_with_server,
    prepare,
    serving,
    tree,
    versions,
    write_proteinnet,
)

STORES = ("file", "server")


def torture_commands(folder: Path, kills: int, seed: int, stores: Sequence[str] = STORES) -> Iterator[Row]:
    """Kill every command on these kinds of store, with at least so many kills over all."""
    draw, data = random.Random(seed), prepare(folder)
    for store in stores:
        opened = place_with_file if store == "file" else place_with_server
        with opened(folder / f"{store}-undisturbed") as reference, opened(folder / store) as place:
            for scenario, share in SHARES.items():
                before, began = place.kills, time.monotonic()
                place.problems.clear()
                trials = scenario(place, reference, data, draw, max(1, round(kills / len(stores) * share)))
                place.run(["runs", "--clean"])
                problems = (*place.problems, *(f"left: {each}" for each in place.left()))
                killed, took = place.kills - before, time.monotonic() - began
                yield Row(scenario.__name__.strip("_"), store, trials, (killed, "kills"), took, problems)


def _trainings(place: Place, reference: Place, data: Path, draw: random.Random, kills: int) -> int:
    torture_train(reference, data, draw, 0, 0, 0.0)  # the first command of a process takes longer
    _, _, duration = reference.run(
        ["train", "small", "--model-file", str(reference.folder / "model.py"), "--data", str(data), "--seed", "3",
         "--experiment", "whole", "--checkpoint-every", "3", "--threads", "1"]
    )  # fmt: skip
    ((whole, _),) = reference.runs("whole")
    before, number = place.kills, 0
    while place.kills - before < kills:
        number += 1
        torture_train(place, data, draw, min(5, kills), number, duration)
        finished = [run for run, status in place.runs(f"train {number}") if status == "FINISHED"]
        if len(finished) != 1:
            place.problems.append(f"train {number}: {len(finished)} finished runs")
        for run in finished:
            compare_runs(place, reference, whole, run, f"train {number}")
    return number


def _imports(place: Place, reference: Place, data: Path, draw: random.Random, kills: int) -> int:
    source = data.parent / "text"
    if not source.exists():
        source.mkdir()
        write_proteinnet(source)
    arguments = ["data", "import", str(source), "--out"]
    whole = reference.folder / "imported" / "store"  # a store has its folder's name
    whole.parent.mkdir()
    code, output, duration = reference.run([*arguments, str(whole)])
    if code:
        place.problems.append(f"import: {output[-300:]}")
        return 0
    before, number = place.kills, 0
    while place.kills - before < kills:
        number += 1
        out = place.folder / f"imported{number}" / "store"
        out.parent.mkdir()
        torture_command(place, [*arguments, str(out)], draw, min(5, kills), duration)
        if tree(out.parent) != tree(whole.parent):
            place.problems.append(f"import {number}: other files than undisturbed")
    return number


def _suites(place: Place, reference: Place, data: Path, draw: random.Random, kills: int) -> int:
    arguments = ["suite", "run", "which.yaml", "--data", str(data), "--jobs", "2"]
    code, output, duration = reference.run(arguments)
    if code:
        place.problems.append(f"suite: {output[-300:]}")
        return 0
    wanted = cells(reference)
    before, number = place.kills, 0
    while place.kills - before < kills:
        number += 1
        # another name is another suite
        shutil.copy(place.folder / "which.yaml", place.folder / f"which{number}.yaml")
        own = [f"which{number}.yaml" if each == "which.yaml" else each for each in arguments]
        torture_command(place, own, draw, min(5, kills), duration)
        found = cells(place, f"which{number}")
        if found.keys() != wanted.keys():
            place.problems.append(f"suite {number}: it has {sorted(found)}")
        for cell in found.keys() & wanted.keys():
            compare_runs(place, reference, wanted[cell], found[cell], f"suite {number}, {cell}")
    return number


def _promotions(place: Place, reference: Place, data: Path, draw: random.Random, kills: int) -> int:
    command = ["promote", "--suite", "which", "--model-name"]
    code, output, duration = reference.run([*command, "model"])
    if code:
        place.problems.append(f"promote: {output[-300:]}")
        return 0
    wanted = versions(reference, "model")
    before, number = place.kills, 0
    while place.kills - before < kills:
        number += 1
        own = ["promote", "--suite", "which1", "--model-name", f"model{number}"]
        torture_command(place, own, draw, min(5, kills), duration)
        if (found := versions(place, f"model{number}")) != wanted:
            place.problems.append(f"promote {number}: {found}, undisturbed {wanted}")
    return number


def _syncs(place: Place, reference: Place, data: Path, draw: random.Random, kills: int) -> int:
    def offline(where: Place, folder: Path) -> Place:
        """A place of its own beside `where`, with one run trained offline."""
        folder.mkdir()
        shutil.copy(where.folder / "model.py", folder)
        own = Place(folder, where.uri)
        code, output, _ = own.run(
            ["train", "small", "--model-file", str(folder / "model.py"), "--data", str(data), "--seed", "3",
             "--experiment", folder.name, "--offline", "--threads", "1"]
        )  # fmt: skip
        if code:
            where.problems.append(f"offline: {output[-300:]}")
        return own

    own = offline(reference, reference.folder / "offline")
    _, _, duration = own.run(["sync"])
    ((whole, _),) = reference.runs("offline")
    before, number = place.kills, 0
    while place.kills - before < kills:
        number += 1
        own = offline(place, place.folder / f"offline{number}")
        torture_command(own, ["sync"], draw, min(5, kills), duration)
        place.kills += own.kills
        place.problems += own.problems
        runs = place.runs(f"offline{number}")
        if [status for _, status in runs] != ["FINISHED"]:
            place.problems.append(f"sync {number}: {runs}")
        else:
            compare_runs(place, reference, whole, runs[0][0], f"sync {number}")
    return number


def torture_train(place: Place, data: Path, draw: random.Random, most: int, number: int, duration: float) -> None:
    """Kill one training again and again, and resume it; the run is in the experiment `train NUMBER`."""
    experiment = f"train {number}"
    first = ["train", "small", "--model-file", str(place.folder / "model.py"), "--data", str(data), "--seed", "3",
             "--experiment", experiment, "--checkpoint-every", "3", "--threads", "1"]  # fmt: skip
    arguments, kills = first, 0
    while True:
        code, output, _ = place.run(arguments, draw.uniform(0, duration) if kills < most else None)
        kills += code == -signal.SIGKILL
        if code == 0:
            return
        if code != -signal.SIGKILL and "is finished: there is nothing to resume" in output:
            return
        if code != -signal.SIGKILL and "before its training began" not in output:
            place.problems.append(f"train {number}: exit code {code}: {output[-500:]}")
            return
        begun = [run for run, status in place.runs(experiment)]
        can_resume = bool(begun) and (code == -signal.SIGKILL)
        arguments = ["train", "--resume", begun[-1], "--checkpoint-every", "3"] if can_resume else first


def torture_command(place: Place, arguments: list[str], draw: random.Random, most: int, duration: float) -> None:
    """Kill one command again and again, and repeat it."""
    kills = 0
    while True:
        code, output, _ = place.run(arguments, draw.uniform(0, duration) if kills < most else None)
        kills += code == -signal.SIGKILL
        if code == 0:
            return
        if "is being run by process" in output or "is still being trained by process" in output:
            time.sleep(1)  # of a suite: what was killed left trainings that end by themselves
        elif code != -signal.SIGKILL:
            place.problems.append(f"{' '.join(arguments[:2])}: exit code {code}: {output[-500:]}")
            return


def torture_server(folder: Path, restarts: int, seed: int) -> Iterator[Row]:
    """Kill the server again and again during one training, and start it again after up to five seconds."""
    draw, began, data = random.Random(seed), time.monotonic(), prepare(folder)
    arguments = ["train", "small", "--model-file", "model.py", "--data", str(data), "--seed", "3", "--threads", "1",
                 "--epochs", str(30 * restarts)]  # fmt: skip
    with place_with_file(folder / "calm") as reference:
        reference.run([*arguments, "--experiment", "calm"])
        ((whole, _),) = reference.runs("calm")
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place, done, ended = new_place(folder / "restarted", f"http://127.0.0.1:{port}"), 0, (0, 0)
    output = folder / "training.txt"
    (place.folder / "slowly").touch()  # until the server has been restarted often enough
    with serving(place.folder, port):
        pid = os.fork()
        if pid == 0:
            place.become([*arguments, "--experiment", "stormy"], output)
        while not any(place.points(run) for run, _ in place.runs("stormy")):
            time.sleep(0.1)
    while done < restarts:
        time.sleep(draw.uniform(0, 5))
        with serving(place.folder, port):
            time.sleep(draw.uniform(1, 4))
        done += 1
        if (ended := os.waitpid(pid, os.WNOHANG)) != (0, 0):
            place.problems.append(f"it ended after {done} restarts: {output.read_text(errors='replace')[-500:]}")
            break
    (place.folder / "slowly").unlink()
    with serving(place.folder, port):
        if ended == (0, 0):
            ended = os.waitpid(pid, 0)
        if os.waitstatus_to_exitcode(ended[1]):  # it did not wait for the server to come back
            place.run(["sync"])
    ((found, status),) = place.runs("stormy")
    if status != "FINISHED":
        place.problems.append(f"the run is {status}: {output.read_text(errors='replace')[-500:]}")
    compare_runs(place, reference, whole, found, "training")
    problems = (*place.problems, *(f"left: {each}" for each in place.left()))
    yield Row("training", "server", 1, (done, "restarts"), time.monotonic() - began, problems)


SHARES = {_trainings: 0.55, _imports: 0.1, _suites: 0.15, _promotions: 0.1, _syncs: 0.1}  # of the kills
