"""Bring to the store what could not be written there: journals that were left, and runs trained offline."""

import os
from collections.abc import Iterator
from pathlib import Path

import mlflow
from mlflow.entities import Run as RunEntity
from mlflow.exceptions import MlflowException

from protcli.errors import ProtcliError
from protcli.process import scratch_folder
from protcli.tracking.journal import deliver_left, journal_path, journals
from protcli.tracking.keys import Tag
from protcli.tracking.run import ONE_RETRY, Run, create_run
from protcli.tracking.store import (
    LOCAL,
    is_new_store,
    open_store,
    prepare,
    search_all_runs,
    sqlite_file,
    tracking_uri,
)


def sync_journals() -> Iterator[str | ProtcliError]:
    """Deliver every journal of this machine to its own store: a sentence for each run, or why it cannot be delivered.

    A journal that a running process has open is left to it.
    """
    os.environ.setdefault(*ONE_RETRY)
    for run_id, store in journals():
        if is_new_store(store):
            yield ProtcliError(
                f"{journal_path(run_id)} waits for {store}, which is not there: if that was moved, `protcli runs` "
                "delivers it there; else put that back, or remove this"
            )
            continue
        try:
            if records := deliver_left(mlflow.MlflowClient(store), store, run_id):
                yield f"run {run_id}: {records} records delivered"
        except ProtcliError as error:
            yield error


def sync_offline() -> Iterator[str | ProtcliError]:
    """Copy the runs that were trained with --offline in this folder, and have ended, to MLFLOW_TRACKING_URI.

    Gives a sentence for each run, or why it is not copied. A run is copied once: a copy says of which run it is, and
    may have been begun by a process that was killed.

    Raises:
        ProtcliError: the store cannot be opened.
    """
    database, target_uri = LOCAL.absolute(), tracking_uri()
    if not database.is_file() or sqlite_file(target_uri) == database:
        return
    target = open_store()
    source = mlflow.MlflowClient(prepare(database))
    experiments = {entry.experiment_id: entry.name for entry in source.search_experiments()}
    for run in list(search_all_runs(source, list(experiments), {Tag.OFFLINE: "yes"})):
        if run.info.status == "RUNNING":
            yield ProtcliError(f"run {run.info.run_id} is not copied: it is still being trained, or was killed")
            continue
        try:
            copy = _copy(source, target, run, experiments[run.info.experiment_id])
            yield f"run {copy}: copied from {run.info.run_id}, which was trained offline"
        except (MlflowException, OSError) as error:
            reason = str(error).strip().partition("\n")[0]
            yield ProtcliError(f"run {run.info.run_id} could not be copied to {target_uri} ({reason})")


def _copy(source: mlflow.MlflowClient, target: mlflow.MlflowClient, run: RunEntity, experiment: str) -> str:
    """Copy one run; returns its id in the target."""
    old = run.info.run_id
    everywhere = [entry.experiment_id for entry in target.search_experiments()]
    begun = next(search_all_runs(target, everywhere, {Tag.COPIED_FROM: old}), None)
    copy = Run(target, begun) if begun else create_run(run.info.run_name, experiment, {Tag.COPIED_FROM: old})
    copy.log_params(run.data.params)
    for key in run.data.metrics:
        copy.log_points([(key, m.value, m.timestamp, m.step) for m in source.get_metric_history(old, key)])
    if run.inputs and run.inputs.dataset_inputs:
        target.log_inputs(copy.id, datasets=run.inputs.dataset_inputs)
    copy.set_tags({key: value.replace(old, copy.id) for key, value in run.data.tags.items() if key != Tag.OFFLINE})
    with scratch_folder() as scratch:
        if source.list_artifacts(old):
            copy.log_artifact(Path(source.download_artifacts(old, "", str(scratch))))
    copy.end(run.info.status, run.info.end_time)
    source.set_tag(old, Tag.OFFLINE, "copied")
    return copy.id
