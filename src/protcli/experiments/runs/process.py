"""Which process writes a run, and whether it still exists: a RUNNING run may have lost its process."""

import os
import platform

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
    machine, _, rest = process.partition(":")
    pid, _, began = rest.partition(":")
    if not pid.isdigit():
        return False
    if machine != platform.node():
        return True
    return this_process(int(pid)) == process and began != "0"
