"""Train every model of a suite with every seed, each in its own process, and continue a suite that was stopped."""

import hashlib
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from threading import Event
from typing import Any

import torch

from protcli.errors import ProtcliError
from protcli.experiments.config import RunConfig
from protcli.experiments.running.train_process import Outcome, child_run, is_resumable, settled, train_in_run
from protcli.experiments.running.workers import events_of
from protcli.experiments.runs.provenance import git_commit
from protcli.experiments.studies.suite import Cell, Suite
from protcli.experiments.studies.suite_configs import suite_configs, tuned_configs
from protcli.process import this_process
from protcli.proteins.dataset import SAMPLE
from protcli.tracking.keys import File, Tag
from protcli.tracking.run import Run, create_run, find_runs, project_run
from protcli.training.engine import PRECISIONS, find_device


@dataclass(frozen=True)
class Begun:
    """The parent run exists. Of `total` trainings, `done` had already finished; `run_id` is the parent's."""

    run_id: str
    total: int
    done: int
    continues: bool


@dataclass(frozen=True)
class Said:
    """A line of a training's output."""

    cell: str
    seed: int
    line: str


@dataclass(frozen=True)
class Ended:
    """A training has ended. `over` of the suite's `total` trainings have ended by now."""

    cell: str
    seed: int
    outcome: Outcome
    over: int = 0
    total: int = 0


@dataclass(frozen=True)
class Job:
    """One training of a suite, and the run to resume if it was stopped before."""

    cell: Cell
    seed: int
    config: RunConfig
    stopped: Run | None = None


def run_suite(
    suite: Suite,
    *,
    seeds: int | None = None,
    data: str = SAMPLE,
    train_split: str | None = None,
    atom: str = "ca",
    precision: str = "32",
    device: str = "auto",
    jobs: int = 1,
    command: str = "",
) -> Generator[Begun | Said | Ended, None, None]:
    """Run the missing trainings of a suite; a training that fails stops no other.

    All runs are children of one parent run. The parent is identified by what decides the results (cells with their
    settings and recipes, data digests, atom, precision), so a suite that was stopped, or needs more seeds, continues
    there. A finished training is not repeated, and a stopped one is resumed in its own run. The seeds are 0, 1, ...;
    trainings run seed by seed, so that an incomplete suite can already be compared.

    Args:
        suite: with its final recipes.
        seeds: how many; None takes the suite's own number.
        data, train_split, atom, precision, device: see `experiments.config`.
        jobs: trainings at the same time; they share the processor's threads.
        command: the command that repeats this, for the record.

    Raises:
        ProtcliError: settings that cannot be used, another process is running the suite, or it is to be tuned first.
            A KeyboardInterrupt stops the trainings, which keep their checkpoints, and leaves the parent KILLED.
    """
    seeds = suite.seeds if seeds is None else seeds
    for option, count in (("--seeds", seeds), ("--jobs", jobs)):
        if count < 1:
            raise ProtcliError(f"{option} is {count}: give 1 or more")
    if precision not in PRECISIONS:
        raise ProtcliError(f"unknown precision {precision!r}: choose one of {', '.join(PRECISIONS)} with --precision")
    find_device(device)
    configs = suite_configs(suite, data, train_split, atom, precision, device)
    threads = max(1, torch.get_num_threads() // jobs)
    about: dict[str, Any] = {}
    if suite.tuned:
        configs, about = tuned_configs(suite, configs)
    makeup = "\n".join([suite.name, *(config.identity for config in configs), *map(str, about.values())])
    identity = hashlib.sha256(makeup.encode()).hexdigest()[:32]
    wanted = [
        Job(cell, seed, config.with_settings(seed=seed, threads=threads))
        for seed in range(seeds)
        for cell, config in zip(suite.cells, configs, strict=True)
    ]
    parent, continues = _parent(suite, identity)
    earlier = find_runs(tags={Tag.PARENT: parent.id, Tag.SUITE: suite.name}) if continues else []
    children = [settled(run) for run in earlier]
    latest = {(run.tags[Tag.CELL], run.tags[Tag.SUITE_SEED]): run for run in children}
    finished = {
        (run.tags[Tag.CELL], run.tags[Tag.SUITE_SEED])
        for run in children
        if run.status == "FINISHED" or run.tags.get(Tag.DIVERGED)  # it would diverge again
    }
    missing = [
        replace(job, stopped=run if run is not None and is_resumable(run) else None)
        for job in wanted
        for run in [latest.get((job.cell.name, str(job.seed)))]
        if (job.cell.name, str(job.seed)) not in finished
    ]
    with _parent_run(parent, suite, seeds, identity, configs[0], command, about) as failures:
        yield Begun(parent.id, len(wanted), len(wanted) - len(missing), continues)
        ended = len(wanted) - len(missing)
        tasks = [partial(_train, parent, suite, job) for job in missing]
        for event in events_of(tasks, jobs):
            if isinstance(event, Ended):
                ended += 1
                event = replace(event, over=ended, total=len(wanted))
                if event.outcome.is_failure:
                    failures.append(f"{event.cell}, seed {event.seed}: {event.outcome.reason}")
            yield event


def _parent(suite: Suite, identity: str) -> tuple[Run, bool]:
    """The run that holds this suite's runs, and whether it existed before.

    Raises:
        ProtcliError: another process is running the suite.
    """
    if earlier := find_runs(tags={Tag.SUITE: suite.name, Tag.IDENTITY: identity}):
        run = earlier[-1]
        if run.is_being_written:
            raise ProtcliError(
                f"suite {suite.name} is being run by process {run.tags[Tag.PROCESS]} (run {run.id}): wait for it, or "
                "stop it"
            )
        if (project := project_run()) and project.id != run.id:
            project.set_tags({Tag.CONTINUES: run.id})
        return run, True
    log = project_run() or create_run(f"suite {suite.name}", f"suite-{suite.name}")
    return log, False


@contextmanager
def _parent_run(
    log: Run, suite: Suite, seeds: int, identity: str, config: RunConfig, command: str, about: dict[str, Any]
) -> Iterator[list[str]]:
    """The parent run while its children are trained; the caller adds failures to the list that is yielded."""
    log.end("RUNNING")
    log.rename(f"suite {suite.name}")
    log.set_tags(
        {
            Tag.SUITE: suite.name,
            Tag.IDENTITY: identity,
            Tag.PROCESS: this_process(),
            Tag.COMMAND: command,
            Tag.SEEDS: seeds,
            Tag.SUITE_DATA: config.data.source,
            Tag.SUITE_COMMIT: git_commit(),
            **about,
        }
    )
    log.set_note(f"# Suite {suite.name}\n\n{suite.question}\n\nIts runs are nested under this one.")
    log.log_text(suite.source, File.SUITE)
    failures: list[str] = []
    status = "FAILED"
    try:
        yield failures
        status = "FAILED" if failures else "FINISHED"
        log.set_tags({Tag.ERROR: "; ".join(failures)})
    except (KeyboardInterrupt, GeneratorExit):
        status = "KILLED"
        raise
    finally:
        log.end(status)


def _train(parent: Run, suite: Suite, job: Job, emit: Callable[[Said | Ended], None], stop: Event) -> None:
    """Train one run of a suite as `protcli train` does, in the stopped run or in a new one."""
    cell, seed = job.cell.name, job.seed
    if job.stopped is not None:
        log = job.stopped
    else:
        tags = {Tag.SUITE: suite.name, Tag.CELL: cell, Tag.SUITE_SEED: str(seed)}
        log = child_run(f"{cell}, seed {seed}", parent, tags)
    outcome = train_in_run(
        log, None if job.stopped else job.config, stops=stop.is_set,
        on_line=lambda line: emit(Said(cell, seed, line)),
    )  # fmt: skip
    emit(Ended(cell, seed, outcome))
