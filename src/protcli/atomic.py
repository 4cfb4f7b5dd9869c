"""Files that get their name only once they are complete."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from protcli.errors import ProtcliError


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield `<name>.partial` beside `path`; the file written there becomes `path` when the block ends.

    It is on the disk by then, so that not even a power cut leaves half of it under its name. If the block raises, the
    file is removed and `path` stays unchanged. A file of that name left behind by a killed process is removed first.

    Raises:
        OSError: the temporary file cannot be removed or renamed, or was not written.
    """
    partial = path.with_name(f"{path.name}.partial")
    partial.unlink(missing_ok=True)
    try:
        yield partial
        _flush(partial)
        partial.replace(path)
        if os.name == "posix":  # elsewhere a folder cannot be opened
            _flush(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def write_whole(path: Path, text: str) -> None:
    """Write a text file, and create its folder; the file appears under its name only when it is complete.

    Raises:
        ProtcliError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as partial:
            partial.write_text(text, "utf-8")
    except OSError as error:
        raise ProtcliError(f"{path} cannot be written: {error.strerror}") from error


def _flush(path: Path) -> None:
    """Wait until the disk has a file's content, or a folder's names."""
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)  # Windows flushes only what may be written
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
