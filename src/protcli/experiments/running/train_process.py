"""Train in a separate process: running out of memory stops no other training, and several use the cores better."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from protcli.errors import ProtcliError
from protcli.experiments.config import RunConfig
from protcli.experiments.runs.provenance import git_commit
from protcli.process import scratch_folder, this_process
from protcli.tracking.keys import File, Metric, Param, Tag
from protcli.tracking.run import Run, create_run, find_run
from protcli.tracking.store import tracking_uri

POLL = 0.2  # seconds between checks whether to stop


@dataclass(frozen=True)
class Outcome:
    """How a training in a process of its own has ended.

    Attributes:
        run_id: its run.
        status: FINISHED, FAILED or KILLED.
        reason: why it is not FINISHED.
        best_mse: validation MSE of its best epoch in A^2, None if it has none.
        diverged: whether it FAILED because its loss was no longer finite.
    """

    run_id: str
    status: str
    reason: str
    best_mse: float | None
    diverged: bool

    @property
    def is_failure(self) -> bool:
        """Whether it gave no result; that a loss is no longer finite is one."""
        return self.status != "FINISHED" and not self.diverged


def child_run(name: str, parent: Run, tags: Mapping[str, str]) -> Run:
    """A new run for `train_in_run` to fill, nested under a parent in its experiment."""
    return create_run(name, parent.experiment, {Tag.PARENT: parent.id, **tags})


def train_in_run(
    run: Run,
    config: RunConfig | None,
    *,
    stops: Callable[[], bool],
    on_line: Callable[[str], None],
) -> Outcome:
    """Run `protcli train` in an existing run, to its end.

    Args:
        run: the run to fill.
        config: what to train; None resumes the run.
        stops: when it returns True the process is ended, which then marks its run as KILLED and keeps its state.
        on_line: called with each line of its output.
    """
    with scratch_folder() as folder:
        arguments = ["--resume", run.id]
        if config is not None:
            path = folder / File.CONFIG
            path.write_text(config.to_yaml(), encoding="utf-8")
            arguments = ["--config", str(path)]
        code, last = _train(run, arguments, stops, on_line)
    # a process that was killed has no last word: `find_run` says what became of its run
    if (code > 0 or (code < 0 and stops())) and run.reread().status in ("RUNNING", "FINISHED"):
        run.end("KILLED" if stops() else "FAILED")
        run.set_tags({Tag.ERROR: last.removeprefix("Error: ")})
    return outcome_of(find_run(run.id), last)


def outcome_of(run: Run, last: str = "") -> Outcome:
    """How a training has ended, and its last line, which is the reason if the run has none."""
    reason = run.tags.get(Tag.ERROR, "") or (last if run.status != "FINISHED" else "")
    diverged = run.status == "FAILED" and bool(run.tags.get(Tag.DIVERGED))
    return Outcome(run.id, run.status, reason.removeprefix("Error: "), run.metrics.get(Metric.BEST_MSE), diverged)


def _train(
    run: Run,
    arguments: Sequence[str],
    stops: Callable[[], bool],
    on_line: Callable[[str], None],
) -> tuple[int, str]:
    """The exit code of `protcli train` with these arguments, and the last line it wrote."""
    environment = os.environ | {"MLFLOW_RUN_ID": run.id, "MLFLOW_TRACKING_URI": tracking_uri(), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        [sys.executable, "-m", "protcli", "train", *arguments], env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
    ) as process:  # fmt: skip
        run.set_tags({Tag.PROCESS: this_process(process.pid)})
        watcher = ThreadPoolExecutor(1)
        watcher.submit(_stop_when, stops, process)
        last = ""
        assert process.stdout is not None
        for line in process.stdout:
            last = line.strip() or last
            on_line(line.rstrip())
    watcher.shutdown()
    return process.returncode, last


def _stop_when(stops: Callable[[], bool], process: subprocess.Popen) -> None:
    while process.poll() is None:
        if stops():
            process.terminate()
            return
        time.sleep(POLL)


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
