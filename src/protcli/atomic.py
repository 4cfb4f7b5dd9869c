"""Files that get their name only once they are complete."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield `<name>.partial` beside `path`; the file written there becomes `path` when the block ends.

    If the block raises, the file is removed and `path` stays unchanged. A file of that name left behind by a killed
    process is removed first.

    Raises:
        OSError: the temporary file cannot be removed or renamed, or was not written.
    """
    partial = path.with_name(f"{path.name}.partial")
    partial.unlink(missing_ok=True)
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
