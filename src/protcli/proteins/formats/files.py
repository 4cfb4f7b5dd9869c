"""Files as bytes and text: in blocks or whole, decompressed on the fly; the limits of what they may hold."""

import codecs
import re
import zlib
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np

from protcli.errors import ProtcliError, truncate
from protcli.proteins.protein import Protein

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


def decode(data: bytes | bytearray) -> str:
    """Bytes as text, without its byte-order mark, every end of a line as \\n."""
    encoding = "utf-16" if data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"
    return data.decode(encoding, "replace").replace("\r\n", "\n").replace("\r", "\n")


def read_text(path: Path, expected: str) -> str:
    """The content of a text file, decompressed if it is gzipped; `expected` is what it should be, as `a FASTA file`.

    Raises:
        ProtcliError: as `read_blocks` does; the file is empty, a web page or no text, or unpacks to over 512 MiB.
    """
    data = bytearray()
    for block in read_blocks(path):
        data += block
        if len(data) > _LARGEST_TEXT:
            raise ProtcliError(f"{path} holds more than {_LARGEST_TEXT >> 20} MiB: expected {expected}")
    text = decode(data)
    if not text.strip():
        raise ProtcliError(f"{path} is empty: expected {expected}")
    if "\0" in text and "\ufffd" in text:  # either alone occurs in text: MMseqs2 ends an alignment by NUL
        raise ProtcliError(f"{path} is not text: expected {expected}")
    if re.match(r"\s*<(!doctype|html)", text, re.IGNORECASE):
        raise ProtcliError(f"{path} is a web page: expected {expected}; fetch the file again")
    return text


LONGEST_ID = 300  # characters
LONGEST_RECORD = 1 << 25  # bytes of one protein; titin's 34,350 residues take about 10 million as text
FARTHEST = 10_000.0  # A from zero along an axis, the most that PDB's columns hold; ProteinNet's chains stay within 600
# A profile's values are 0 to 1 in all of ProteinNet's files. Information content that is computed from frequencies of
# four digits, whose sum is 0.9993 to 1.0008, can miss 0 or 1 by this much.
ROUNDING = 1e-3


def proteins_of(
    results: Generator[Protein | ProtcliError, None, None], on_bad: Callable[[ProtcliError], None] | None
) -> Iterator[Protein]:
    """The proteins among what a reader finds; an error is given to `on_bad` or, without it, raised."""
    # Closed here: the traceback of an error would keep a reader and its threads until the garbage collector ends them,
    # perhaps in one of these threads, which then waits for itself
    with closing(results):
        for result in results:
            if isinstance(result, Protein):
                yield result
            elif on_bad is None:
                raise result
            else:
                on_bad(result)


def check_protein(protein: Protein) -> Protein:
    """The protein itself, if its ID, profile and coordinates keep the limits."""
    check_id(protein.id)
    check_profile(protein.profile)
    check_coords(protein.coords)
    return protein


def check_id(id: str) -> None:
    """Refuse an ID that is long, or that holds control characters: it is printed, and names files."""
    if len(id) > LONGEST_ID:
        raise ValueError(f"an ID of {len(id)} characters: expected at most {LONGEST_ID}")
    if not id.isprintable():
        wrong = next(letter for letter in id if not letter.isprintable())
        raise ValueError(f"the ID '{truncate(id)}' holds {wrong!a}: expected characters that can be printed")


def check_profile(profile: np.ndarray) -> None:
    """Refuse values outside 0 to 1, of any shape, and NaN."""
    if profile.size and not (profile.min() >= -ROUNDING and profile.max() <= 1 + ROUNDING):
        wrong = profile[~((profile >= -ROUNDING) & (profile <= 1 + ROUNDING))][0]
        raise ValueError(f"{wrong:g} in a profile: expected frequencies and information content from 0 to 1")


def check_coords(coords: np.ndarray) -> None:
    """Refuse coordinates in Å, of any shape, beyond FARTHEST; NaN is a missing atom."""
    far = np.abs(coords) > FARTHEST
    if far.any():
        raise ValueError(f"a coordinate of {coords[far][0]:g} A: expected at most {FARTHEST:,.0f} A from zero")
