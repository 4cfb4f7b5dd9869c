"""One run in MLflow: written while it is active, read back afterwards."""

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlflow
from mlflow.entities import Dataset, DatasetInput, Experiment, InputTag, LifecycleStage, Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.utils.file_utils import local_file_uri_to_path
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT
from mlflow.utils.name_utils import _GENERATOR_NOUNS, _GENERATOR_PREDICATES
from mlflow.utils.time import get_current_time_millis
from mlflow.utils.uri import is_local_uri

from protcli.errors import ProtcliError
from protcli.tracking.keys import Tag
from protcli.tracking.store import open_store, tracking_uri
from protcli.tracking.ui import prepare_experiment, show_metric
from protcli.uninterrupted import uninterrupted

SYSTEM_METRICS_SECONDS = 5
# a name invented by MLflow; matched by its own word lists, since `my-run-1` may be a user's choice
RANDOM_NAME = re.compile(rf"({'|'.join(_GENERATOR_PREDICATES)})-({'|'.join(_GENERATOR_NOUNS)})-\d+", re.IGNORECASE)
ERROR_LENGTH = 1000  # characters of the error kept on a run; its log has the rest
DATASET_DIGEST_LENGTH = 36  # MLflow's limit


class RunLog:
    """Writes to one run; each write completes before a signal is handled.

    Safe to use on a finished run: nothing here depends on an active run.
    """

    def __init__(self, client: mlflow.MlflowClient, run_id: str) -> None:
        self._client = client
        self.id = run_id

    @property
    def experiment(self) -> str:
        """Name of the run's experiment."""
        return self._client.get_experiment(self._client.get_run(self.id).info.experiment_id).name

    @uninterrupted()
    def params(self, values: Mapping[str, Any]) -> None:
        """Log parameters. One already logged with the same value (`mlflow run` logs -P values) is skipped.

        Raises:
            ProtcliError: a parameter already has another value; MLflow never changes a parameter.
        """
        known = self._client.get_run(self.id).data.params
        new = []
        for key, value in values.items():
            text = "" if value is None else str(value)
            if key not in known:
                new.append(Param(key, text))
            elif known[key] != text:
                raise ProtcliError(f"run {self.id} already has {key}={known[key]}, not {text}: start a new run")
        self._client.log_batch(self.id, params=new)

    @uninterrupted()
    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Log the metrics of one step, all with the same timestamp."""
        now = get_current_time_millis()
        self._client.log_batch(self.id, metrics=[Metric(key, float(v), now, step) for key, v in values.items()])

    @uninterrupted()
    def tags(self, values: Mapping[str, Any]) -> None:
        """Set tags; unlike a parameter, a tag may be changed."""
        self._client.log_batch(self.id, tags=[RunTag(key, str(value)) for key, value in values.items()])

    @uninterrupted()
    def name(self, name: str) -> None:
        """Name the run, unless the user did: only a name invented by MLflow is replaced."""
        if RANDOM_NAME.fullmatch(self._client.get_run(self.id).info.run_name or ""):
            self._client.set_tag(self.id, "mlflow.runName", name)

    @uninterrupted()
    def note(self, markdown: str) -> None:
        """Set the text on the run's page."""
        self._client.set_tag(self.id, "mlflow.note.content", markdown)

    @uninterrupted()
    def dataset(self, name: str, *, digest: str, source: str, context: str, profile: Mapping[str, Any]) -> None:
        """Log a data set as an input of the run; `context` is its use (training, validation, testing)."""
        dataset = Dataset(
            name=name,
            digest=digest[:DATASET_DIGEST_LENGTH],
            source_type="local",
            source=json.dumps({"uri": source}),
            profile=json.dumps(profile),
        )
        tags = [InputTag(MLFLOW_DATASET_CONTEXT, context)]
        self._client.log_inputs(self.id, datasets=[DatasetInput(dataset, tags)])

    @uninterrupted()
    def show_metric(self, name: str) -> None:
        """Show a metric as a column in the UI's table of the run's experiment."""
        show_metric(self._client, self._client.get_run(self.id).info.experiment_id, name)

    @uninterrupted()
    def end(self, status: str) -> None:
        """Set the status: FINISHED, FAILED or KILLED, or RUNNING for a resumed run."""
        if status == "RUNNING":
            self._client.update_run(self.id, status)
        else:
            self._client.set_terminated(self.id, status)

    def local_artifacts(self) -> Path | None:
        """The folder of the run's artifacts if it is on this machine, else None."""
        address = self._client.get_run(self.id).info.artifact_uri
        return Path(local_file_uri_to_path(address)) if is_local_uri(address) else None

    def download_artifacts(self, to: Path) -> None:
        """Download all current artifacts of the run to a folder, which is created if needed."""
        to.mkdir(parents=True, exist_ok=True)
        if self._client.list_artifacts(self.id):
            self._client.download_artifacts(self.id, "", str(to))

    @uninterrupted()
    def artifact(self, path: Path, folder: str = "") -> None:
        """Store a file, or the content of a folder, with the run."""
        if path.is_dir():
            self._client.log_artifacts(self.id, str(path), folder or None)
        else:
            self._client.log_artifact(self.id, str(path), folder or None)

    @uninterrupted()
    def text(self, text: str, path: str) -> None:
        """Store text as a file of the run."""
        self._client.log_text(self.id, text, path)


@contextmanager
def start_run(name: str, experiment: str | None = None, run_id: str | None = None) -> Iterator[RunLog]:
    """Open a run that ends as FINISHED, FAILED (any exception) or KILLED (Ctrl-C, or the caller stops early).

    Under `mlflow run` it is the run that MLflow started, in the experiment chosen there.

    Args:
        name: name of the run.
        experiment: name of the experiment; None leaves it to MLflow (MLFLOW_EXPERIMENT_NAME, else Default).
        run_id: existing run to continue instead of starting a new one.

    Raises:
        ProtcliError: the store cannot be opened, or does not know the run that MLflow started.
    """
    client = open_store()
    mlflow.set_system_metrics_sampling_interval(SYSTEM_METRICS_SECONDS)
    existing_id = run_id or os.environ.get("MLFLOW_RUN_ID")
    try:
        with uninterrupted():
            if experiment and not existing_id:
                mlflow.set_experiment(experiment)
            run_name = None if existing_id else name
            run = mlflow.start_run(run_id=existing_id, run_name=run_name, log_system_metrics=True)
    except MlflowException as error:
        if existing_id:
            raise ProtcliError(
                f"run {existing_id}, set by MLFLOW_RUN_ID, cannot be used in {tracking_uri()} ({error}): "
                "set MLFLOW_TRACKING_URI to an absolute address, or unset MLFLOW_RUN_ID"
            ) from error
        raise ProtcliError(
            f"cannot start a run in the experiment {experiment or 'chosen by MLflow'}: {error}"
        ) from error
    log = RunLog(client, run.info.run_id)
    prepare_experiment(client, run.info.experiment_id)
    status = "FAILED"
    try:
        if existing_id:
            log.name(name)
        yield log
        status = "FINISHED"
    except (KeyboardInterrupt, GeneratorExit):
        status = "KILLED"
        raise
    except Exception as error:
        log.tags({Tag.ERROR: f"{type(error).__name__}: {error}"[:ERROR_LENGTH]})
        raise
    finally:
        with uninterrupted():
            mlflow.end_run(status)


def begin_run(name: str, experiment: str, tags: Mapping[str, str] | None = None) -> RunLog:
    """Start a run for another process to fill or as the PARENT (a tag) of other runs; `RunLog.end` ends it.

    Raises:
        ProtcliError: the store cannot be opened, or the experiment is deleted.
    """
    client = open_store()
    try:
        experiment_id = mlflow.set_experiment(
            experiment
        ).experiment_id  # creates it, even if two processes do so at once
        run = client.create_run(experiment_id, tags=dict(tags or {}), run_name=name)
    except MlflowException as error:
        raise ProtcliError(f"cannot start a run in the experiment {experiment}: {error}") from error
    prepare_experiment(client, experiment_id)
    return RunLog(client, run.info.run_id)


class RecordedRun:
    """A run read back from the store: its parameters, metrics, tags and files.

    Attributes:
        id, name, status: as MLflow has them (`status` RUNNING, FINISHED, FAILED or KILLED).
        experiment_id: ID of its experiment.
        started: milliseconds since 1970.
        params, metrics, tags: by name; metrics hold their last value.
    """

    def __init__(self, client: mlflow.MlflowClient, run: Run) -> None:
        self._client = client
        self.id: str = run.info.run_id
        self.name: str = run.info.run_name
        self.status: str = run.info.status
        self.experiment_id: str = run.info.experiment_id
        self.started: int = run.info.start_time
        self.params: dict[str, str] = run.data.params
        self.metrics: dict[str, float] = run.data.metrics
        self.tags: dict[str, str] = run.data.tags

    def history(self, metric: str) -> dict[int, float]:
        """All values of a metric by step, in step order; empty if the run has none."""
        points = self._client.get_metric_history(self.id, metric)
        return {point.step: point.value for point in sorted(points, key=lambda point: (point.step, point.timestamp))}

    def log(self) -> RunLog:
        """A writer that adds to this run."""
        return RunLog(self._client, self.id)

    def files(self, folder: str | None = None) -> set[str]:
        """Paths of the files and folders at the top level of the run's artifacts, or of a folder among them."""
        return {item.path for item in self._client.list_artifacts(self.id, folder)}

    def download(self, path: str, to: Path) -> Path:
        """Download one file of the run to a local folder. Raises ProtcliError if the run has no such file."""
        try:
            return Path(self._client.download_artifacts(self.id, path, str(to)))
        except (MlflowException, OSError) as error:
            raise ProtcliError(
                f"run {self.id} ({self.status}) has no file {path}: it is not a protcli training run, or it ended "
                "before its first epoch"
            ) from error


def project_run() -> RunLog | None:
    """The run that `mlflow run` started for this process, if any."""
    run_id = os.environ.get("MLFLOW_RUN_ID")
    return find_run(run_id).log() if run_id else None


def find_run(run_id: str) -> RecordedRun:
    """The run with that ID. Raises ProtcliError if the store has none or it is deleted."""
    client = open_store()
    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        raise ProtcliError(f"no run {run_id} in {tracking_uri()}: copy the ID from the run's page in the UI") from error
    if run.info.lifecycle_stage != LifecycleStage.ACTIVE:
        raise ProtcliError(f"run {run_id} in {tracking_uri()} is deleted: restore it in the UI first")
    return RecordedRun(client, run)


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


def find_runs(experiment: str | None = None, *, tags: Mapping[str, str] | None = None) -> list[RecordedRun]:
    """The runs with these tags, in one experiment or in all, oldest first.

    The children of a run are `find_runs(tags={PARENT: run_id})`.

    Raises:
        ProtcliError: there is no experiment of that name (the message lists the known ones).
    """
    client = open_store()
    experiments = {entry.name: entry.experiment_id for entry in client.search_experiments()}
    if experiment is not None and experiment not in experiments:
        raise ProtcliError(
            f"there is no experiment {experiment!r} in {tracking_uri()}; known: {', '.join(experiments)}"
        )
    ids = [experiments[experiment]] if experiment is not None else list(experiments.values())
    tag_filter = " and ".join(f"tags.`{key}` = '{value}'" for key, value in (tags or {}).items())
    runs: list[RecordedRun] = []
    token = None
    while True:
        page = client.search_runs(ids, tag_filter, order_by=["attributes.start_time ASC"], page_token=token)
        runs += (RecordedRun(client, run) for run in page)
        if not (token := page.token):
            return runs
