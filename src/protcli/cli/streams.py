"""Standard output and error that end no work: neither a letter that they lack nor a reader who has left."""

import codecs
import errno
import os
import sys
from io import BufferedWriter, FileIO, TextIOWrapper
from typing import Any
from unicodedata import normalize

# of what Unicode does not take apart into plain letters and marks, as it does Å, ² and …
PLAIN = str.maketrans("‐‑–—−─━│┃‘’“”×·≈→←øØłßæαβμΔ\u2044", "-------||''\"\"x*~><oOlsaabuD/") | {ord("≥"): ">="}  # noqa: RUF001


def nearest(error: Any) -> tuple[str, int]:
    """What is printed for letters that an encoding lacks: A for Å, 2 for ², - for dashes, ? where nothing is near."""
    letters = normalize("NFKD", error.object[error.start : error.end]).translate(PLAIN)
    return letters.encode("ascii", "ignore").decode() or "?", error.end


class _Lasting(FileIO):
    """A file to which nothing is written any more once its reader, or its terminal, has gone."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.EIO):
                raise
            return len(data)


class _Text(TextIOWrapper):
    buffer = None  # type: ignore[assignment]  # past which typer would write UTF-8 to a terminal that is ASCII


def keep_printing() -> None:
    """Let `sys.stdout` and `sys.stderr` print what they cannot in the nearest letters, and drop what nobody reads."""
    codecs.register_error("nearest", nearest)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)  # None if who started this process has closed it
        number = os.open(os.devnull, os.O_WRONLY) if stream is None else stream.fileno()
        file = BufferedWriter(_Lasting(number, "w", closefd=False))
        setattr(sys, name, _Text(file, getattr(stream, "encoding", None), "nearest", line_buffering=True))
