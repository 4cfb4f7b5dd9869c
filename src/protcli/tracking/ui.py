"""The MLflow UI: its address, and a view of the runs with the relevant columns."""

import contextlib
import json
import socket
import sys
import time
import urllib.error
import urllib.request

import mlflow
import psutil
from mlflow.exceptions import MlflowException

from protcli.errors import ProtcliError, without_passwords
from protcli.tracking.keys import Metric, Param
from protcli.tracking.store import open_store, tracking_uri

KIND = "mlflow.experimentKind"
VIEW = "protcli"  # name of the view in the UI's address
SHARED_VIEW = f"mlflow.sharedViewState.{VIEW}"  # tag in which the UI keeps a shared view; no call makes one
COLUMNS = (
    *(f"metrics.`{key}`" for key in (Metric.BEST_MSE, Metric.BEST_RATIO, Metric.BEST_EPOCH)),
    *(
        f"params.`{key}`"
        for key in (Param.MODEL, Param.SEED, Param.EPOCHS, Param.DATA_NAME, Param.TRAIN_SPLIT, Param.CROP)
    ),
)
CHARTS = {
    "Per epoch": (Metric.VALID_MSE, Metric.TRAIN_MSE, Metric.VALID_MAE),
    "Best epoch": (
        Metric.BEST_RATIO,
        *(
            f"{Metric.BEST}{score}"
            for score in ("lddt", "precision_long_L5", "mae_8", "checkerboard_8", "blockiness_8")
        ),
    ),
}


def prepare_experiment(client: mlflow.MlflowClient, experiment_id: str) -> None:
    """Set the kind and a view of an experiment unless they are already set.

    Without a kind the UI assumes a language-model experiment and opens the traces page; without a view its table shows
    no metrics and its charts are in alphabetical order.
    """
    tags = client.get_experiment(experiment_id).tags
    view = {
        "searchFilter": "", "orderByKey": "attributes.start_time", "orderByAsc": False, "startTime": "ALL",
        "lifecycleFilter": "Active", "modelVersionFilter": "All Runs", "datasetsFilter": [],
        "selectedColumns": COLUMNS, "runsHiddenMode": "FIRST_20_RUNS", "hideEmptyCharts": True,
        "isAccordionReordered": True,  # otherwise sections are in alphabetical order
        "compareRunSections": [{"uuid": name, "name": name, "display": True} for name in CHARTS],
        "compareRunCharts": [_chart(metric, section) for section, metrics in CHARTS.items() for metric in metrics],
    }  # fmt: skip
    for key, value in ((KIND, "custom_model_development"), (SHARED_VIEW, json.dumps(view))):
        if key not in tags:
            try:
                client.set_experiment_tag(experiment_id, key, value)
            except MlflowException:
                if key not in client.get_experiment(experiment_id).tags:  # otherwise another process was first
                    raise


def show_metric(client: mlflow.MlflowClient, experiment_id: str, metric: str) -> None:
    """Add a metric to the columns of an experiment's view; its name may not be known before, as a test set's."""
    view = json.loads(client.get_experiment(experiment_id).tags.get(SHARED_VIEW, "{}"))
    column = f"metrics.`{metric}`"
    if column not in view.get("selectedColumns", [column]):
        view["selectedColumns"].append(column)
        client.set_experiment_tag(experiment_id, SHARED_VIEW, json.dumps(view))


def _chart(metric: str, section: str) -> dict[str, object]:
    """A chart in the UI's format: a curve for metrics of each epoch, a bar for metrics measured once."""
    chart = {"uuid": metric, "metricKey": metric, "metricSectionId": section, "runsCountToCompare": 20}
    if section == "Best epoch":
        return chart | {"type": "BAR"}
    return chart | {
        "type": "LINE", "selectedMetricKeys": [metric], "xAxisKey": "step", "xAxisScaleType": "linear",
        "scaleType": "log", "lineSmoothness": 0, "range": {}, "yAxisKey": "metric", "yAxisExpressions": [],
    }  # fmt: skip


def serve_ui(host: str, port: int) -> None:
    """Run the MLflow UI on the store until stopped; if the store is a server, say where its own UI is.

    Raises:
        ProtcliError: the address cannot be used, or the UI has ended with an error.
    """
    client, store = open_store(), tracking_uri()
    has_own = store.startswith(("http://", "https://"))
    experiments = [experiment.experiment_id for experiment in client.search_experiments()] or ["0"]
    latest = client.search_runs(experiments, max_results=1, order_by=["attributes.start_time DESC"])
    page = latest[0].info.experiment_id if latest else experiments[0]
    # without `workflowType` the UI opens on its pages for language models
    address = f"{store.rstrip('/') if has_own else f'http://{host}:{port}'}/#/experiments/{page}/runs"
    address = f"{without_passwords(address)}?workflowType=machine_learning"
    if SHARED_VIEW in client.get_experiment(page).tags:
        address += f"&viewStateShareKey={VIEW}"
    if has_own:
        print(f"The server has the MLflow UI. Runs: {address}")
        return
    with socket.socket() as probe:
        # as the server does: a closing socket does not block
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ProtcliError(f"cannot listen on {host}:{port} ({error.strerror}): give another --port") from error
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", store, "--host", host, "--port", str(port)]
    server = psutil.Popen(command)
    try:
        while server.poll() is None and not _answers(address):
            time.sleep(0.2)
        if server.poll() is None:
            print(f"MLflow UI for {without_passwords(store)}, press Ctrl-C to stop. Runs: {address}", flush=True)
        if code := server.wait():
            raise ProtcliError(f"the MLflow UI has ended with exit code {code}; what it said is above")
    except KeyboardInterrupt:
        pass
    finally:
        _stop(server)


def _answers(address: str) -> bool:
    try:
        urllib.request.urlopen(address, timeout=10).close()
    except OSError as error:
        return isinstance(error, urllib.error.HTTPError)  # a refusal is an answer, too
    return True


def _stop(server: psutil.Popen) -> None:
    """End it with its workers, which its own end would leave on the port."""
    with contextlib.suppress(psutil.NoSuchProcess):
        processes = [server, *server.children(recursive=True)]
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.terminate()
        for process in psutil.wait_procs(processes, timeout=10)[1]:
            process.kill()
