"""Kill protcli at random moments and let it go on, until nothing is left to do: nothing may be lost, nothing twice.

The kills are SIGKILL, each drawn uniformly over the time that the command takes undisturbed.
"""

import os
import random
import signal
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

from places import Place, Row, compare_runs, new_place, place_with_file, place_with_server, prepare, serving
from stages import Stage, stages, write_proteinnet

STORES = ("file", "server")
SHARES = {"train": 0.55, "import": 0.1, "suite": 0.15, "promote": 0.1, "sync": 0.1}  # of the kills


def torture_commands(folder: Path, kills: int, seed: int, stores: Sequence[str] = STORES) -> Iterator[Row]:
    """Kill every command on these kinds of store, with at least that number of kills over all."""
    draw, data, text = random.Random(seed), prepare(folder), write_proteinnet(folder / "text")
    for store in stores:
        opened = place_with_file if store == "file" else place_with_server
        with opened(folder / f"{store}-undisturbed") as reference, opened(folder / store) as place:
            for stage in stages(reference, data, text, promoted=1):
                before, began, number = place.kills, time.monotonic(), 0
                place.problems.clear()
                wanted = max(1, round(kills / len(stores) * SHARES[stage.name]))
                if stage.name == "train":
                    reference.run(stage.command(-1))  # the first command of a process takes longer
                code, output, duration = stage.prepare(reference, 0).run(stage.command(0))
                if code:
                    place.problems.append(f"{stage.name}: {output[-300:]}")
                while not code and place.kills - before < wanted:
                    number += 1
                    _torture(place, stage, number, draw, min(5, wanted), duration)
                    stage.compare(place, number)
                place.run(["runs", "--clean"])
                problems = (*place.problems, *(f"left: {each}" for each in place.left()))
                accidents = (place.kills - before, "kills")
                yield Row(stage.name, store, number, accidents, time.monotonic() - began, problems)


def _torture(place: Place, stage: Stage, number: int, draw: random.Random, most: int, duration: float) -> None:
    """Kill one command again and again, and repeat it; a training that was begun is resumed."""
    arguments, own, kills = stage.command(number), stage.prepare(place, number), 0
    while True:
        code, output, _ = own.run(arguments, draw.uniform(0, duration) if kills < most else None)
        killed = code == -signal.SIGKILL
        kills += killed
        if code == 0 or (not killed and "is finished: there is nothing to resume" in output):
            break
        if killed and stage.name == "train" and (begun := place.runs(f"train {number}")):
            arguments = ["train", "--resume", begun[-1][0], "--checkpoint-every", "3"]
        elif "before its training began" in output:
            arguments = stage.command(number)
        elif "is being run by process" in output or "is still being trained by process" in output:
            time.sleep(1)  # of a suite: what was killed left trainings that end by themselves
        elif not killed:
            place.problems.append(f"{stage.name} {number}: exit code {code}: {output[-500:]}")
            break
    if own is not place:
        place.kills += own.kills


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
