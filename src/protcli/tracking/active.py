"""Runs in MLflow as they begin and end."""

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress

import mlflow
from mlflow.exceptions import MlflowException
from mlflow.tracking.context.registry import resolve_tags

from protcli.errors import ProtcliError, excerpt, full_disk
from protcli.process import this_process
from protcli.tracking.journal import Journal, open_journal
from protcli.tracking.keys import Tag
from protcli.tracking.monitor import Monitor
from protcli.tracking.run_log import RunLog
from protcli.tracking.runs import current_experiment
from protcli.tracking.store import open_store, tracking_uri
from protcli.tracking.ui import prepare_experiment
from protcli.uninterrupted import uninterrupted

ERROR_LENGTH = 1000  # characters of the error kept on a run; its log has the rest
HURRY = 20.0  # seconds that a run which was stopped or failed waits for a store that is away
RETRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"  # MLflow's own, which take minutes: here the journal waits


@contextmanager
def start_run(name: str, experiment: str | None = None, run_id: str | None = None) -> Iterator[RunLog]:
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
                    own_id = _existing(client, existing_id)
                else:
                    own_id = begin_run(name, experiment or current_experiment()).id
                journal = stack.enter_context(open_journal(client, tracking_uri(), own_id))
                log = RunLog(client, own_id, journal)
                if existing_id:
                    journal.settle()  # what a process that was killed has left
                    log.end("RUNNING")
                    log.tags({Tag.PROCESS: this_process()})
                    log.name(name)
                    prepare_experiment(client, client.get_run(own_id).info.experiment_id)
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
                    _end(log, RunLog(client, own_id), status, failure)
                _settle(journal, status)


def _end(log: RunLog, directly: RunLog, status: str, failure: str) -> None:
    """Note how a run ended, without its journal if that cannot be written."""
    for way in (log, directly):
        with suppress(Exception):
            if failure:
                way.tags({Tag.ERROR: failure})
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


def _existing(client: mlflow.MlflowClient, run_id: str) -> str:
    """The id of a run that exists. Raises ProtcliError if it does not."""
    try:
        return client.get_run(run_id).info.run_id
    except MlflowException as error:
        raise ProtcliError(
            f"run {run_id}, set by MLFLOW_RUN_ID, cannot be used in {tracking_uri()} ({error}): "
            "set MLFLOW_TRACKING_URI to an absolute address, or unset MLFLOW_RUN_ID"
        ) from error


def begin_run(name: str, experiment: str, tags: Mapping[str, str] | None = None) -> RunLog:
    """Start a run for this process or another to fill, or as the PARENT (a tag) of other runs; `RunLog.end` ends it.

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
    return RunLog(client, run.info.run_id)
