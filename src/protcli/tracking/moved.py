"""A sqlite store whose folder was moved or copied: MLflow keeps absolute places of files, which lead to the old one."""

import logging
import sqlite3
from contextlib import closing
from pathlib import Path

from mlflow.utils.file_utils import local_file_uri_to_path
from mlflow.utils.uri import get_uri_scheme

FILES = "mlruns"  # MLflow's folder for the files of runs, in the working folder
EXPERIMENTS = ("experiments", "artifact_location")
PLACES = (
    *(("runs", "artifact_uri"), ("logged_models", "artifact_location")),
    *(("model_versions", "source"), ("model_versions", "storage_location")),
)

log = logging.getLogger("protcli")


def follow(database: Path) -> None:
    """Let a store name the files that lie beside it, in `mlruns`, where it names the same ones of another `mlruns`.

    A run whose files are only at the other place keeps that: somebody has put them there.

    Raises:
        sqlite3.Error: the store is damaged or locked.
    """
    folders = [database.parent / FILES]
    if database.is_relative_to(Path.cwd()):  # the store of a project may lie in a folder of it
        folders.append(Path.cwd() / FILES)
    with closing(sqlite3.connect(database)) as connection, connection:
        experiments = _places(connection, *EXPERIMENTS).values()
        for old in {path.parent for path in experiments if path.parent.name == FILES}:
            if old.resolve() in [folder.resolve() for folder in folders]:
                continue
            if connection.execute("SELECT 1 FROM runs LIMIT 1").fetchone() is None:
                # nothing is lost; the working folder's own is where MLflow has just put them
                here = [] if old.parent == Path.cwd() else folders[:1]
            else:
                here = [new for new in folders if any((new / path.name).exists() for path in experiments)]
            any(_rename(connection, old, new) for new in here)


def _rename(connection: sqlite3.Connection, old: Path, new: Path) -> bool:
    """Name the files of one folder in another, if some are there or there are none yet; whether that is so."""
    places = {
        table: {
            text: path.relative_to(old) for text, path in _places(connection, *table).items() if old in path.parents
        }
        for table in (EXPERIMENTS, *PLACES)
    }
    files = [tail for table in PLACES for tail in places[table].values()]
    if files and not any((new / tail).exists() for tail in files):
        return False
    for (table, column), tails in places.items():
        for text, tail in tails.items():
            if (table, column) == EXPERIMENTS or (new / tail).exists() or not (old / tail).exists():
                place = address_of(new / tail)
                connection.execute(f"UPDATE {table} SET {column} = ? WHERE {column} = ?", (place, text))
    if files:
        log.warning("this store was in %s: the files of its runs are now those in %s", old.parent, new)
    return True


def address_of(path: Path) -> str:
    """A path as MLflow reads it: plain, or a URI where MLflow would take a % for the beginning of a code."""
    return path.as_uri() if "%" in str(path) else str(path)


def _places(connection: sqlite3.Connection, table: str, column: str) -> dict[str, Path]:
    """The addresses in a column that are folders of a machine, with their paths."""
    rows = connection.execute(f"SELECT DISTINCT {column} FROM {table} WHERE {column} IS NOT NULL")
    return {text: Path(local_file_uri_to_path(text)) for (text,) in rows if get_uri_scheme(text) in ("", "file")}
