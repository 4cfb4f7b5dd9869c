"""Writes to a run that its store has not got yet: on disk first, then delivered in order by a thread.

So a training does not wait for its store, and goes on while that is away. What is left when the process ends is
delivered by the next one that opens the journal: `protcli train --resume` or `protcli sync`.
"""

import json
import logging
import os
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Condition, Thread

import mlflow
from filelock import FileLock, Timeout

from protcli.cache import cache_folder
from protcli.errors import ProtcliError, excerpt, full_disk
from protcli.tracking.writes import Write, may_pass, send

log = logging.getLogger("protcli")

PATIENCE = 60.0  # seconds without any delivery after which a process ends and leaves the rest
FIRST_WAIT, LONGEST_WAIT = 0.5, 20.0  # seconds between two tries


class Undelivered(ProtcliError):
    """The store is away; the writes wait in a journal."""


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
        self._refused = False
        self._closes = False
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

    @property
    def waiting(self) -> int:
        """Writes that are not yet delivered."""
        with self._changed:
            return len(self._waiting)

    def settle(self, patience: float | None = None) -> None:
        """Wait until all is delivered.

        Raises:
            Undelivered: every try has failed for so many seconds (PATIENCE if None).
            ProtcliError: the store has refused a write.
        """
        patience = PATIENCE if patience is None else patience
        with self._changed:
            self._last_delivery = time.monotonic()
            while self._waiting:
                self._check()
                if self._failure is not None and time.monotonic() > self._last_delivery + patience:
                    raise Undelivered(
                        f"{len(self._waiting)} records of run {self._run_id} wait in {self.path}, for {self.store} "
                        f"cannot be reached ({_why(self._failure)}): `protcli sync` delivers them"
                    )
                self._changed.wait(FIRST_WAIT)

    def close(self) -> None:
        """Stop delivering. The file is removed if nothing is left in it."""
        with self._changed:
            self._closes = True
            self._changed.notify_all()
        self._thread.join(LONGEST_WAIT)
        with self._changed:
            if not self._waiting:
                self.path.unlink(missing_ok=True)

    def _check(self) -> None:
        if self._refused:
            raise ProtcliError(
                f"the store {self.store} refuses what is written to run {self._run_id} ({self._failure})"
            ) from self._failure

    def _empty(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps(self.store) + "\n", encoding="utf-8")

    def _deliver(self) -> None:
        wait = FIRST_WAIT
        while True:
            with self._changed:
                while not self._waiting and not self._closes:
                    self._changed.wait()
                if self._closes:
                    return
                write = self._waiting[0]
            try:
                send(self._client, self._run_id, write)
            except Exception as error:
                with self._changed:
                    if self._failure is None:
                        log.warning(
                            "%s cannot be reached (%s): the records wait in %s", self.store, _why(error), self.path
                        )
                    self._failure, self._refused = error, not may_pass(error)
                    self._changed.notify_all()
                    if self._refused or self._closes or self._changed.wait_for(lambda: self._closes, wait):
                        return
                wait = min(2 * wait, LONGEST_WAIT)
                continue
            with self._changed:
                if self._failure is not None:
                    log.info("%s can be reached again: %d records are delivered", self.store, len(self._waiting))
                self._failure, wait, self._last_delivery = None, FIRST_WAIT, time.monotonic()
                self._waiting.popleft()
                if not self._waiting:
                    self._empty()
                self._changed.notify_all()


def _why(error: Exception) -> str:
    """An error's reason on one line."""
    return full_disk(error) or excerpt(str(error).strip().partition("\n")[0], 200)


def journal_path(run_id: str) -> Path:
    """Where the journal of a run is kept, on the machine that writes it."""
    return cache_folder() / "journals" / f"{run_id}.jsonl"


def read_writes(path: Path) -> list[Write]:
    """The writes that wait in a journal, the first first; a line that a killed process left half-written is none."""
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines[1:-1]]


@contextmanager
def open_journal(client: mlflow.MlflowClient, store: str, run_id: str) -> Iterator[Journal]:
    """The journal of a run, closed at the end; what a process left in it is delivered first.

    Raises:
        ProtcliError: another process has it open.
    """
    path = journal_path(run_id)
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path.with_suffix(".lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ProtcliError(f"run {run_id} is being written by another process: wait for it, or stop it") from None
    try:
        journal = Journal(path, client, store, run_id)
        try:
            yield journal
        finally:
            journal.close()
    finally:
        if not path.exists():
            Path(lock.lock_file).unlink(missing_ok=True)  # or each run would leave a file
        lock.release()


def deliver_left(client: mlflow.MlflowClient, store: str, run_id: str) -> int:
    """Deliver what a process that ended has left in the journal of a run; returns how many records.

    Raises:
        ProtcliError: another process has it open, or the store refuses them.
        Undelivered: the store is away.
    """
    if not journal_path(run_id).is_file():
        return 0
    with open_journal(client, store, run_id) as journal:
        waiting = journal.waiting
        journal.settle(FIRST_WAIT)
    return waiting


def journals() -> Iterator[tuple[str, str]]:
    """Every journal on this machine: the run's id and the address of its store."""
    for path in sorted(journal_path("*").parent.glob("*.jsonl")):
        yield path.stem, json.loads(path.read_text(encoding="utf-8").partition("\n")[0])
