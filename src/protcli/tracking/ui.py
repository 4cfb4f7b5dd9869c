"""The MLflow UI: its address, and a view of the runs with the relevant columns."""

import contextlib
import json
import socket
import subprocess
import sys

import mlflow
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
    """Run the MLflow UI on the store until stopped. Raises ProtcliError if the address cannot be used."""
    client = open_store()
    with socket.socket() as probe:
        probe.setsockopt(
            socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
        )  # as the server does: a closing socket does not block
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ProtcliError(f"cannot listen on {host}:{port} ({error.strerror}): give another --port") from error
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", tracking_uri()]
    experiments = [experiment.experiment_id for experiment in client.search_experiments()] or ["0"]
    latest = client.search_runs(experiments, max_results=1, order_by=["attributes.start_time DESC"])
    page = latest[0].info.experiment_id if latest else experiments[0]
    # without `workflowType` the UI opens on its pages for language models
    address = f"http://{host}:{port}/#/experiments/{page}/runs?workflowType=machine_learning"
    if SHARED_VIEW in client.get_experiment(page).tags:
        address += f"&viewStateShareKey={VIEW}"
    print(f"MLflow UI for {without_passwords(tracking_uri())}, press Ctrl-C to stop. Runs: {address}", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        subprocess.run([*command, "--host", host, "--port", str(port)], check=False)
