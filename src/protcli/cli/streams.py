"""Standard output and error that end no work: neither a letter that they lack nor a reader who has left."""

import codecs
import errno
import os
import sys
from io import BufferedWriter, FileIO, TextIOWrapper
from pathlib import Path
from typing import Any

from anyascii import anyascii

from protcli.process import HAS_STARTER

# what is printed for letters that an encoding lacks: A for Å, 2 for ², ... for …
codecs.register_error("nearest", lambda at: (anyascii(at.object[at.start : at.end]), at.end))  # type: ignore[attr-defined]


class _Lasting(FileIO):
    """A file to which nothing is written once that has failed; a reader or terminal that has gone is no error."""

    has_failed = False

    def write(self, data: Any) -> int:
        try:
            return len(data) if self.has_failed else super().write(data)
        except OSError as error:
            self.has_failed = True
            if error.errno not in (errno.EPIPE, errno.EIO) or HAS_STARTER in os.environ:
                raise
        return len(data)


class _Text(TextIOWrapper):
    buffer = None  # type: ignore[assignment]  # past which typer would write UTF-8 to a terminal that is ASCII


def keep_printing() -> None:
    """Let `sys.stdout` and `sys.stderr` print what they cannot in the nearest letters, and drop what nobody reads."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name) or Path(os.devnull).open("w")  # noqa: SIM115  # if it was closed
        file = BufferedWriter(_Lasting(os.dup(stream.fileno()), "w"))
        setattr(sys, name, _Text(file, stream.encoding, "nearest", line_buffering=True))
