"""TFRecord framing: splits a file into records and checks their integrity.

A record is a uint64 length, its masked CRC32C, the data and their masked CRC32C, all little-endian.
Source: tensorflow/core/lib/io/record_writer.h.
"""

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import google_crc32c

from protcli.errors import ProtcliError
from protcli.proteins.formats.files import read_blocks
from protcli.proteins.formats.limits import LONGEST_RECORD

HEADER = 12  # bytes before the data


def read_frames(
    path: Path, on_bytes: Callable[[bytes], None] | None
) -> Iterator[tuple[int, int, memoryview | ProtcliError]]:
    """Yield number (from 1), byte offset and data of each record, or an error if it is damaged.

    Raises:
        ProtcliError: the file cannot be opened, is empty or does not begin like a TFRecord file.
    """
    stream = read_blocks(path, on_bytes)
    pending = bytearray()

    def take(size: int) -> bytes:
        """The next `size` bytes, or fewer at the end of the file."""
        while len(pending) < size and (block := next(stream, b"")):
            pending.extend(block)
        taken = bytes(memoryview(pending)[:size])
        del pending[:size]
        return taken

    offset = 0
    for number in count(1):
        where = f"{path}, record {number}, byte {offset}"
        try:
            header = take(HEADER)
            if not header and number > 1:
                return
            problem = _header_problem(header)
            if problem and number == 1:
                raise ProtcliError(
                    f"{path} is empty" if not header else f"{where}: {problem}, or it is not a TFRecord file"
                )
            length = int.from_bytes(header[:8], "little")
            data = b"" if problem else take(length + 4)
        except ProtcliError as error:  # from the gzip stream
            if number == 1:
                raise
            yield number, offset, error
            return
        if not problem and len(data) < length + 4:
            problem = f"the file is truncated: expected {length + 4} more bytes, found {len(data)}; fetch it again"
        if problem:
            yield number, offset, ProtcliError(f"{where}: {problem}")
            for _ in stream:  # so that `on_bytes` still sees the whole file
                pass
            return
        if is_intact(data[:-4], data[-4:]):
            yield number, offset, memoryview(data)[:-4]
        else:
            problem = "the data do not match their CRC32C; the file is damaged, fetch it again"
            yield number, offset, ProtcliError(f"{where}: {problem}")
        offset += HEADER + length + 4


def _header_problem(header: bytes) -> str:
    """Describe an error in the twelve bytes before a record; empty if there is none."""
    if len(header) < HEADER:
        return f"the file is truncated: expected a header of {HEADER} bytes, found {len(header)}; fetch it again"
    if not is_intact(header[:8], header[8:]):
        return "the record's length does not match its CRC32C; the file is damaged, fetch it again"
    if (length := int.from_bytes(header[:8], "little")) > LONGEST_RECORD:
        return f"a record of {length} bytes is not a protein; expected at most {LONGEST_RECORD}"
    return ""


def is_intact(data: bytes, masked_crc: bytes) -> bool:
    """Whether TFRecord's masked CRC32C [4 bytes] matches the data."""
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFF_FFFF == int.from_bytes(masked_crc, "little")
