"""One training of a sweep, as a trial or as a refit of the best: claimed, trained in a process of its own, told."""

import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from threading import Event

import torch

from protcli.errors import ProtcliError
from protcli.experiments.config import RunConfig
from protcli.experiments.running.train_process import (
    Outcome,
    child_run,
    is_resumable,
    outcome_of,
    settled,
    train_in_run,
)
from protcli.experiments.tuning.claim import Claim
from protcli.experiments.tuning.ledger import Ledger
from protcli.experiments.tuning.space import Hyperparameters
from protcli.tracking.keys import Metric, Tag
from protcli.tracking.run import Run, find_run


@dataclass(frozen=True)
class Said:
    """A line of a training's output; `label` is `trial 3` or `refit, seed 0`."""

    model: str
    label: str
    line: str


@dataclass(frozen=True)
class Ended:
    """A training has ended.

    Attributes:
        model, label, run_id: which one.
        state: COMPLETE, PRUNED, FAIL or INTERRUPTED; the first two count.
        mse: lowest MSE in A^2, of a trial on the families held out, of a refit on the validation split; infinite if
            it diverged, NaN unless it is COMPLETE.
        chosen: what it tried; None for a refit.
        steps: optimiser steps of the whole training.
        reason: why it failed.
        counted, total: trials of the model that count by now, and that are wanted.
    """

    model: str
    label: str
    run_id: str
    state: str
    mse: float
    chosen: Hyperparameters | None
    steps: int
    reason: str
    counted: int
    total: int


@dataclass(frozen=True)
class Work:
    """What the trainings of one ledger are.

    Attributes:
        model: name of the model.
        ledger: which of them are done.
        parent: the run that holds theirs.
        configure: a training's configuration, by what it tries and its number.
        about: figures of a training for the ledger, by what it tries and its configuration.
        label: name of a training, by its number.
        tags: of its run, by its number.
    """

    model: str
    ledger: Ledger
    parent: Run
    configure: Callable[[Hyperparameters | None, int], RunConfig]
    about: Callable[[Hyperparameters | None, RunConfig], Mapping[str, int]]
    label: Callable[[int], str]
    tags: Callable[[int], Mapping[str, str]]

    def train(self, claim: Claim, workers: int, emit: Callable[[Said | Ended], None], stop: Event) -> Ended:
        """Train what was claimed, unless that was done before the claim could be told; report how it ended."""
        label = self.label(claim.number)
        threads = max(1, torch.get_num_threads() // workers)
        config = self.configure(claim.chosen, claim.number).with_settings(threads=threads)
        earlier = _earlier(claim)
        log, begun, pruned = self._run(claim, earlier, label)
        about = self.about(claim.chosen, config)
        claim.note(log.id, **about)
        is_pruned = Event()
        if pruned:
            is_pruned.set()

        def on_line(line: str) -> None:
            emit(Said(self.model, label, line))
            # the metrics of an epoch are logged before its line is printed
            if line.startswith("epoch ") and claim.report(find_run(log.id).history(Metric.VALID_MSE)):
                is_pruned.set()

        outcome = begun
        if outcome is None:
            with claim.beating():
                outcome = train_in_run(
                    log, None if earlier is not None and log.id == earlier.id else config,
                    stops=lambda: stop.is_set() or is_pruned.is_set(), on_line=on_line,
                )  # fmt: skip
        state, mse = self._tell(claim, outcome, log, is_pruned.is_set(), stop.is_set())
        ended = Ended(
            self.model, label, log.id, state, mse, claim.chosen, about["steps"],
            outcome.reason if state == "FAIL" else "",
            self.ledger.counted, self.ledger.trials,
        )  # fmt: skip
        emit(ended)
        return ended

    def _run(self, claim: Claim, earlier: Run | None, label: str) -> tuple[Run, Outcome | None, bool]:
        """The run to train in, how its training ended if it has, and whether it was pruned."""
        if earlier is not None:
            outcome, pruned = outcome_of(earlier), Tag.PRUNED in earlier.tags
            if outcome.status == "FINISHED" or outcome.diverged or pruned:
                return earlier, outcome, pruned
            if is_resumable(earlier):
                return earlier, None, False
        return child_run(f"{self.model}, {label}", self.parent, self.tags(claim.number)), None, False

    def _tell(self, claim: Claim, outcome: Outcome, log: Run, is_pruned: bool, is_stopped: bool) -> tuple[str, float]:
        """Tell the ledger how a training ended: the state, and the validation MSE."""
        if outcome.status == "FINISHED" and outcome.best_mse is not None:
            claim.report(find_run(log.id).history(Metric.VALID_MSE))
            claim.complete(outcome.best_mse)
            return "COMPLETE", outcome.best_mse
        if outcome.diverged:
            claim.complete(math.inf)
            return "COMPLETE", math.inf
        if is_pruned and outcome.status == "KILLED":
            log.set_tags({Tag.PRUNED: True})
            claim.prune()
            return "PRUNED", math.nan
        if is_stopped or outcome.status == "KILLED":
            claim.interrupt()
            return "INTERRUPTED", math.nan
        claim.fail(outcome.reason)
        return "FAIL", math.nan


def _earlier(claim: Claim) -> Run | None:
    """The run in which the claimed training was interrupted; None if it is deleted, or is still being filled."""
    if claim.resumes is None:
        return None
    with suppress(ProtcliError):
        return settled(find_run(claim.resumes))
    return None
