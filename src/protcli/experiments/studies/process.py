"""Train in a separate process: running out of memory stops no other training, and several use the cores better."""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Event

from protcli.experiments.runs.process import this_process
from protcli.tracking.keys import Tag
from protcli.tracking.runs import RunLog
from protcli.tracking.store import tracking_uri

POLL = 0.2  # seconds between checks whether to stop


def train_in_process(
    run: RunLog, arguments: Sequence[str], *, stop: Event, on_line: Callable[[str], None]
) -> tuple[int, str]:
    """Run `protcli train` with these arguments in an existing run.

    Args:
        run: the run to fill.
        arguments: of `protcli train`.
        stop: set it to end the process, which then marks its run as KILLED and keeps its state.
        on_line: called with each line of its output.

    Returns:
        its exit code and the last line it wrote.
    """
    environment = os.environ | {"MLFLOW_RUN_ID": run.id, "MLFLOW_TRACKING_URI": tracking_uri(), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        [sys.executable, "-m", "protcli", "train", *arguments], env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
    ) as process:  # fmt: skip
        run.tags({Tag.PROCESS: this_process(process.pid)})
        watcher = ThreadPoolExecutor(1)
        watcher.submit(_stop_on, stop, process)
        last = ""
        assert process.stdout is not None
        for line in process.stdout:
            last = line.strip() or last
            on_line(line.rstrip())
    watcher.shutdown()
    return process.returncode, last


def _stop_on(stop: Event, process: subprocess.Popen) -> None:
    while process.poll() is None:
        if stop.wait(POLL):
            process.terminate()
            return
