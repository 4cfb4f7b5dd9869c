"""The trials of a sweep in a database: each number is counted once, whoever works on it and however it ends."""

import math
import os
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from protcli.errors import ProtcliError
from protcli.experiments.tuning.claim import Claim
from protcli.experiments.tuning.ledger import Ledger
from protcli.experiments.tuning.space import Hyperparameters, Space
from protcli.experiments.tuning.storage import default_storage, open_storage

OWN = Hyperparameters(0.01, 8, 100)
SPACE = Space((1e-4, 1e-1), (4, 8, 16), (50, 200))


def make_ledger(folder: Path, name: str = "study", trials: int = 4, seed: int = 0) -> Ledger:
    storage = open_storage(f"sqlite:///{folder}/sweeps.db")
    return Ledger(storage, name, trials=trials, space=SPACE, own=OWN, seed=seed)


def take(ledger: Ledger) -> Claim:
    claim = ledger.claim()
    assert claim is not None
    claim.note(f"run {claim.number}", epochs=1, steps=1)
    return claim


def test_the_first_trial_is_the_own_recipe_and_the_others_are_those_of_every_model(tmp_path: Path) -> None:
    tried = {}
    for name in ("one", "two"):
        ledger = make_ledger(tmp_path, name)
        assert ledger.is_new
        assert not make_ledger(tmp_path, name).is_new
        claims = []
        while claim := ledger.claim():
            claim.note("run")
            claim.complete(float(claim.number))
            claims.append(claim)
        assert [claim.number for claim in claims] == [0, 1, 2, 3]
        assert (ledger.counted, ledger.begun) == (4, 4)
        tried[name] = [claim.chosen for claim in claims]
    assert tried["one"][0] == OWN
    assert tried["one"] == tried["two"]
    assert len(set(tried["one"])) == 4
    for chosen in tried["one"]:
        assert 1e-4 <= chosen.lr <= 1e-1
        assert chosen.batch_size in (4, 8, 16)
        assert 50 <= chosen.steps <= 200
    assert take(other := make_ledger(tmp_path, "three", seed=1)).chosen == OWN
    assert take(other).chosen != tried["one"][1]


def test_many_workers_take_each_number_once(tmp_path: Path) -> None:
    make_ledger(tmp_path)  # creates the tables

    def work(_: int) -> list[int]:
        ledger, numbers = make_ledger(tmp_path, trials=12), []
        while claim := ledger.claim():
            claim.note("run")
            claim.complete(1.0)
            numbers.append(claim.number)
        return numbers

    with ThreadPoolExecutor(4) as pool:
        taken = list(pool.map(work, range(4)))
    assert sorted(number for numbers in taken for number in numbers) == list(range(12))
    ledger = make_ledger(tmp_path, trials=12)
    assert ledger.counted == 12
    assert [row.number for row in ledger.rows] == list(range(12))
    assert make_ledger(tmp_path, trials=5).claim() is None
    assert take(make_ledger(tmp_path, trials=13)).number == 12


def test_what_is_queued_twice_is_tried_once(tmp_path: Path) -> None:
    """As if two workers had found number 0 free at the same time."""
    ledger = make_ledger(tmp_path, trials=1)
    for _ in range(2):
        ledger._queue(ledger.study, 0)
    assert take(ledger).number == 0
    assert ledger.claim() is None
    ledger._queue(ledger.study, 0)
    more = make_ledger(tmp_path, trials=2)
    assert take(more).number == 1  # what was queued twice is dropped on the way
    assert [row.number for row in more.rows] == [0, 1]


def test_interrupted_trials_go_on_and_failed_ones_try_something_else(tmp_path: Path) -> None:
    ledger = make_ledger(tmp_path, trials=2)
    take(ledger).complete(3.0)
    first = take(ledger)
    assert first.resumes is None
    first.interrupt()
    assert ledger.counted == 1
    second = take(ledger)
    assert (second.number, second.chosen, second.resumes) == (1, first.chosen, "run 1")
    second.fail("out of memory")
    third = ledger.claim()
    assert third is not None
    assert (third.number, third.resumes) == (1, None)
    third.interrupt()  # before it had a run: what came before it was a failure
    fourth = take(ledger)
    assert fourth.resumes is None
    fourth.complete(2.0)
    assert ledger.claim() is None
    assert [(row.number, row.state) for row in ledger.rows] == [
        (0, "COMPLETE"), (1, "FAIL"), (1, "FAIL"), (1, "COMPLETE"),
    ]  # fmt: skip
    assert ledger.best is not None
    assert (ledger.best.number, ledger.best.mse) == (1, 2.0)
    # Optuna's own numbers count the failed ones too; figures show those of the table
    assert [(trial.number, trial.value) for trial in ledger.numbered.trials] == [(0, 3.0), (1, 2.0)]
    assert make_ledger(tmp_path, trials=1).trials == 2  # a sweep does not become shorter


def test_the_trial_of_a_lost_process_is_given_to_another(tmp_path: Path) -> None:
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); from pathlib import Path; import test_ledger\n"
        "test_ledger.take(test_ledger.make_ledger(Path(sys.argv[2])))"
    )
    folder = str(Path(__file__).parent)
    subprocess.run([sys.executable, "-c", program, folder, str(tmp_path)], check=True, env=os.environ)
    ledger = make_ledger(tmp_path)
    assert [row.state for row in ledger.rows] == ["RUNNING"]
    again = take(ledger)
    assert (again.number, again.chosen, again.resumes) == (0, OWN, "run 0")
    assert [row.state for row in ledger.rows] == ["FAIL", "RUNNING"]
    with again.beating():
        assert take(ledger).number == 1  # number 0 lives


def test_the_trial_of_a_machine_that_was_lost_before_it_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("protcli.experiments.tuning.storage.GRACE", 1)
    ledger = make_ledger(tmp_path)
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr("protcli.experiments.tuning.ledger.this_process", lambda: "another machine:1:1")
        take(ledger)
    assert take(ledger).number == 1  # it may still live
    deadline = time.monotonic() + 30
    while (again := take(ledger)).number:
        assert time.monotonic() < deadline
        again.interrupt()
        time.sleep(0.5)
    assert (again.resumes, [row.state for row in ledger.rows[:2]]) == ("run 0", ["FAIL", "RUNNING"])


def test_a_diverged_trial_counts_and_is_never_the_best(tmp_path: Path) -> None:
    ledger = make_ledger(tmp_path, trials=2)
    take(ledger).complete(math.inf)
    assert (ledger.counted, ledger.best) == (1, None)
    take(ledger).complete(5.0)
    assert ledger.best is not None
    assert ledger.best.number == 1
    assert ledger.rows[0].mse == math.inf


def test_what_is_worse_than_the_median_of_others_is_pruned(tmp_path: Path) -> None:
    ledger = make_ledger(tmp_path, trials=7)
    for value in (1.0, 2.0, 3.0, 4.0, 5.0):
        claim = take(ledger)
        assert not claim.report({1: 50.0, 2: value})  # none is over yet, or too few
        claim.complete(value)
    good, bad = take(ledger), take(ledger)
    assert not good.report({1: 99.0})  # never in the first epoch
    assert not good.report({1: 99.0, 2: 2.9})
    assert bad.report({1: 50.0, 2: 3.1})  # the median is 3
    bad.prune()
    good.complete(2.9)
    assert ledger.counted == 7
    assert [row.state for row in ledger.rows] == ["COMPLETE"] * 6 + ["PRUNED"]


def test_the_database_lies_beside_the_mlflow_store(tmp_path: Path) -> None:
    assert default_storage() == f"sqlite:///{tmp_path}/sweeps.db"
    with pytest.raises(ProtcliError, match="is the MLflow store"):
        open_storage(os.environ["MLFLOW_TRACKING_URI"])
    (tmp_path / "damaged.db").write_text("no database")
    with pytest.raises(ProtcliError, match="cannot be opened"):
        open_storage(f"sqlite:///{tmp_path}/damaged.db")


def test_a_database_of_something_else_is_refused_and_unchanged(tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    with closing(sqlite3.connect(other)) as connection, connection:
        connection.execute("CREATE TABLE sheep (name)")
    before = other.read_bytes()
    with pytest.raises(ProtcliError, match=r"is a database of something else: it has a table sheep; name another"):
        open_storage(f"sqlite:///{other}")
    assert other.read_bytes() == before
    with pytest.raises(ProtcliError, match=r"the folder .*/nowhere does not exist$"):
        open_storage(f"sqlite:///{tmp_path}/nowhere/sweeps.db")
    assert [each.name for each in tmp_path.iterdir() if "mlflow" not in each.name] == ["other.db"]


@pytest.mark.usefixtures("mlflow_store")
def test_mlflows_database_is_refused_by_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = (tmp_path / "mlflow.db").read_bytes()
    with pytest.raises(ProtcliError, match=r"--storage sqlite:///mlflow.db is a database of something else"):
        open_storage("sqlite:///mlflow.db")
    assert (tmp_path / "mlflow.db").read_bytes() == before
