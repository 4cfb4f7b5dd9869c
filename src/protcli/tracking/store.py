"""Where MLflow keeps runs: MLFLOW_TRACKING_URI, else a sqlite file in the working folder, created by one process."""

import contextlib
import logging
import os
import socket
import subprocess
import sys
from pathlib import Path

import mlflow
from filelock import FileLock
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from protcli.errors import ProtcliError

SQLITE = "sqlite:///"


def tracking_uri() -> str:
    """The store's address; a relative sqlite path is made absolute, so that a change of folder changes nothing."""
    uri = os.environ.get("MLFLOW_TRACKING_URI") or f"{SQLITE}mlflow.db"
    if uri.startswith(SQLITE):
        return SQLITE + str(Path(uri.removeprefix(SQLITE)).absolute())
    return uri


def open_store() -> mlflow.MlflowClient:
    """Point MLflow at the store and create or upgrade it.

    Several processes that create a sqlite store at once break it for good, so one does while the others wait.

    Raises:
        ProtcliError: the store cannot be reached or is damaged.
    """
    logging.getLogger("mlflow").setLevel(logging.WARNING)  # its notes on schema upgrades and monitors are not results
    logging.getLogger("alembic").setLevel(logging.WARNING)
    uri = tracking_uri()
    try:
        mlflow.set_tracking_uri(uri)
        lock: contextlib.AbstractContextManager = contextlib.nullcontext()
        if uri.startswith(SQLITE):
            database = Path(uri.removeprefix(SQLITE))
            database.parent.mkdir(parents=True, exist_ok=True)
            lock = FileLock(f"{database}.lock")
        with lock:
            client = mlflow.MlflowClient(uri)  # creates or upgrades a database as soon as it is made
            client.search_experiments(max_results=1)
    except (MlflowException, SQLAlchemyError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ProtcliError(
            f"the MLflow store {uri} cannot be opened ({reason}): check MLFLOW_TRACKING_URI or move the file away"
        ) from error
    return client


def serve_ui(host: str, port: int) -> None:
    """Run the MLflow UI on the store until it is stopped. Raises ProtcliError when the address cannot be used."""
    open_store()
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does: a closing one is no obstacle
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ProtcliError(
                f"{host}:{port} cannot be listened on ({error.strerror}): give another --port"
            ) from error
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", tracking_uri()]
    print(f"MLflow on {tracking_uri()}: http://{host}:{port} (Ctrl-C ends it)", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        subprocess.run([*command, "--host", host, "--port", str(port)], check=False)
