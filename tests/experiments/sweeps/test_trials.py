"""The trials of a sweep in a database: each number is counted once, whoever works on it and however it ends."""

import os
import shutil
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from protcli.errors import ProtcliError
from protcli.experiments.sweeps.space import Hyperparameters, Space
from protcli.experiments.sweeps.trials import TrialQueue, default_storage, number_of, open_storage, report

OWN = Hyperparameters(0.01, 8, 100)
SPACE = Space((1e-4, 1e-1), (4, 8, 16), (50, 200))
FIRST_RANDOM = Hyperparameters(0.08311303692128176, 8, 74)
COMPLETE, PRUNED, FAIL = TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL


def make_queue(folder: Path, name: str = "study", trials: int = 4) -> TrialQueue:
    return TrialQueue(open_storage(f"sqlite:///{folder}/sweeps.db"), name, trials)


def take(queue: TrialQueue, seed: int = 0) -> optuna.Trial:
    trial = queue.claim(SPACE, OWN, seed)
    trial.set_user_attr("run", f"run {number_of(trial)}")
    return trial


def tell(trial: optuna.Trial, value: float | None = None, state: TrialState = COMPLETE) -> None:
    trial.study.tell(trial, value, state=state)


def chosen(trial: optuna.Trial) -> Hyperparameters:
    return Hyperparameters(**trial.params)


def rows(queue: TrialQueue) -> list[tuple[int, str]]:
    return [(number_of(row), row.state.name) for row in queue.rows]


def test_the_first_trial_is_the_own_recipe_and_the_others_are_those_of_every_model(tmp_path: Path) -> None:
    tried = {}
    for name in ("one", "two"):
        queue = make_queue(tmp_path, name)
        assert queue.is_new
        assert not make_queue(tmp_path, name).is_new
        tried[name] = []
        for number in range(4):
            trial = take(queue)
            assert number_of(trial) == number
            tell(trial, float(number))
            tried[name].append(chosen(trial))
        assert queue.claim(SPACE, OWN, 0) is None
        assert (queue.counted, queue.begun) == (4, 4)
    assert (tried["one"][0], tried["one"], len(set(tried["one"]))) == (OWN, tried["two"], 4)
    for values in tried["one"]:
        assert 1e-4 <= values.lr <= 1e-1
        assert values.batch_size in (4, 8, 16)
        assert 50 <= values.steps <= 200
    assert tried["one"][1] == FIRST_RANDOM  # as version 0.1.0 drew it
    other = make_queue(tmp_path, "three")
    assert chosen(take(other, seed=1)) == OWN
    assert chosen(take(other, seed=1)) != FIRST_RANDOM


def test_many_workers_take_each_number_once(tmp_path: Path) -> None:
    make_queue(tmp_path)  # creates the tables

    def work(_: int) -> list[int]:
        queue, numbers = make_queue(tmp_path, trials=12), []
        while trial := queue.claim(SPACE, OWN, 0):
            trial.set_user_attr("run", "run")
            tell(trial, 1.0)
            numbers.append(number_of(trial))
        return numbers

    with ThreadPoolExecutor(4) as pool:
        taken = list(pool.map(work, range(4)))
    assert sorted(number for numbers in taken for number in numbers) == list(range(12))
    queue = make_queue(tmp_path, trials=12)
    assert (queue.counted, rows(queue)) == (12, [(number, "COMPLETE") for number in range(12)])
    assert make_queue(tmp_path, trials=5).claim(SPACE, OWN, 0) is None  # a sweep does not become shorter
    queues = [make_queue(tmp_path, trials=18) for _ in range(6)]
    with ThreadPoolExecutor(6) as pool:  # that ask at the same moment
        assert sorted(map(number_of, pool.map(take, queues))) == list(range(12, 18))


def test_interrupted_trials_go_on_and_failed_ones_try_something_else(tmp_path: Path) -> None:
    queue = make_queue(tmp_path, trials=2)
    tell(take(queue), 3.0)
    first = take(queue)
    tell(first, state=FAIL)
    assert queue.counted == 1
    stopped = queue.interrupted(1)
    assert stopped.user_attrs["run"] == "run 1"
    second = take(queue)
    assert (number_of(second), chosen(second)) == (1, chosen(first))
    second.set_user_attr("error", "out of memory")
    tell(second, state=FAIL)
    assert queue.failures(1) == 1
    third = queue.claim(SPACE, OWN, 0)
    assert chosen(third) != chosen(first)
    assert queue.interrupted(1) is None
    tell(third, state=FAIL)  # before it had a run: what came before it was a failure
    fourth = take(queue)
    assert (number_of(fourth), queue.interrupted(1)) == (1, None)
    tell(fourth, 2.0)
    assert queue.claim(SPACE, OWN, 0) is None
    assert rows(queue) == [(0, "COMPLETE"), (1, "FAIL"), (1, "FAIL"), (1, "COMPLETE")]
    assert (number_of(queue.best), queue.best.value) == (1, 2.0)
    # Optuna's own numbers count the failed ones too; figures show those of the table
    assert [(trial.number, trial.value) for trial in queue.numbered.trials] == [(0, 3.0), (1, 2.0)]


def test_the_trial_of_a_lost_process_is_given_to_another(tmp_path: Path) -> None:
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); from pathlib import Path; import test_trials\n"
        "test_trials.take(test_trials.make_queue(Path(sys.argv[2])))"
    )
    folder = str(Path(__file__).parent)
    subprocess.run([sys.executable, "-c", program, folder, str(tmp_path)], check=True, env=os.environ)
    queue = make_queue(tmp_path)
    assert rows(queue) == [(0, "RUNNING")]
    again = take(queue)
    assert (number_of(again), chosen(again), rows(queue)) == (0, OWN, [(0, "FAIL"), (0, "RUNNING")])
    with queue.beating(again):
        assert number_of(take(queue)) == 1  # number 0 lives


def test_the_trial_of_a_machine_that_was_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("protcli.experiments.sweeps.trials.GRACE_SECONDS", 1)
    queue = make_queue(tmp_path)
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr("protcli.experiments.sweeps.trials.this_process", lambda: "another machine:1:1")
        take(queue)
    assert number_of(take(queue)) == 1  # it may still live
    deadline = time.monotonic() + 30
    while number_of(again := take(queue)):
        assert time.monotonic() < deadline
        tell(again, state=FAIL)
        time.sleep(0.5)
    assert rows(queue)[:2] == [(0, "FAIL"), (0, "RUNNING")]


def test_what_is_worse_than_the_median_of_others_is_pruned(tmp_path: Path) -> None:
    queue = make_queue(tmp_path, trials=7)
    for value in (1.0, 2.0, 3.0, 4.0, 5.0):
        trial = take(queue)
        assert not report(trial, {1: 50.0, 2: value})  # none is over yet, or too few
        tell(trial, value)
    good, bad = take(queue), take(queue)
    assert not report(good, {1: 99.0})  # never in the first epoch
    assert not report(good, {1: 99.0, 2: 2.9})
    assert report(bad, {1: 50.0, 2: 3.1})  # the median is 3
    tell(bad, state=PRUNED)
    tell(good, 2.9)
    assert (queue.counted, [state for _, state in rows(queue)]) == (7, ["COMPLETE"] * 6 + ["PRUNED"])


def test_the_database_lies_beside_the_mlflow_store(tmp_path: Path) -> None:
    assert default_storage() == f"sqlite:///{tmp_path}/sweeps.db"
    with pytest.raises(ProtcliError, match="is the MLflow store"):
        open_storage(os.environ["MLFLOW_TRACKING_URI"])
    (tmp_path / "damaged.db").write_text("no database")
    with pytest.raises(ProtcliError, match="cannot be opened"):
        open_storage(f"sqlite:///{tmp_path}/damaged.db")


@pytest.mark.usefixtures("mlflow_store")
def test_a_database_of_something_else_is_refused_and_unchanged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with closing(sqlite3.connect("other.db")) as connection, connection:
        connection.execute("CREATE TABLE sheep (name)")
    files = [each for each in tmp_path.iterdir() if each.is_file()]
    before = [each.read_bytes() for each in files]
    shutil.copy("mlflow.db", "copy.db")
    for name in (tmp_path / "other.db", "copy.db"):  # MLflow's too
        with pytest.raises(ProtcliError, match=rf"--storage sqlite:///{name} is a database of something else: it has"):
            open_storage(f"sqlite:///{name}")
    with pytest.raises(ProtcliError, match=r"--storage sqlite:///mlflow\.db is the MLflow store"):
        open_storage("sqlite:///mlflow.db")
    with pytest.raises(ProtcliError, match=r"write %3F for a \? in its name"):
        open_storage(f"sqlite:///{tmp_path}/my?run/sweeps.db")
    with pytest.raises(ProtcliError, match=r"the folder .*/nowhere does not exist$"):
        open_storage(f"sqlite:///{tmp_path}/nowhere/sweeps.db")
    assert [each.read_bytes() for each in files] == before
