"""What every test shares: a folder, an MLflow store and seeds of its own; made-up chains; where real data lies."""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch is imported: spinning threads starve each other
os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the processes that tests start

import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from base64 import b64decode
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import hypothesis
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from protcli.proteins.protein import Protein
from protcli.proteins.residues import AMINO_ACIDS, sequence_profile
from protcli.proteins.store import Families, create_store

if TYPE_CHECKING:
    from protcli.experiments.train import Finished

torch.set_num_threads(1)  # a core for each worker of pytest
signal.signal(signal.SIGINT, signal.default_int_handler)  # where a shell began the tests with `&`, it is ignored
# how long an example takes says how busy the machine is
hypothesis.settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any machine")

TINY_MODEL = """
from dataclasses import dataclass

import torch
from torch import nn

from protcli.models import ModelSpec, Prediction, Recipe
from protcli.proteins.maps import separation, symmetrize


@dataclass(frozen=True)
class TinyConfig:
    scale: float = 1.0
    dropout: float = 0.1


class Tiny(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.embed = nn.Sequential(nn.Linear(42, 8), nn.ReLU(), nn.Dropout(config.dropout), nn.Linear(8, 1))
        self.slope = nn.Parameter(torch.tensor(0.5))

    def forward(self, residues):
        each = self.embed(torch.cat([residues.one_hot(), residues.profile], dim=-1))  # [B, L, 1]
        gaps = separation(each.shape[1], each.device).sqrt() * self.slope
        return Prediction(symmetrize(self.config.scale * (gaps * 4 + each + each.mT)))


tiny = ModelSpec("tiny", Tiny, TinyConfig(), Recipe(epochs=3, batch_size=4, lr=1e-2, crop=32, random_crop=True), "tiny")
"""


@pytest.fixture(autouse=True)
def _isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in an empty folder, with an MLflow store in it (made when it is first opened) and no run begun."""
    for name in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.setenv(name, "")  # so that what MLflow sets in the test is gone after it
        monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.chdir(tmp_path)
    if client := sys.modules.get("mlflow.tracking._tracking_service.client"):
        client.utils._artifact_repos_cache.clear()  # by run, and several tests have a copy of the same one
    if fluent := sys.modules.get("mlflow.tracking.fluent"):
        monkeypatch.setattr(fluent, "_active_experiment_id", None)


PICTURE = b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==")


@pytest.fixture(autouse=True)
def _pictures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every picture is a single pixel, but in tests marked `draws`: drawing takes most of a tiny training's time."""
    if request.node.get_closest_marker("draws"):
        return

    def save(figure: Figure, file: str | Path | BinaryIO, **options: object) -> None:
        if isinstance(file, str | Path):
            Path(file).write_bytes(PICTURE)
        else:
            file.write(PICTURE)

    monkeypatch.setattr(Figure, "savefig", save)


@pytest.fixture(scope="session")
def _empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from protcli.tracking.store import open_store

    database = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{database}")
        open_store()
    return database


@pytest.fixture
def mlflow_store(_empty_store: Path, _isolated: None, tmp_path: Path) -> Path:
    """The test's store, already made: a copy of an empty one, which takes much less time than making it."""
    return copy_store(_empty_store, tmp_path)


def copy_store(database: Path, folder: Path) -> Path:
    """A copy of a store's database in another folder, whose artifacts lie in that folder too."""
    copy = folder / "mlflow.db"
    shutil.copy(database, copy)
    with closing(sqlite3.connect(copy)) as connection, connection:
        for table, column in (("experiments", "artifact_location"), ("runs", "artifact_uri")):
            for (address,) in connection.execute(f"SELECT DISTINCT {column} FROM {table}").fetchall():
                moved = f"{folder}/mlruns/{address.partition('/mlruns/')[2]}"
                connection.execute(f"UPDATE {table} SET {column} = ? WHERE {column} = ?", (moved, address))
    return copy


@pytest.fixture(scope="session")
def _trained_store(
    tmp_path_factory: pytest.TempPathFactory, _empty_store: Path, tiny_data: Path
) -> tuple[Path, "Finished"]:
    from protcli.experiments.config import RunConfig
    from protcli.experiments.train import Finished, train
    from protcli.models.zoo import find_model

    folder = tmp_path_factory.mktemp("trained")
    copy_store(_empty_store, folder)
    (folder / "my_model.py").write_text(TINY_MODEL, encoding="utf-8")
    spec = find_model("tiny", folder / "my_model.py")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        patch.delenv("MLFLOW_EXPERIMENT_ID", raising=False)  # MLflow sets both when it is given an experiment
        patch.setattr("mlflow.tracking.fluent._active_experiment_id", None)
        *_, last = train(RunConfig(spec=spec, model_file=folder / "my_model.py").with_settings(source=str(tiny_data)))
    assert isinstance(last, Finished)
    (folder / "my_model.py").unlink()  # a run needs nothing but itself
    return folder, last


@pytest.fixture
def finished(_trained_store: tuple[Path, "Finished"], _isolated: None, tmp_path: Path) -> "Finished":
    """The tiny model, trained on the tiny data, in the test's own copy of a store."""
    folder, last = _trained_store
    shutil.copytree(folder / "mlruns", tmp_path / "mlruns")
    copy_store(folder / "mlflow.db", tmp_path)
    return last


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder that PROTCLI_REAL_DATA names."""
    if not os.environ.get("PROTCLI_REAL_DATA"):
        pytest.skip("PROTCLI_REAL_DATA names no folder of real data")
    return Path(os.environ["PROTCLI_REAL_DATA"]).absolute()


@pytest.fixture(scope="session")
def await_answer() -> Callable[[str, subprocess.Popen, Path], None]:
    """`await_answer(address, server, log)`: until a server's process answers."""

    def wait(address: str, server: subprocess.Popen, log: Path) -> None:
        for _ in range(900):
            assert server.poll() is None, log.read_text()
            try:
                urllib.request.urlopen(address, timeout=5).close()
            except OSError:
                time.sleep(0.2)
            else:
                return
        raise AssertionError(f"{address} does not answer: {log.read_text()}")

    return wait


# processes that are ready at one time
AT_ONCE = """
import multiprocessing
{code}

def start(barrier):
    barrier.wait(60)
    work()

context = multiprocessing.get_context("fork")
barrier = context.Barrier({count})
processes = [context.Process(target=start, args=(barrier,)) for _ in range({count})]
for process in processes:
    process.start()
for process in processes:
    process.join()
raise SystemExit(sum(process.exitcode != 0 for process in processes))
"""


@pytest.fixture(scope="session")
def at_once() -> Callable[..., None]:
    """`at_once(count, code, VARIABLE=value)`: `count` processes call the function `work` of that code together."""

    def run(count: int, code: str, **environment: str) -> None:
        command = [sys.executable, "-c", AT_ONCE.format(count=count, code=code)]
        settings = {**os.environ, **environment}
        done = subprocess.run(command, env=settings, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr

    return run


@pytest.fixture
def served(tmp_path: Path, await_answer: Callable[..., None]) -> Callable[..., AbstractContextManager[str]]:
    """`with served(uri) as address`: `mlflow models serve`, up."""

    @contextmanager
    def serve(uri: str, environment: dict[str, str] | None = None) -> Iterator[str]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        settings = {
            **(os.environ if environment is None else environment), "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        }  # fmt: skip
        command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", uri, "--env-manager", "local"]
        log = tmp_path / "serve.log"
        with log.open("w") as output:
            server = subprocess.Popen(
                [*command, "--port", str(port)], stdout=output, stderr=output, env=settings, start_new_session=True
            )
        try:
            await_answer(f"http://127.0.0.1:{port}/ping", server, log)
            yield f"http://127.0.0.1:{port}/invocations"
        finally:
            os.killpg(server.pid, 15)  # MLflow's own process and the server that it began
            server.wait(30)

    return serve


def make_chain(length: int, seed: int = 0, *, missing: tuple[int, ...] = ()) -> Protein:
    """A random walk in steps of 3.8 A with N and C' beside each CA; the first profile column rises along it."""
    rng = np.random.default_rng(seed)
    steps = rng.normal(size=(length, 3))
    ca = np.cumsum(3.8 * steps / np.linalg.norm(steps, axis=1, keepdims=True), axis=0)
    n, c = ca - np.array([1.2, 0.8, 0.0]), ca + np.array([1.2, 0.9, 0.3])
    coords = np.stack([n, ca, c], axis=1).astype(np.float32)
    mask = np.ones(length, dtype=bool)
    coords[list(missing)], mask[list(missing)] = np.nan, False
    sequence = "".join(rng.choice(list(AMINO_ACIDS), length))
    profile = sequence_profile(sequence)
    profile[:, 0] = np.arange(length) / 1024
    return Protein(f"chain{seed}", sequence, profile, coords, mask)


@pytest.fixture(scope="session")
def chain() -> Callable[..., Protein]:
    """`chain(length, seed, missing=(...))`: see `make_chain`."""
    return make_chain


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory, chain: Callable[..., Protein]) -> Path:
    """A store of 10 training, 5 validation and 4 test chains of 20 to 60 residues."""
    rng = np.random.default_rng(7)
    folder = tmp_path_factory.mktemp("stores") / "tiny"
    with create_store(folder) as writer:
        for split, count in (("training", 10), ("validation", 5), ("testing", 4)):
            with writer.split(split) as proteins:
                for index in range(count):
                    length = int(rng.integers(20, 60))
                    protein = chain(length, seed=int(rng.integers(1 << 30)), missing=(length // 2,))
                    proteins.add(replace(protein, id=f"{split}_{index}"))
    return folder


@pytest.fixture(scope="session")
def family_data(tmp_path_factory: pytest.TempPathFactory, chain: Callable) -> Path:
    """A store of 20 training chains in 10 families, and 4 validation chains; its test split cannot be opened."""
    folder = tmp_path_factory.mktemp("stores") / "families"
    with create_store(folder) as writer:
        for split, count in (("training", 20), ("validation", 4), ("testing", 2)):
            with writer.split(split) as proteins:
                for index in range(count):
                    proteins.add(replace(chain(20 + index, len(split) * 100 + index), id=f"{split}_{index}"))
                proteins.families = Families([f"f{index // 2}" for index in range(count)], "a test")
    (folder / "testing.arrow").write_bytes(b"nobody reads this")
    return folder


@pytest.fixture(scope="session")
def tiny_model_text() -> str:
    """What the model file holds."""
    return TINY_MODEL


@pytest.fixture
def tiny_model(tmp_path: Path) -> Path:
    """The model file."""
    path = tmp_path / "my_model.py"
    path.write_text(TINY_MODEL, encoding="utf-8")
    return path
