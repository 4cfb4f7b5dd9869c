"""What is written to one run in MLflow."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import mlflow
from mlflow.utils.file_utils import local_file_uri_to_path
from mlflow.utils.name_utils import _GENERATOR_NOUNS, _GENERATOR_PREDICATES
from mlflow.utils.time import get_current_time_millis
from mlflow.utils.uri import is_local_uri

from protcli.tracking.journal import Journal
from protcli.tracking.ui import show_metric
from protcli.tracking.writes import send
from protcli.uninterrupted import uninterrupted

# a name invented by MLflow; matched by its own word lists, since `my-run-1` may be a user's choice
RANDOM_NAME = re.compile(rf"({'|'.join(_GENERATOR_PREDICATES)})-({'|'.join(_GENERATOR_NOUNS)})-\d+", re.IGNORECASE)
NOTE = "mlflow.note.content"
DATASET_DIGEST_LENGTH = 36  # MLflow's limit


class RunLog:
    """Writes to one run; each write completes before a signal is handled.

    With a journal, a write is complete when it is on the disk, and is delivered in the background. Safe to use on a
    finished run: nothing here depends on an active run.
    """

    def __init__(self, client: mlflow.MlflowClient, run_id: str, journal: Journal | None = None) -> None:
        self._client, self._journal = client, journal
        self._local: tuple[Path | None] | None = None  # once it is known: a store may be away
        self.id = run_id

    @property
    def experiment(self) -> str:
        """Name of the run's experiment."""
        return self._client.get_experiment(self._client.get_run(self.id).info.experiment_id).name

    @property
    def status(self) -> str:
        """As MLflow has it, whether its process still exists or not."""
        return self._client.get_run(self.id).info.status

    def params(self, values: Mapping[str, Any]) -> None:
        """Log parameters. One already logged with the same value (`mlflow run` logs -P values) is skipped.

        Raises:
            ProtcliError: a parameter already has another value; MLflow never changes a parameter.
        """
        texts = {key: "" if value is None else str(value) for key, value in values.items()}
        self._write("params", values=texts)

    def metrics(self, values: Mapping[str, float], step: int = 0, note: str | None = None) -> None:
        """Log the metrics of one step, all with the same timestamp, and in the same write set the run's note."""
        now = get_current_time_millis()
        tags = {} if note is None else {NOTE: note}
        self._write("metrics", points=[(key, float(value), now, step) for key, value in values.items()], tags=tags)

    def points(self, points: Sequence[tuple[str, float, int, int]]) -> None:
        """Log points of metrics: name, value, milliseconds since 1970, step."""
        self._write("metrics", points=points)

    def tags(self, values: Mapping[str, Any]) -> None:
        """Set tags; unlike a parameter, a tag may be changed."""
        self._write("tags", values={key: str(value) for key, value in values.items()})

    @uninterrupted()
    def name(self, name: str) -> None:
        """Name the run, unless the user did: only a name invented by MLflow is replaced."""
        if RANDOM_NAME.fullmatch(self._client.get_run(self.id).info.run_name or ""):
            self.tags({"mlflow.runName": name})

    def note(self, markdown: str) -> None:
        """Set the text on the run's page."""
        self.tags({NOTE: markdown})

    def dataset(self, name: str, *, digest: str, source: str, context: str, profile: Mapping[str, Any]) -> None:
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
        show_metric(self._client, self._client.get_run(self.id).info.experiment_id, name)

    def end(self, status: str, time: int | None = None) -> None:
        """Set the status: FINISHED, FAILED or KILLED at a time (ms since 1970, None: now), or RUNNING if resumed."""
        self._write("end", status=status, time=get_current_time_millis() if time is None else time)

    def local_artifacts(self) -> Path | None:
        """The folder of the run's artifacts if it is on this machine, else None. The store is asked only once."""
        if self._local is None:
            address = self._client.get_run(self.id).info.artifact_uri
            self._local = (Path(local_file_uri_to_path(address)) if is_local_uri(address) else None,)
        return self._local[0]

    def download_artifacts(self, to: Path) -> None:
        """Download all current artifacts of the run to a folder, which is created if needed."""
        to.mkdir(parents=True, exist_ok=True)
        if self._client.list_artifacts(self.id):
            self._client.download_artifacts(self.id, "", str(to))

    def artifact(self, path: Path, folder: str = "", *, move: bool = False) -> None:
        """Store a file, or the content of a folder, with the run; the folder is removed after that if it is moved."""
        self._write("artifact", path=str(path), folder=folder, move=move)

    def remove(self, path: str) -> None:
        """Remove a file of the run, if it has one of that path."""
        self._write("remove", path=path)

    def text(self, text: str, path: str) -> None:
        """Store text as a file of the run."""
        self._write("text", text=text, path=path)

    @uninterrupted()
    def _write(self, write: str, **arguments: Any) -> None:
        complete = {"write": write, **arguments}
        if self._journal is None:
            send(self._client, self.id, complete)
        else:
            self._journal.add(complete)
