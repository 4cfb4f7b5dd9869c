"""Where protcli keeps what it makes for itself, between one command and the next."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """$PROTCLI_CACHE, else `protcli` in $XDG_CACHE_HOME or ~/.cache; it need not exist yet."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("PROTCLI_CACHE") or Path(base) / "protcli")
