"""Run the trials of a sweep with several workers, here and wherever the same command is given; continue it; refit."""

import math
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from threading import Event

import torch
from optuna import Trial, get_all_study_names
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState

from protcli.errors import ProtcliError
from protcli.experiments.sweeps.record import parent_run, publish
from protcli.experiments.sweeps.space import Hyperparameters, Space, Sweep
from protcli.experiments.sweeps.trials import ERROR, RUN, TrialQueue, number_of, open_storage, report
from protcli.experiments.tasks import (
    OutputLine,
    Task,
    TaskEvent,
    TaskStarted,
    Train,
    events_of,
    is_resumable,
    open_parent,
    run_task,
    settled,
    train_process,
)
from protcli.experiments.train import total_steps
from protcli.tracking.keys import Metric, Tag
from protcli.tracking.run import Run, find_run, find_runs
from protcli.training.engine import find_device, start_engine

IDLE_SECONDS = 1.0  # after which a worker without work looks again: another process may be lost
MOST_FAILURES = 3  # of one trial, before the sweep is stopped


@dataclass(frozen=True)
class SweepStarted:
    """The parent runs exist: their IDs by model. Of `total` trials, `counted` already count; `space` is searched."""

    run_ids: dict[str, str]
    total: int
    counted: int
    space: Space


@dataclass(frozen=True)
class TrialFinished:
    """A training has ended.

    Attributes:
        name: `psp1, trial 3` or `psp1, refit, seed 0`.
        state: COMPLETE, PRUNED, FAIL or INTERRUPTED; the first two count.
        mse: lowest MSE in Å², of a trial on the families held out, of a refit on the validation split; infinite if
            it diverged, None unless it is COMPLETE.
        tried: its values; None for a refit.
        steps: optimiser steps of the whole training.
        reason: why it failed.
        counted, total: trials of the model that count by now, and that are wanted.
    """

    name: str
    state: str
    mse: float | None
    tried: Hyperparameters | None
    steps: int
    reason: str
    counted: int
    total: int


@dataclass(frozen=True)
class SweepFinished:
    """All trials count. `sweeps` are the parent runs, complete, with their trials."""

    sweeps: list[tuple[Run, TrialQueue]]


SweepEvent = SweepStarted | OutputLine | TrialFinished | SweepFinished
Emit = Callable[[OutputLine | TrialFinished], None]


def run_sweeps(
    sweeps: Sequence[Sweep], *, storage: str | None = None, workers: int = 1, refit: int = 0, command: str = "",
    train: Train = train_process,
) -> Generator[SweepEvent, None, None]:  # fmt: skip
    """Run the trials that are missing, of all models in turn, and then refit the best of each.

    Other processes with the same storage and MLflow store may do the same at the same time: each trial is trained by
    one of them and counted once; now and then two take the same one, at most one more training for each process. This
    one returns when all trials count, whoever trained them. A trial that fails or is interrupted does not count and is
    trained again; one that diverges counts, and so does one that is pruned.

    Args:
        sweeps: see `make_sweeps`.
        storage: see `open_storage`.
        workers: trainings at the same time; they share the processor's threads.
        refit: how many runs of each model are trained with its best recipe, on the whole training split.
        command: the command that repeats this, for the record.
        train: how a training is started.

    Raises:
        ProtcliError: settings that cannot be used, or a trial fails several times. A KeyboardInterrupt stops the
            trainings, which go on in their own runs when the sweep is run again.
    """
    if workers < 1:
        raise ProtcliError(f"--workers is {workers}: give 1 or more")
    if refit < 0:
        raise ProtcliError(f"--refit is {refit}: give a number of seeds")
    for sweep in sweeps:
        start_engine(find_device(sweep.config.run.device), sweep.config.run.precision)  # refuses what there is not
    database = open_storage(storage)
    runners = [trials_of(sweep, database) for sweep in sweeps]
    with ExitStack() as stack:
        for runner in runners:
            wanted = {Tag.COMMAND: command, Tag.SWEEP_WANTED: runner.queue.wanted}
            stack.enter_context(open_parent(runner.parent, wanted))
            stack.callback(publish, runner.parent, runner.queue)
        yield SweepStarted(
            {runner.sweep.model: runner.parent.id for runner in runners},
            sum(runner.queue.wanted for runner in runners),
            sum(runner.queue.counted for runner in runners),
            sweeps[0].space,
        )
        yield from _run(runners, workers, train)
        if refit:
            best = [(runner, trial) for runner in runners if (trial := runner.queue.best)]  # not all have diverged
            yield from _run([_refits(runner, trial, refit) for runner, trial in best], workers, train)
    yield SweepFinished([(runner.parent.reread(), runner.queue) for runner in runners])


def _run(runners: Sequence["TrialRunner"], workers: int, train: Train) -> Iterator[OutputLine | TrialFinished]:
    """What the workers of this process say, until all trainings count."""
    threads = max(1, torch.get_num_threads() // workers)

    def worker(emit: Emit, stop: Event) -> None:
        while not stop.is_set():
            # the models in turn, so that an unfinished sweep can already be compared
            for runner in sorted(runners, key=lambda runner: runner.queue.begun):
                sweep = runner.sweep
                if trial := runner.queue.claim(sweep.space, sweep.own_recipe, sweep.seed):
                    runner.train(trial, threads, emit, stop, train)
                    break
            else:
                if all(runner.queue.counted >= runner.queue.wanted for runner in runners):
                    return
                stop.wait(IDLE_SECONDS)

    return events_of([worker] * workers, workers)


@dataclass(frozen=True)
class TrialRunner:
    """Trains the trials of a sweep, or refits of a trial by its number: a sweep of one recipe on the whole data."""

    sweep: Sweep
    queue: TrialQueue
    parent: Run
    refit_of: int | None = None

    def train(self, trial: Trial, threads: int, emit: Emit, stop: Event, train: Train) -> None:
        """Train what was claimed and tell how it ended.

        Raises:
            ProtcliError: it has failed several times.
        """
        sweep, number, is_refit = self.sweep, number_of(trial), self.refit_of is not None
        tried = Hyperparameters(**trial.params)
        config = sweep.trial(tried, number)
        steps = total_steps(config, sweep.reduced)
        trial.set_user_attr("steps", steps)
        trial.set_user_attr("epochs", config.spec.recipe.epochs)
        trial.set_user_attr("refit_epochs", sweep.refit(tried).spec.recipe.epochs)
        name, tag = f"{sweep.model}, trial {number}", {Tag.SWEEP_TRIAL: str(number)}
        if is_refit:
            name, tag = f"{sweep.model}, refit, seed {number}", {Tag.SWEEP_REFIT: str(self.refit_of)}
        tags = {Tag.SWEEP: sweep.name, Tag.SWEEP_MODEL: sweep.model, **tag}
        task = Task(name, config.with_settings(threads=threads), tags)
        with suppress(ProtcliError):  # it is deleted, or is still being filled
            stopped = self.queue.interrupted(number)
            if stopped and is_resumable(before := settled(find_run(stopped.user_attrs[RUN]))):
                task = replace(task, stopped=before)
        pruned, runs = Event(), []

        def on_event(event: TaskEvent) -> None:
            match event:
                case TaskStarted():
                    runs.append(event.run)
                    trial.set_user_attr(RUN, event.run.id)
                case OutputLine():
                    emit(event)
                    # the metrics of an epoch are logged before its line is printed
                    if event.line.startswith("epoch ") and report_epochs() and not is_refit:
                        pruned.set()

        def report_epochs() -> bool:
            return report(trial, runs[0].history(Metric.VALID_MSE))

        with self.queue.beating(trial):
            finished = run_task(self.parent, task, on_event, lambda: stop.is_set() or pruned.is_set(), train)
        state, mse, reason = TrialState.FAIL, None, ""
        if finished.diverged or finished.status == "FINISHED":
            report_epochs()
            state, mse = TrialState.COMPLETE, math.inf if finished.diverged else finished.best_mse
        elif finished.status == "KILLED" and pruned.is_set():
            state = TrialState.PRUNED
            runs[0].set_tags({Tag.PRUNED: True})
        elif finished.status != "KILLED" and not stop.is_set():
            reason = finished.reason
            trial.set_user_attr(ERROR, reason)
        # one that was thought to be lost has been given to another process: it is told already
        trial.study.tell(trial, mse, state=state, skip_if_finished=True)
        has_failed, counted = ERROR in trial.user_attrs, self.queue.counted
        outcome = "INTERRUPTED" if state == TrialState.FAIL and not has_failed else state.name
        emit(TrialFinished(name, outcome, mse, None if is_refit else tried, steps, reason, counted, self.queue.wanted))
        if has_failed and self.queue.failures(number) % MOST_FAILURES == 0:
            raise ProtcliError(f"{name} failed {MOST_FAILURES} times: {reason}")


def trials_of(sweep: Sweep, database: RDBStorage) -> TrialRunner:
    """The trials of a sweep, in a study and a run of its own, which are made if there are none."""
    queue = TrialQueue(database, f"{sweep.name}/{sweep.model}/{sweep.identity}", sweep.tuning.trials)
    return TrialRunner(sweep, queue, parent_run(sweep, queue))


def _refits(runner: TrialRunner, best: FrozenTrial, seeds: int) -> TrialRunner:
    """The trainings of the best recipe, on the whole training split."""
    sweep, recipe, number = runner.sweep, Hyperparameters(**best.params), number_of(best)
    whole = replace(
        sweep, reduced=sweep.whole, tuning=replace(sweep.tuning, held_out=0.0), own_recipe=recipe,
        space=Space((recipe.lr, recipe.lr), (recipe.batch_size,), (recipe.steps, recipe.steps)),
    )  # fmt: skip
    queue = TrialQueue(runner.queue.storage, f"{runner.queue.name}/refit of trial {number}", seeds)
    return TrialRunner(whole, queue, runner.parent, number)


def report_sweep(name: str, storage: str | None = None) -> list[tuple[Run, TrialQueue]]:
    """Write the files and notes of all sweeps of a name as they are now; returns their runs and trials.

    Raises:
        ProtcliError: there is none, or its trials are in another database.
    """
    parents = [run for run in find_runs(tags={Tag.SWEEP: name}) if Tag.PARENT not in run.tags]
    if not parents:
        raise ProtcliError(f"there is no sweep {name} here: make one with `protcli sweep` or `protcli suite tune`")
    database, sweeps = open_storage(storage), []
    studies = get_all_study_names(database)
    for parent in parents:
        if parent.tags[Tag.SWEEP_STUDY] in studies:
            queue = TrialQueue(database, parent.tags[Tag.SWEEP_STUDY], int(parent.tags[Tag.SWEEP_WANTED]))
            if queue.parent == parent.id:  # not one whose process was killed while making it
                publish(parent, queue)
                sweeps.append((parent.reread(), queue))
    if not sweeps:
        raise ProtcliError(f"the trials of sweep {name} are in another database: name it with --storage")
    return sweeps
