"""The database of sweeps: one that the user names, else a sqlite file beside the MLflow store."""

import time
import warnings
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import optuna
from filelock import FileLock
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from sqlalchemy import create_engine, inspect
from sqlalchemy.exc import IntegrityError, ProgrammingError, SQLAlchemyError

from protcli.errors import ProtcliError
from protcli.tracking.store import SQLITE, tracking_uri

FILE = "sweeps.db"
HEARTBEAT, GRACE = 20, 120  # seconds: a trial that has not been heard of for so long is given to another worker
ATTEMPTS, AGAIN = 10, 0.3  # tries to make the tables, and seconds between them
MADE_FIRST = {"version_info", "alembic_version"}  # of Optuna's tables
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

    def beat(self, study: str, number: int) -> None:
        """Tell other machines that the process of a study's trial, by Optuna's number, lives."""
        study_id = self.storage.get_study_id_from_name(study)
        self.storage.record_heartbeat(self.storage.get_trial_id_from_study_id_trial_number(study_id, number))

    def exclusive(self) -> AbstractContextManager[object]:
        """A block that one process at a time is in, where the database itself gives no row to one process only."""
        return _lock(self.url) if self.url.startswith(SQLITE) else nullcontext()


def open_storage(url: str | None = None) -> Database:
    """Open a database of sweeps, which is created if needed; None takes the default one.

    Args:
        url: of SQLAlchemy, such as postgresql+psycopg2://user@host/name.

    Raises:
        ProtcliError: the database cannot be opened, or it is MLflow's or something else's.
    """
    url = url or default_storage()
    if url == tracking_uri():
        raise ProtcliError(f"--storage {url} is the MLflow store: name another database")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        _check(url)
        storage = _connect(url)
    except (SQLAlchemyError, StorageInternalError, ImportError, OSError, ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        driver = isinstance(error, ImportError) and url.startswith("postgresql")
        remedy = "pip install -e '.[postgres]'" if driver else "check --storage"
        raise ProtcliError(f"the database {url} cannot be opened ({reason}): {remedy}") from error
    return Database(storage, url)


def _check(url: str) -> None:
    """Raise a ProtcliError if the database is one of something else, or would lie in no folder; nothing is written."""
    if url.startswith(SQLITE):
        file = Path(url.removeprefix(SQLITE))
        if not file.absolute().parent.is_dir():
            raise ProtcliError(f"--storage {url}: the folder {file.parent} does not exist")
        if not file.exists():
            return
    engine = create_engine(url, connect_args=_arguments(url))
    try:
        tables = set(inspect(engine).get_table_names())
    finally:
        engine.dispose()
    # another process may be making the tables
    foreign = tables - MADE_FIRST if "studies" not in tables else tables & {"runs"}
    if foreign:
        raise ProtcliError(
            f"--storage {url} is a database of something else: it has a table {min(foreign)}; name another or a new one"
        )


def _connect(url: str, attempts: int = ATTEMPTS) -> RDBStorage:
    """A connection; the tables are made if there are none, and processes that do so at once disturb each other."""
    try:
        with _lock(url) if url.startswith(SQLITE) else nullcontext(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # heartbeats are marked experimental
            # a connection may have been cut since the epoch before
            engine = {"connect_args": _arguments(url), "pool_pre_ping": True}
            return RDBStorage(url, engine_kwargs=engine, heartbeat_interval=HEARTBEAT, grace_period=GRACE)
    except (IntegrityError, ProgrammingError):  # a server says so that another process has just made a table
        if attempts == 1:
            raise
    time.sleep(AGAIN)
    return _connect(url, attempts - 1)


def _arguments(url: str) -> dict[str, int]:
    return {"timeout": LOCKED} if url.startswith(SQLITE) else {}


def _lock(url: str) -> FileLock:
    return FileLock(f"{Path(url.removeprefix(SQLITE)).absolute()}.lock")
