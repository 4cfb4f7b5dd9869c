"""A sqlite store whose folder was moved or copied: MLflow keeps absolute places of files, which lead to the old one."""

import logging
import os
import sqlite3
from contextlib import closing
from pathlib import Path

from mlflow.utils.file_utils import local_file_uri_to_path

FILES = "mlruns"  # MLflow's folder for the files of runs, in the working folder
NAMES = f"%/{FILES}/%"  # what an address in it is like
PLACES = (
    *("experiments.artifact_location", "runs.artifact_uri", "logged_models.artifact_location"),
    "model_versions.storage_location",
)

log = logging.getLogger("protcli")


def follow(database: Path) -> None:
    """Let a store name the files that lie in `mlruns` beside it, where it names the same ones in another `mlruns`.

    A run whose files are only at the other place keeps that: somebody has put them there.

    Raises:
        sqlite3.Error: the store is damaged or locked.
    """
    new = database.parent / FILES
    with closing(sqlite3.connect(database)) as connection, connection:
        named = connection.execute(f"SELECT artifact_location FROM experiments WHERE artifact_location LIKE '{NAMES}'")
        has_runs = connection.execute("SELECT 1 FROM runs LIMIT 1").fetchone() is not None
        moved = {
            old
            for old, tail in (_parts(text) for (text,) in named)
            # while there is no run, the working folder's own is where MLflow has just put its first experiment
            if ((new / tail).exists() if has_runs else old != Path.cwd() / FILES) and old.resolve() != new.resolve()
        }

        def place(text: str) -> str:
            old, tail = _parts(text)
            # another user's folder may be one that must not be looked into
            if old in moved and ((new / tail).exists() or tail.isdecimal() or not os.access(old / tail, os.F_OK)):
                return (new / tail).as_uri()  # MLflow would take a % in a plain path for the beginning of a code
            return text

        connection.create_function("place", 1, place)
        for table, column in (each.split(".") for each in PLACES if moved):
            connection.execute(f"UPDATE {table} SET {column} = place({column}) WHERE {column} LIKE '{NAMES}'")
        if moved and has_runs:
            log.warning("this store was in %s: the files of its runs are now those in %s", moved.pop().parent, new)


def _parts(text: str) -> tuple[Path, str]:
    """The folder `mlruns` of an address, and what follows."""
    old, name, tail = text.rpartition(f"/{FILES}/")
    return Path(local_file_uri_to_path(old + name)), tail
