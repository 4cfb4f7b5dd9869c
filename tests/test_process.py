"""A signal that comes in the middle of a write is answered after it; what is imported is not searched for garbage."""

import gc
import os
import signal
import sys
import threading

import pytest

from protcli.process import handled, importing, uninterrupted
from protcli.tracking.run import create_run, find_run


@pytest.fixture
def answered(monkeypatch):
    """Signals that have been answered; a handler of one's own stays what it was."""
    came: list[int] = []
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, lambda number, _: came.append(number)) for number in numbers}
    yield came
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_waits_for_the_end(answered, number):
    with uninterrupted():
        os.kill(os.getpid(), number)
        assert answered == []
    assert answered == [number]
    os.kill(os.getpid(), number)
    assert answered == [number, number]


def test_nested_blocks_wait_for_the_outermost_and_other_threads_are_left_alone(answered):
    with uninterrupted():
        with uninterrupted():
            os.kill(os.getpid(), signal.SIGTERM)
        assert answered == []
    assert answered == [signal.SIGTERM]
    seen = []
    thread = threading.Thread(target=lambda: uninterrupted()(seen.append)(1))
    thread.start()
    thread.join()
    assert seen == [1]


def test_an_error_in_the_block_comes_out_and_the_signal_too(answered):
    @uninterrupted()
    def write() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        raise ValueError("in the block")

    with pytest.raises(ValueError, match="in the block"):
        write()
    assert answered == [signal.SIGTERM]


def test_what_is_being_logged_is_logged_whole(mlflow_store, monkeypatch):
    def stop(number, frame):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        log = create_run("a", "mine")
        write = log._client.log_batch

        def interrupted(*args, **kwargs):
            os.kill(os.getpid(), signal.SIGTERM)
            write(*args, **kwargs)

        monkeypatch.setattr(log._client, "log_batch", interrupted)
        with pytest.raises(KeyboardInterrupt):
            log.log_metrics({"valid/mse": 1.0}, step=1)
        assert find_run(log.id).history("valid/mse") == {1: 1.0}
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_closed_terminal_is_heeded_but_not_under_nohup() -> None:
    told: list[int] = []
    for before, heard in ((signal.SIG_DFL, [signal.SIGHUP]), (signal.SIG_IGN, [])):
        previous = signal.signal(signal.SIGHUP, before)
        try:
            told.clear()
            with handled(lambda number, _: told.append(number)):
                signal.raise_signal(signal.SIGHUP)
            assert told == heard
            assert signal.getsignal(signal.SIGHUP) is before
        finally:
            signal.signal(signal.SIGHUP, previous)


def test_garbage_is_looked_for_again_after_an_import_that_fails(monkeypatch) -> None:
    frozen = gc.get_freeze_count()
    with importing():
        assert not gc.isenabled()
    assert (gc.isenabled(), gc.get_freeze_count()) == (True, frozen)  # for nothing was imported
    monkeypatch.setitem(sys.modules, "imported", None)
    del sys.modules["imported"]

    def fails() -> None:
        sys.modules["imported"] = sys
        raise ImportError

    with pytest.raises(ImportError), importing():
        fails()
    assert gc.isenabled()
    assert gc.get_freeze_count() > frozen
    gc.unfreeze()
