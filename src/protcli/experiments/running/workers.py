"""Tasks in threads, whose events come back in the order in which they happen."""

import queue
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import TypeVar

T = TypeVar("T")
Task = Callable[[Callable[[T], None], Event], None]


def events_of(tasks: Sequence[Task[T]], threads: int) -> Iterator[T]:
    """Run tasks in that many threads and yield what they emit; a task's exception is raised here.

    Args:
        tasks: each is called with a function that emits an event, and with an event that is set when the tasks are to
            stop: after an exception, or because the caller stops iterating. None begins after that.
        threads: tasks at the same time.
    """
    events: queue.Queue[tuple[T] | BaseException | None] = queue.Queue()
    stop = Event()

    def work(task: Task[T]) -> None:
        if stop.is_set():
            return
        try:
            task(lambda event: events.put((event,)), stop)
            events.put(None)
        except BaseException as error:
            events.put(error)

    with ThreadPoolExecutor(threads) as pool:
        try:
            for task in tasks:
                pool.submit(work, task)
            ended = 0
            while ended < len(tasks):
                match events.get():
                    case None:
                        ended += 1
                    case (event,):
                        yield event
                    case BaseException() as error:
                        raise error
        finally:
            stop.set()
