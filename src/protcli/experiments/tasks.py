"""Trainings as children of a parent run, several at a time: started, stopped, and continued in their own runs."""

import os
import queue
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from threading import Event
from typing import Any, TypeVar

from protcli.errors import ProtcliError
from protcli.experiments.config import RunConfig
from protcli.process import HAS_STARTER, scratch_folder, this_process
from protcli.tracking.keys import File, Metric, Param, Tag
from protcli.tracking.run import Run, create_run, find_run
from protcli.tracking.store import tracking_uri
from protcli.version import git_commit

T = TypeVar("T")
STOP_CHECK_SECONDS = 0.2

Train = Callable[[Run, RunConfig | None, Callable[[str], None], Callable[[], bool]], int]
"""Trains a configuration (None resumes) in a run; returns the exit code of `protcli train`.

It calls the first function with each line of output, and ends the training, which keeps its state, when the second one
returns True.
"""


@dataclass(frozen=True)
class Task:
    """A training: the name and tags of its run, what is trained, and the run in which it was stopped."""

    name: str
    config: RunConfig
    tags: Mapping[str, str] = field(default_factory=dict)
    stopped: Run | None = None


@dataclass(frozen=True)
class TaskStarted:
    """The run of a training exists."""

    name: str
    run: Run


@dataclass(frozen=True)
class OutputLine:
    """A line of a training's output."""

    name: str
    line: str


@dataclass(frozen=True)
class RunFinished:
    """A training has ended.

    Attributes:
        name, run_id: which one.
        status: FINISHED, FAILED or KILLED.
        reason: why it is not FINISHED.
        best_mse: validation MSE of its best epoch in Å², None if it has none.
        diverged: whether it FAILED because its loss was no longer finite.
    """

    name: str
    run_id: str
    status: str
    reason: str
    best_mse: float | None
    diverged: bool

    @property
    def is_failure(self) -> bool:
        """Whether it gave no result; that a loss is no longer finite is one."""
        return self.status != "FINISHED" and not self.diverged


TaskEvent = TaskStarted | OutputLine | RunFinished


def train_process(run: Run, config: RunConfig | None, on_line: Callable[[str], None], stops: Callable[[], bool]) -> int:
    """`protcli train` in a process of its own: running out of memory stops no other training. See `Train`."""
    environment = os.environ | {
        "MLFLOW_RUN_ID": run.id if config else "", "MLFLOW_TRACKING_URI": tracking_uri(),
        "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8", HAS_STARTER: "1",
    }  # fmt: skip
    with scratch_folder() as folder:
        arguments = ["--resume", run.id]
        if config is not None:
            arguments = ["--config", str(folder / File.CONFIG)]
            (folder / File.CONFIG).write_text(config.to_yaml(), "utf-8")
        with (
            subprocess.Popen(
                [sys.executable, "-m", "protcli", "train", *arguments], env=environment, encoding="utf-8",
                errors="replace", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
            ) as process,
            ThreadPoolExecutor(1) as watcher,
        ):  # fmt: skip
            run.set_tags({Tag.PROCESS: this_process(process.pid)})
            watcher.submit(_terminate_when, stops, process)
            assert process.stdout is not None
            for line in process.stdout:
                on_line(line)
    return process.returncode


def _terminate_when(stops: Callable[[], bool], process: subprocess.Popen) -> None:
    while process.poll() is None:
        if stops():
            process.terminate()
            return
        time.sleep(STOP_CHECK_SECONDS)


def run_task(
    parent: Run, task: Task, emit: Callable[[TaskEvent], None], stops: Callable[[], bool],
    train: Train = train_process,
) -> RunFinished:  # fmt: skip
    """Train one task to its end, in a new child of the parent run or in the run in which it was stopped.

    Args:
        emit: is called with the events as they happen, the one that is returned among them.
        stops: when it returns True the training is ended: its run is KILLED and keeps its state.
        train: how it is trained.
    """
    run = task.stopped or create_run(task.name, parent.experiment, {Tag.PARENT: parent.id, **task.tags})
    emit(TaskStarted(task.name, run))
    last = ""

    def on_line(line: str) -> None:
        nonlocal last
        last = line.strip() or last
        emit(OutputLine(task.name, line.rstrip()))

    code = train(run, None if task.stopped else task.config, on_line, stops)
    # a process that was killed has no last word: `find_run` says what became of its run
    if (code > 0 or (code < 0 and stops())) and run.reread().status == "RUNNING":
        run.end("KILLED" if stops() else "FAILED")
        run.set_tags({Tag.ERROR: last.removeprefix("Error: ")})
    found = find_run(run.id)
    reason = (found.tags.get(Tag.ERROR) or last).removeprefix("Error: ") if found.status != "FINISHED" else ""
    diverged = found.status == "FAILED" and bool(found.tags.get(Tag.DIVERGED))
    finished = RunFinished(task.name, run.id, found.status, reason, found.metrics.get(Metric.BEST_MSE), diverged)
    emit(finished)
    return finished


def run_tasks(parent: Run, tasks: Sequence[Task], jobs: int = 1, train: Train = train_process) -> Iterator[TaskEvent]:
    """Train tasks, `jobs` at the same time. One that fails stops no other; if the caller stops, all are stopped."""

    def work(task: Task, emit: Callable[[TaskEvent], None], stop: Event) -> None:
        run_task(parent, task, emit, stop.is_set, train)

    return events_of([partial(work, task) for task in tasks], jobs)


def events_of(workers: Sequence[Callable[[Callable[[T], None], Event], Any]], threads: int) -> Iterator[T]:
    """Call functions in that many threads and yield what they emit; an exception of one is raised here.

    Args:
        workers: each is called with a function that emits an event, and with an event that is set when it is to stop:
            after an exception, or because the caller stops iterating. None begins after that.
        threads: workers at the same time.
    """
    events: queue.Queue[T | Future] = queue.Queue()
    stop = Event()

    def work(worker: Callable[[Callable[[T], None], Event], Any]) -> None:
        if not stop.is_set():
            worker(events.put, stop)

    with ThreadPoolExecutor(threads) as pool:
        try:
            for worker in workers:
                pool.submit(work, worker).add_done_callback(events.put)
            ended = 0
            while ended < len(workers):
                event = events.get()
                if isinstance(event, Future):
                    event.result()
                    ended += 1
                else:
                    yield event
        finally:
            stop.set()


@contextmanager
def open_parent(run: Run, tags: Mapping[str, Any]) -> Iterator[list[str]]:
    """The run that holds others, RUNNING while this process trains them.

    It is FAILED if the block ends with an exception, or adds a failure to the list that is yielded.
    """
    run.end("RUNNING")
    run.set_tags({Tag.PROCESS: this_process(), **tags})
    failures: list[str] = []
    status = "FAILED"
    try:
        yield failures
        status = "FAILED" if failures else "FINISHED"
        run.set_tags({Tag.ERROR: "; ".join(failures)})
    except (KeyboardInterrupt, GeneratorExit):
        status = "KILLED"
        raise
    finally:
        run.end(status)


def settled(run: Run) -> Run:
    """The same run; one that is RUNNING and says nothing of its process is marked as KILLED.

    Raises:
        ProtcliError: it is still being trained.
    """
    if run.is_being_written:
        raise ProtcliError(
            f"{run.name} (run {run.id}) is still being trained by process {run.tags[Tag.PROCESS]}: wait for it, or "
            "stop it"
        )
    if run.status != "RUNNING":
        return run
    run.end("KILLED")
    return find_run(run.id)


def is_resumable(run: Run) -> bool:
    """Whether an unfinished run can be resumed by the same code, as runs to compare should share it.

    One that FAILED goes on too: its disk may have been full.
    """
    return (
        run.status in ("KILLED", "FAILED")
        and File.CONFIG in run.files()
        and run.params.get(Param.COMMIT) == git_commit()
    )
