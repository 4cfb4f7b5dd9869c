"""One run in MLflow: written while it goes on, read again afterwards."""

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
from protcli.tracking.ui import prepare_experiment
from protcli.tracking.uninterrupted import uninterrupted

SYSTEM_METRICS_SECONDS = 5
# as MLflow invents one; by its own words, for somebody's `my-run-1` is a given name
RANDOM_NAME = re.compile(rf"({'|'.join(_GENERATOR_PREDICATES)})-({'|'.join(_GENERATOR_NOUNS)})-\d+", re.IGNORECASE)
ERROR_LENGTH = 1000  # of what is said on a run; its log has the rest
DATASET_DIGEST_LENGTH = 36  # MLflow's limit


class RunLog:
    """Writes to one run, each to its end before a signal is answered.

    Safe to use on a run that has finished: nothing here depends on an active run.
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
        """Log parameters. One that is there with the same value (`mlflow run` logs -P values) is left as it is.

        Raises:
            ProtcliError: one is there with another value; MLflow never changes a parameter.
        """
        known = self._client.get_run(self.id).data.params
        new = []
        for key, value in values.items():
            text = "" if value is None else str(value)
            if key not in known:
                new.append(Param(key, text))
            elif known[key] != text:
                raise ProtcliError(f"run {self.id} already says {key}={known[key]}, not {text}: start a new run")
        self._client.log_batch(self.id, params=new)

    @uninterrupted()
    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Log figures of one step, all with one time stamp."""
        now = get_current_time_millis()
        self._client.log_batch(self.id, metrics=[Metric(key, float(v), now, step) for key, v in values.items()])

    @uninterrupted()
    def tags(self, values: Mapping[str, Any]) -> None:
        """Set tags; a tag, unlike a parameter, may be set again."""
        self._client.log_batch(self.id, tags=[RunTag(key, str(value)) for key, value in values.items()])

    @uninterrupted()
    def name(self, name: str) -> None:
        """Name the run, unless somebody has: only a name that MLflow invented is replaced."""
        if RANDOM_NAME.fullmatch(self._client.get_run(self.id).info.run_name or ""):
            self._client.set_tag(self.id, "mlflow.runName", name)

    @uninterrupted()
    def note(self, markdown: str) -> None:
        """The text on the run's page."""
        self._client.set_tag(self.id, "mlflow.note.content", markdown)

    @uninterrupted()
    def dataset(self, name: str, *, digest: str, source: str, context: str, profile: Mapping[str, Any]) -> None:
        """Log a data set as an input of the run; `context` says what for (training, validation, testing)."""
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
    def end(self, status: str) -> None:
        """Set the status: FINISHED, FAILED or KILLED, or RUNNING for a run that is taken up again."""
        if status == "RUNNING":
            self._client.update_run(self.id, status)
        else:
            self._client.set_terminated(self.id, status)

    def local_artifacts(self) -> Path | None:
        """The folder in which the run's artifacts lie, where that is one on this machine."""
        address = self._client.get_run(self.id).info.artifact_uri
        return Path(local_file_uri_to_path(address)) if is_local_uri(address) else None

    def download_artifacts(self, to: Path) -> None:
        """Bring all artifacts that the run has by now into a folder, which is made."""
        to.mkdir(parents=True, exist_ok=True)
        if self._client.list_artifacts(self.id):
            self._client.download_artifacts(self.id, "", str(to))

    @uninterrupted()
    def artifact(self, path: Path, folder: str = "") -> None:
        """Store a file, or a folder's content, with the run."""
        if path.is_dir():
            self._client.log_artifacts(self.id, str(path), folder or None)
        else:
            self._client.log_artifact(self.id, str(path), folder or None)

    @uninterrupted()
    def text(self, text: str, path: str) -> None:
        """Store a text as a file of the run."""
        self._client.log_text(self.id, text, path)


@contextmanager
def start_run(name: str, experiment: str | None = None, run_id: str | None = None) -> Iterator[RunLog]:
    """A run that ends as FINISHED, FAILED (any exception) or KILLED (Ctrl-C, or nobody wants the rest).

    Under `mlflow run` it is the run that MLflow has begun, in the experiment chosen there.

    Args:
        name: of the run.
        experiment: its name; None takes MLflow's own choice (MLFLOW_EXPERIMENT_NAME, else Default).
        run_id: of a run that is gone on with, instead of a new one.

    Raises:
        ProtcliError: the store cannot be opened, or does not know the run that MLflow has begun.
    """
    client = open_store()
    mlflow.set_system_metrics_sampling_interval(SYSTEM_METRICS_SECONDS)
    begun = run_id or os.environ.get("MLFLOW_RUN_ID")
    try:
        with uninterrupted():
            if experiment and not begun:
                mlflow.set_experiment(experiment)
            run = mlflow.start_run(run_id=begun, run_name=None if begun else name, log_system_metrics=True)
    except MlflowException as error:
        if begun:
            raise ProtcliError(
                f"the run {begun} that MLFLOW_RUN_ID names cannot be used in {tracking_uri()} ({error}): "
                "set MLFLOW_TRACKING_URI to an absolute address, or unset MLFLOW_RUN_ID"
            ) from error
        raise ProtcliError(f"no run can be started in experiment {experiment or 'of MLflow'}: {error}") from error
    log = RunLog(client, run.info.run_id)
    prepare_experiment(client, run.info.experiment_id)
    status = "FAILED"
    try:
        if begun:
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
    """Make a run for another process to fill, or to hold others (their tag PARENT names it); `RunLog.end` ends it.

    Raises:
        ProtcliError: the store cannot be opened, or the experiment is deleted.
    """
    client = open_store()
    try:
        experiment_id = mlflow.set_experiment(experiment).experiment_id  # makes it, also where two do at once
        run = client.create_run(experiment_id, tags=dict(tags or {}), run_name=name)
    except MlflowException as error:
        raise ProtcliError(f"no run can be started in experiment {experiment}: {error}") from error
    prepare_experiment(client, experiment_id)
    return RunLog(client, run.info.run_id)


class RecordedRun:
    """A run that is read again: its parameters, metrics, tags and files.

    Attributes:
        id, name, status: as MLflow has them (`status` RUNNING, FINISHED, FAILED or KILLED).
        experiment_id: of the experiment it is in.
        started: milliseconds since 1970.
        params, metrics, tags: by name; a metric's last value.
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
        """All values of a metric by step, in the order of steps; empty where the run has none."""
        points = self._client.get_metric_history(self.id, metric)
        return {point.step: point.value for point in sorted(points, key=lambda point: (point.step, point.timestamp))}

    def log(self) -> RunLog:
        """To write more to it."""
        return RunLog(self._client, self.id)

    def files(self) -> set[str]:
        """Names of the files and folders that lie at the top of the run's artifacts."""
        return {item.path for item in self._client.list_artifacts(self.id)}

    def download(self, path: str, to: Path) -> Path:
        """Bring one file of the run into a local folder. Raises ProtcliError where the run has no such file."""
        try:
            return Path(self._client.download_artifacts(self.id, path, str(to)))
        except (MlflowException, OSError) as error:
            raise ProtcliError(
                f"run {self.id} ({self.status}) has no file {path}: it is no protcli training run, or ended before its "
                "first epoch"
            ) from error


def project_run() -> RunLog | None:
    """The run that `mlflow run` has begun for this process, if it has."""
    begun = os.environ.get("MLFLOW_RUN_ID")
    return find_run(begun).log() if begun else None


def find_run(run_id: str) -> RecordedRun:
    """The run of that id. Raises ProtcliError where the store has none, or it is deleted."""
    client = open_store()
    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        raise ProtcliError(f"no run {run_id} in {tracking_uri()}: copy the id from the run's page in the UI") from error
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
    """The runs of an experiment, or of all, that have these tags; the oldest first.

    The children of a run are `find_runs(tags={PARENT: run_id})`.

    Raises:
        ProtcliError: there is no experiment of that name (the sentence lists those there are).
    """
    client = open_store()
    experiments = {found.name: found.experiment_id for found in client.search_experiments()}
    if experiment is not None and experiment not in experiments:
        raise ProtcliError(
            f"there is no experiment {experiment!r} in {tracking_uri()}; there are: {', '.join(experiments)}"
        )
    ids = [experiments[experiment]] if experiment is not None else list(experiments.values())
    wanted = " and ".join(f"tags.`{key}` = '{value}'" for key, value in (tags or {}).items())
    runs: list[RecordedRun] = []
    token = None
    while True:
        page = client.search_runs(ids, wanted, order_by=["attributes.start_time ASC"], page_token=token)
        runs += (RecordedRun(client, run) for run in page)
        if not (token := page.token):
            return runs
