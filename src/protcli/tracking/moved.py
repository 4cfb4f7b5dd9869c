"""A sqlite store whose folder was moved or copied: MLflow keeps absolute places of files, which lead to the old one."""

import logging
import sqlite3
from contextlib import closing
from pathlib import Path

from mlflow.utils.file_utils import local_file_uri_to_path

FILES = "mlruns"  # MLflow's folder for the files of runs, in the working folder
PLACES = {
    "experiments": "artifact_location", "runs": "artifact_uri", "logged_models": "artifact_location",
    "model_versions": "storage_location",
}  # fmt: skip

log = logging.getLogger("protcli")


def follow(database: Path) -> None:
    """Let a store name the files that lie in `mlruns` beside it, where it names the same ones in another `mlruns`.

    A run whose files are only at the other place keeps that: somebody has put them there.

    Raises:
        sqlite3.Error: the store is damaged or locked.
    """
    new = database.parent / FILES
    with closing(sqlite3.connect(database)) as connection, connection:
        named = {text.rpartition("/")[::2] for text in _places(connection, "experiments")}
        is_empty = connection.execute("SELECT 1 FROM runs LIMIT 1").fetchone() is None
        for old in {folder for folder, _ in named if folder.endswith(f"/{FILES}")}:
            path = Path(local_file_uri_to_path(old))
            # while there is no run, the working folder's own is where MLflow has just put its first experiment
            is_moved = path.parent != Path.cwd() if is_empty else any((new / tail).exists() for _, tail in named)
            if not is_moved or path.resolve() == new.resolve():
                continue
            for table, column in PLACES.items():
                for text in _places(connection, table):
                    tail = text.removeprefix(f"{old}/")
                    here = table == "experiments" or (new / tail).exists() or not (path / tail).exists()
                    if tail != text and here:
                        update = f"UPDATE {table} SET {column} = ? WHERE {column} = ?"
                        connection.execute(update, (address_of(new / tail), text))
            if not is_empty:
                log.warning("this store was in %s: the files of its runs are now those in %s", path.parent, new)


def address_of(path: Path) -> str:
    """A path as MLflow reads it: plain, or a URI where MLflow would take a % for the beginning of a code."""
    return path.as_uri() if "%" in str(path) else str(path)


def _places(connection: sqlite3.Connection, table: str) -> list[str]:
    column = PLACES[table]
    found = connection.execute(f"SELECT DISTINCT {column} FROM {table} WHERE {column} IS NOT NULL")
    return [text for (text,) in found]
