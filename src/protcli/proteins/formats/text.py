"""Reading a whole text file, gzipped or not."""

import gzip
import zlib
from pathlib import Path

from protcli.errors import ProtcliError


def read_text(path: Path, expected: str) -> str:
    """The content of a text file.

    Args:
        path: the file; a name that ends in .gz is decompressed.
        expected: what it should be, for the message: `a PDB or mmCIF file`.

    Raises:
        ProtcliError: the file cannot be read, is not complete or is empty.
    """
    try:
        data = path.read_bytes()
        if path.suffix.lower() == ".gz":
            data = gzip.decompress(data)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ProtcliError(f"{path} is not a complete gzip file ({error}): fetch it again") from error
    except OSError as error:
        raise ProtcliError(f"{path} cannot be read: {error.strerror or error}") from error
    if not data.strip():
        raise ProtcliError(f"{path} is empty: expected {expected}")
    return data.decode("utf-8", "replace")
