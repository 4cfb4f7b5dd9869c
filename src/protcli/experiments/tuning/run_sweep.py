"""Run the trials of a sweep with several workers, here and wherever the same command is given; continue it; refit."""

from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from threading import Event, Lock

from protcli.errors import ProtcliError
from protcli.experiments.running.steps import total_steps
from protcli.experiments.running.workers import events_of
from protcli.experiments.tuning.claim import Claim
from protcli.experiments.tuning.ledger import Ledger
from protcli.experiments.tuning.record import best_config, parent_run, publish, running
from protcli.experiments.tuning.space import Space
from protcli.experiments.tuning.storage import Database, open_storage
from protcli.experiments.tuning.sweep import Sweep
from protcli.experiments.tuning.work import Ended, Said, Work
from protcli.tracking.keys import Tag
from protcli.tracking.run import Run, find_run, find_runs
from protcli.training.engine import PRECISIONS, find_device

AGAIN = 1.0  # seconds after which a worker without work looks again: another process may be lost
MOST_FAILURES = 3  # of one trial in one call


@dataclass(frozen=True)
class Begun:
    """The parent runs exist: their IDs by model. Of `total` trials, `counted` already count; `space` is searched."""

    run_ids: dict[str, str]
    total: int
    counted: int
    space: Space


@dataclass(frozen=True)
class Swept:
    """All trials count. `found` are the parent runs, complete, with their trials."""

    found: list[tuple[Run, Ledger]]


def run_sweeps(
    sweeps: Sequence[Sweep], *, storage: str | None = None, workers: int = 1, refit: int = 0, command: str = ""
) -> Generator[Begun | Said | Ended | Swept, None, None]:
    """Run the trials that are missing, of all models in turn, and then refit the best of each.

    Other processes with the same storage and MLflow store may do the same at the same time: each trial is trained by
    one of them and counted once. This one returns when all trials count, whoever trained them. A trial that fails or
    is interrupted does not count and is trained again; one that diverges counts, and so does one that is pruned.

    Args:
        sweeps: see `make_sweeps`.
        storage: see `open_storage`.
        workers: trainings at the same time; they share the processor's threads.
        refit: how many runs of each model are trained with its best recipe, on the whole training split.
        command: the command that repeats this, for the record.

    Raises:
        ProtcliError: settings that cannot be used, or a trial fails several times. A KeyboardInterrupt stops the
            trainings, which go on in their own runs when the sweep is run again.
    """
    if workers < 1:
        raise ProtcliError(f"--workers is {workers}: give 1 or more")
    if refit < 0:
        raise ProtcliError(f"--refit is {refit}: give a number of seeds")
    for config in (sweep.config for sweep in sweeps):
        if config.run.precision not in PRECISIONS:
            raise ProtcliError(f"unknown precision {config.run.precision!r}: choose one of {', '.join(PRECISIONS)}")
        find_device(config.run.device)
    database = open_storage(storage)
    works = [trials_of(sweep, database) for sweep in sweeps]
    with ExitStack() as stack:
        for work in works:
            stack.enter_context(running(work.parent, work.ledger, command))
        yield Begun(
            {work.model: work.parent.id for work in works},
            sum(work.ledger.trials for work in works),
            sum(work.ledger.counted for work in works),
            sweeps[0].space,
        )
        yield from _run(works, workers)
        if refit:
            refits = [_refits(sweep, work, refit) for sweep, work in zip(sweeps, works, strict=True)]
            yield from _run(list(filter(None, refits)), workers)
    yield Swept([(find_run(work.parent.id), work.ledger) for work in works])


def report_sweep(name: str, storage: str | None = None) -> list[tuple[Run, Ledger]]:
    """Write the files and notes of all sweeps of a name as they are now; returns their runs and trials.

    Raises:
        ProtcliError: there is none.
    """
    parents = [run for run in find_runs(tags={Tag.SWEEP: name}) if Tag.PARENT not in run.tags]
    if not parents:
        raise ProtcliError(f"there is no sweep {name} here: make one with `protcli sweep` or `protcli suite tune`")
    database = open_storage(storage)
    found = []
    for parent in parents:
        ledger = Ledger(database, parent.tags[Tag.SWEEP_STUDY], trials=int(parent.tags[Tag.SWEEP_WANTED]))
        if ledger.parent == parent.id:  # not one whose process was killed while making it
            publish(parent, ledger)
            found.append((find_run(parent.id), ledger))
    return found


def trials_of(sweep: Sweep, database: Database) -> Work:
    """The trials of a sweep, in a study of its own, which is created if there is none."""
    name = f"{sweep.name}/{sweep.model}/{sweep.identity}"
    ledger = Ledger(database, name, trials=sweep.trials, space=sweep.space, own=sweep.own, seed=sweep.seed)
    return Work(
        model=sweep.model,
        ledger=ledger,
        parent=parent_run(sweep, ledger),
        configure=lambda chosen, number: sweep.trial(chosen or sweep.own, number),
        about=lambda chosen, config: {
            "epochs": config.spec.recipe.epochs,
            "steps": sweep.steps_of(config),
            "refit_epochs": sweep.refit(chosen or sweep.own).spec.recipe.epochs,
        },
        label=lambda number: f"trial {number}",
        tags=lambda number: {
            Tag.SWEEP: sweep.name, Tag.SWEEP_MODEL: sweep.model, Tag.SWEEP_TRIAL: str(number),
        },
    )  # fmt: skip


def _refits(sweep: Sweep, work: Work, seeds: int) -> Work | None:
    """The trainings of the best recipe; None if all trials diverged."""
    best = work.ledger.best
    if best is None:
        return None
    config = best_config(sweep.config, best)
    return Work(
        model=sweep.model,
        ledger=Ledger(work.ledger.database, f"{work.ledger.name}/refit of trial {best.number}", trials=seeds),
        parent=work.parent,
        configure=lambda _, seed: config.with_settings(seed=seed),
        about=lambda _, config: {
            "epochs": config.spec.recipe.epochs, "steps": total_steps(config, sweep.whole),
        },
        label=lambda seed: f"refit, seed {seed}",
        tags=lambda seed: {
            Tag.SWEEP: sweep.name, Tag.SWEEP_MODEL: sweep.model, Tag.SWEEP_REFIT: str(best.number),
        },
    )  # fmt: skip


def _run(works: Sequence[Work], workers: int) -> Generator[Said | Ended, None, None]:
    """What the workers of this process say, until all trainings count."""
    failures: dict[tuple[str, str], int] = {}
    lock = Lock()

    def claim() -> tuple[Work, Claim] | None:
        with lock:  # the models in turn, so that an unfinished sweep can already be compared
            for work in sorted(works, key=lambda work: work.ledger.begun):
                if claimed := work.ledger.claim():
                    return work, claimed
        return None

    def worker(emit: Callable[[Said | Ended], None], stop: Event) -> None:
        while not stop.is_set():
            if (claimed := claim()) is None:
                if all(work.ledger.counted >= work.ledger.trials for work in works):
                    return
                stop.wait(AGAIN)
                continue
            work, trial = claimed
            ended = work.train(trial, workers, emit, stop)
            if ended.state == "FAIL":
                which = ended.model, ended.label
                failures[which] = failures.get(which, 0) + 1
                if failures[which] == MOST_FAILURES:
                    raise ProtcliError(f"{ended.model}, {ended.label} failed {MOST_FAILURES} times: {ended.reason}")

    yield from events_of([worker] * workers, workers)
