"""Where protcli keeps generated files between commands."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """$PROTCLI_CACHE, else `protcli` in $XDG_CACHE_HOME or ~/.cache; the folder may not exist yet."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("PROTCLI_CACHE") or Path(base) / "protcli")
