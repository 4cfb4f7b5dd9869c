"""The trials of sweeps, in an Optuna database that several processes share: a sqlite file, or a server's."""

import math
import threading
import time
import warnings
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path

import numpy as np
import optuna
from filelock import FileLock
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.storages import RDBStorage, fail_stale_trials
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import column, create_engine, inspect, select, table
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import IntegrityError, ProgrammingError, SQLAlchemyError

from protcli.errors import ProtcliError
from protcli.experiments.sweeps.space import Hyperparameters, Space
from protcli.process import is_gone, this_process
from protcli.tracking.store import LOCAL, absolute_uri, sqlite_file, sqlite_uri, tracking_uri

FILE = "sweeps.db"
HEARTBEAT_SECONDS, GRACE_SECONDS = 20, 120  # a trial that has not been heard of for so long is given to another worker
LOCKED_SECONDS = 60  # that a process waits for another one to write to a sqlite file
TABLE_ATTEMPTS, RETRY_SECONDS = 10, 0.3  # of making the tables
MADE_FIRST = {"version_info", "alembic_version"}  # of Optuna's tables
# a trial may be pruned once STARTUP trials are over, from FIRST_EPOCH on, if PEERS others have reached the epoch
STARTUP, FIRST_EPOCH, PEERS = 5, 2, 3
COUNTED = (TrialState.COMPLETE, TrialState.PRUNED)
LIVE = (*COUNTED, TrialState.RUNNING)
NUMBER, PROCESS, RUN, ERROR, PARENT = "number", "process", "run", "error", "parent"  # attributes of trials; of a study


def default_storage() -> str:
    """`sweeps.db` in the folder of MLflow's sqlite store, or in the working folder if MLflow has a server."""
    return sqlite_uri((sqlite_file(tracking_uri()) or LOCAL).with_name(FILE))


def open_storage(address: str | None = None) -> RDBStorage:
    """Open a database of sweeps, which is created if needed; None takes the default one.

    Args:
        address: of SQLAlchemy, such as postgresql+psycopg2://user@host/name.

    Raises:
        ProtcliError: the database cannot be opened, or it is MLflow's or something else's.
    """
    address = address or default_storage()
    if absolute_uri(address) == tracking_uri():
        raise ProtcliError(f"--storage {address} is the MLflow store: name another database")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=ExperimentalWarning)
    warnings.filterwarnings("ignore", "Heartbeat of storage is supposed")  # trials are asked for one by one
    try:
        url = make_url(address)
        # a connection may have been cut since the epoch before
        arguments = {"timeout": LOCKED_SECONDS} if url.get_backend_name() == "sqlite" else {}
        _check(address, url, arguments)
        for attempt in range(1, TABLE_ATTEMPTS + 1):
            try:
                with _file_lock(url):
                    return RDBStorage(
                        address, engine_kwargs={"connect_args": arguments, "pool_pre_ping": True},
                        heartbeat_interval=HEARTBEAT_SECONDS, grace_period=GRACE_SECONDS,
                    )  # fmt: skip
            except (IntegrityError, ProgrammingError):  # a server says so that another process has just made a table
                if attempt == TABLE_ATTEMPTS:
                    raise
                time.sleep(RETRY_SECONDS)
    except (SQLAlchemyError, StorageInternalError, ImportError, OSError, ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        driver = isinstance(error, ImportError) and address.startswith("postgresql")
        remedy = "pip install -e '.[postgres]'" if driver else "check --storage"
        raise ProtcliError(f"the database {address} cannot be opened ({reason}): {remedy}") from error
    raise AssertionError


def _check(address: str, url: URL, arguments: Mapping[str, int]) -> None:
    """Raise a ProtcliError if the database is one of something else, or would lie in no folder; nothing is written."""
    if url.get_backend_name() == "sqlite" and url.database:
        file = Path(url.database)
        if not file.absolute().parent.is_dir():
            raise ProtcliError(f"--storage {address}: the folder {file.parent} does not exist")
        if not file.exists():
            return
    engine = create_engine(url, connect_args=arguments)
    try:
        tables = set(inspect(engine).get_table_names())
    finally:
        engine.dispose()
    # another process may be making the tables
    foreign = tables - MADE_FIRST if "studies" not in tables else tables & {"runs"}
    if foreign:
        raise ProtcliError(
            f"--storage {address} is a database of something else: it has a table {min(foreign)}; name another or a "
            "new one"
        )


def _file_lock(url: URL) -> AbstractContextManager[object]:
    """A block that one process at a time is in, where the database is a file, which has no locks for rows."""
    if url.get_backend_name() != "sqlite" or not url.database:
        return nullcontext()
    return FileLock(f"{Path(url.database).absolute()}.lock")


class TrialQueue:
    """Trials 0, 1, ... of one study, each of which is counted once, however many processes work on them.

    A number is taken by asking Optuna for a trial and noting the number, by one process at a time. A trial that fails,
    or whose process is lost, frees its number: the latter is noticed at once on the same machine, and by Optuna's
    heartbeats on another; if the process lives all the same, the trial is trained twice.

    Args:
        storage: see `open_storage`.
        name: of the study, which is created if there is none.
        trials: how many numbers; no fewer than there are already.

    Attributes:
        is_new: whether this process created the study.
        wanted: how many numbers.
    """

    def __init__(self, storage: RDBStorage, name: str, trials: int) -> None:
        self.storage, self.name, self.is_new = storage, name, True
        try:
            optuna.create_study(storage=storage, study_name=name)
        except optuna.exceptions.DuplicatedStudyError:
            self.is_new = False
        self.wanted = max([trials, *(number + 1 for number in self._numbers(*COUNTED))])

    def study(self, sampler: optuna.samplers.BaseSampler | None = None) -> optuna.Study:
        """The study as it is now."""
        pruner = optuna.pruners.MedianPruner(STARTUP, FIRST_EPOCH, n_min_trials=PEERS)
        return optuna.load_study(study_name=self.name, storage=self.storage, sampler=sampler, pruner=pruner)

    @property
    def parent(self) -> str | None:
        """ID of the MLflow run that holds the trials' runs."""
        return self.study().user_attrs.get(PARENT)

    @property
    def counted(self) -> int:
        """How many of the numbers are finished or pruned."""
        return len(self._numbers(*COUNTED))

    @property
    def begun(self) -> int:
        """How many of the numbers are running or counted."""
        return len(self._numbers(*LIVE))

    @property
    def rows(self) -> list[FrozenTrial]:
        """The trials that have a run, by number; a number that was repeated has a row for each try, in their order."""
        return sorted((trial for trial in self.trials() if RUN in trial.user_attrs), key=number_of)

    @property
    def best(self) -> FrozenTrial | None:
        """The finished trial with the lowest value, the earlier of two; None if none has a finite one."""
        complete = [row for row in self.rows if row.state == TrialState.COMPLETE and math.isfinite(mse_of(row))]
        return min(complete, key=mse_of, default=None)

    @property
    def numbered(self) -> optuna.Study:
        """A copy of the study for figures: only the trials that count, each with its own number."""
        counted = {number_of(trial): trial for trial in self.trials(*COUNTED)}
        absent = optuna.trial.create_trial(state=TrialState.FAIL)  # holds a number's place
        copy = optuna.create_study()
        copy.add_trials([counted.get(number, absent) for number in range(max(counted, default=-1) + 1)])
        return copy

    def trials(self, *states: TrialState) -> list[FrozenTrial]:
        """The trials in these states, or in any, that have a number."""
        trials = self.study().get_trials(deepcopy=False, states=states or None)
        return [trial for trial in trials if NUMBER in trial.user_attrs]

    def _numbers(self, *states: TrialState) -> set[int]:
        return set(map(number_of, self.trials(*states)))

    def _stopped(self, number: int) -> list[FrozenTrial]:
        return [row for row in self.rows if number_of(row) == number and row.state == TrialState.FAIL]

    def failures(self, number: int) -> int:
        """How often a trial has failed."""
        return sum(ERROR in trial.user_attrs for trial in self._stopped(number))

    def interrupted(self, number: int) -> FrozenTrial | None:
        """The last try of a trial if it was stopped; it goes on with the same values, in its own run."""
        *_, last = None, *self._stopped(number)
        return last if last and ERROR not in last.user_attrs else None

    def claim(self, space: Space, own: Hyperparameters, seed: int) -> optuna.Trial | None:
        """The next trial for this process, with its values chosen; None if all numbers are taken, at least for now.

        Args:
            space: of the search.
            own: tried first.
            seed: of the sampler.
        """
        with self._exclusive():
            fail_stale_trials(self.study())
            for lost in self.trials(TrialState.RUNNING):
                if is_gone(lost.user_attrs[PROCESS]):
                    self.study().tell(lost.number, state=TrialState.FAIL, skip_if_finished=True)
            if (number := min(set(range(self.wanted)) - self._numbers(*LIVE), default=None)) is not None:
                interrupted = self.interrupted(number)
                values = interrupted.params if interrupted else asdict(own) if number == 0 else {}
                # a sampler for each try: what is random depends on its number alone, not on who took it or when
                own_seed = np.random.SeedSequence([seed, number, self.failures(number)]).generate_state(1)[0]
                sampler = optuna.samplers.TPESampler(seed=int(own_seed), constant_liar=True)
                trial = self.study(optuna.samplers.PartialFixedSampler(values, sampler)).ask(space.distributions)
                # in this order: what has a number but no heartbeat could be freed on this machine only
                self._beat(trial)
                trial.set_user_attr(PROCESS, this_process())
                trial.set_user_attr(NUMBER, number)
                return trial
        return None

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        """A block that one process at a time is in: a server locks a row that Optuna only reads."""
        engine = self.storage.engine
        with _file_lock(engine.url), engine.connect() as connection:
            if engine.dialect.name != "sqlite":
                connection.execute(select(table("version_info", column("schema_version"))).with_for_update())
            yield

    @contextmanager
    def beating(self, trial: optuna.Trial) -> Iterator[None]:
        """Tell other machines, while the block runs, that the process of a trial lives."""
        ended = threading.Event()

        def keep_beating() -> None:
            while not ended.wait(HEARTBEAT_SECONDS):
                self._beat(trial)

        with ThreadPoolExecutor(1) as thread:
            thread.submit(keep_beating)
            try:
                yield
            finally:
                ended.set()

    def _beat(self, trial: optuna.Trial) -> None:
        study = self.storage.get_study_id_from_name(self.name)
        self.storage.record_heartbeat(self.storage.get_trial_id_from_study_id_trial_number(study, trial.number))


def report(trial: optuna.Trial, history: Mapping[int, float]) -> bool:
    """Record the value after each epoch; whether the trial should be pruned."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is known already
        for epoch, value in history.items():
            trial.report(value, epoch)
    return trial.should_prune()


def number_of(trial: FrozenTrial | optuna.Trial) -> int:
    """A trial's number, from 0; one that is repeated keeps it."""
    return trial.user_attrs[NUMBER]


def mse_of(trial: FrozenTrial) -> float:
    """A trial's validation MSE in Å²: infinite if it diverged, of the last epoch if it was pruned, NaN if none."""
    return math.nan if trial.value is None else trial.value
