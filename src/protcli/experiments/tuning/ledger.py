"""The trials of a sweep, in a database that several processes share."""

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import optuna
from optuna.storages import fail_stale_trials
from optuna.trial import FrozenTrial, TrialState

from protcli.experiments.tuning.claim import ERROR, NUMBER, PROCESS, RESUMES, RUN, Claim
from protcli.experiments.tuning.space import Hyperparameters, Space
from protcli.experiments.tuning.storage import GRACE, Database
from protcli.process import is_gone, this_process

# a trial may be pruned once so many are over, from this epoch on, and if so many others have reached the epoch
STARTUP, FIRST_EPOCH, PEERS = 5, 2, 3
COUNTED = (TrialState.COMPLETE, TrialState.PRUNED)
LIVE = (*COUNTED, TrialState.RUNNING, TrialState.WAITING)
PARENT = "parent"


@dataclass(frozen=True)
class TrialRow:
    """A trial as it is recorded.

    Attributes:
        number: from 0; a trial that is repeated keeps it.
        state: COMPLETE, PRUNED, RUNNING or FAIL.
        params: what it tries, by name.
        about: what else was noted of it (`Claim.note`).
        mse: validation MSE in A^2, infinite if it diverged; of the last epoch if it was pruned; NaN if it has none.
        run_id: its run in MLflow.
    """

    number: int
    state: str
    params: Mapping[str, Any]
    about: Mapping[str, Any]
    mse: float
    run_id: str


class Ledger:
    """Trials 0, 1, ... of one study, each of which is counted once, however many processes work on them.

    A number is taken by queueing a trial with it and popping one from the queue, which the database does for one
    process only (a sqlite file needs a lock). If two processes queue the same number at the same time, the earlier
    entry counts and the later one is dropped by whoever pops it. A trial that fails, or whose process is lost, frees
    its number.

    Args:
        database: see `open_storage`.
        name: of the study, which is created if there is none.
        trials: how many numbers; no fewer than there are already.
        space: of the search; None tries nothing but the number itself.
        own: tried first.
        seed: of the sampler.
    """

    def __init__(
        self, database: Database, name: str, *, trials: int, space: Space | None = None,
        own: Hyperparameters | None = None, seed: int = 0,
    ) -> None:  # fmt: skip
        self.database, self.name = database, name
        self.space, self.own, self.seed = space, own, seed
        try:
            optuna.create_study(storage=database.storage, study_name=name, direction="minimize")
            self.is_new = True
        except optuna.exceptions.DuplicatedStudyError:
            self.is_new = False
        self.trials = max([trials, *(_number(trial) + 1 for trial in self._trials(*COUNTED))])

    @property
    def study(self) -> optuna.Study:
        """The study as it is now. Each caller has an object of its own, since a sampler belongs to one trial."""
        pruner: optuna.pruners.BasePruner = optuna.pruners.NopPruner()
        if self.space is not None:
            pruner = optuna.pruners.MedianPruner(STARTUP, FIRST_EPOCH, n_min_trials=PEERS)
        return optuna.load_study(study_name=self.name, storage=self.database.storage, pruner=pruner)

    @property
    def parent(self) -> str | None:
        """ID of the MLflow run that holds the trials' runs."""
        return self.study.user_attrs.get(PARENT)

    def set_parent(self, run_id: str) -> None:
        self.study.set_user_attr(PARENT, run_id)

    @property
    def counted(self) -> int:
        """How many of the numbers are finished or pruned."""
        return len({_number(trial) for trial in self._trials(*COUNTED)})

    @property
    def begun(self) -> int:
        """How many of the numbers are running or counted."""
        return len({_number(trial) for trial in self._trials(*COUNTED, TrialState.RUNNING)})

    @property
    def rows(self) -> list[TrialRow]:
        """The trials that have a run, by number."""
        rows = [
            TrialRow(_number(trial), trial.state.name, trial.params, trial.user_attrs, _value(trial), run)
            for trial in self._trials()
            if (run := trial.user_attrs.get(RUN))
        ]
        return sorted(rows, key=lambda row: row.number)  # in order of occurrence where a number was repeated

    @property
    def best(self) -> TrialRow | None:
        """The finished trial with the lowest value, the earlier of two; None if none has a finite one."""
        finite = [row for row in self.rows if row.state == "COMPLETE" and math.isfinite(row.mse)]
        return min(finite, key=lambda row: row.mse, default=None)

    @property
    def numbered(self) -> optuna.Study:
        """A copy of the study for figures: only the trials that count, each with its own number."""
        counted = {_number(trial): trial for trial in self._trials(*COUNTED)}
        absent = optuna.trial.create_trial(state=TrialState.FAIL)  # holds a number's place
        copy = optuna.create_study(direction="minimize")
        copy.add_trials([counted.get(number, absent) for number in range(max(counted, default=-1) + 1)])
        return copy

    def _trials(self, *states: TrialState) -> list[FrozenTrial]:
        trials = self.study.get_trials(deepcopy=False, states=states or None)
        return [trial for trial in trials if NUMBER in trial.user_attrs]

    def claim(self) -> "Claim | None":
        """The next trial for this process; None if all numbers are taken, at least for now."""
        with self.database.exclusive():
            return self._claim()

    def _claim(self) -> "Claim | None":
        self._free_lost()
        while (number := self._free()) is not None:
            study = self.study
            if not self._trials(TrialState.WAITING):
                self._queue(study, number)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # heartbeats are recorded below, though not by `Study.optimize`
                trial = study.ask()
            taken = trial.user_attrs.get(NUMBER)
            # in this order: what has a process but no heartbeat could be freed on that machine only
            self.database.beat(self.name, trial.number)
            trial.set_user_attr(PROCESS, this_process())
            live = [each.number for each in self._trials(*LIVE) if _number(each) == taken]
            if taken is None or taken >= self.trials or min(live) < trial.number:
                study.tell(trial, state=TrialState.FAIL)
                continue
            return Claim(self.database, study, trial, self.space, self.seed)
        return None

    def _free(self) -> int | None:
        """The lowest number that is not running or counted."""
        taken = {_number(trial) for trial in self._trials(*COUNTED, TrialState.RUNNING)}
        return next((number for number in range(self.trials) if number not in taken), None)

    def _queue(self, study: optuna.Study, number: int) -> None:
        """Queue a trial; one that was interrupted is tried again with the same values, in its own run."""
        params: dict[str, Any] = {}
        if number == 0 and self.own is not None and self.space is not None:
            params = {"lr": self.own.lr, "batch_size": self.own.batch_size, "steps": self.own.steps}
        about: dict[str, Any] = {NUMBER: number}
        failed = [trial for trial in self._trials(TrialState.FAIL) if _number(trial) == number]
        stopped = [trial for trial in failed if RUN in trial.user_attrs]
        if stopped and ERROR not in stopped[-1].user_attrs:
            params |= stopped[-1].params
            about[RESUMES] = stopped[-1].user_attrs[RUN]
        study.enqueue_trial(params, user_attrs=about)

    def _free_lost(self) -> None:
        """Mark the trials as failed whose process is lost: at once on this machine, after a while on another."""
        study = self.study
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fail_stale_trials(study)
        for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            process, began = trial.user_attrs.get(PROCESS), trial.datetime_start or datetime.now()
            if is_gone(process) if process else datetime.now() - began > timedelta(seconds=GRACE):
                study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)


def _number(trial: FrozenTrial) -> int:
    return trial.user_attrs[NUMBER]


def _value(trial: FrozenTrial) -> float:
    return math.nan if trial.value is None else trial.value
