"""What is written to a run: values that JSON can hold, and the call that each of them becomes.

Each can be repeated without effect: MLflow keeps one of equal metric points, and sets the rest again.
"""

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import mlflow
import requests
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT

from protcli.errors import ProtcliError

Write = dict[str, Any]  # {"write": its name in WRITES, **its arguments}
MOST_METRICS = 900  # in one request, of which MLflow allows 1000 items with its tags

TOO_MANY, SERVER_ERROR = 429, 500  # status codes of HTTP: the first that may be another the next time


def send(client: mlflow.MlflowClient, run_id: str, write: Write) -> None:
    """Make one write.

    Raises:
        ProtcliError: a parameter has another value.
        Exception: whatever the store raises; `may_pass` says whether to try again.
    """
    arguments = {key: value for key, value in write.items() if key != "write"}
    WRITES[write["write"]](client, run_id, **arguments)


def may_pass(error: Exception) -> bool:
    """Whether a write that failed may succeed later: the store is away, overloaded or locked, and refused nothing."""
    if isinstance(error, ProtcliError):
        return False
    if isinstance(error, MlflowException):
        status = error.get_http_status_code()
    elif isinstance(error, requests.HTTPError) and error.response is not None:
        status = error.response.status_code
    else:
        return not isinstance(error, FileNotFoundError)  # a file that was to be stored
    return status == TOO_MANY or status >= SERVER_ERROR


def _params(client: mlflow.MlflowClient, run_id: str, values: Mapping[str, str]) -> None:
    known = client.get_run(run_id).data.params
    for key, text in values.items():
        if known.get(key, text) != text:
            raise ProtcliError(f"run {run_id} already has {key}={known[key]}, not {text}: start a new run")
    client.log_batch(run_id, params=[Param(key, text) for key, text in values.items() if key not in known])


def _metrics(
    client: mlflow.MlflowClient,
    run_id: str,
    points: Sequence[tuple[str, float, int, int]],
    tags: Mapping[str, str] | None = None,
) -> None:
    for start in range(0, len(points), MOST_METRICS):
        metrics = [Metric(*point) for point in points[start : start + MOST_METRICS]]
        client.log_batch(run_id, metrics=metrics, tags=_run_tags(tags or {}))


def _tags(client: mlflow.MlflowClient, run_id: str, values: Mapping[str, str]) -> None:
    client.log_batch(run_id, tags=_run_tags(values))


def _run_tags(values: Mapping[str, str]) -> list[RunTag]:
    return [RunTag(key, value) for key, value in values.items()]


def _dataset(client: mlflow.MlflowClient, run_id: str, context: str, **about: str) -> None:
    datasets = [DatasetInput(Dataset(**about), [InputTag(MLFLOW_DATASET_CONTEXT, context)])]
    try:
        client.log_inputs(run_id, datasets=datasets)
    except MlflowException as error:
        if may_pass(error):
            raise
        # a server refuses a dataset that another run of the experiment wrote at the same moment; now it finds it
        client.log_inputs(run_id, datasets=datasets)


def _artifact(client: mlflow.MlflowClient, run_id: str, path: str, folder: str, move: bool) -> None:
    source = Path(path)
    if move and not source.exists():
        return  # it was delivered, and the process ended before it could note that
    if source.is_dir():
        client.log_artifacts(run_id, path, folder or None)
    else:
        client.log_artifact(run_id, path, folder or None)
    if move:
        shutil.rmtree(source)


def _remove(client: mlflow.MlflowClient, run_id: str, path: str) -> None:
    if path not in {item.path for item in client.list_artifacts(run_id, path.rpartition("/")[0] or None)}:
        return
    try:
        get_artifact_repository(client.get_run(run_id).info.artifact_uri).delete_artifacts(path)
    except NotImplementedError:
        return  # it stays, where artifacts cannot be deleted
    except Exception as error:
        if may_pass(error):
            raise


def _text(client: mlflow.MlflowClient, run_id: str, text: str, path: str) -> None:
    client.log_text(run_id, text, path)


def _end(client: mlflow.MlflowClient, run_id: str, status: str, time: int) -> None:
    if status == "RUNNING":
        client.update_run(run_id, status)
    else:
        client.set_terminated(run_id, status, time)


WRITES: dict[str, Callable[..., None]] = {
    "params": _params,
    "metrics": _metrics,
    "tags": _tags,
    "dataset": _dataset,
    "artifact": _artifact,
    "remove": _remove,
    "text": _text,
    "end": _end,
}
