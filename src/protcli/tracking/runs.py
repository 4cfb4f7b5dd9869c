"""Runs read back from MLflow."""

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import mlflow
from mlflow.entities import Experiment, LifecycleStage, Run
from mlflow.exceptions import MlflowException

from protcli.errors import ProtcliError, excerpt, shown
from protcli.process import is_gone
from protcli.tracking.journal import deliver_left
from protcli.tracking.keys import Tag
from protcli.tracking.run_log import RunLog
from protcli.tracking.store import open_store, tracking_uri


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
                "before its training began"
            ) from error


def project_run() -> RunLog | None:
    """The run that `mlflow run` started for this process, if any."""
    run_id = os.environ.get("MLFLOW_RUN_ID")
    return find_run(run_id).log() if run_id else None


def find_run(run_id: str) -> RecordedRun:
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


def _met(client: mlflow.MlflowClient, run: Run) -> RecordedRun:
    """A run; one whose process no longer exists gets what that has left, and does not stay RUNNING."""
    found = RecordedRun(client, run)
    if found.status == "RUNNING" and not is_gone(found.tags.get(Tag.PROCESS, "")):
        return found
    with suppress(ProtcliError):  # another process does this now, or the store is away again
        if deliver_left(client, tracking_uri(), found.id) or found.status == "RUNNING":
            found = RecordedRun(client, client.get_run(found.id))  # it may just have ended
        if found.status == "RUNNING":
            process = found.tags[Tag.PROCESS]
            said = (
                f"its process ({process}) was killed or could not write: `protcli train --resume {found.id}` continues "
                "a training"
            )
            found.log().tags({Tag.ERROR: said, Tag.LOST: True})
            found.log().end("FAILED")
            found = RecordedRun(client, client.get_run(found.id))
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


def find_runs(experiment: str | None = None, *, tags: Mapping[str, str] | None = None) -> list[RecordedRun]:
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
    runs: list[RecordedRun] = []
    token = None
    while True:
        page = client.search_runs(ids, tag_filter, order_by=["attributes.start_time ASC"], page_token=token)
        runs += (_met(client, run) for run in page)
        if not (token := page.token):
            return runs
