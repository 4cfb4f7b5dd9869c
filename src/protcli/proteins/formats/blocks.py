"""A file in blocks, unpacked on the way: what ProteinNet's readers stand on."""

import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from protcli.errors import ProtcliError

_BLOCK = 1 << 19  # bytes read, and parsed together
_GZIP_BLOCK = 1 << 18  # smaller: it grows when unpacked


def read_blocks(path: Path, on_bytes: Callable[[bytes], None] | None = None) -> Iterator[bytes]:
    """Read a file, unpacked if it is gzipped, in blocks that are never empty.

    Args:
        path: the file.
        on_bytes: given every block of it as it lies on disk.

    Raises:
        ProtcliError: for a file that cannot be read, and for a gzip stream that is damaged or cut short.
    """
    try:
        with path.open("rb", buffering=0) as file:
            gzipped = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            unpacker = zlib.decompressobj(wbits=31) if gzipped else None
            while block := file.read(_GZIP_BLOCK if gzipped else _BLOCK):
                if on_bytes is not None:
                    on_bytes(block)
                if unpacker is None:
                    yield block
                    continue
                while block:
                    if unpacker.eof:  # another gzip member follows the one that ended
                        unpacker = zlib.decompressobj(wbits=31)
                    if unpacked := unpacker.decompress(block):
                        yield unpacked
                    block = unpacker.unused_data
            if unpacker is not None and not unpacker.eof:
                raise ProtcliError(f"{path}: the gzip stream is cut short; fetch the file again")
    except zlib.error as error:
        raise ProtcliError(f"{path}: the gzip stream is damaged ({error}); fetch the file again") from error
    except OSError as error:
        raise ProtcliError(f"cannot read {path}: {error.strerror or error}") from error
