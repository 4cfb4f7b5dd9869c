"""Which process writes a run, and whether it still lives: a run that is RUNNING may have lost its process."""

import os
import platform

import psutil

from protcli.tracking.keys import Tag
from protcli.tracking.runs import RecordedRun


def this_process(pid: int | None = None) -> str:
    """A process (this one by default) as it is told from all others: machine, number and when it began."""
    pid = os.getpid() if pid is None else pid
    try:
        return f"{platform.node()}:{pid}:{psutil.Process(pid).create_time():.0f}"
    except psutil.NoSuchProcess:
        return f"{platform.node()}:{pid}:0"


def is_being_written(run: RecordedRun) -> bool:
    """Whether a run is RUNNING and so is its process; a process on another machine is taken to be."""
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
