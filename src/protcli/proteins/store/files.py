"""What every file of a store must be: there, and as long as the manifest says."""

from pathlib import Path
from typing import Any

from protcli.errors import ProtcliError

DAMAGED = "the store is damaged: import it again"


def check_size(path: Path, info: dict[str, Any]) -> None:
    """Raise ProtcliError if a file is missing or not as long as its manifest entry says; it is not opened."""
    try:
        size = path.stat().st_size
    except OSError as error:
        raise ProtcliError(f"{path}: cannot be read ({error.strerror}); {DAMAGED}") from error
    if size != info["bytes"]:
        raise ProtcliError(f"{path}: holds {size:,} bytes, its manifest says {info['bytes']:,}; {DAMAGED}")
