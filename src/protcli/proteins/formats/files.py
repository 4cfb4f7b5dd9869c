"""Files as bytes and text: in blocks or whole, decompressed on the fly."""

import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from protcli.errors import ProtcliError

_BLOCK = 1 << 19  # bytes read and parsed together
_GZIP_BLOCK = 1 << 18  # smaller, because it grows when decompressed
_LARGEST_TEXT = 1 << 29  # bytes, unpacked


def read_blocks(path: Path, on_bytes: Callable[[bytes], None] | None = None) -> Iterator[bytes]:
    """Read a file in non-empty blocks, decompressed if it is gzipped.

    Args:
        path: the file.
        on_bytes: called with every block as stored on disk.

    Raises:
        ProtcliError: the file cannot be read, or its gzip stream is damaged or truncated.
    """
    try:
        with path.open("rb", buffering=0) as file:
            gzipped = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            unpacker = zlib.decompressobj(wbits=31)
            while block := file.read(_GZIP_BLOCK if gzipped else _BLOCK):
                if on_bytes is not None:
                    on_bytes(block)
                if not gzipped:
                    yield block
                    continue
                while block:
                    if unpacker.eof:  # another gzip member follows
                        unpacker = zlib.decompressobj(wbits=31)
                    if unpacked := unpacker.decompress(block):
                        yield unpacked
                    block = unpacker.unused_data
            if gzipped and not unpacker.eof:
                raise ProtcliError(f"{path}: the gzip stream is truncated; fetch the file again")
    except zlib.error as error:
        raise ProtcliError(f"{path}: the gzip stream is damaged ({error}); fetch the file again") from error
    except OSError as error:
        raise ProtcliError(f"cannot read {path}: {error.strerror or error}") from error


def read_text(path: Path, expected: str) -> str:
    """The content of a text file, decompressed if it is gzipped; `expected` is what it should be, as `a FASTA file`.

    Raises:
        ProtcliError: as `read_blocks` does; the file is empty or unpacks to over 512 MiB.
    """
    data = bytearray()
    for block in read_blocks(path):
        data += block
        if len(data) > _LARGEST_TEXT:
            raise ProtcliError(f"{path} holds more than {_LARGEST_TEXT >> 20} MiB: expected {expected}")
    if not data.strip():
        raise ProtcliError(f"{path} is empty: expected {expected}")
    return data.decode("utf-8-sig", "replace")  # without a byte-order mark
