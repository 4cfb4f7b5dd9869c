"""Several processes train one model: the first one has the run in MLflow, the others follow it."""

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from pathlib import Path
from types import FrameType
from typing import IO

from protcli.errors import ProtcliError, excerpt
from protcli.experiments.config import RunConfig, read_config
from protcli.experiments.running.fitting import begin, build, keep_best, keep_last, open_data, steps
from protcli.tracking.keys import File
from protcli.training.engine import find_device, keep_memory, start_engine, use_threads
from protcli.training.loop import Epoch
from protcli.training.process_group import ProcessGroup, joined, rank_here, size_here
from protcli.training.state import save_state
from protcli.uninterrupted import handled

HERE = "127.0.0.1"
ENDING = 60.0  # seconds that a process has for ending when the training is over


@contextmanager
def together(config: RunConfig, folder: Path) -> Iterator[ProcessGroup]:
    """The first process of a training and those that follow it; all stop when one is told to, or ends.

    The others are started here, unless torchrun has done so.

    Args:
        config: how many processes there are; with one, nothing is started.
        folder: of the run, which every process can read; it holds the configuration.

    Raises:
        ProtcliError: one of the others has ended.
    """
    if config.run.devices == 1:
        yield ProcessGroup()
        return
    with ExitStack() as stack:
        others = [] if size_here() else stack.enter_context(_started(config.run.devices))
        group = stack.enter_context(joined(0, config.run.devices))
        stack.enter_context(_told_to_stop(group))
        try:
            group.broadcast_text(str(folder))
            yield group
        except (KeyboardInterrupt, GeneratorExit, ProtcliError):
            raise
        except Exception as error:
            for other in others:
                other.explain(error)
            raise


class _Other:
    """A process that follows this one."""

    def __init__(self, rank: int, size: int, output: IO[str]) -> None:
        self.rank, self.size, self._output = rank, size, output
        self.process = subprocess.Popen(
            [sys.executable, "-m", "protcli", "train"], env=os.environ | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=output, start_new_session=True, text=True,
        )  # fmt: skip

    def await_start(self) -> None:
        """Wait until it is about to join. Raises ProtcliError if it ends before."""
        assert self.process.stdout is not None
        if not self.process.stdout.readline():
            self.explain(None)

    def explain(self, error: Exception | None) -> None:
        """Raise ProtcliError if it is this process's end that caused an error."""
        try:
            code = self.process.wait(5)
        except subprocess.TimeoutExpired:
            return
        if code or error is None:
            self._output.seek(0)
            last = self._output.read().strip().rpartition("\n")[2]
            how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
            said = f": {excerpt(last.removeprefix('Error: '), 300)}" if code > 0 and last else ""
            raise ProtcliError(f"process {self.rank} of {self.size} (from 0) {how}{said}") from error

    def end(self) -> None:
        """Let it end, or kill it."""
        try:
            self.process.wait(ENDING if sys.exc_info()[0] is None else 0)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@contextmanager
def _started(size: int) -> Iterator[list[_Other]]:
    """The other processes of a training on this machine."""
    with closing(socket.socket()) as free:
        free.bind((HERE, 0))
        port = free.getsockname()[1]
    place = {
        "MASTER_ADDR": HERE, "MASTER_PORT": str(port), "WORLD_SIZE": str(size), "LOCAL_WORLD_SIZE": str(size),
        "GROUP_RANK": "0", "RANK": "0", "LOCAL_RANK": "0",
    }  # fmt: skip
    before = {name: os.environ.get(name) for name in place}
    os.environ.update(place)
    others: list[_Other] = []
    try:
        with ExitStack() as stack:
            for rank in range(1, size):
                output = stack.enter_context(tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace"))
                others.append(other := _Other(rank, size, output))
                stack.callback(other.end)
            for other in others:
                other.await_start()
            yield others
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _told_to_stop(group: ProcessGroup) -> AbstractContextManager[None]:
    """Signals become a wish: if one process stopped alone, the others would wait for it."""

    def note(number: int, frame: FrameType | None) -> None:
        group.stop_signal = number

    return handled(note)


def follow() -> None:
    """Be one of the others, to the end of the training.

    Raises:
        ProtcliError: as the first process does.
    """
    print("", flush=True)  # to the first process, if it waits for this one
    with joined(rank_here(), size_here()) as group, _told_to_stop(group):
        folder = Path(group.broadcast_text())
        config = read_config(folder / File.CONFIG)
        use_threads(config.run.threads)
        keep_memory()
        fabric = start_engine(find_device(config.run.device), config.run.precision, group.size, config.run.strategy)
        data = open_data(config)
        saved = folder / File.STATE
        state, _ = begin(build(config, data, saved), config, data, fabric, group, saved)
        for event in steps(state, config, data, fabric, group):
            if isinstance(event, Epoch):
                keep_best(folder, config, state, group)
                save_state(saved, state, group)
            elif event.saves or event.stops:
                save_state(saved, state, group)
                if event.stops:
                    return
        keep_last(folder, config, state, group)
