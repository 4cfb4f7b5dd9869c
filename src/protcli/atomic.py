"""Files that have their name only when they are complete."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """A name beside `path`, `<name>.partial`, under which no file exists: what is written there becomes `path`.

    It does so when the block ends, and is removed when the block raises; `path` is untouched until then. What a killed
    process left under that name is removed first.

    Raises:
        OSError: the temporary file cannot be removed, or was not written, or cannot be given its name.
    """
    partial = path.with_name(f"{path.name}.partial")
    partial.unlink(missing_ok=True)
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
