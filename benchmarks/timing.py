"""Times of things that take turns, so that what else the machine does meets all of them alike."""

import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from typing import TypeVar

import torch
from row import Setting

T = TypeVar("T")
ROUNDS, FEWEST, TURNS = 5, 3, 30  # rounds; rounds of a measurement that takes longer than it may; turns in a round


def seconds(work: Callable[[], object], device: str = "cpu") -> float:
    """Of one call, with what it has begun on the device."""
    started = time.perf_counter()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def alternate(ways: Mapping[str, Callable[[], object]], setting: Setting) -> dict[str, list[float]]:
    """Seconds of a call of each way: the median of every round. In a round the ways take turns, call by call."""
    first = {}
    for name, way in ways.items():
        way()  # warms up
        first[name] = seconds(way, setting.device)
    if setting.smallest:
        return {name: [taken] for name, taken in first.items()}
    turns = round(setting.seconds / ROUNDS / sum(first.values()))
    turns = min(max(turns, 1), TURNS)
    times: dict[str, list[float]] = {name: [] for name in ways}
    order, started = list(ways), time.perf_counter()
    for done in range(ROUNDS):
        if done >= FEWEST and time.perf_counter() - started > setting.seconds:
            break
        of_round: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(turns):
            for name in order:
                of_round[name].append(seconds(ways[name], setting.device))
            order.reverse()  # none always comes after the same other
        for name, taken in of_round.items():
            times[name].append(statistics.median(taken))
    return times


@contextmanager
def elsewhere(make: Callable[..., Callable[[], object]], *arguments: object) -> Iterator[Callable[[], None]]:
    """A way that `make`, a function of a module, makes in a Python of its own, whose threads wait in between.

    Raises EOFError at a call if that process has ended.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, make, *arguments))
    process.start()
    theirs.close()

    def call() -> None:
        ours.send(True)
        ours.recv()

    try:
        ours.recv()  # it is made
        yield call
    finally:
        ours.close()
        process.join()


def _serve(calls: Connection, make: Callable[..., Callable[[], object]], *arguments: object) -> None:
    way = make(*arguments)
    calls.send(True)
    with suppress(EOFError):
        while calls.recv():
            way()
            calls.send(True)


def ratios(numerator: Sequence[float], denominator: Sequence[float]) -> list[float]:
    """Of each round."""
    return [over / under for over, under in zip(numerator, denominator, strict=True)]


def in_fresh_process(work: Callable[..., T], *arguments: object) -> T:
    """Call a function of a module, with arguments that can be pickled, in a Python of its own."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()
