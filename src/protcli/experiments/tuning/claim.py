"""A trial of a sweep that this process works on."""

import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import optuna
from optuna.trial import TrialState

from protcli.experiments.tuning.space import Hyperparameters, Space
from protcli.experiments.tuning.storage import HEARTBEAT, Database

NUMBER, PROCESS, RUN, RESUMES, ERROR = "number", "process", "run", "resumes", "error"  # what is noted of a trial


class Claim:
    """A trial that this process works on.

    Attributes:
        number: of the trial.
        chosen: what it tries; None in a study without a search space.
        resumes: ID of the run in which it was interrupted.
    """

    def __init__(
        self, database: Database, study: optuna.Study, trial: optuna.Trial, space: Space | None, seed: int
    ) -> None:
        self._database, self._study, self._trial = database, study, trial
        self._reported: set[int] = set()
        self.number: int = trial.user_attrs[NUMBER]
        self.resumes: str | None = trial.user_attrs.get(RESUMES)
        # a sampler for each number: what is random depends on the number alone, not on who took it or when
        own_seed = int(np.random.SeedSequence([seed, self.number]).generate_state(1)[0])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            study.sampler = optuna.samplers.TPESampler(seed=own_seed, constant_liar=True)
        self.chosen = _suggest(trial, space) if space else None

    def note(self, run_id: str, **about: Any) -> None:
        """Record the run of the trial, and figures for the table."""
        for key, value in {RUN: run_id, **about}.items():
            self._trial.set_user_attr(key, value)

    def report(self, history: Mapping[int, float]) -> bool:
        """Record the value after each epoch; whether the trial should be pruned."""
        for epoch, value in history.items():
            if epoch not in self._reported:
                self._trial.report(value, epoch)
                self._reported.add(epoch)
        return self._trial.should_prune()

    @contextmanager
    def beating(self) -> Iterator[None]:
        """Tell other machines, while the block runs, that this process lives."""
        stop = threading.Event()

        def beat() -> None:
            while not stop.wait(HEARTBEAT):
                self._database.beat(self._study.study_name, self._trial.number)

        thread = threading.Thread(target=beat)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def complete(self, value: float) -> None:
        """The trial is over with this value; an infinite one says that it diverged."""
        self._tell(value)

    def prune(self) -> None:
        """The trial was ended because others were better; it counts."""
        self._tell(state=TrialState.PRUNED)

    def interrupt(self) -> None:
        """The trial was stopped: it does not count, and goes on later with the same values."""
        self._tell(state=TrialState.FAIL)

    def fail(self, error: str) -> None:
        """The trial failed: it does not count, and its number is tried again with other values."""
        self._trial.set_user_attr(ERROR, error)
        self._tell(state=TrialState.FAIL)

    def _tell(self, value: float | None = None, state: TrialState | None = None) -> None:
        # one that was thought to be lost has been given to another process: it is told already
        self._study.tell(self._trial, value, state=state, skip_if_finished=True)


def _suggest(trial: optuna.Trial, space: Space) -> Hyperparameters:
    return Hyperparameters(
        trial.suggest_float("lr", *space.lr, log=True),
        trial.suggest_categorical("batch_size", space.batch_size),
        trial.suggest_int("steps", *space.steps, log=True),
    )
