"""Folders with a store of their own, the commands that run in them, and what an undisturbed run is compared by."""

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import traceback
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

MODEL = """
import time
from dataclasses import dataclass
from pathlib import Path

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
        if self.training and Path("slowly").exists():
            time.sleep(0.2)
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
        output = self.folder.with_name(f"{self.folder.name}.txt")  # not on the place's own disk
        began = time.monotonic()
        pid = os.fork()
        if pid == 0:
            self.become(arguments, output)
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

    def become(self, arguments: Sequence[str], output: Path) -> None:
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
        except BaseException:
            traceback.print_exc()
        finally:
            for written in (sys.stdout, sys.stderr):
                written.flush()
            os._exit(code)

    @property
    def environment(self) -> dict[str, str]:
        """Of its commands."""
        (self.folder / "tmp").mkdir(exist_ok=True)
        return {
            "MLFLOW_TRACKING_URI": self.uri, "PROTCLI_CACHE": str(self.folder / "cache"),
            "TMPDIR": str(self.folder / "tmp"), "OMP_NUM_THREADS": "1",
        }  # fmt: skip

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
        ended += [
            f"model {model} is no version"
            for (model,) in self.rows(
                "SELECT model_id FROM logged_models WHERE lifecycle_stage = 'active' AND "
                "'models:/' || model_id NOT IN (SELECT source FROM model_versions)"
            )
        ]
        files = [
            path for pattern in ("*.partial", "state*.safetensors", "*.jsonl") for path in self.folder.rglob(pattern)
        ]
        waiting = [*(self.folder / "tmp").glob("protcli-*"), *(self.folder / "cache" / "runs").glob("*")]
        return ended + [str(path.relative_to(self.folder)) for path in (*files, *waiting)]


def new_place(folder: Path, uri: str) -> Place:
    """A place in a folder, which may exist, with the model and the suite in it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.py").write_text(MODEL, encoding="utf-8")
    (folder / "which.yaml").write_text(SUITE, encoding="utf-8")
    return Place(folder, uri)


@contextmanager
def place_with_file(folder: Path) -> Iterator[Place]:
    """A place whose store is a sqlite file."""
    yield new_place(folder, f"sqlite:///{folder}/mlflow.db")


@contextmanager
def place_with_server(folder: Path) -> Iterator[Place]:
    """A place whose store is a server that hands out its artifacts too."""
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = new_place(folder, f"http://127.0.0.1:{port}")
    with serving(folder, port):
        yield place


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
            with suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
                break
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((folder / "server.txt").read_text(errors="replace")[-2000:])
            time.sleep(0.1)
        yield server
    finally:
        if server.poll() is None:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Attributes:
        what, store: which commands, and where their records went.
        trials: how often they were run to their end.
        accidents: how many there were on the way, and of which kind.
        seconds: it took.
        problems: what was lost, doubled or left.
    """

    what: str
    store: str
    trials: int
    accidents: tuple[int, str]
    seconds: float
    problems: tuple[str, ...]

    def __str__(self) -> str:
        said = "; ".join(self.problems) or "whole"
        number, kind = self.accidents
        return (
            f"{self.what:12} {self.store:8} {self.trials:4} trials {number:4} {kind:12} {self.seconds:6.0f} s  {said}"
        )


def prepare(folder: Path) -> Path:
    """The data that everything is trained on, in a new folder."""
    folder.mkdir(parents=True)
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
