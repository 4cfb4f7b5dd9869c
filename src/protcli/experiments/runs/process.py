"""Which process writes a run, and whether it still exists: a RUNNING run may have lost its process."""

import os
import platform
import re

import psutil

from protcli.tracking.keys import Tag
from protcli.tracking.runs import RecordedRun


def this_process(pid: int | None = None) -> str:
    """What identifies a process (this one by default): machine, process id and start time."""
    pid = os.getpid() if pid is None else pid
    try:
        return f"{platform.node()}:{pid}:{psutil.Process(pid).create_time():.0f}"
    except psutil.NoSuchProcess:
        return f"{platform.node()}:{pid}:0"


def is_being_written(run: RecordedRun) -> bool:
    """Whether a run is RUNNING and so is its process; a process on another machine is assumed to be running."""
    if run.status != "RUNNING":
        return False
    process = run.tags.get(Tag.PROCESS, "")
    return bool(re.fullmatch(r".*:\d+:\d+", process)) and not is_gone(process)


def is_gone(process: str) -> bool:
    """Whether a process that `this_process` named has ended; one on another machine is assumed to be running."""
    machine, pid, began = process.rsplit(":", 2)
    return machine == platform.node() and (began == "0" or this_process(int(pid)) != process)
