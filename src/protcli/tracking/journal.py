"""Writes to a run that its store has not got yet: on disk first, then delivered in order by a thread.

So a training does not wait for its store, and goes on while that is away. What is left when the process ends is
delivered by the next one that opens the journal: `protcli train --resume` or `protcli sync`.
"""

import json
import logging
import os
import shutil
import time
from collections import deque
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import islice, takewhile
from pathlib import Path
from threading import Condition, Thread
from typing import Any

import mlflow
import requests
from filelock import FileLock, Timeout
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT

from protcli.errors import ProtcliError, full_disk, truncate
from protcli.process import cache_folder
from protcli.tracking.store import sqlite_file

log = logging.getLogger("protcli")

Write = dict[str, Any]  # {"write": what, **its arguments}: JSON, see `send`

SECONDS_WITHOUT_DELIVERY = 60.0  # after which a process ends and leaves the rest
FIRST_RETRY_SECONDS, LONGEST_RETRY_SECONDS = 0.5, 20.0  # between two tries
SECONDS_BETWEEN_FIGURES = 5.0  # a store takes the metrics of many epochs in little more time than those of one
METRICS_PER_REQUEST = 900  # of the 1000 items that MLflow allows, tags included
WRITES_AT_ONCE = 50  # of metrics


class StoreUnreachable(ProtcliError):
    """The store is away; the writes wait in a journal."""


def send(client: mlflow.MlflowClient, run_id: str, write: Write) -> None:
    """Make one write. Each can be repeated without effect: MLflow keeps one of equal points, and sets the rest again.

    Raises:
        ProtcliError: a parameter has another value.
        Exception: whatever the store raises; `may_pass` says whether to try again.
    """
    match write:
        case {"write": "params", "values": values}:
            known = client.get_run(run_id).data.params
            for key, text in values.items():
                if known.get(key, text) != text:
                    raise ProtcliError(f"run {run_id} already has {key}={known[key]}, not {text}: start a new run")
            client.log_batch(run_id, params=[Param(key, text) for key, text in values.items() if key not in known])
        case {"write": "metrics", "points": points}:
            tags = [RunTag(*item) for item in write.get("tags", {}).items()]
            for start in range(0, len(points), METRICS_PER_REQUEST):
                metrics = [Metric(*point) for point in points[start : start + METRICS_PER_REQUEST]]
                client.log_batch(run_id, metrics=metrics, tags=tags)
        case {"write": "tags", "values": values}:
            client.log_batch(run_id, tags=[RunTag(*item) for item in values.items()])
        case {"write": "dataset", "context": context, **about}:
            datasets = [DatasetInput(Dataset(**about), [InputTag(MLFLOW_DATASET_CONTEXT, context)])]
            try:
                client.log_inputs(run_id, datasets=datasets)
            except MlflowException as error:
                if may_pass(error):
                    raise
                # a server refuses a dataset that another run of the experiment wrote just then; now it finds it
                client.log_inputs(run_id, datasets=datasets)
        case {"write": "artifact", "path": path, "folder": folder, "move": move}:
            if move and not Path(path).exists():
                return  # it was delivered, and the process ended before it could note that
            store = client.log_artifacts if Path(path).is_dir() else client.log_artifact
            store(run_id, path, folder or None)
            if move:
                shutil.rmtree(path)
        case {"write": "remove", "path": path}:
            _remove(client, run_id, path)
        case {"write": "text", "text": text, "path": path}:
            client.log_text(run_id, text, path)
        case {"write": "end", "status": "RUNNING"}:
            client.update_run(run_id, "RUNNING")
        case {"write": "end", "status": status, "time": end}:
            client.set_terminated(run_id, status, end)


def _remove(client: mlflow.MlflowClient, run_id: str, path: str) -> None:
    if path not in {item.path for item in client.list_artifacts(run_id, path.rpartition("/")[0] or None)}:
        return
    try:
        get_artifact_repository(client.get_run(run_id).info.artifact_uri).delete_artifacts(path)
    except NotImplementedError:
        return  # it stays, where artifacts cannot be deleted
    except Exception as error:
        if may_pass(error):
            raise


def may_pass(error: Exception | None) -> bool:
    """Whether a write may succeed, now or later: the store is away, overloaded or locked, and refused nothing."""
    if isinstance(error, MlflowException):
        status = error.get_http_status_code()
    elif isinstance(error, requests.HTTPError) and error.response is not None:
        status = error.response.status_code
    else:
        return not isinstance(error, ProtcliError | FileNotFoundError)  # a file that was to be stored
    return status >= 500 or status in (401, 403, 429)  # with other credentials, or fewer requests


class Journal:
    """The writes of one run, in a file of JSON lines. Only one process has it open.

    Attributes:
        path: the file: its first line is the address of the store, then a line for each write.
        store: that address.
    """

    def __init__(self, path: Path, client: mlflow.MlflowClient, store: str, run_id: str) -> None:
        self.path, self.store = path, store
        self._client, self._run_id = client, run_id
        self._changed = Condition()
        self._waiting = deque(read_writes(path))
        self._failure: Exception | None = None  # the last one, until a delivery succeeds
        self._closes = self._is_awaited = False
        self._last_delivery = time.monotonic()
        if not self._waiting:
            self._empty()
        self._thread = Thread(target=self._deliver, name=f"journal of {run_id}", daemon=True)
        self._thread.start()

    def add(self, write: Write) -> None:
        """Write to the journal; it is on the disk when this returns.

        Raises:
            ProtcliError: the store has refused an earlier write, or the disk is full.
        """
        with self._changed:
            self._check()
            try:
                with self.path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(write) + "\n")
                    file.flush()
                    os.fsync(file.fileno())
            except OSError as error:
                raise ProtcliError(f"{self.path} cannot be written ({error.strerror}): make room there") from error
            self._waiting.append(write)
            self._changed.notify_all()

    def settle(self, seconds: float | None = None) -> None:
        """Wait until all is delivered.

        Raises:
            StoreUnreachable: every try has failed for as long as that (None: SECONDS_WITHOUT_DELIVERY).
            ProtcliError: the store has refused a write.
        """
        with self._changed:
            self._last_delivery = time.monotonic()
            self._is_awaited = True
            self._changed.notify_all()
            while self._waiting:
                self._check()
                waited = time.monotonic() - self._last_delivery
                if self._failure is not None and waited > (SECONDS_WITHOUT_DELIVERY if seconds is None else seconds):
                    raise StoreUnreachable(
                        f"{len(self._waiting)} records of run {self._run_id} wait in {self.path}, for {self.store} "
                        f"cannot be reached ({_why(self._failure)}): `protcli sync` delivers them"
                    )
                self._changed.wait(FIRST_RETRY_SECONDS)
            self._is_awaited = False

    def close(self) -> None:
        """Stop delivering. The file is removed if nothing is left in it, and put aside if the store never takes it."""
        with self._changed:
            self._closes = True
            self._changed.notify_all()
        self._thread.join(LONGEST_RETRY_SECONDS)
        with self._changed:
            if not self._waiting:
                self.path.unlink(missing_ok=True)
            elif not may_pass(self._failure):
                self.path.replace(f"{self.path}.refused")

    def _check(self) -> None:
        if not may_pass(self._failure):
            raise ProtcliError(
                f"the store {self.store} refuses what is written to run {self._run_id} ({self._failure}): it is kept "
                f"in {self.path}.refused; if that is mended, leave out .refused from its name and `protcli sync` "
                "delivers it"
            ) from self._failure

    def _empty(self) -> None:
        self.path.write_text(json.dumps(self.store) + "\n", "utf-8")

    def _deliver(self) -> None:
        """Deliver until the journal closes, or the store refuses a write."""
        wait = 0.0
        while may_pass(self._failure) and not self._closes:
            if not (writes := self._next(wait)):
                continue
            failure = None
            try:
                send(self._client, self._run_id, _as_one(writes))
            except Exception as error:
                failure = error
            with self._changed:
                if failure is None:
                    wait = 0.0
                    if self._failure is not None:
                        log.info("%s can be reached again: %d records are delivered", self.store, len(self._waiting))
                    self._last_delivery = time.monotonic()
                    for _ in writes:
                        self._waiting.popleft()
                    if not self._waiting:
                        self._empty()
                else:
                    wait = min(2 * wait or FIRST_RETRY_SECONDS, LONGEST_RETRY_SECONDS)
                    if self._failure is None and may_pass(failure):
                        log.warning(
                            "%s cannot be reached (%s): the records wait in %s", self.store, _why(failure), self.path
                        )
                self._failure = failure
                self._changed.notify_all()

    def _next(self, wait: float) -> list[Write]:
        """What is delivered next, as one, after `wait` seconds; nothing if nothing waits, or the journal closes."""
        with self._changed:
            if self._changed.wait_for(lambda: self._closes, wait):
                return []
            self._changed.wait_for(self._is_due, SECONDS_BETWEEN_FIGURES)
            figures = takewhile(lambda write: "points" in write, self._waiting)
            return list(islice(figures, WRITES_AT_ONCE)) or list(islice(self._waiting, 1))

    def _is_due(self) -> bool:
        """Whether somebody waits for what is to be delivered, or part of it is not to be late."""
        late = self._is_awaited or not all("points" in write for write in self._waiting)
        return self._closes or (late and bool(self._waiting))


def _as_one(writes: list[Write]) -> Write:
    """Several writes of metrics, or another one, as one."""
    whole, *others = writes
    for each in others:
        tags = whole.get("tags", {}) | each.get("tags", {})
        whole = {"write": "metrics", "points": whole["points"] + each["points"], "tags": tags}
    return whole


def _why(error: Exception) -> str:
    """An error's reason on one line."""
    return full_disk(error) or truncate(str(error).strip().partition("\n")[0], 200)


def journal_path(run_id: str) -> Path:
    """Where the journal of a run is kept, on the machine that writes it."""
    return cache_folder() / "journals" / f"{run_id}.jsonl"


def read_writes(path: Path) -> list[Write]:
    """The writes that wait in a journal, the first first; a line that a killed process left half-written is none."""
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text("utf-8").split("\n")[1:-1]]


def make_journals() -> None:
    """Make the folder of the journals. Raises ProtcliError if it cannot be made."""
    folder = journal_path("").parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ProtcliError(f"{folder} cannot be made ({error}): name another folder with PROTCLI_CACHE") from error


@contextmanager
def open_journal(client: mlflow.MlflowClient, store: str, run_id: str) -> Iterator[Journal]:
    """The journal of a run, closed at the end; what a process left in it is delivered first.

    Raises:
        ProtcliError: another process has it open, or it is of the same run in the store that this one is a copy of.
    """
    path = journal_path(run_id)
    lock = FileLock(path.with_suffix(".lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ProtcliError(f"run {run_id} is being written by another process: wait for it, or stop it") from None
    try:
        of = _store_of(path) if path.is_file() else ""
        if of != store and (file := sqlite_file(of)) and file.exists():
            raise ProtcliError(f"{path} has records of run {run_id} for {of}: `protcli sync` delivers them there first")
        with closing(Journal(path, client, store, run_id)) as journal:
            yield journal
    finally:
        if not path.exists():
            Path(lock.lock_file).unlink(missing_ok=True)  # or each run would leave a file
        lock.release()


def deliver_left(client: mlflow.MlflowClient, store: str, run_id: str) -> int:
    """Deliver what a process that ended has left in the journal of a run; returns how many records.

    Raises:
        ProtcliError: another process has it open, or the store refuses them.
        StoreUnreachable: the store is away.
    """
    if not journal_path(run_id).is_file():
        return 0
    waiting = len(read_writes(journal_path(run_id)))
    with open_journal(client, store, run_id) as journal:
        journal.settle(FIRST_RETRY_SECONDS)
    return waiting


def journals() -> Iterator[tuple[str, str]]:
    """Every journal on this machine: the run's id and the address of its store."""
    for path in sorted(journal_path("*").parent.glob("*.jsonl")):
        if store := _store_of(path):
            yield path.stem, store


def _store_of(path: Path) -> str:
    """The address of a journal's store; empty if its process was killed when it began it."""
    store, complete, _ = path.read_text("utf-8").partition("\n")
    return json.loads(store) if complete else ""
