"""The database of sweeps: one that the user names, else a sqlite file beside the MLflow store."""

import warnings
from pathlib import Path

import optuna
from filelock import FileLock
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from sqlalchemy.exc import SQLAlchemyError

from protcli.errors import ProtcliError
from protcli.tracking.store import SQLITE, tracking_uri

FILE = "sweeps.db"
HEARTBEAT, GRACE = 20, 120  # seconds: a trial that has not been heard of for so long is given to another worker
LOCKED = 60  # seconds that a process waits for another one to write to a sqlite file


def default_storage() -> str:
    """`sweeps.db` in the folder of MLflow's sqlite store, or in the working folder if MLflow has a server."""
    uri = tracking_uri()
    folder = Path(uri.removeprefix(SQLITE)).parent if uri.startswith(SQLITE) else Path.cwd()
    return f"{SQLITE}{folder / FILE}"


def open_storage(url: str | None = None) -> RDBStorage:
    """Open a database of sweeps, which is created if needed; None takes the default one.

    Args:
        url: of SQLAlchemy, such as postgresql://user@host/name.

    Raises:
        ProtcliError: the database cannot be opened, or it is MLflow's own.
    """
    url = url or default_storage()
    if url == tracking_uri():
        raise ProtcliError(f"--storage {url} is the MLflow store: name another database")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        if url.startswith(SQLITE):
            # processes that create the tables of a sqlite file at the same time disturb each other
            with FileLock(f"{Path(url.removeprefix(SQLITE)).absolute()}.lock"):
                return _open(url, timeout=LOCKED)
        return _open(url)
    except (SQLAlchemyError, StorageInternalError, ImportError, OSError, ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ProtcliError(f"the database {url} cannot be opened ({reason}): check --storage") from error


def _open(url: str, **connect_args: int) -> RDBStorage:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # heartbeats are marked experimental
        return RDBStorage(
            url, engine_kwargs={"connect_args": connect_args}, heartbeat_interval=HEARTBEAT, grace_period=GRACE
        )
