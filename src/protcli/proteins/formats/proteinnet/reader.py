"""Reads proteins from ProteinNet text, parsing batches while the next ones are read."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np

from protcli.errors import ProtcliError
from protcli.proteins.formats.proteinnet.numbers import Numbers, parse_numbers, parse_slowly
from protcli.proteins.formats.proteinnet.records import BlockRecords, Record, read_records
from protcli.proteins.protein import Protein

_THREADS = 2
_LARGEST_REMEMBERED = (1 << 25) - (1 << 13)  # bytes; with malloc's overhead just under its limit


def read_proteinnet(
    path: str | Path,
    *,
    on_bad: Callable[[ProtcliError], None] | None = None,
    on_bytes: Callable[[bytes], None] | None = None,
) -> Iterator[Protein]:
    """Read the records of a ProteinNet text file, plain or gzipped, in constant memory.

    Profile values are float32(float(token)), coordinates float32(float(token) / 100): both exactly.
    An atom whose x, y and z are all 0, or any NaN, is missing and becomes NaN, whatever the mask says.

    Args:
        on_bad: called with the error of each broken record; reading continues at the next `[ID]`, but a damaged gzip
            stream ends it. Without it, the first broken record raises.
        on_bytes: called with every block of the file as stored on disk, for a digest or a progress bar.

    Raises:
        ProtcliError: a record is broken (with file, line and record ID); or, even with `on_bad`, the file cannot be
            opened, is empty or does not begin with `[ID]`.
    """
    path = Path(path)
    for result in _parse(read_records(path, on_bytes)):
        if isinstance(result, Protein):
            yield result
        elif on_bad is None:
            raise result
        else:
            on_bad(result)


def _parse(batches: Iterator[BlockRecords]) -> Iterator[Protein | ProtcliError]:
    """Parse batches in order, with the numbers of the next ones in other threads (Arrow releases the GIL)."""
    # glibc's malloc returns large blocks to the system, to be mapped and zeroed again, unless they are smaller than the
    # largest block freed so far: freeing this untouched one saves a third of the time for the arrays of the batches
    np.empty(_LARGEST_REMEMBERED, dtype=np.uint8)
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="proteinnet") as pool:
        ahead: deque[tuple[BlockRecords, Future[Numbers | None]]] = deque()
        for batch in batches:
            records = [item for item in batch if isinstance(item, Record)]
            ahead.append((batch, pool.submit(parse_numbers, records)))
            if len(ahead) > _THREADS:
                done, numbers = ahead.popleft()
                yield from _assemble(done, numbers.result())
        for done, numbers in ahead:
            yield from _assemble(done, numbers.result())


def _assemble(batch: BlockRecords, numbers: Numbers | None) -> Iterator[Protein | ProtcliError]:
    """The proteins and errors of a batch in order; parses record by record if the batch parse failed."""
    start = 0
    for item in batch:
        if isinstance(item, ProtcliError):
            yield item
        elif numbers is None:
            yield _parse_alone(item)
        else:
            end = start + len(item.sequence)
            yield Protein(item.id, item.sequence, numbers.profile[start:end], numbers.coords[start:end], item.mask)
            start = end


def _parse_alone(record: Record) -> Protein | ProtcliError:
    try:
        return parse_slowly(record.raw)
    except ProtcliError as error:
        return error
