"""One run in MLflow: begun, written, found and read, with the folder of its files."""

import json
import logging
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import cache, cached_property
from itertools import count
from pathlib import Path
from threading import Event, Thread
from typing import Any

import mlflow
import psutil
from mlflow.entities import Experiment, LifecycleStage, Metric
from mlflow.entities import Run as RunEntity
from mlflow.environment_variables import MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL
from mlflow.exceptions import MlflowException
from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor
from mlflow.system_metrics.metrics.rocm_monitor import ROCMMonitor
from mlflow.tracking.context.registry import resolve_tags
from mlflow.utils.file_utils import local_file_uri_to_path
from mlflow.utils.mlflow_tags import MLFLOW_SOURCE_TYPE
from mlflow.utils.uri import is_local_uri

from protcli.errors import ProtcliError, full_disk, quote, truncate
from protcli.process import (
    cache_folder,
    is_gone,
    lasting_scratch_folder,
    remove_left_scratch,
    this_process,
    uninterrupted,
)
from protcli.tracking.journal import (
    Journal,
    deliver_left,
    journal_path,
    make_journals,
    open_journal,
    read_writes,
    send,
)
from protcli.tracking.keys import File, Param, Tag
from protcli.tracking.moved import FILES
from protcli.tracking.store import is_new_store, open_store, search_all_runs, tracking_uri
from protcli.tracking.ui import prepare_experiment, show_metric

NOTE = "mlflow.note.content"
INVENTED_NAME = re.compile(r"[a-z]+-[a-z]+-\d{1,4}")  # by MLflow: bold-fish-123
DATASET_DIGEST_LENGTH = 36  # MLflow's limit
ERROR_LENGTH = 1000  # characters of the error kept on a run; its log has the rest
SECONDS_FOR_STOPPED = 20.0  # that a run which was stopped or failed waits for a store that is away
ONE_RETRY = ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # MLflow's own take minutes: here the journal waits
SECONDS_BETWEEN_SAMPLES = 5.0  # of system metrics
SYSTEM_METRIC = "system/cpu_utilization_percentage"  # one that each sample has

log = logging.getLogger("protcli")


class Run:
    """A run of the store: what it held when it was read, its files, and the way to write to it.

    A write completes before a signal is handled. That of `start_run` has a journal: a write is complete when it is on
    the disk, and is delivered in the background. A finished run can be written to as well.

    Attributes:
        id, name, status: as MLflow has them (`status` RUNNING, FINISHED, FAILED or KILLED).
        experiment_id: ID of its experiment.
        started: milliseconds since 1970.
        params, metrics, tags: by name, as they were when the run was read; metrics hold their last value.
    """

    def __init__(self, client: mlflow.MlflowClient, run: RunEntity, journal: Journal | None = None) -> None:
        self._client: Any = client
        self._journal = journal
        self._artifacts: str = run.info.artifact_uri
        self.id: str = run.info.run_id
        self.name: str = run.info.run_name or ""
        self.status: str = run.info.status
        self.experiment_id: str = run.info.experiment_id
        self.started: int = run.info.start_time
        self.params: dict[str, str] = run.data.params
        self.metrics: dict[str, float] = run.data.metrics
        self.tags: dict[str, str] = run.data.tags

    def reread(self) -> "Run":
        """The same run as the store has it now, whether its process still exists or not."""
        return Run(self._client, self._client.get_run(self.id))

    @property
    def experiment(self) -> str:
        """Name of the run's experiment."""
        return self._client.get_experiment(self.experiment_id).name

    @property
    def is_being_written(self) -> bool:
        """Whether it is RUNNING and so is its process; one on another machine is assumed to be running."""
        return self.status == "RUNNING" and Tag.PROCESS in self.tags and not is_gone(self.tags[Tag.PROCESS])

    @property
    def is_lost(self) -> bool:
        """Whether its process ended without ending the run."""
        return bool(self.tags.get(Tag.LOST))

    def history(self, metric: str) -> dict[int, float]:
        """All values of a metric by step, in step order, with those that wait in a journal of this machine."""
        writes = read_writes(journal_path(self.id))  # first: what is delivered meanwhile is in both
        waiting = [Metric(*point) for write in writes for point in write.get("points", ()) if metric in point]
        points = [*self._client.get_metric_history(self.id, metric), *waiting]
        return {point.step: point.value for point in sorted(points, key=lambda point: (point.step, point.timestamp))}

    def files(self, folder: str | None = None) -> set[str]:
        """Paths of the files and folders at the top level of the run's artifacts, or of a folder among them."""
        return {item.path for item in self._client.list_artifacts(self.id, folder)}

    def path(self, file: str) -> Path:
        """Where a file or folder of the run lies on this machine; where artifacts are remote, it is downloaded once.

        What is downloaded is removed when the process ends. Nothing may be changed at that path.

        Raises:
            ProtcliError: the run has no such file.
        """
        try:
            if self.is_local:
                (here := self.folder / file).stat()
                return here
            downloaded = self._downloads / file
            return downloaded if downloaded.is_file() else Path(self._download(file, self._downloads))
        except (MlflowException, OSError) as error:
            why = "it is not a protcli training run, or it ended before its training began"
            if self.is_local and self.params and not self.folder.exists():
                why = f"{self.folder} does not exist; bring that folder back, or put it into {FILES} beside the store"
            raise ProtcliError(f"run {self.id} ({self.status}) has no file {file}: {why}") from error

    def _download(self, file: str, to: Path) -> str:
        return self._client.download_artifacts(self.id, file, str(to))

    @cached_property
    def _downloads(self) -> Path:
        return lasting_scratch_folder()

    @property
    def is_local(self) -> bool:
        """Whether its artifacts lie in a folder of this machine."""
        return is_local_uri(self._artifacts)

    @property
    def folder(self) -> Path:
        """Where its files lie while it is written: a killed process loses none of them.

        If MLflow keeps artifacts in a local folder, it is that one, and every file is an artifact as soon as it is
        complete. Otherwise it is a folder in the user's cache, whose files become artifacts when the run ends, however
        it ends; if the process is killed, it stays there and a later process on the same machine finds it.
        """
        return Path(local_file_uri_to_path(self._artifacts)) if self.is_local else _waiting_folders() / self.id

    def log_params(self, values: Mapping[str, Any]) -> None:
        """Log parameters. One already logged with the same value (`mlflow run` logs -P values) is skipped.

        Raises:
            ProtcliError: a parameter already has another value; MLflow never changes a parameter.
        """
        self._write("params", values={key: "" if value is None else str(value) for key, value in values.items()})

    def log_metrics(self, values: Mapping[str, float], step: int = 0, note: str | None = None) -> None:
        """Log the metrics of one step, all with the same timestamp, and in the same write set the run's note."""
        now = _now()
        tags = {} if note is None else {NOTE: note}
        self._write("metrics", points=[(key, float(value), now, step) for key, value in values.items()], tags=tags)

    def log_points(self, points: Sequence[tuple[str, float, int, int]]) -> None:
        """Log points of metrics: name, value, milliseconds since 1970, step."""
        self._write("metrics", points=points)

    def set_tags(self, values: Mapping[str, Any]) -> None:
        """Set tags; unlike a parameter, a tag may be changed."""
        self._write("tags", values={key: str(value) for key, value in values.items()})

    def set_note(self, markdown: str) -> None:
        """Set the text on the run's page."""
        self.set_tags({NOTE: markdown})

    def rename(self, name: str) -> None:
        """Name the run if `mlflow run` began it and left its name to MLflow; a name that the user gave is kept."""
        if (
            self.tags.get(MLFLOW_SOURCE_TYPE) == "PROJECT"
            and INVENTED_NAME.fullmatch(self.name)
            and not _is_in_a_command(self.name)
        ):
            self.set_tags({"mlflow.runName": name})

    def log_dataset(self, name: str, *, digest: str, source: str, context: str, profile: Mapping[str, Any]) -> None:
        """Log a data set as an input of the run; `context` is its use (training, validation, testing)."""
        self._write(
            "dataset", context=context, name=name, digest=digest[:DATASET_DIGEST_LENGTH], source_type="local",
            source=json.dumps({"uri": source}), profile=json.dumps(profile),
        )  # fmt: skip

    @uninterrupted()
    def show_metric(self, name: str) -> None:
        """Show a metric as a column in the UI's table of the run's experiment."""
        show_metric(self._client, self.experiment_id, name)

    def log_artifact(self, path: Path, folder: str = "") -> None:
        """Store a file, or the content of a folder, with the run."""
        self._write("artifact", path=str(path), folder=folder, move=False)

    def log_text(self, text: str, path: str) -> None:
        """Store text as a file of the run."""
        self._write("text", text=text, path=path)

    def publish(self, *files: str) -> None:
        """Store files of its folder at once: what it takes to resume it must be known where MLflow keeps artifacts."""
        for file in files:
            if not self.is_local and (self.folder / file).is_file():
                self.log_artifact(self.folder / file)

    def delete_artifact(self, path: str) -> None:
        """Remove a file of the run, if it has one of that path."""
        (self.folder / path).unlink(missing_ok=True)
        if not self.is_local:
            self._write("remove", path=path)

    def end(self, status: str, time: int | None = None) -> None:
        """Set the status: FINISHED, FAILED or KILLED at a time (ms since 1970, None: now), or RUNNING if resumed."""
        self._write("end", status=status, time=_now() if time is None else time)

    @uninterrupted()
    def _write(self, write: str, **arguments: Any) -> None:
        complete = {"write": write, **arguments}
        if self._journal is not None:
            self._journal.add(complete)
        else:
            send(self._client, self.id, complete)


def _now() -> int:
    """Milliseconds since 1970."""
    return int(time.time() * 1000)


def _is_in_a_command(name: str) -> bool:
    """Whether a name stands in a command that this process was started by, as in `mlflow run --run-name NAME`."""
    with suppress(psutil.Error):
        return any(name in argument for each in psutil.Process().parents() for argument in each.cmdline())
    return False


# --- a run begins and ends ---


@contextmanager
def start_run(name: str, experiment: str | None = None, run_id: str | None = None) -> Iterator[Run]:
    """Open a run that ends as FINISHED, FAILED (any exception) or KILLED (Ctrl-C, or the caller stops early).

    Under `mlflow run` it is the run that MLflow started, in the experiment chosen there: see `project_run`. Its
    writes go through a journal, so it does not wait for its store, or fail with it. protcli's log and all warnings go
    into the log.txt of its folder. A KeyboardInterrupt that ends it has its id as a note.

    Args:
        name: name of the run.
        experiment: name of the experiment; None leaves it to MLflow (MLFLOW_EXPERIMENT_NAME, else Default).
        run_id: existing run to continue instead of starting a new one.

    Raises:
        ProtcliError: the store cannot be opened, or does not know the run that MLflow started; another process writes
            the run, or has finished it; or not everything could be delivered at the end.
    """
    client = open_store()
    os.environ.setdefault(*ONE_RETRY)
    run, status, failure = None, "FAILED", ""
    with ExitStack() as stack:
        try:
            with uninterrupted():  # a run that has begun is ended, whenever a signal comes
                make_journals()  # or the run would begin and never end
                existing = find_run(run_id) if run_id else project_run()
                begun = existing or create_run(name, current_experiment() if experiment is None else experiment)
                journal = stack.enter_context(open_journal(client, tracking_uri(), begun.id))
                journal.settle()  # what a process that was killed has left
                if run_id and begun.reread().status == "FINISHED":
                    raise ProtcliError(f"run {run_id} is finished: there is nothing to resume")
                run = begun
                run._journal = journal
                if existing is not None:
                    if experiment not in (None, run.experiment):
                        log.warning(
                            "--experiment %s is not used: `mlflow run --experiment-name` chooses it", experiment
                        )
                    run.end("RUNNING")
                    run.set_tags({Tag.PROCESS: this_process()})
                    run.rename(name)
                    prepare_experiment(client, run.experiment_id)
            with _monitored(run), _logged(run):
                yield run
            status = "FINISHED"
        except (KeyboardInterrupt, GeneratorExit) as stop:
            status = "KILLED"
            if run is not None:
                stop.add_note(run.id)  # it may have begun without being told
            raise
        except Exception as error:
            failure = f"{type(error).__name__}: {error}"[:ERROR_LENGTH]
            raise
        finally:
            if run is not None:
                _end(run, status, failure)
                try:
                    journal.settle(None if status == "FINISHED" else SECONDS_FOR_STOPPED)
                except ProtcliError as error:
                    if status == "FINISHED":
                        raise
                    log.warning("%s", error)  # it does not replace the exception that ended the run
                run._journal = None


def create_run(name: str, experiment: str, tags: Mapping[str, str] | None = None) -> Run:
    """Start a run for this process or another to fill, or as the PARENT (a tag) of other runs; `Run.end` ends it.

    Raises:
        ProtcliError: the store cannot be opened, or the experiment is deleted.
    """
    client = open_store()
    try:
        experiment_id = mlflow.set_experiment(experiment).experiment_id  # creates it, even if two do so at once
        all_tags = resolve_tags({Tag.PROCESS: this_process(), **(tags or {})})
        run = client.create_run(experiment_id, tags=all_tags, run_name=name)
    except MlflowException as error:
        reason = full_disk(error) or truncate(error, 200)
        raise ProtcliError(f"cannot start a run in the experiment {truncate(experiment)}: {reason}") from error
    prepare_experiment(client, experiment_id)
    return Run(client, run)


@uninterrupted()
def _end(run: Run, status: str, failure: str) -> None:
    """Note how a run ended, without its journal if that cannot be written."""
    for journal in (run._journal, None):
        run._journal = journal
        with suppress(Exception):
            if failure:
                run.set_tags({Tag.ERROR: failure})
            run.end(status)
            return


@contextmanager
def _monitored(run: Run) -> Iterator[None]:
    """Log the use of processor, memory, disk, network and GPU in a block, as `system/NAME`, through the run's journal.

    MLflow's own monitor stops when the store is away once; this has its meters.
    """
    meters = [CPUMonitor(), DiskMonitor(), NetworkMonitor()]
    for kind in (GPUMonitor, ROCMMonitor):
        with suppress(Exception):  # there is none, or no library that knows it
            meters.append(kind())
    interval = MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL.get() or SECONDS_BETWEEN_SAMPLES
    first, ended = 1 + max(run.history(SYSTEM_METRIC), default=-1), Event()

    def log_until_the_end() -> None:
        with suppress(ProtcliError):  # the store refuses what is written, which ends the training too
            for step in count(first):
                values: dict[str, float] = {}
                for meter in meters:
                    meter.clear_metrics()
                    meter.collect_metrics()
                    values |= meter.aggregate_metrics()
                if ended.wait(interval):
                    return
                run.log_metrics({f"system/{key}": value for key, value in values.items()}, step)

    thread = Thread(target=log_until_the_end, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextmanager
def _logged(run: Run) -> Iterator[None]:
    """Make a run's folder, and write protcli's log and all warnings to its log.txt; where it is not that of the
    artifacts, move it there at the end."""
    if not run.folder.exists():
        run.folder.mkdir(parents=True)
        if not run.is_local and run.files():
            run._download("", run.folder)  # of a run started on another machine
    handler = _LogFile(run.folder / File.LOG)
    loggers = (log, logging.getLogger("py.warnings"))
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        logger.propagate = False
    logging.captureWarnings(True)
    try:
        yield
        log.info("finished")
    except (KeyboardInterrupt, GeneratorExit):
        log.info("stopped before it was finished")
        raise
    except BaseException as error:
        log.error("stopped by %s: %s", type(error).__name__, error)
        raise
    finally:
        logging.captureWarnings(False)
        for logger in loggers:
            logger.removeHandler(handler)
        handler.close()
        run.set_tags({Tag.DETERMINISTIC: not handler.nondeterministic})
        if not run.is_local:
            run._write("artifact", path=str(run.folder), folder="", move=True)


class _LogFile(logging.FileHandler):
    """Writes a run's log, and notes torch's warning that an algorithm is not deterministic."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, encoding="utf-8")  # appends: a resumed run has one log
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        self.nondeterministic = False

    def handleError(self, record: logging.LogRecord) -> None:
        """A full disk ends a training where it matters, not at a line of its log."""

    def close(self) -> None:
        with suppress(OSError):  # what could not be written
            super().close()

    def emit(self, record: logging.LogRecord) -> None:
        self.nondeterministic |= "deterministic" in record.getMessage()
        super().emit(record)


# --- runs are found ---


def project_run(besides: str = "") -> Run | None:
    """The run that `mlflow run`, or a suite, has begun for this process to fill, if any.

    MLFLOW_RUN_ID may name another one, as a shell keeps it: that is said once, and the run is not written to.

    Args:
        besides: a run that is written to anyway.

    Raises:
        ProtcliError: the store does not have the run that MLFLOW_RUN_ID names, or it is deleted.
    """
    run_id = os.environ.get("MLFLOW_RUN_ID", "")
    return find_run(run_id) if run_id not in ("", besides) and _is_begun_here(run_id) else None


@cache
def _is_begun_here(run_id: str) -> bool:
    """Whether a run waits to be filled, or did when this was asked first. Raises as `project_run` does."""
    run = find_run(run_id)
    begun = Tag.PARENT in run.tags if Tag.PROCESS in run.tags else run.tags.get(MLFLOW_SOURCE_TYPE) == "PROJECT"
    if begun and run.status == "RUNNING" and Param.SEED not in run.params:
        return True
    log.warning(
        "MLFLOW_RUN_ID names run %s (%s, %s), which is complete, lost or of something else: nothing is written to it, "
        "and a training gets a run of its own; unset the variable", run_id, run.name, run.status,
    )  # fmt: skip
    return False


def find_run(run_id: str) -> Run:
    """The run with that ID; if its process was killed, it is marked as FAILED first.

    Raises:
        ProtcliError: the store has none, or it is deleted.
    """
    try:
        if is_new_store():  # opening it would create it
            raise MlflowException("it has no runs")
        client = open_store()
        run = client.get_run(run_id)
    except MlflowException as error:
        remedy = "is this the folder where you trained? `protcli runs` lists what is here"
        if run_id == os.environ.get("MLFLOW_RUN_ID"):
            remedy = "MLFLOW_RUN_ID names it: set MLFLOW_TRACKING_URI to an absolute address, or unset MLFLOW_RUN_ID"
        raise ProtcliError(f"no run {truncate(run_id)} in {tracking_uri()}: {remedy}") from error
    if run.info.lifecycle_stage != LifecycleStage.ACTIVE:
        raise ProtcliError(f"run {run_id} in {tracking_uri()} is deleted: restore it in the UI first")
    return _ended_if_lost(Run(client, run))


def find_runs(experiment: str | None = None, *, tags: Mapping[str, str] | None = None) -> list[Run]:
    """The runs with these tags, in one experiment or in all, oldest first; those of killed processes are FAILED.

    The children of a run are `find_runs(tags={PARENT: run_id})`.

    Raises:
        ProtcliError: there is no experiment of that name (the message lists the known ones).
    """
    client = None if is_new_store() else open_store()  # which would create it
    experiments = {entry.name: entry.experiment_id for entry in client.search_experiments()} if client else {}
    if experiment is not None and experiment not in experiments:
        raise ProtcliError(
            f"there is no experiment {quote(experiment)} in {tracking_uri()}; known: "
            f"{truncate(', '.join(experiments), 200)}"
        )
    if client is None:
        return []
    ids = [experiments[experiment]] if experiment is not None else list(experiments.values())
    return [_ended_if_lost(Run(client, run)) for run in search_all_runs(client, ids, tags or {})]


def _ended_if_lost(run: Run) -> Run:
    """The same run; one whose process no longer exists gets what that has left, and does not stay RUNNING."""
    if run.status == "RUNNING" and not is_gone(run.tags.get(Tag.PROCESS, "")):
        return run
    with suppress(ProtcliError):  # another process does this now, or the store is away again
        if deliver_left(run._client, tracking_uri(), run.id) or run.status == "RUNNING":
            run = run.reread()  # it may just have ended
        if run.status == "RUNNING":
            process = run.tags[Tag.PROCESS]
            said = (
                f"its process ({process}) was killed or could not write: `protcli train --resume {run.id}` continues "
                "a training"
            )
            run.set_tags({Tag.ERROR: said, Tag.LOST: True})
            run.end("FAILED")
            run = run.reread()
    return run


def current_experiment() -> str:
    """Name of the experiment that MLflow itself uses: MLFLOW_EXPERIMENT_NAME, else MLFLOW_EXPERIMENT_ID, else Default.

    Raises:
        ProtcliError: there is no experiment with the id that MLFLOW_EXPERIMENT_ID gives.
    """
    if name := os.environ.get("MLFLOW_EXPERIMENT_NAME"):
        return name
    experiment_id = os.environ.get("MLFLOW_EXPERIMENT_ID")
    if not experiment_id:
        return Experiment.DEFAULT_EXPERIMENT_NAME
    try:
        return open_store().get_experiment(experiment_id).name
    except MlflowException as error:
        raise ProtcliError(
            f"MLFLOW_EXPERIMENT_ID is {experiment_id}, but {tracking_uri()} has no experiment with that id: "
            "correct it, or choose one with --experiment"
        ) from error


# --- what killed processes leave on a machine ---


def _waiting_folders() -> Path:
    """The folder of the folders of runs whose artifacts are remote."""
    return cache_folder() / "runs"


def remove_leftovers() -> int:
    """Remove scratch folders of processes that are gone, and the waiting files of runs that need none.

    The files of a run that can still be resumed are kept. Returns how many folders were removed.
    """
    removed = remove_left_scratch()
    for folder in (path for path in _waiting_folders().glob("*") if path.is_dir()):
        with suppress(ProtcliError):  # a run that this store does not know may be in another one
            run = find_run(folder.name)
            can_go_on = run.status != "FINISHED" and File.CONFIG in run.files()
            if not run.is_being_written and not can_go_on and not journal_path(folder.name).exists():
                shutil.rmtree(folder)
                removed += 1
    return removed
