"""Batches made ahead of the step that needs them."""

from collections.abc import Iterator
from contextlib import suppress
from queue import Empty, Full, Queue
from threading import Event, Thread

import torch

from protcli.proteins.batches import Batch

DEPTH = 2  # batches that wait


def on_device(batches: Iterator[Batch], device: torch.device) -> Iterator[Batch]:
    """The batches on a device. A GPU's are read and queued ahead of its steps; on a CPU nothing would wait for them."""
    sent = (batch.to(device) for batch in batches)
    return sent if device.type == "cpu" else ahead(sent)


def ahead(batches: Iterator[Batch]) -> Iterator[Batch]:
    """The same batches, made by a thread while the caller uses those before.

    Raises:
        What making a batch raises, where that batch would come.
    """
    made: Queue[Batch | BaseException | None] = Queue(DEPTH)
    stops = Event()

    def put(item: Batch | BaseException | None) -> None:
        while not stops.is_set():
            with suppress(Full):
                made.put(item, timeout=0.1)
                return

    def make() -> None:
        try:
            for batch in batches:
                put(batch)
                if stops.is_set():
                    return
            put(None)
        except BaseException as error:
            put(error)

    thread = Thread(target=make, name="batches", daemon=True)
    thread.start()
    try:
        while (item := made.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stops.set()
        with suppress(Empty):
            made.get_nowait()
        thread.join()
