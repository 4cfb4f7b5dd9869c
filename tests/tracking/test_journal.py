"""Writes wait on disk while the store is away, and arrive in order and once; what is left is delivered later."""

import json
import multiprocessing
import os
import signal
import time
from multiprocessing.connection import Connection
from pathlib import Path

import mlflow
import pytest
import requests
from mlflow.entities import DatasetInput
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import (
    BAD_REQUEST,
    INVALID_PARAMETER_VALUE,
    PERMISSION_DENIED,
    TEMPORARILY_UNAVAILABLE,
)

from protcli.errors import ProtcliError
from protcli.tracking import journal as journals
from protcli.tracking.journal import (
    Journal,
    StoreUnreachable,
    deliver_left,
    journal_path,
    may_pass,
    open_journal,
    read_writes,
)
from protcli.tracking.run import Run, create_run, find_run, find_runs, start_run
from protcli.tracking.store import open_store, tracking_uri


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROTCLI_CACHE", str(tmp_path / "cache"))
    journals.make_journals()
    monkeypatch.setattr(journals, "FIRST_RETRY_SECONDS", 0.01)
    monkeypatch.setattr(journals, "LONGEST_RETRY_SECONDS", 0.05)


class Away:
    """A client whose store answers writes with an error while `error` is set, and may lose its answers."""

    def __init__(self, client: mlflow.MlflowClient) -> None:
        self._client, self.error, self.tries, self.forgets = client, None, 0, False

    def __getattr__(self, name: str):
        whole = getattr(self._client, name)
        if not name.startswith(("log_", "set_", "update_")):
            return whole

        def call(*arguments, **named):
            self.tries += 1
            if self.error is not None:
                raise self.error
            whole(*arguments, **named)
            if self.forgets:
                self.forgets = False
                raise requests.ConnectionError("the answer was lost")

        return call


@pytest.fixture
def away(mlflow_store: Path) -> Away:
    return Away(open_store())


UNAVAILABLE = MlflowException("restarting", TEMPORARILY_UNAVAILABLE)


def test_what_is_written_while_the_store_is_away_arrives_in_order_and_once(away: Away) -> None:
    run_id = create_run("r", "e").id
    with open_journal(away, tracking_uri(), run_id) as journal:
        log = Run(away, away.get_run(run_id), journal)
        log.log_metrics({"valid/mse": 9.0}, step=1)
        journal.settle()
        away.error = UNAVAILABLE
        for step in (2, 3, 4):
            log.log_metrics({"valid/mse": 10.0 - step}, step=step)
        log.set_tags({"which": "first"})
        log.set_tags({"which": "second"})
        deadline = time.monotonic() + 10
        while away.tries < 5:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert len(mlflow.MlflowClient().get_metric_history(run_id, "valid/mse")) == 1
        assert find_run(run_id).history("valid/mse") == {1: 9.0, 2: 8.0, 3: 7.0, 4: 6.0}  # with those that wait
        assert [write["write"] for write in read_writes(journal.path)] == ["metrics"] * 3 + ["tags"] * 2
        away.error, away.forgets = None, True  # the first write is done, but its answer does not arrive
        journal.settle()
    points = mlflow.MlflowClient().get_metric_history(run_id, "valid/mse")
    assert [(point.step, point.value) for point in points] == [(1, 9.0), (2, 8.0), (3, 7.0), (4, 6.0)]
    assert find_run(run_id).tags["which"] == "second"
    assert not list(journal_path(run_id).parent.iterdir())


def test_metrics_of_several_writes_arrive_together_and_nothing_else_waits_for_them(away: Away) -> None:
    run_id = create_run("r", "e").id
    with open_journal(away, tracking_uri(), run_id) as journal:
        log = Run(away, away.get_run(run_id), journal)
        log.set_tags({"which": "first"})
        journal.settle()
        before = away.tries
        for step in (1, 2, 3):
            log.log_metrics({"valid/mse": 10.0 - step}, step=step, note=f"epoch {step}")
        time.sleep(0.1)
        assert (away.tries, len(read_writes(journal.path))) == (before, 3)
        log.set_tags({"which": "second"})
        deadline = time.monotonic() + 3
        while find_run(run_id).tags["which"] != "second":
            assert time.monotonic() < deadline
        assert away.tries == before + 2
        log.log_metrics({"valid/mse": 6.0}, step=4)
        journal.settle()  # whoever waits gets them at once
    found = find_run(run_id)
    assert found.history("valid/mse") == {1: 9.0, 2: 8.0, 3: 7.0, 4: 6.0}
    assert found.tags["mlflow.note.content"] == "epoch 3"


def test_a_store_that_stays_away_leaves_a_journal(away: Away) -> None:
    run_id = create_run("r", "e").id
    with open_journal(away, tracking_uri(), run_id) as journal:
        away.error = requests.ConnectionError("connection refused")
        Run(away, away.get_run(run_id), journal).end("FINISHED")
        said = rf"^1 records of run {run_id} wait in .*{run_id}\.jsonl, for sqlite:.* cannot be reached \(connection re"
        with pytest.raises(StoreUnreachable, match=said):
            journal.settle(0.05)
    assert find_run(run_id).status == "RUNNING"
    with journal_path(run_id).open("a") as file:
        file.write('{"write": "tags", "values": {"half": ')  # the process was killed in the middle of a line
    assert deliver_left(mlflow.MlflowClient(), tracking_uri(), run_id) == 1
    assert find_run(run_id).status == "FINISHED"
    assert deliver_left(mlflow.MlflowClient(), tracking_uri(), run_id) == 0


def test_a_store_that_refuses_stops_the_run(away: Away) -> None:
    away.error = MlflowException("a limit", INVALID_PARAMETER_VALUE)
    with open_journal(away, tracking_uri(), create_run("r", "e").id) as journal:
        journal.add({"write": "tags", "values": {"a": "b"}})
        with pytest.raises(ProtcliError, match=r"^the store sqlite:.* refuses what is written to run .*a limit"):
            journal.settle()
        with pytest.raises(ProtcliError, match="refuses"):
            journal.add({"write": "tags", "values": {"a": "c"}})


def test_what_a_store_refuses_for_good_is_put_aside(away: Away) -> None:
    away.error = MlflowException("a limit", INVALID_PARAMETER_VALUE)
    run_id = create_run("r", "e").id
    with open_journal(away, tracking_uri(), run_id) as journal:
        journal.add({"write": "tags", "values": {"a": "b"}})
        with pytest.raises(ProtcliError) as refusal:
            journal.settle()
    kept = Path(f"{journal.path}.refused")
    assert list(journal.path.parent.iterdir()) == [kept]
    assert str(refusal.value) == (
        f"the store {tracking_uri()} refuses what is written to run {run_id} (a limit): it is kept in {kept}; if that "
        "is mended, leave out .refused from its name and `protcli sync` delivers it"
    )
    kept.rename(journal.path)
    assert deliver_left(mlflow.MlflowClient(), tracking_uri(), run_id) == 1
    assert find_run(run_id).tags["a"] == "b"


def test_a_dataset_that_another_run_writes_at_the_same_moment(away: Away, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(other: str, datasets: list[DatasetInput]) -> None:
        monkeypatch.setattr(away, "log_inputs", away._client.log_inputs, raising=False)
        away.log_inputs(create_run("other", "e").id, datasets=datasets)
        raise MlflowException("(psycopg2.errors.UniqueViolation) duplicate key value", BAD_REQUEST)

    monkeypatch.setattr(away, "log_inputs", refused, raising=False)
    run_id = create_run("r", "e").id
    with open_journal(away, tracking_uri(), run_id) as journal:
        run = Run(away, away.get_run(run_id), journal)
        run.log_dataset("tiny", digest="d", source="s", context="training", profile={})
        journal.settle()
    datasets = [mlflow.MlflowClient().get_run(run.id).inputs.dataset_inputs[0].dataset for run in find_runs("e")]
    assert [dataset.digest for dataset in datasets] == ["d", "d"]


def test_a_run_whose_journal_cannot_be_delivered_is_not_resumed(mlflow_store: Path, monkeypatch) -> None:
    with start_run("first", "e") as log:
        pass

    def away(self: Journal, seconds: float | None = None) -> None:
        raise StoreUnreachable("the records wait")

    monkeypatch.setattr(Journal, "settle", away)
    with pytest.raises(StoreUnreachable, match="the records wait"), start_run("first", run_id=log.id):
        raise AssertionError("it must not begin")


def answered(status: int) -> requests.HTTPError:
    response = requests.Response()
    response.status_code = status
    return requests.HTTPError(response=response)


@pytest.mark.parametrize(
    ("passes", "errors"),
    [
        (True, [UNAVAILABLE, MlflowException("a bug"), requests.ConnectionError(), TimeoutError()]),
        (True, [answered(500), answered(503), answered(429), answered(401), answered(403)]),
        (True, [MlflowException("expired", PERMISSION_DENIED)]),
        (False, [MlflowException("too long", INVALID_PARAMETER_VALUE), answered(413)]),
        (False, [FileNotFoundError("gone"), ProtcliError("another value")]),
    ],
)
def test_what_is_tried_again(errors: list[Exception], passes: bool) -> None:
    assert [may_pass(error) for error in errors] == [passes] * len(errors)


# --- a process that is killed ---


def killed(pipe: Connection, with_records: bool) -> None:
    with start_run("r", "e") as run:
        pipe.send(run.id)
        run.log_metrics({"valid/mse": 5.0}, step=1)
        run._journal.settle()
        if with_records:
            journals.send = lambda *_: (_ for _ in ()).throw(ConnectionError("away"))
            run.log_metrics({"valid/mse": 4.0}, step=2)
            run.end("FINISHED")
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("with_records", [False, True])
def test_the_next_command_that_meets_it_ends_the_run_of_a_killed_process(mlflow_store, with_records: bool) -> None:
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe()
    process = context.Process(target=killed, args=(sender, with_records))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    run_id = receiver.recv()
    if with_records:  # which are delivered first
        assert [write["write"] for write in read_writes(journal_path(run_id))] == ["metrics", "end"]
        run = find_run(run_id)
        assert (run.status, run.is_lost, run.history("valid/mse")) == ("FINISHED", False, {1: 5.0, 2: 4.0})
        return
    assert open_store().get_run(run_id).info.status == "RUNNING"
    (run,) = find_runs("e")
    assert (run.id, run.status, run.is_lost) == (run_id, "FAILED", True)
    assert run.tags["error"] == (
        f"its process ({run.tags['run.process']}) was killed or could not write: "
        f"`protcli train --resume {run_id}` continues a training"
    )
    ended = mlflow.MlflowClient().get_run(run_id).info
    assert ended.status == "FAILED"
    assert ended.end_time is not None


def test_what_a_run_that_failed_has_left_is_delivered_too(away: Away) -> None:
    """As after a full disk: how it ended is known, its parameters were not written."""
    run = create_run("r", "e")
    with open_journal(away, tracking_uri(), run.id) as journal:
        away.error = UNAVAILABLE
        Run(away, away.get_run(run.id), journal).log_params({"a": 1})
    run.end("FAILED")
    found = find_run(run.id)
    assert (found.status, found.params) == ("FAILED", {"a": "1"})
    assert not journal_path(run.id).exists()


@pytest.mark.parametrize("process", ["another-machine:1:1", "", "no process", "here:12:x"])
def test_a_process_that_cannot_be_asked_is_left_alone(mlflow_store: Path, process: str) -> None:
    run_id = create_run("r", "e", {"run.process": process}).id
    assert (find_run(run_id).status, find_run(run_id).is_lost) == ("RUNNING", False)


def test_one_process_writes_a_run(mlflow_store: Path) -> None:
    with start_run("r", "e") as run:
        assert find_run(run.id).is_being_written
        assert json.loads(journal_path(run.id).read_text().partition("\n")[0]) == tracking_uri()
        said = f"^run {run.id} is being written by another process: wait for it"
        with pytest.raises(ProtcliError, match=said), open_journal(open_store(), tracking_uri(), run.id):
            pass
    assert not find_run(run.id).is_being_written


def test_a_cache_that_cannot_be_made_leaves_no_run(mlflow_store: Path, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "home").touch()
    monkeypatch.delenv("PROTCLI_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    with pytest.raises(ProtcliError, match=r"name another folder with PROTCLI_CACHE$"), start_run("r", "e"):
        raise AssertionError("it must not begin")
    assert find_runs() == []
