"""Opens a store's folder and its manifest."""

import json
from pathlib import Path
from typing import Annotated, Any, NotRequired

from pydantic import Field, StringConstraints, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from protcli.errors import ProtcliError, excerpt, shown
from protcli.proteins.store.files import check_size
from protcli.proteins.store.split import Split

FORMAT = "protcli store"
FORMAT_VERSION = 1
MANIFEST = "manifest.json"


_Count = Annotated[int, Field(ge=0, lt=2**63)]
_Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$")]  # of a file in the folder itself


class _File(TypedDict):
    file: _Name
    bytes: _Count
    digest: str


class _Families(_File):
    source: NotRequired[str]


class _Split(_File):
    records: _Count
    families: NotRequired[_Families]


class _Manifest(TypedDict):
    name: str
    synthetic: bool
    splits: dict[_Name, _Split]


_CHECKED = TypeAdapter(_Manifest)


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
        try:
            return Split(self.path / info["file"], name, info)
        except ProtcliError:
            # another process may have given it other families since the manifest was read
            now = open_store(self.path)
            if now.manifest == self.manifest:
                raise
            self.manifest = now.manifest
            return self.split(name)


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
    except (OSError, ValueError, RecursionError) as error:
        raise ProtcliError(
            f"{path / MANIFEST}: cannot be read as JSON ({excerpt(error, 200)}); import the store again"
        ) from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise ProtcliError(f"{path / MANIFEST}: is not the manifest of a protcli store")
    if manifest.get("format_version") != FORMAT_VERSION:
        raise ProtcliError(
            f"{path}: is a store of format {shown(manifest.get('format_version'))}, but this protcli reads format "
            f"{FORMAT_VERSION}: import its sources again, or use the protcli that wrote it "
            f"({excerpt(manifest.get('protcli'))})"
        )
    try:
        _CHECKED.validate_python(manifest, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        place = excerpt(".".join(map(str, first["loc"])), 100)
        raise ProtcliError(
            f"{path / MANIFEST}: is incomplete or wrong ({place}: {excerpt(first['msg'], 100)}); import the store again"
        ) from None
    return Store(path, manifest)
