"""Standard output and error that end no work: neither a letter that they lack nor a reader who has left."""

import codecs
import errno
import os
import re
import sys
import unicodedata
from io import BufferedWriter, FileIO, TextIOWrapper
from pathlib import Path
from typing import Any

NEAREST = {  # for what Unicode does not take apart, by words of its name, the first that fit
    "PLUS-MINUS": "+-", "DASH|HYPHEN|MINUS|HORIZONTAL": "-", "VERTICAL": "|", "BOX DRAWINGS": "+", "DOUBLE.* QUOT": '"',
    "QUOTATION|APOSTROPHE": "'", "MULTIPLICATION": "x", "GREATER-THAN OR EQUAL": ">=", "LESS-THAN OR EQUAL": "<=",
    "ALMOST EQUAL": "~", "RIGHTWARDS.* ARROW": "->", "LEFTWARDS.* ARROW": "<-", "BULLET|MIDDLE DOT": "*", "SLASH": "/",
    "SHARP S": "ss",
}  # fmt: skip


def nearest(text: str) -> str:
    """The same text in ASCII letters: A for Å, 2 for ², ... for …, and ? where nothing is near."""
    return "".join(map(_plain, text))


def _plain(letter: str) -> str:
    parts = unicodedata.normalize("NFKD", letter)
    if letter.isascii() or parts != letter:
        return letter if letter.isascii() else nearest(parts)
    name = unicodedata.name(letter, "")
    for words, plain in NEAREST.items():
        if re.search(words, name):
            return plain
    if said := re.match(r"(?:LATIN|GREEK) (SMALL|CAPITAL) LETTER (\w+)", name):
        return said[2].lower() if said[1] == "SMALL" else said[2].capitalize()
    return "" if unicodedata.combining(letter) else "?"


class _Lasting(FileIO):
    """A file to which nothing is written any more once its reader, or its terminal, has gone."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.EIO):
                raise
            return memoryview(data).nbytes


class _Text(TextIOWrapper):
    buffer = None  # type: ignore[assignment]  # past which typer would write UTF-8 to a terminal that is ASCII


def keep_printing() -> None:
    """Let `sys.stdout` and `sys.stderr` print what they cannot in the nearest letters, and drop what nobody reads."""
    codecs.register_error("nearest", lambda error: (nearest(error.object[error.start : error.end]), error.end))  # type: ignore[attr-defined]
    for name in ("stdout", "stderr"):
        if (stream := getattr(sys, name)) is None:  # it was closed by who started this process
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8", errors="nearest"))  # noqa: SIM115
        elif os.name == "posix":
            file = BufferedWriter(_Lasting(stream.fileno(), "w", closefd=False))
            setattr(sys, name, _Text(file, stream.encoding, "nearest", line_buffering=True))
        else:
            stream.reconfigure(errors="nearest")
