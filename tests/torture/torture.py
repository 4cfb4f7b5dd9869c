"""Kill protcli at random moments and let it go on, until nothing is left to do: nothing may be lost, nothing twice.

`python tests/torture/torture.py --kills 200` prints a table. The kills are SIGKILL, each drawn uniformly over the time
that the command takes undisturbed. Commands run in forked processes, so that everything is imported once.
"""

import argparse
import os
import random
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

MODEL = """
from dataclasses import dataclass

import torch
from torch import nn

from protcli.models import ModelSpec, Prediction, Recipe
from protcli.proteins.maps import separation, symmetrize


@dataclass(frozen=True)
class Config:
    dropout: float = 0.2


class Net(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.embed = nn.Sequential(nn.Linear(42, 8), nn.ReLU(), nn.Dropout(config.dropout), nn.Linear(8, 1))
        self.slope = nn.Parameter(torch.tensor(0.5))

    def forward(self, residues):
        each = self.embed(torch.cat([residues.one_hot(), residues.profile], dim=-1))
        gaps = separation(each.shape[1], each.device).sqrt() * self.slope
        return Prediction(symmetrize(gaps * 4 + each + each.mT))


RECIPE = Recipe(
    epochs=5, batch_size=2, accumulate=2, lr=1e-2, crop=24, random_crop=True, schedule="cosine", warmup=0.1, ema=0.8
)
small = ModelSpec("small", Net, Config(), RECIPE, "small")
"""
SUITE = """
question: Is it whole?
reference: small
seeds: 2
cells:
  - {model: small, file: model.py}
  - {name: calm, model: small, file: model.py, set: {dropout: 0.0}}
"""
NOT_COMPARED = ("seconds", "per_second", "memory", "system/")
PATIENCE = 240.0  # seconds for a command that is not killed
WEIGHTS = ("best", "last", "sepmean")


@dataclass
class Place:
    """A folder with a store of its own.

    Attributes:
        folder: where commands run; `mlflow.db` is the store's database, also where a server owns it.
        uri: MLFLOW_TRACKING_URI.
        kills: how often a process was killed here.
    """

    folder: Path
    uri: str
    kills: int = 0
    problems: list[str] = field(default_factory=list)

    def run(self, arguments: Sequence[str], delay: float | None = None) -> tuple[int, str, float]:
        """Run `protcli`; the exit code (-9 if it was killed after the delay), its output and the seconds it took."""
        output = self.folder / "output.txt"
        began = time.monotonic()
        pid = os.fork()
        if pid == 0:
            self._become(arguments, output)
        while (ended := os.waitpid(pid, os.WNOHANG)) == (0, 0):
            took = time.monotonic() - began
            if took > (PATIENCE if delay is None else delay):
                os.kill(pid, signal.SIGKILL)
                ended = os.waitpid(pid, 0)
                break
            time.sleep(0.005)
        code = os.waitstatus_to_exitcode(ended[1])
        self.kills += code == -signal.SIGKILL and delay is not None
        return code, output.read_text(errors="replace"), time.monotonic() - began

    def _become(self, arguments: Sequence[str], output: Path) -> None:
        """The forked process: it runs the command and ends."""
        code = 99
        try:
            with output.open("wb") as file:
                for stream in (1, 2):
                    os.dup2(file.fileno(), stream)
            os.chdir(self.folder)
            os.environ |= self.environment
            tempfile.tempdir = None
            from protcli.cli import main

            sys.argv = ["protcli", *arguments]
            main()
            code = 0
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 1
        finally:
            sys.stdout.flush()
            os._exit(code)

    @property
    def environment(self) -> dict[str, str]:
        """Of its commands."""
        (self.folder / "tmp").mkdir(exist_ok=True)
        return {
            "MLFLOW_TRACKING_URI": self.uri,
            "PROTCLI_CACHE": str(self.folder / "cache"),
            "TMPDIR": str(self.folder / "tmp"),
            "OMP_NUM_THREADS": "1",
        }

    def rows(self, query: str, *values: object) -> list[tuple]:
        """Read the store's database; before it exists, it has no rows."""
        if not (self.folder / "mlflow.db").is_file():
            return []
        with closing(sqlite3.connect(f"file:{self.folder}/mlflow.db?mode=ro", uri=True, timeout=30)) as connection:
            return connection.execute(query, values).fetchall()

    def runs(self, experiment: str) -> list[tuple[str, str]]:
        """Id and status of the runs of an experiment, the oldest first."""
        return self.rows(
            "SELECT run_uuid, status FROM runs JOIN experiments USING (experiment_id) WHERE experiments.name = ? "
            "ORDER BY start_time, run_uuid",
            experiment,
        )

    def points(self, run_id: str) -> list[tuple]:
        """Every point of every metric that does not depend on time, in the order of its key and time."""
        found = self.rows(
            "SELECT key, step, value, is_nan FROM metrics WHERE run_uuid = ? ORDER BY key, timestamp, step", run_id
        )
        return [point for point in found if not any(part in point[0] for part in NOT_COMPARED)]

    def tensors(self, run_id: str) -> dict[str, bytes]:
        """The files of tensors among a run's artifacts."""
        ((address,),) = self.rows("SELECT artifact_uri FROM runs WHERE run_uuid = ?", run_id)
        local = address.removeprefix("file://").replace("mlflow-artifacts:", str(self.folder / "artifacts"))
        folder = Path(local)
        if not folder.is_absolute():
            folder = self.folder / folder
        names = [*(f"checkpoints/{name}.safetensors" for name in WEIGHTS), "validation_errors.safetensors"]
        return {name: (folder / name).read_bytes() if (folder / name).is_file() else b"" for name in names}

    def left(self) -> list[str]:
        """What a killed process left and nothing has removed."""
        ended = [f"run {run} is RUNNING" for run, status in self.rows("SELECT run_uuid, status FROM runs")
                 if status == "RUNNING"]  # fmt: skip
        files = [
            path for pattern in ("*.partial", "state*.safetensors", "*.jsonl") for path in self.folder.rglob(pattern)
        ]
        waiting = [*(self.folder / "tmp").glob("protcli-*"), *(self.folder / "cache" / "runs").glob("*")]
        return ended + [str(path.relative_to(self.folder)) for path in (*files, *waiting)]


@contextmanager
def place_with_file(folder: Path) -> Iterator[Place]:
    """A place whose store is a sqlite file."""
    folder.mkdir(parents=True)
    yield Place(folder, f"sqlite:///{folder}/mlflow.db")


@contextmanager
def place_with_server(folder: Path) -> Iterator[Place]:
    """A place whose store is a server that hands out its artifacts too."""
    folder.mkdir(parents=True)
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with serving(folder, port):
        yield Place(folder, f"http://127.0.0.1:{port}")


@contextmanager
def serving(folder: Path, port: int) -> Iterator[subprocess.Popen]:
    """An MLflow server on a folder."""
    command = [
        sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
        "--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", str(folder / "artifacts"),
    ]  # fmt: skip
    with (folder / "server.txt").open("ab") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True, cwd=folder)
    try:
        deadline = time.monotonic() + 120
        while True:
            with closing(socket.socket()) as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((folder / "server.txt").read_text(errors="replace")[-2000:])
            time.sleep(0.1)
        yield server
    finally:
        if server.poll() is None:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()


# --- what is done to a place, until it is done ---


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
        if code != -signal.SIGKILL and "ended before its first epoch" not in output:
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


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    what: str
    store: str
    trials: int
    kills: int
    seconds: float
    problems: tuple[str, ...]

    def __str__(self) -> str:
        said = "; ".join(self.problems) or "whole"
        return (
            f"{self.what:12} {self.store:8} {self.trials:4} trials {self.kills:4} kills {self.seconds:6.0f} s  {said}"
        )


def prepare(folder: Path) -> Path:
    """The data that everything is trained on."""
    place = Place(folder, f"sqlite:///{folder}/unused.db")
    data = folder / "data"
    sizes = ["--train", "20", "--valid", "6", "--test", "2", "--min-length", "20", "--max-length", "40"]
    code, output, _ = place.run(["data", "synth", "--out", str(data), *sizes])
    if code:
        raise RuntimeError(output)
    return data


def compare_runs(place: Place, reference: Place, wanted: str, found: str, name: str) -> None:
    """Note where a run is not what an undisturbed one is."""
    if place.points(found) != reference.points(wanted):
        place.problems.append(f"{name}: its metrics are not those of an undisturbed run")
    if place.tensors(found) != reference.tensors(wanted):
        place.problems.append(f"{name}: its weights are not those of an undisturbed run")


def torture(folder: Path, kills: int, seed: int, say: Callable[[str], None] = print) -> list[Row]:
    """Torture every command on both kinds of store, with at least so many kills over all.

    The kills are shared out: six of ten to trainings, the rest to import, suite, promote and sync.
    """
    draw, rows = random.Random(seed), []
    data = prepare(folder)
    for store, opened in (("file", place_with_file), ("server", place_with_server)):
        share = max(1, kills // 2)
        with opened(folder / f"{store}-undisturbed") as reference, opened(folder / store) as place:
            for each in (reference, place):
                (each.folder / "model.py").write_text(MODEL, encoding="utf-8")
                (each.folder / "which.yaml").write_text(SUITE, encoding="utf-8")
            for scenario, part in (
                (_trainings, 0.55),
                (_imports, 0.1),
                (_suites, 0.15),
                (_promotions, 0.1),
                (_syncs, 0.1),
            ):
                before, began = place.kills, time.monotonic()
                place.problems.clear()
                trials = scenario(place, reference, data, draw, max(1, round(share * part)))
                place.run(["runs", "--clean"])
                problems = [*place.problems, *(f"left: {each}" for each in place.left())]
                row = Row(
                    scenario.__name__.strip("_"), store, trials, place.kills - before, time.monotonic() - began,
                    tuple(problems),
                )  # fmt: skip
                rows.append(row)
                say(str(row))
    rows.append(torture_server(folder, data, max(1, kills // 10), draw))
    say(str(rows[-1]))
    return rows


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
        torture_train(place, data, draw, 5, number, duration)
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
        _write_proteinnet(source)
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
        torture_command(place, [*arguments, str(out)], draw, 5, duration)
        if _tree(out.parent) != _tree(whole.parent):
            place.problems.append(f"import {number}: other files than undisturbed")
    return number


def _suites(place: Place, reference: Place, data: Path, draw: random.Random, kills: int) -> int:
    arguments = ["suite", "run", "which.yaml", "--data", str(data), "--jobs", "2"]
    code, output, duration = reference.run(arguments)
    if code:
        place.problems.append(f"suite: {output[-300:]}")
        return 0
    wanted = _cells(reference)
    before, number = place.kills, 0
    while place.kills - before < kills:
        number += 1
        # another name is another suite
        shutil.copy(place.folder / "which.yaml", place.folder / f"which{number}.yaml")
        own = [f"which{number}.yaml" if each == "which.yaml" else each for each in arguments]
        torture_command(place, own, draw, 5, duration)
        found = _cells(place, f"which{number}")
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
    wanted = _versions(reference, "model")
    before, number = place.kills, 0
    while place.kills - before < kills:
        number += 1
        own = ["promote", "--suite", "which1", "--model-name", f"model{number}"]
        torture_command(place, own, draw, 5, duration)
        if (found := _versions(place, f"model{number}")) != wanted:
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
        torture_command(own, ["sync"], draw, 5, duration)
        place.kills += own.kills
        place.problems += own.problems
        runs = place.runs(f"offline{number}")
        if [status for _, status in runs] != ["FINISHED"]:
            place.problems.append(f"sync {number}: {runs}")
        else:
            compare_runs(place, reference, whole, runs[0][0], f"sync {number}")
    return number


def _cells(place: Place, suite: str = "which") -> dict[str, str]:
    """The finished runs of a suite by cell and seed."""
    found = place.rows(
        "SELECT cell.value || ' ' || seed.value, run_uuid FROM runs JOIN tags suite USING (run_uuid) "
        "JOIN tags cell USING (run_uuid) JOIN tags seed USING (run_uuid) WHERE suite.key = 'suite' AND "
        "suite.value = ? AND cell.key = 'suite.cell' AND seed.key = 'suite.seed' AND status = 'FINISHED'",
        suite,
    )
    return dict(found) if len(dict(found)) == len(found) else {f"{cell} {run}": run for cell, run in found}


def _versions(place: Place, name: str) -> list[tuple]:
    """What the registry says of a model: versions, their decisions and aliases."""
    versions = place.rows(
        "SELECT version, (SELECT value FROM model_version_tags t WHERE t.name = v.name AND t.version = v.version AND "
        "key = 'promotion.decision') FROM model_versions v WHERE name = ? AND current_stage != 'Deleted_Internal' "
        "ORDER BY version",
        name,
    )
    aliases = place.rows("SELECT alias, version FROM registered_model_aliases WHERE name = ? ORDER BY alias", name)
    return [tuple(versions), tuple(aliases)]


def _tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def _write_proteinnet(folder: Path) -> None:
    """Three small splits as ProteinNet text."""
    draw = random.Random(5)
    for split, count in (("training_30", 60), ("validation", 9), ("testing", 9)):
        records = []
        for number in range(count):
            length = draw.randint(20, 50)
            letters = "".join(draw.choice("ACDEFGHIKLMNPQRSTVWY") for _ in range(length))
            identity = f"10#{split[:3].upper()}{number}" if split != "training_30" else f"{number}ABC_1_A"
            profile = ["\t".join(f"{draw.random():.4f}" for _ in range(length)) for _ in range(21)]
            points = ["\t".join(f"{draw.uniform(-3000, 3000):.1f}" for _ in range(3 * length)) for _ in range(3)]
            records.append(
                "\n".join(
                    ["[ID]", identity, "[PRIMARY]", letters, "[EVOLUTIONARY]", *profile, "[TERTIARY]", *points,
                     "[MASK]", "+" * length, "", ""]
                )
            )  # fmt: skip
        (folder / split).write_text("".join(records), encoding="utf-8")


def torture_server(folder: Path, data: Path, restarts: int, draw: random.Random) -> Row:
    """Kill the server again and again during one training, each time for up to five seconds."""
    began = time.monotonic()
    arguments = ["train", "small", "--model-file", "model.py", "--data", str(data), "--seed", "3", "--threads", "1",
                 "--epochs", str(20 * restarts)]  # fmt: skip
    with place_with_file(folder / "calm") as reference:
        (reference.folder / "model.py").write_text(MODEL, encoding="utf-8")
        reference.run([*arguments, "--experiment", "calm"])
        ((whole, _),) = reference.runs("calm")
    place_folder = folder / "restarted"
    place_folder.mkdir()
    (place_folder / "model.py").write_text(MODEL, encoding="utf-8")
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place, done = Place(place_folder, f"http://127.0.0.1:{port}"), 0
    with serving(place_folder, port):
        output = place_folder / "training.txt"
        pid = os.fork()
        if pid == 0:
            place._become([*arguments, "--experiment", "stormy"], output)
        while not place.runs("stormy"):
            time.sleep(0.1)
        time.sleep(3)
    ended = (0, 0)
    while ended == (0, 0):
        time.sleep(draw.uniform(0, 5))
        with serving(place_folder, port):
            until = time.monotonic() + (draw.uniform(1, 4) if done < restarts else PATIENCE)
            while time.monotonic() < until and ended == (0, 0):
                time.sleep(0.1)
                ended = os.waitpid(pid, os.WNOHANG)
        done += ended == (0, 0)
    ((found, status),) = place.runs("stormy")
    if status != "FINISHED" or os.waitstatus_to_exitcode(ended[1]):
        place.problems.append(f"the run is {status}: {output.read_text(errors='replace')[-500:]}")
    compare_runs(place, reference, whole, found, "training")
    problems = (*place.problems, *(f"left: {each}" for each in place.left()))
    return Row("restarts", "server", 1, done, time.monotonic() - began, problems)


SCENARIOS = {_trainings: 0.55, _imports: 0.1, _suites: 0.15, _promotions: 0.1, _syncs: 0.1}  # shares of the kills


def main() -> int:
    """Print the table; exit code 1 if anything was lost, doubled or left."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    import protcli.cli.progress
    import protcli.experiments.promoting.promote
    import protcli.experiments.studies.run_suite  # noqa: F401  imported once, for all that are forked

    with tempfile.TemporaryDirectory() as folder:
        rows = torture(Path(folder), options.kills, options.seed, lambda line: print(line, flush=True))
    print(f"{sum(row.kills for row in rows)} kills, {sum(len(row.problems) for row in rows)} problems")
    return int(any(row.problems for row in rows))


if __name__ == "__main__":
    sys.exit(main())
