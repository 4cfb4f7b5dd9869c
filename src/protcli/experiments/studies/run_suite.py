"""Train every model of a suite with every seed, each in a process of its own, and go on where that was stopped."""

import hashlib
import os
import platform
import queue
import subprocess
import sys
import tempfile
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event

import psutil
import torch

from protcli.errors import ProtcliError
from protcli.experiments.running.record import git_commit
from protcli.experiments.runs.config import RunConfig
from protcli.experiments.studies.suite import Cell, Suite
from protcli.proteins.dataset import SAMPLE, open_dataset
from protcli.tracking.runs import PARENT, RecordedRun, RunLog, begin_run, find_run, find_runs, project_run
from protcli.tracking.store import tracking_uri
from protcli.training.engine import PRECISIONS, find_device

SUITE, CELL, SEED, IDENTITY, PROCESS = "suite", "suite.cell", "suite.seed", "suite.identity", "suite.process"
COMMAND, SEEDS = "suite.command", "suite.seeds"
SUITE_FILE = "suite.yaml"
POLL = 0.2  # seconds between looks at what is to be stopped


@dataclass(frozen=True)
class Begun:
    """The parent run exists. Of `total` trainings, `done` were finished before; `run_id` is the parent's."""

    run_id: str
    total: int
    done: int
    continues: bool


@dataclass(frozen=True)
class Said:
    """A training said something: a line of its output."""

    cell: str
    seed: int
    line: str


@dataclass(frozen=True)
class Ended:
    """A training is over.

    Attributes:
        cell, seed, run_id: which.
        status: FINISHED, FAILED or KILLED.
        reason: why it is not FINISHED.
        best_mse: validation MSE of its best epoch in A^2, None where it has none.
        over: how many of the suite are over by now, `total` of how many.
    """

    cell: str
    seed: int
    run_id: str
    status: str
    reason: str
    best_mse: float | None
    over: int
    total: int


@dataclass(frozen=True)
class Job:
    """One training of a suite."""

    cell: Cell
    seed: int
    config: RunConfig


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
    """Train what is missing of a suite; a training that fails stops no other.

    The runs lie under one parent run. It is found again by what decides the results (cells with their settings and
    recipes, data digests, atom, precision): a suite that was stopped, or is asked for more seeds, goes on there, and no
    finished training is repeated. The seeds are 0, 1, ...; the order is seed by seed, so that a part is a comparison.

    Args:
        suite: with its recipes as they shall be.
        seeds: how many; None takes the suite's own number.
        data, train_split, atom, precision, device: see `experiments.config.RunConfig`.
        jobs: trainings at the same time. Several share the processor's threads between them.
        command: that repeats this, for the record.

    Raises:
        ProtcliError: settings that cannot be used, or the suite is being run by another process. A KeyboardInterrupt
            stops the trainings, which keep their checkpoints, and leaves the parent KILLED.
    """
    seeds = suite.seeds if seeds is None else seeds
    for option, count in (("--seeds", seeds), ("--jobs", jobs)):
        if count < 1:
            raise ProtcliError(f"{option} is {count}: give 1 or more")
    if precision not in PRECISIONS:
        raise ProtcliError(f"unknown precision {precision!r}: choose one of {', '.join(PRECISIONS)} with --precision")
    find_device(device)
    configs = _configs(suite, data, train_split, atom, precision, device)
    identity = hashlib.sha256("\n".join([suite.name, *map(_identity, configs)]).encode()).hexdigest()[:32]
    wanted = [
        Job(cell, seed, replace(config, seed=seed))
        for seed in range(seeds)
        for cell, config in zip(suite.cells, configs, strict=True)
    ]
    parent, continues = _parent(suite, identity)
    children = find_runs(tags={PARENT: parent.id, SUITE: suite.name}) if continues else []
    _settle(children)
    finished = {(run.tags[CELL], run.tags[SEED]) for run in children if run.status == "FINISHED"}
    missing = [job for job in wanted if (job.cell.name, str(job.seed)) not in finished]
    with _parent_run(parent, suite, seeds, identity, configs[0], command) as failures:
        yield Begun(parent.id, len(wanted), len(wanted) - len(missing), continues)
        over = len(wanted) - len(missing)
        for event in _trained(parent, suite, missing, jobs):
            if isinstance(event, Ended):
                over += 1
                event = replace(event, over=over, total=len(wanted))
                if event.status != "FINISHED":
                    failures.append(f"{event.cell}, seed {event.seed}: {event.reason}")
            yield event


def _configs(
    suite: Suite, data: str, train_split: str | None, atom: str, precision: str, device: str
) -> list[RunConfig]:
    """Each cell's configuration, with the digest of the data that all its runs must find."""
    configs = []
    digests: dict[int, tuple[str, str]] = {}
    for cell in suite.cells:
        crop = cell.spec.recipe.crop
        if crop not in digests:
            dataset = open_dataset(data, train_split=train_split, atom=atom, crop=crop)
            digests[crop] = dataset.train.name, dataset.digest
        name, digest = digests[crop]
        configs.append(
            RunConfig(
                spec=cell.spec,
                model_file=cell.model_file,
                train_split=name,
                atom=atom,
                digest=digest,
                data=data if data == SAMPLE else str(Path(data).absolute()),
                precision=precision,
                device=device,
            )
        )
    return configs


def _identity(config: RunConfig) -> str:
    """What decides a cell's results: not where the data lies, nor where it is computed, nor by which release."""
    text = replace(config, data="", device="", model_file=None).to_yaml().split("\n", 1)[1]  # without the version
    return text + (config.model_file.read_text(encoding="utf-8") if config.model_file else "")


def _parent(suite: Suite, identity: str) -> tuple[RunLog, bool]:
    """The run that holds this suite's runs, and whether it was there before.

    Raises:
        ProtcliError: another process is at it.
    """
    if earlier := find_runs(tags={SUITE: suite.name, IDENTITY: identity}):
        run = earlier[-1]
        if run.status == "RUNNING" and _is_alive(run.tags.get(PROCESS, "")):
            raise ProtcliError(
                f"suite {suite.name} is being run by process {run.tags[PROCESS]} (run {run.id}): wait for it or stop it"
            )
        if (begun := project_run()) and begun.id != run.id:
            begun.tags({"suite.continues": run.id})
        return run.log(), True
    log = project_run() or begin_run(f"suite {suite.name}", f"suite-{suite.name}")
    return log, False


def _settle(children: list[RecordedRun]) -> None:
    """Mark as KILLED what a process that is no more has left RUNNING.

    Raises:
        ProtcliError: one of them is still being trained.
    """
    for run in children:
        if run.status == "RUNNING":
            if _is_alive(run.tags.get(PROCESS, "")):
                raise ProtcliError(
                    f"{run.name} (run {run.id}) is still being trained by process {run.tags[PROCESS]}: wait for it or "
                    "stop it"
                )
            run.log().end("KILLED")


@contextmanager
def _parent_run(
    log: RunLog, suite: Suite, seeds: int, identity: str, config: RunConfig, command: str
) -> Iterator[list[str]]:
    """The parent run while its children are trained; what has failed is put into the list that is yielded."""
    log.end("RUNNING")
    log.name(f"suite {suite.name}")
    log.tags(
        {
            SUITE: suite.name,
            IDENTITY: identity,
            PROCESS: _this_process(os.getpid()),
            COMMAND: command,
            SEEDS: seeds,
            "suite.data": config.data,
            "suite.git_commit": git_commit(),
        }
    )
    log.note(f"# Suite {suite.name}\n\n{suite.question}\n\nIts runs are folded under this one.")
    log.text(suite.source, SUITE_FILE)
    failures: list[str] = []
    status = "FAILED"
    try:
        yield failures
        status = "FAILED" if failures else "FINISHED"
        log.tags({"error": "; ".join(failures)})
    except (KeyboardInterrupt, GeneratorExit):
        status = "KILLED"
        raise
    finally:
        log.end(status)


def _trained(parent: RunLog, suite: Suite, missing: list[Job], jobs: int) -> Iterator[Said | Ended]:
    """What the trainings say, and how each ends, in the order in which it happens."""
    events: queue.Queue[Said | Ended | BaseException] = queue.Queue()
    stop = Event()

    def work(job: Job) -> None:
        if stop.is_set():
            return
        try:
            _train(parent, suite, job, jobs, events, stop)
        except BaseException as error:
            events.put(error)

    with ThreadPoolExecutor(jobs) as workers:
        try:
            for job in missing:
                workers.submit(work, job)
            ended = 0
            while ended < len(missing):
                event = events.get()
                if isinstance(event, BaseException):
                    raise event
                ended += isinstance(event, Ended)
                yield event
        finally:
            stop.set()


def _train(parent: RunLog, suite: Suite, job: Job, jobs: int, events: queue.Queue, stop: Event) -> None:
    """Train one run of a suite as `protcli train` does, in the run that is made for it here."""
    name = f"{job.cell.name}, seed {job.seed}"
    tags = {PARENT: parent.id, SUITE: suite.name, CELL: job.cell.name, SEED: str(job.seed)}
    log = begin_run(name, parent.experiment, tags)
    environment = os.environ | {"MLFLOW_RUN_ID": log.id, "MLFLOW_TRACKING_URI": tracking_uri(), "PYTHONUNBUFFERED": "1"}
    if jobs > 1:
        environment["OMP_NUM_THREADS"] = str(max(1, torch.get_num_threads() // jobs))
    with tempfile.TemporaryDirectory(prefix="protcli-") as folder:
        config = Path(folder) / "config.yaml"
        config.write_text(job.config.to_yaml(), encoding="utf-8")
        with subprocess.Popen(
            [sys.executable, "-m", "protcli", "train", "--config", str(config)], env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        ) as process:  # fmt: skip
            log.tags({PROCESS: _this_process(process.pid)})
            watcher = ThreadPoolExecutor(1)
            watcher.submit(_stop_on, stop, process)
            last = ""
            assert process.stdout is not None
            for line in process.stdout:
                last = line.strip() or last
                events.put(Said(job.cell.name, job.seed, line.rstrip()))
        watcher.shutdown()
    run = find_run(log.id)
    status = run.status
    if process.returncode != 0 and status in ("RUNNING", "FINISHED"):
        status = "KILLED" if stop.is_set() else "FAILED"
        log.end(status)
        log.tags({"error": last.removeprefix("Error: ")})
    reason = run.tags.get("error", "") or (last if status != "FINISHED" else "")
    best = run.metrics.get("best/valid_mse")
    events.put(Ended(job.cell.name, job.seed, log.id, status, reason.removeprefix("Error: "), best, 0, 0))


def _stop_on(stop: Event, process: subprocess.Popen) -> None:
    """End a training when all are to stop: it marks its run as KILLED and keeps its checkpoints."""
    while process.poll() is None:
        if stop.wait(POLL):
            process.terminate()
            return


def _this_process(pid: int) -> str:
    """A process as it is told from all others: machine, number and when it began."""
    try:
        return f"{platform.node()}:{pid}:{psutil.Process(pid).create_time():.0f}"
    except psutil.NoSuchProcess:
        return f"{platform.node()}:{pid}:0"


def _is_alive(process: str) -> bool:
    """Whether a process is still there; one on another machine is taken to be."""
    machine, _, rest = process.partition(":")
    pid, _, began = rest.partition(":")
    if not pid.isdigit():
        return False
    if machine != platform.node():
        return True
    return _this_process(int(pid)) == process and began != "0"
