"""The exceptions that are no defect: an error that the user can fix, and being told to stop."""

import re
from collections.abc import Iterable
from difflib import SequenceMatcher

QUOTED_CHARACTERS = 60


class ProtcliError(Exception):
    """Something the user can fix, in one sentence: what is wrong, where, what was expected, what to do.

    The command line prints the sentence without a traceback and exits with code 1. It may be recorded, so passwords in
    addresses are not kept.
    """

    def __init__(self, sentence: str) -> None:
        super().__init__(without_passwords(sentence))


class Terminated(KeyboardInterrupt):
    """SIGTERM, with which a scheduler ends a job, or SIGHUP of a terminal that is closed: all is kept as on Ctrl-C."""


FULL = ("No space left on device", "Disk quota exceeded", "disk is full")  # the system's words, and sqlite's


def full_disk(error: object) -> str:
    """What an error says of a disk that is full, on one line; empty if it says nothing of one.

    By its words, since each library has errors of its own for it, some of which go on with what was to be written.
    """
    lines = str(error).split("\n")
    return truncate(next((line for line in lines if any(words in line for words in FULL)), ""), 200)


def without_passwords(text: str) -> str:
    """The same text with *** for the password of each address in it (user:password@host)."""
    return re.sub(r"(?<=://)([^\s:/@]*):[^\s/@]+@", r"\1:***@", text)


def quote(value: object) -> str:
    """Quote a value for a message: on one line, escaped, cut off if long."""
    return truncate(repr(value))


def escape(text: str) -> str:
    """The same text with what a terminal would obey escaped."""
    return "".join(each if each.isprintable() or each == "\n" else ascii(each)[1:-1] for each in text)


def truncate(text: object, most: int = QUOTED_CHARACTERS) -> str:
    """Text of a file, or an error that quotes one, for a message: on one line, escaped, at most `most` characters."""
    escaped = escape(" ".join(line.strip() for line in str(text)[: 4 * most].split("\n")))
    return escaped if len(escaped) <= most else f"{escaped[: most - 3]}..."


def choose(kind: str, name: str, known: Iterable[str]) -> str:
    """The name, if it is known. Raises ProtcliError, which lists the known ones, if it is not."""
    if name not in known:
        raise ProtcliError(f"unknown {kind} {name!r}: choose one of {', '.join(known)} with --{kind}")
    return name


def check_name(option: str, name: str, unfit: str = "") -> None:
    """Raises ProtcliError for a name that is empty, longer than 200, not printable, or has unfit characters."""
    if not re.fullmatch(rf"(?=.*\S)[^{unfit}\x00-\x1f\ud800-\udfff]{{1,200}}", name):
        raise ProtcliError(f"{option} is {quote(name)}: give 1 to 200 letters, none of them {unfit or 'unprintable'}")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A hint for a message about an unknown word: ` (did you mean psp1?)`, or an empty string.

    Words that are equally near are all named. A part of a word (dropout of points_dropout) counts a tenth less.
    """
    nearness = {}
    for name in known:
        parts = [SequenceMatcher(None, part, word).ratio() for part in re.split("[-_]", name)]
        nearness[name] = max(SequenceMatcher(None, name, word).ratio(), 0.9 * max(parts))
    best = max(nearness.values(), default=0)
    close = [name for name, near in nearness.items() if near == best >= 0.6]
    return f" (did you mean {' or '.join(close)}?)" if close else ""
