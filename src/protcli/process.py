"""Processes by name, and whether they still exist; where they keep what they make; how they import; work that a signal
waits for."""

import atexit
import gc
import os
import platform
import re
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType

PREFIX = "protcli-"  # of scratch folders
_until_the_end = ExitStack()
atexit.register(_until_the_end.close)


def this_process(pid: int | None = None) -> str:
    """What identifies a process (this one by default): machine, process id and start time."""
    import psutil  # here, so that `--help` does not wait for it

    pid = os.getpid() if pid is None else pid
    try:
        return f"{platform.node()}:{pid}:{psutil.Process(pid).create_time():.0f}"
    except psutil.NoSuchProcess:
        return f"{platform.node()}:{pid}:0"


def is_gone(process: str) -> bool:
    """Whether a process that `this_process` named has ended; one on another machine is assumed to be running."""
    named = re.fullmatch(r"(.*):(\d+):(\d+)", process)
    if named is None or named[1] != platform.node():
        return False
    return named[3] == "0" or this_process(int(named[2])) != process


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """An empty folder of this process, removed at the end. Those that killed processes left are removed first."""
    remove_left_scratch()
    with tempfile.TemporaryDirectory(prefix=f"{PREFIX}{this_process().replace(':', '-')}-") as folder:
        yield Path(folder)


def lasting_scratch_folder() -> Path:
    """An empty folder of this process, removed when the process ends."""
    return _until_the_end.enter_context(scratch_folder())


def remove_left_scratch() -> int:
    """Remove the scratch folders of processes of this machine that no longer exist; returns how many."""
    removed = 0
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        named = re.fullmatch(rf"{PREFIX}(.*)-(\d+)-(\d+)-[^-]*", folder.name)
        if named and is_gone(":".join(named.groups())):
            shutil.rmtree(folder, ignore_errors=True)
            removed += not folder.exists()
    return removed


def cache_folder() -> Path:
    """$PROTCLI_CACHE, else `protcli` in $XDG_CACHE_HOME or ~/.cache; the folder may not exist yet."""
    own = os.environ.get("PROTCLI_CACHE")
    return Path(own or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "protcli")


HAS_STARTER = "PROTCLI_HAS_STARTER"  # variable of processes that end with the one that started them and reads them
SIGNALS = [signal.Signals[name] for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


@contextmanager
def handled(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Let a handler have the SIGNALS in a block, but for SIGHUP under nohup; then all is as before."""
    heeded = [each for each in SIGNALS if each.name != "SIGHUP" or signal.getsignal(each) != signal.SIG_IGN]
    previous = {number: signal.signal(number, handler) for number in heeded}
    try:
        yield
    finally:
        for number, before in previous.items():
            signal.signal(number, before)


@contextmanager
def importing() -> Iterator[None]:
    """Look for no garbage in a block of heavy imports, and never among what they leave.

    torch and MLflow make a million objects that stay, and Python would go through all of them time and again: that is
    a quarter of what a training takes to begin.
    """
    before = len(sys.modules)
    gc.disable()
    try:
        yield
    finally:
        if len(sys.modules) > before:
            gc.freeze()
        gc.enable()


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Delay the SIGNALS until the block ends; also usable as the decorator `@uninterrupted()`.

    An exception inside a transaction can leave its connection open and sqlite locked: the process then cannot even
    record that it was stopped.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread receives signals
        return
    waiting = []
    try:
        with handled(lambda number, _: waiting.append(number)):
            yield
    finally:
        if waiting:
            signal.raise_signal(waiting[0])
