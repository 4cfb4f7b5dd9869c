"""Reading a whole text file, gzipped or not."""

import gzip
import zlib
from pathlib import Path

from protcli.errors import ProtcliError

_LARGEST = 1 << 29  # bytes, unpacked


def read_text(path: Path, expected: str) -> str:
    """The content of a text file.

    Args:
        path: the file; a name that ends in .gz is decompressed.
        expected: what it should be, for the message: `a PDB or mmCIF file`.

    Raises:
        ProtcliError: the file cannot be read, is not complete, is empty or unpacks to over 512 MiB.
    """
    try:
        with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as file:
            data = file.read(_LARGEST + 1)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ProtcliError(f"{path} is not a complete gzip file ({error}): fetch it again") from error
    except OSError as error:
        raise ProtcliError(f"{path} cannot be read: {error.strerror or error}") from error
    if len(data) > _LARGEST:
        raise ProtcliError(f"{path} holds more than {_LARGEST >> 20} MiB: expected {expected}")
    if not data.strip():
        raise ProtcliError(f"{path} is empty: expected {expected}")
    return data.decode("utf-8", "replace")
