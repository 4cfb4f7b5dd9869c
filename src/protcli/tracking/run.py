"""One run in MLflow: it is begun, written, found and read here."""

import json
import logging
import os
import re
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from copy import copy
from functools import cached_property
from pathlib import Path
from typing import Any

import mlflow
from mlflow.entities import Experiment, LifecycleStage
from mlflow.entities import Run as RunEntity
from mlflow.exceptions import MlflowException
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor
from mlflow.tracking.context.registry import resolve_tags
from mlflow.utils.file_utils import local_file_uri_to_path
from mlflow.utils.name_utils import _GENERATOR_NOUNS, _GENERATOR_PREDICATES
from mlflow.utils.time import get_current_time_millis
from mlflow.utils.uri import is_local_uri

from protcli.errors import ProtcliError, excerpt, full_disk, shown
from protcli.process import is_gone, scratch_prefix, this_process
from protcli.tracking.journal import Journal, deliver_left, open_journal
from protcli.tracking.keys import Tag
from protcli.tracking.store import open_store, tracking_uri
from protcli.tracking.ui import prepare_experiment, show_metric
from protcli.tracking.writes import send
from protcli.uninterrupted import uninterrupted

# a name invented by MLflow; matched by its own word lists, since `my-run-1` may be a user's choice
RANDOM_NAME = re.compile(rf"({'|'.join(_GENERATOR_PREDICATES)})-({'|'.join(_GENERATOR_NOUNS)})-\d+", re.IGNORECASE)
NOTE = "mlflow.note.content"
DATASET_DIGEST_LENGTH = 36  # MLflow's limit
ERROR_LENGTH = 1000  # characters of the error kept on a run; its log has the rest
HURRY = 20.0  # seconds that a run which was stopped or failed waits for a store that is away
RETRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"  # MLflow's own, which take minutes: here the journal waits
SECONDS_BETWEEN_SAMPLES = 5.0  # of system metrics


class Run:
    """A run of the store: what it held when it was read, its files, and the way to write to it.

    A write completes before a signal is handled. With a journal it is complete when it is on the disk, and is
    delivered in the background. A finished run can be written to as well: nothing here depends on an active run.

    Attributes:
        id, name, status: as MLflow has them (`status` RUNNING, FINISHED, FAILED or KILLED).
        experiment_id: ID of its experiment.
        started: milliseconds since 1970.
        params, metrics, tags: by name, as they were when the run was read; metrics hold their last value.
    """

    def __init__(self, client: mlflow.MlflowClient, run: RunEntity, journal: Journal | None = None) -> None:
        self._client, self._journal = client, journal
        self._artifacts: str = run.info.artifact_uri
        self.id: str = run.info.run_id
        self.name: str = run.info.run_name
        self.status: str = run.info.status
        self.experiment_id: str = run.info.experiment_id
        self.started: int = run.info.start_time
        self.params: dict[str, str] = run.data.params
        self.metrics: dict[str, float] = run.data.metrics
        self.tags: dict[str, str] = run.data.tags

    def reread(self) -> "Run":
        """The same run as the store has it now, whether its process still exists or not."""
        return Run(self._client, self._client.get_run(self.id), self._journal)

    def through(self, journal: Journal) -> "Run":
        """The same run, written to through a journal."""
        through = copy(self)
        through._journal = journal
        return through

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
        """All values of a metric by step, in step order; empty if the run has none."""
        points = self._client.get_metric_history(self.id, metric)
        return {point.step: point.value for point in sorted(points, key=lambda point: (point.step, point.timestamp))}

    def files(self, folder: str | None = None) -> set[str]:
        """Paths of the files and folders at the top level of the run's artifacts, or of a folder among them."""
        return {item.path for item in self._client.list_artifacts(self.id, folder)}

    @property
    def local_artifacts(self) -> Path | None:
        """The folder of the run's artifacts if it is on this machine, else None."""
        return Path(local_file_uri_to_path(self._artifacts)) if is_local_uri(self._artifacts) else None

    def path(self, file: str) -> Path:
        """Where a file or folder of the run lies on this machine; where artifacts are remote, it is downloaded once.

        What is downloaded is removed when the process ends. Nothing may be changed at that path.

        Raises:
            ProtcliError: the run has no such file.
        """
        here = (self.local_artifacts or self._downloads) / file
        if here.exists():
            return here
        try:
            if self.local_artifacts is not None:
                raise FileNotFoundError(here)
            return Path(self._client.download_artifacts(self.id, file, str(self._downloads)))
        except (MlflowException, OSError) as error:
            raise ProtcliError(
                f"run {self.id} ({self.status}) has no file {file}: it is not a protcli training run, or it ended "
                "before its training began"
            ) from error

    @cached_property
    def _downloads(self) -> Path:
        folder = Path(tempfile.mkdtemp(prefix=scratch_prefix()))
        weakref.finalize(type(self), shutil.rmtree, folder, ignore_errors=True)  # when the process ends
        return folder

    def download(self, to: Path) -> None:
        """Download all files that the run has to a folder, which is created if needed."""
        to.mkdir(parents=True, exist_ok=True)
        if self.files():
            self._client.download_artifacts(self.id, "", str(to))

    def log_params(self, values: Mapping[str, Any]) -> None:
        """Log parameters. One already logged with the same value (`mlflow run` logs -P values) is skipped.

        Raises:
            ProtcliError: a parameter already has another value; MLflow never changes a parameter.
        """
        texts = {key: "" if value is None else str(value) for key, value in values.items()}
        self._write("params", values=texts)

    def log_metrics(self, values: Mapping[str, float], step: int = 0, note: str | None = None) -> None:
        """Log the metrics of one step, all with the same timestamp, and in the same write set the run's note."""
        now = get_current_time_millis()
        tags = {} if note is None else {NOTE: note}
        self._write("metrics", points=[(key, float(value), now, step) for key, value in values.items()], tags=tags)

    def log_points(self, points: Sequence[tuple[str, float, int, int]]) -> None:
        """Log points of metrics: name, value, milliseconds since 1970, step."""
        self._write("metrics", points=points)

    def set_tags(self, values: Mapping[str, Any]) -> None:
        """Set tags; unlike a parameter, a tag may be changed."""
        self._write("tags", values={key: str(value) for key, value in values.items()})

    def rename(self, name: str) -> None:
        """Name the run, unless the user did: only a name invented by MLflow is replaced."""
        if RANDOM_NAME.fullmatch(self.name or ""):
            self.set_tags({"mlflow.runName": name})

    def set_note(self, markdown: str) -> None:
        """Set the text on the run's page."""
        self.set_tags({NOTE: markdown})

    def log_dataset(self, name: str, *, digest: str, source: str, context: str, profile: Mapping[str, Any]) -> None:
        """Log a data set as an input of the run; `context` is its use (training, validation, testing)."""
        self._write(
            "dataset",
            context=context,
            name=name,
            digest=digest[:DATASET_DIGEST_LENGTH],
            source_type="local",
            source=json.dumps({"uri": source}),
            profile=json.dumps(profile),
        )

    @uninterrupted()
    def show_metric(self, name: str) -> None:
        """Show a metric as a column in the UI's table of the run's experiment."""
        show_metric(self._client, self.experiment_id, name)

    def log_artifact(self, path: Path, folder: str = "", *, move: bool = False) -> None:
        """Store a file, or the content of a folder, with the run; the folder is removed after that if it is moved."""
        self._write("artifact", path=str(path), folder=folder, move=move)

    def log_text(self, text: str, path: str) -> None:
        """Store text as a file of the run."""
        self._write("text", text=text, path=path)

    def delete_artifact(self, path: str) -> None:
        """Remove a file of the run, if it has one of that path."""
        self._write("remove", path=path)

    def end(self, status: str, time: int | None = None) -> None:
        """Set the status: FINISHED, FAILED or KILLED at a time (ms since 1970, None: now), or RUNNING if resumed."""
        self._write("end", status=status, time=get_current_time_millis() if time is None else time)

    @uninterrupted()
    def _write(self, write: str, **arguments: Any) -> None:
        complete = {"write": write, **arguments}
        if self._journal is None:
            send(self._client, self.id, complete)
        else:
            self._journal.add(complete)


@contextmanager
def start_run(name: str, experiment: str | None = None, run_id: str | None = None) -> Iterator[Run]:
    """Open a run that ends as FINISHED, FAILED (any exception) or KILLED (Ctrl-C, or the caller stops early).

    Under `mlflow run` it is the run that MLflow started, in the experiment chosen there. Its writes go through a
    journal, so it does not wait for its store, or fail with it. A KeyboardInterrupt that ends it has its id as a note.

    Args:
        name: name of the run.
        experiment: name of the experiment; None leaves it to MLflow (MLFLOW_EXPERIMENT_NAME, else Default).
        run_id: existing run to continue instead of starting a new one.

    Raises:
        ProtcliError: the store cannot be opened, or does not know the run that MLflow started; another process writes
            the run; or not everything could be delivered at the end.
    """
    client = open_store()
    os.environ.setdefault(RETRIES, "1")
    existing_id = run_id or os.environ.get("MLFLOW_RUN_ID", "")
    status, failure, log, monitor = "FAILED", "", None, None
    with ExitStack() as stack:
        try:
            with uninterrupted():  # a run that has begun is ended, whenever a signal comes
                if existing_id:
                    begun = _existing(client, existing_id)
                else:
                    begun = create_run(name, experiment or current_experiment())
                journal = stack.enter_context(open_journal(client, tracking_uri(), begun.id))
                log = begun.through(journal)
                if existing_id:
                    journal.settle()  # what a process that was killed has left
                    log.end("RUNNING")
                    log.set_tags({Tag.PROCESS: this_process()})
                    log.rename(name)
                    prepare_experiment(client, log.experiment_id)
                monitor = Monitor(log, resumes=bool(existing_id))
                monitor.start()
            yield log
            status = "FINISHED"
        except (KeyboardInterrupt, GeneratorExit) as stop:
            status = "KILLED"
            if log is not None:
                stop.add_note(log.id)  # it may have begun without being told
            raise
        except Exception as error:
            failure = f"{type(error).__name__}: {error}"[:ERROR_LENGTH]
            raise
        finally:
            if log is not None:
                with uninterrupted():
                    if monitor is not None:
                        monitor.finish()
                    _end(log, begun, status, failure)
                _settle(journal, status)


def _end(log: Run, directly: Run, status: str, failure: str) -> None:
    """Note how a run ended, without its journal if that cannot be written."""
    for way in (log, directly):
        with suppress(Exception):
            if failure:
                way.set_tags({Tag.ERROR: failure})
            way.end(status)
            return


def _settle(journal: Journal, status: str) -> None:
    """Wait for the store at the end of a run; an exception that ended the run is not replaced by another one."""
    if status == "FINISHED":
        journal.settle()
        return
    try:
        journal.settle(HURRY)
    except ProtcliError as error:
        logging.getLogger("protcli").warning("%s", error)


def _existing(client: mlflow.MlflowClient, run_id: str) -> Run:
    """A run that exists. Raises ProtcliError if it does not."""
    try:
        return Run(client, client.get_run(run_id))
    except MlflowException as error:
        raise ProtcliError(
            f"run {run_id}, set by MLFLOW_RUN_ID, cannot be used in {tracking_uri()} ({error}): "
            "set MLFLOW_TRACKING_URI to an absolute address, or unset MLFLOW_RUN_ID"
        ) from error


def create_run(name: str, experiment: str, tags: Mapping[str, str] | None = None) -> Run:
    """Start a run for this process or another to fill, or as the PARENT (a tag) of other runs; `Run.end` ends it.

    Raises:
        ProtcliError: the store cannot be opened, or the experiment is deleted.
    """
    client = open_store()
    try:
        experiment_id = mlflow.set_experiment(
            experiment
        ).experiment_id  # creates it, even if two processes do so at once
        all_tags = resolve_tags({Tag.PROCESS: this_process(), **(tags or {})})
        run = client.create_run(experiment_id, tags=all_tags, run_name=name)
    except MlflowException as error:
        reason = full_disk(error) or excerpt(error, 200)
        raise ProtcliError(f"cannot start a run in the experiment {experiment}: {reason}") from error
    prepare_experiment(client, experiment_id)
    return Run(client, run)


def project_run() -> Run | None:
    """The run that `mlflow run` started for this process, if any."""
    run_id = os.environ.get("MLFLOW_RUN_ID")
    return find_run(run_id) if run_id else None


def find_run(run_id: str) -> Run:
    """The run with that ID; if its process was killed, it is marked as FAILED first.

    Raises:
        ProtcliError: the store has none, or it is deleted.
    """
    client = open_store()
    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        raise ProtcliError(
            f"no run {excerpt(run_id)} in {tracking_uri()}: copy the ID from the run's page in the UI"
        ) from error
    if run.info.lifecycle_stage != LifecycleStage.ACTIVE:
        raise ProtcliError(f"run {run_id} in {tracking_uri()} is deleted: restore it in the UI first")
    return _met(client, run)


def _met(client: mlflow.MlflowClient, run: RunEntity) -> Run:
    """A run; one whose process no longer exists gets what that has left, and does not stay RUNNING."""
    found = Run(client, run)
    if found.status == "RUNNING" and not is_gone(found.tags.get(Tag.PROCESS, "")):
        return found
    with suppress(ProtcliError):  # another process does this now, or the store is away again
        if deliver_left(client, tracking_uri(), found.id) or found.status == "RUNNING":
            found = found.reread()  # it may just have ended
        if found.status == "RUNNING":
            process = found.tags[Tag.PROCESS]
            said = (
                f"its process ({process}) was killed or could not write: `protcli train --resume {found.id}` continues "
                "a training"
            )
            found.set_tags({Tag.ERROR: said, Tag.LOST: True})
            found.end("FAILED")
            found = found.reread()
    return found


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
    client = open_store()
    try:
        return client.get_experiment(experiment_id).name
    except MlflowException as error:
        raise ProtcliError(
            f"MLFLOW_EXPERIMENT_ID is {experiment_id}, but {tracking_uri()} has no experiment with that id: "
            "correct it, or choose one with --experiment"
        ) from error


def find_runs(experiment: str | None = None, *, tags: Mapping[str, str] | None = None) -> list[Run]:
    """The runs with these tags, in one experiment or in all, oldest first; those of killed processes are FAILED.

    The children of a run are `find_runs(tags={PARENT: run_id})`.

    Raises:
        ProtcliError: there is no experiment of that name (the message lists the known ones).
    """
    client = open_store()
    experiments = {entry.name: entry.experiment_id for entry in client.search_experiments()}
    if experiment is not None and experiment not in experiments:
        raise ProtcliError(
            f"there is no experiment {shown(experiment)} in {tracking_uri()}; known: "
            f"{excerpt(', '.join(experiments), 200)}"
        )
    ids = [experiments[experiment]] if experiment is not None else list(experiments.values())
    tag_filter = " and ".join(f"tags.`{key}` = '{value}'" for key, value in (tags or {}).items())
    runs: list[Run] = []
    token = None
    while True:
        page = client.search_runs(ids, tag_filter, order_by=["attributes.start_time ASC"], page_token=token)
        runs += (_met(client, run) for run in page)
        if not (token := page.token):
            return runs


class Monitor(SystemMetricsMonitor):
    """Logs the use of processor, memory, disk, network and GPU through the run's journal.

    MLflow's own monitor stops when the store is away once.
    """

    def __init__(self, log: Run, *, resumes: bool) -> None:
        """`resumes` counts its steps on from those that the run has."""
        super().__init__(log.id, sampling_interval=SECONDS_BETWEEN_SAMPLES, resume_logging=resumes)
        self._log = log

    def monitor(self) -> None:
        """Collect and log until the end."""
        while True:
            for _ in range(self.samples_before_logging):
                self.collect_metrics()
                if self._shutdown_event.wait(self.sampling_interval):
                    return
            try:
                self.publish_metrics(self.aggregate_metrics())
            except ProtcliError:
                return  # the store refuses what is written; the training finds that out itself

    def publish_metrics(self, metrics: dict[str, float]) -> None:
        """Log metrics as `system/NAME`, or `system/NODE/NAME` if MLflow is told this node's name."""
        prefix = self._metrics_prefix + (f"{self.node_id}/" if self.node_id else "")
        self._log.log_metrics({f"{prefix}{key}": value for key, value in metrics.items()}, self._logging_step)
        self._logging_step += 1
        for each in self.monitors:
            each.clear_metrics()
