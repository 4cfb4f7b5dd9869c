"""The database of sweeps: one that the user names, else a sqlite file beside the MLflow store."""

import warnings
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Database:
    """An open database of sweeps, and its address."""

    storage: RDBStorage
    url: str

    def exclusive(self) -> AbstractContextManager[object]:
        """A block that one process at a time is in, where the database itself gives no row to one process only."""
        return _lock(self.url) if self.url.startswith(SQLITE) else nullcontext()


def open_storage(url: str | None = None) -> Database:
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
    arguments = {"timeout": LOCKED} if url.startswith(SQLITE) else {}
    try:
        # processes that create the tables of a sqlite file at the same time disturb each other
        with _lock(url) if url.startswith(SQLITE) else nullcontext(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # heartbeats are marked experimental
            storage = RDBStorage(
                url, engine_kwargs={"connect_args": arguments}, heartbeat_interval=HEARTBEAT, grace_period=GRACE
            )
    except (SQLAlchemyError, StorageInternalError, ImportError, OSError, ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ProtcliError(f"the database {url} cannot be opened ({reason}): check --storage") from error
    return Database(storage, url)


def _lock(url: str) -> FileLock:
    return FileLock(f"{Path(url.removeprefix(SQLITE)).absolute()}.lock")
