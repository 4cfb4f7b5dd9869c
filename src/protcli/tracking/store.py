"""The run store: MLFLOW_TRACKING_URI, else a sqlite file in the working folder, created by a single process."""

import logging
import os
import re
import socket
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

import mlflow
from filelock import FileLock
from mlflow.entities import Run, ViewType
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from protcli.atomic import atomic_write
from protcli.errors import ProtcliError
from protcli.tracking.moved import FILES, follow

SQLITE = "sqlite:///"
LOCAL = Path("mlflow.db")  # in the working folder


def tracking_uri() -> str:
    """The store's address, see `absolute_uri`."""
    return absolute_uri(os.environ.get("MLFLOW_TRACKING_URI") or sqlite_uri(LOCAL))


def absolute_uri(uri: str) -> str:
    """The same address; a relative sqlite path is made absolute, so that changing folders has no effect."""
    file = sqlite_file(uri)
    return sqlite_uri(file) if file else uri


def sqlite_uri(file: Path) -> str:
    """The address of a sqlite file, as SQLAlchemy and MLflow understand it.

    Where a name would be read as something else, the slashes are codes too: MLflow makes the folder of an address as
    it stands, and there is none then.
    """
    path = str(file.absolute())
    return SQLITE + (quote(path, safe="") if {"%", "?"} & set(path) else path)


def sqlite_file(uri: str) -> Path | None:
    """The file, absolute, of a sqlite store's address; None for another store.

    Raises:
        ProtcliError: a ? in it, at which SQLAlchemy ends the file's name.
    """
    if not uri.startswith(SQLITE):
        return None
    if "?" in uri:
        raise ProtcliError(f"{uri} is not the address of a file: write %3F for a ? in its name")
    return Path(unquote(uri.removeprefix(SQLITE))).absolute()


def is_new_store(address: str = "") -> bool:
    """Whether the store (that of `tracking_uri` by default) is a sqlite file that is not there yet: it has no runs, and
    whoever opens it creates it."""
    file = sqlite_file(address or tracking_uri())
    return file is not None and not file.exists()


def use_local_store() -> None:
    """Let this process write to the store in the working folder, whatever MLFLOW_TRACKING_URI says."""
    os.environ["MLFLOW_TRACKING_URI"] = sqlite_uri(LOCAL)


def open_store() -> mlflow.MlflowClient:
    """Point MLflow at the store and create or upgrade it.

    Processes that create a sqlite store at the same time corrupt it, so one creates it while the others wait.

    Raises:
        ProtcliError: the store cannot be reached or is damaged.
    """
    # notes on schema upgrades, and what is raised besides
    for name, level in (("mlflow", "WARNING"), ("alembic", "WARNING"), ("mlflow.store.db.utils", "CRITICAL")):
        logging.getLogger(name).setLevel(level)
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    uri = tracking_uri()
    try:
        mlflow.set_tracking_uri(uri)
        if database := sqlite_file(uri):
            prepare(database)
        elif (address := urlsplit(uri)).hostname:
            # MLflow would retry silently for minutes
            port = address.port or {"http": 80, "https": 443}.get(address.scheme)
            if port:
                socket.create_connection((address.hostname, port), timeout=10).close()
        client = mlflow.MlflowClient(uri)
        client.search_experiments(max_results=1)
    except (MlflowException, SQLAlchemyError, sqlite3.Error, OSError, ImportError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        remedy = "check MLFLOW_TRACKING_URI or train with --offline and `protcli sync` later"
        if sqlite_file(uri):
            remedy = "check MLFLOW_TRACKING_URI or move the file away"
        elif isinstance(error, MlflowException) and error.get_http_status_code() in (401, 403):
            remedy = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
        meant = re.sub(r"^(?:https?(?::/?|//))?([\w.-]+:\d)", r"http://\1", uri)
        meant = re.sub(r"^(?!sqlite:///)(?:sqlite:?/{0,2})?([^:]+\.db)$", rf"{SQLITE}\1", meant)
        remedy = remedy if meant == uri else f"did you mean {meant}?"
        raise ProtcliError(f"the MLflow store {uri} cannot be opened ({reason}): {remedy}") from error
    return client


def search_all_runs(
    client: mlflow.MlflowClient, experiment_ids: list[str], tags: Mapping[str, str], *, deleted: bool = False
) -> Iterator[Run]:
    """Every run with these tags in some experiments, the oldest first; `deleted` ones too, if asked for."""
    view = ViewType.ALL if deleted else ViewType.ACTIVE_ONLY
    tag_filter = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
    order, token = ["attributes.start_time ASC"], None
    while True:
        page = client.search_runs(experiment_ids, tag_filter, view, order_by=order, page_token=token)
        yield from page
        if not (token := page.token):
            return


def prepare(database: Path) -> str:
    """Create, upgrade or move a sqlite store; returns its address. A new one is renamed when complete, so an
    interruption leaves none."""
    uri, folder = sqlite_uri(database), Path.cwd()
    if "%" in str(folder):
        os.environ["_MLFLOW_SERVER_ARTIFACT_ROOT"] = (folder / FILES).as_uri()  # a plain path would be decoded
    database.parent.mkdir(parents=True, exist_ok=True)
    with database.with_name(f"{database.name}.lock").open("a"):
        pass  # the lock itself would wait forever if the folder is not writable
    with FileLock(f"{database}.lock"):
        if not database.exists():
            with atomic_write(database) as partial:
                mlflow.MlflowClient(sqlite_uri(partial)).search_experiments(max_results=1)
        mlflow.MlflowClient(uri)  # upgrades the store when constructed
        follow(database)
    return uri
