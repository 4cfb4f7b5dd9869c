"""Writes that complete before a signal is handled."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def handled(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Let a handler have the SIGNALS in a block; those from before are back after it."""
    previous = {number: signal.signal(number, handler) for number in SIGNALS}
    try:
        yield
    finally:
        for number, before in previous.items():
            signal.signal(number, before)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Delay Ctrl-C and SIGTERM until the block ends; also usable as the decorator `@uninterrupted()`.

    An exception inside a transaction can leave its connection open and sqlite locked: the process then cannot even
    record that it was stopped.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread receives signals
        return
    waiting: list[int] = []
    try:
        with handled(lambda number, _: waiting.append(number)):
            yield
    finally:
        if waiting:
            signal.raise_signal(waiting[0])
