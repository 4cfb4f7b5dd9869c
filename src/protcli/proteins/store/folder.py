"""Opens a store's folder and its manifest."""

import json
from pathlib import Path
from typing import Any

from protcli.errors import ProtcliError
from protcli.proteins.store.files import check_size
from protcli.proteins.store.split import Split

FORMAT = "protcli store"
FORMAT_VERSION = 1
MANIFEST = "manifest.json"


class Store:
    """A folder of splits, opened by `open_store`. Only the manifest is read until a split is requested."""

    def __init__(self, path: Path, manifest: dict[str, Any]) -> None:
        self.path = path
        self.manifest = manifest

    def __repr__(self) -> str:
        return f"Store({str(self.path)!r}: {', '.join(self.splits)})"

    @property
    def name(self) -> str:
        return self.manifest["name"]

    @property
    def synthetic(self) -> bool:
        """Whether its proteins are synthetic."""
        return self.manifest["synthetic"]

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits, in the order they were added."""
        return tuple(self.manifest["splits"])

    def split_info(self, name: str) -> dict[str, Any]:
        """The manifest entry of a split (records, digest, lengths, atoms, ...); its file stays closed.

        Raises:
            ProtcliError: the name is unknown; the message lists the known names.
        """
        if name not in self.splits:
            raise ProtcliError(f"{self.path}: has no split {name!r}; it has {', '.join(self.splits)}")
        return self.manifest["splits"][name]

    def check_sizes(self) -> None:
        """Raise ProtcliError if a file of a split is missing or its size has changed; no file is opened."""
        for info in self.manifest["splits"].values():
            for entry in filter(None, (info, info.get("families"))):
                check_size(self.path / entry["file"], entry)

    def split(self, name: str) -> Split:
        """Open only this split's file. Raises ProtcliError as `split_info` and `Split` do."""
        info = self.split_info(name)
        return Split(self.path / info["file"], name, info)


def open_store(path: str | Path) -> Store:
    """Open a store by its folder.

    Raises:
        ProtcliError: the folder is missing or not a store, or its manifest is broken or of another format version.
    """
    path = Path(path).absolute()
    if not path.exists():
        raise ProtcliError(
            f"{path}: there is no such folder; create it with `protcli data import SOURCE... --out {path}`"
        )
    if not (path / MANIFEST).is_file():
        raise ProtcliError(f"{path}: is not a store (it has no {MANIFEST}); create one with `protcli data import`")
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ProtcliError(f"{path / MANIFEST}: cannot be read as JSON ({error}); import the store again") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise ProtcliError(f"{path / MANIFEST}: is not the manifest of a protcli store")
    if manifest.get("format_version") != FORMAT_VERSION:
        raise ProtcliError(
            f"{path}: is a store of format {manifest.get('format_version')}, but this protcli reads format "
            f"{FORMAT_VERSION}: import its sources again, or use the protcli that wrote it ({manifest.get('protcli')})"
        )
    entries = manifest.get("splits")
    if (
        not isinstance(manifest.get("name"), str)
        or not isinstance(manifest.get("synthetic"), bool)
        or not isinstance(entries, dict)
        or not all(
            isinstance(entry, dict) and {"file", "bytes", "digest", "records"} <= entry.keys()
            for entry in entries.values()
        )
    ):
        raise ProtcliError(f"{path / MANIFEST}: is incomplete; import the store again")
    return Store(path, manifest)
