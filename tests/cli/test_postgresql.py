"""Many commands at the same time on PostgreSQL: a tracking server for a group, and a sweep whose workers die."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from protcli.experiments.sweeps.trials import PROCESS, TrialQueue, number_of, open_storage
from protcli.tracking.keys import File, Metric, Param, Tag
from protcli.tracking.run import find_runs, start_run

psycopg2 = pytest.importorskip("psycopg2", reason="psycopg2, the PostgreSQL driver, is not installed")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # many processes on few cores

TRAININGS, SERVERS, WORKERS, TRIALS = 8, 4, 4, 5
HOST, USER = "127.0.0.1", "protcli"
TAKE_A_TRIAL = """
from protcli.experiments.sweeps.space import Hyperparameters, Space
from protcli.experiments.sweeps.trials import TrialQueue, open_storage


def work():
    queue = TrialQueue(open_storage({!r}), "s", 8)
    assert queue.claim(Space((1e-4, 1e-1), (4, 8), (50, 200)), Hyperparameters(0.01, 8, 100), 0)
    barrier.wait(60)  # the trial of a process that has ended is free again
"""


def free_port() -> int:
    with closing(socket.socket()) as free:
        free.bind((HOST, 0))
        return free.getsockname()[1]


@contextmanager
def running(command: list[str], log: Path, signal: int, **settings: object) -> Iterator[subprocess.Popen]:
    """A server in a session of its own, ended by a signal to all its processes."""
    with log.open("w") as output:
        server = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True, **settings)  # type: ignore[call-overload]
    try:
        yield server
    finally:
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal)
        server.wait(60)


@pytest.fixture(scope="module")
def postgresql() -> Iterator[str]:
    """The address of a PostgreSQL server of the test's own; a database's name is added to it."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin")) or [Path(shutil.which("initdb") or "").parent]
    programs = [folder for folder in programs if (folder / "initdb").exists()]
    if not programs:
        pytest.skip("PostgreSQL is not installed")
    # it refuses to be root, and its user cannot read the folders of root's tests
    user = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.getuid() == 0 else {}
    with tempfile.TemporaryDirectory(prefix="postgresql-") as name:
        folder, port = Path(name), free_port()
        if user:
            try:
                shutil.chown(folder, "postgres", "postgres")
            except LookupError:
                pytest.skip("root cannot run PostgreSQL, and there is no user postgres")
        initdb = [programs[-1] / "initdb", "-D", folder / "data", "-U", USER, "-E", "UTF8", "--auth", "trust", "-N"]
        made = subprocess.run(initdb, capture_output=True, text=True, cwd=folder, **user)  # type: ignore[call-overload]
        assert made.returncode == 0, made.stderr
        options = (f"listen_addresses={HOST}", f"port={port}", "unix_socket_directories=", "fsync=off")
        command = [str(programs[-1] / "postgres"), "-D", str(folder / "data")]
        with running(
            [*command, *(word for option in options for word in ("-c", option))],
            folder / "log", 2, cwd=folder, **user,
        ) as server:  # fmt: skip
            ready = [programs[-1] / "pg_isready", "-q", "-h", HOST, "-p", str(port)]
            while subprocess.run(ready).returncode:
                assert server.poll() is None, (folder / "log").read_text()
                time.sleep(0.1)
            createdb = [programs[-1] / "createdb", "-h", HOST, "-p", str(port), "-U", USER]
            for database in ("mlflow", "sweeps", "fresh"):
                subprocess.run([*createdb, database], check=True)
            yield f"postgresql+psycopg2://{USER}@{HOST}:{port}"


@pytest.fixture(scope="module")
def server(postgresql: str, tmp_path_factory, await_answer: Callable[..., None]) -> Iterator[str]:
    """The address of an MLflow server with several processes, whose runs are in PostgreSQL."""
    folder, port = tmp_path_factory.mktemp("server"), free_port()
    command = [
        *(sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port)),
        *("--workers", str(SERVERS), "--backend-store-uri", f"{postgresql}/mlflow"),
        *("--artifacts-destination", str(folder / "artifacts")),
    ]
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with running(command, folder / "log", 15, cwd=folder, env=environment) as process:
        await_answer(f"http://{HOST}:{port}/health", process, folder / "log")
        yield f"http://{HOST}:{port}"


# a trial stops in its second epoch for as long as this file is there
WAITING = """
import time
from pathlib import Path

Tiny.calls = 0
plain = Tiny.forward


def forward(self, residues):
    Tiny.calls += self.training
    while Tiny.calls > 5 and Path({0!r}).exists():
        time.sleep(0.1)
    return plain(self, residues)


Tiny.forward = forward
"""


@pytest.fixture
def environment(server: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    return os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}


def start(command: list[object], environment: dict[str, str], log: Path) -> subprocess.Popen:
    with log.open("w") as output:
        words = [sys.executable, "-m", "protcli", *map(str, command)]
        return subprocess.Popen(words, env=environment, stdout=output, stderr=output)


def test_eight_trainings_on_one_server(environment, tiny_data: Path, tiny_model: Path, tmp_path: Path) -> None:
    train = ["train", "tiny", "--model-file", tiny_model, "--data", tiny_data, "--threads", 1, "--experiment", "eight"]
    logs = [tmp_path / f"{seed}.log" for seed in range(TRAININGS)]
    begun = [start([*train, "--seed", seed], environment, log) for seed, log in enumerate(logs)]
    codes = [process.wait(600) for process in begun]
    assert codes == [0] * TRAININGS, "\n".join(log.read_text() for code, log in zip(codes, logs, strict=True) if code)
    runs = find_runs("eight")
    assert sorted(run.params[Param.SEED] for run in runs) == [str(seed) for seed in range(TRAININGS)]
    for run in runs:
        assert run.status == "FINISHED"
        for metric in (Metric.TRAIN_MSE, Metric.VALID_MSE):
            # as the server keeps them: a point that came twice is there twice
            assert [point.step for point in run._client.get_metric_history(run.id, metric)] == [1, 2, 3]
        assert {File.CONFIG, File.PROTEINS, "model.py"} <= run.files()
        assert run.path(File.CONFIG).stat().st_size > 0


def test_a_dataset_that_another_run_writes_at_the_same_moment(postgresql: str, environment: dict[str, str]) -> None:
    database = f"{postgresql}/mlflow".replace("+psycopg2", "")
    with (
        start_run("r", "one") as run,
        closing(psycopg2.connect(database)) as other, other.cursor() as rows,
        closing(psycopg2.connect(database)) as onlooker, onlooker.cursor() as locks,
    ):  # fmt: skip
        experiment = int(run._client.get_run(run.id).info.experiment_id)
        rows.execute(
            "INSERT INTO datasets (dataset_uuid, experiment_id, name, digest, dataset_source_type, dataset_source) "
            "VALUES ('u', %s, 'tiny', 'd', 'local', 's')", (experiment,),
        )  # fmt: skip
        run.log_dataset("tiny", digest="d", source="s", context="training", profile={})
        onlooker.autocommit = True
        deadline, waits = time.monotonic() + 60, 0
        while not waits:  # until the server, which cannot see that row, waits to write its own
            assert time.monotonic() < deadline
            time.sleep(0.05)
            locks.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
            ((waits,),) = locks.fetchall()
        other.commit()
    (used,) = run._client.get_run(run.id).inputs.dataset_inputs
    assert (used.dataset.name, used.dataset.digest) == ("tiny", "d")


def test_eight_processes_make_the_tables_and_take_a_trial_each(postgresql: str, at_once: Callable[..., None]) -> None:
    address = f"{postgresql}/fresh"
    at_once(8, TAKE_A_TRIAL.format(address))
    assert sorted(map(number_of, TrialQueue(open_storage(address), "s", 8).trials())) == list(range(8))


def test_a_sweep_of_four_workers_one_of_which_is_killed(
    postgresql: str, environment: dict[str, str], family_data: Path, tiny_model: Path, tmp_path: Path
) -> None:
    wait = tmp_path / "wait"
    wait.touch()
    tiny_model.write_text(tiny_model.read_text(encoding="utf-8") + WAITING.format(str(wait)), encoding="utf-8")
    sweep = [
        *("sweep", "tiny", "--model-file", tiny_model, "--data", family_data, "--name", "s", "--trials", TRIALS),
        *("--steps", "8:12", "--lr", "1e-3:1e-2", "--batch-size", "4", "--held-out", "0.2"),
        *("--storage", f"{postgresql}/sweeps"),
    ]
    logs = [tmp_path / f"{worker}.log" for worker in range(WORKERS)]
    workers = [start(sweep, environment, log) for log in logs]
    while not all("epoch 1/" in log.read_text() for log in logs):
        assert all(worker.poll() is None for worker in workers), [log.read_text() for log in logs]
        time.sleep(0.1)
    (parent,) = (run for run in find_runs("sweep-s") if Tag.PARENT not in run.tags)
    queue = TrialQueue(open_storage(f"{postgresql}/sweeps"), parent.tags[Tag.SWEEP_STUDY], TRIALS)
    assert [(number_of(row), row.state.name) for row in queue.rows] == [(each, "RUNNING") for each in range(WORKERS)]
    killed, *others = workers
    (lost,) = (row for row in queue.rows if f":{killed.pid}:" in row.user_attrs[PROCESS])
    killed.kill()
    killed.wait()
    wait.unlink()
    codes = [worker.wait(600) for worker in others]
    assert codes == [0] * len(others), [log.read_text() for log in logs]

    counted = [row for row in queue.rows if row.state.name != "FAIL"]
    ended = {(number_of(row), row.state.name) for row in queue.rows} - {(number_of(lost), "FAIL")}
    assert sorted(ended) == [(number, "COMPLETE") for number in range(TRIALS)]
    assert [row.user_attrs["run"] for row in queue.rows if row.state.name == "FAIL"] == [lost.user_attrs["run"]]
    assert counted[number_of(lost)].params == lost.params  # tried again with the same values
    deadline = time.monotonic() + 120  # what the killed worker trained ends when it has nobody to say an epoch to
    while "RUNNING" in {run.status for run in find_runs(tags={Tag.PARENT: parent.id})}:
        assert time.monotonic() < deadline
        time.sleep(0.5)
    trained = find_runs(tags={Tag.PARENT: parent.id})
    finished = [int(run.tags[Tag.SWEEP_TRIAL]) for run in trained if run.status == "FINISHED"]
    assert sorted(finished) == list(range(TRIALS))  # whether it went on in its own run or in another one
    for row in counted:
        (run,) = (run for run in trained if run.id == row.user_attrs["run"])
        assert (run.status, run.metrics[Metric.BEST_MSE]) == ("FINISHED", row.value)
        points = run._client.get_metric_history(run.id, Metric.VALID_MSE)
        assert [point.step for point in points] == list(range(1, row.user_attrs["epochs"] + 1))
