"""Runs in a real MLflow store: written, ended in every way, read again."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import mlflow
import pytest

from protcli.errors import ProtcliError
from protcli.tracking.run import Run, create_run, find_run, find_runs, project_run, start_run
from protcli.tracking.store import open_store


@pytest.fixture
def client(mlflow_store) -> mlflow.MlflowClient:
    return open_store()


@pytest.fixture
def run(client) -> Run:
    return Run(client, client.create_run("0"))


def only_run(client: mlflow.MlflowClient):
    found = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    assert len(found) == 1
    return found[0]


# --- how a run begins and ends ---


def test_finished(client):
    with start_run("psp1 seed 0") as run:
        assert client.get_run(run.id).info.status == "RUNNING"
        assert run.experiment == "Default"
    ended = only_run(client)
    assert ended.info.run_id == run.id
    assert ended.info.status == "FINISHED"
    assert ended.info.run_name == "psp1 seed 0"
    assert mlflow.active_run() is None


@pytest.mark.parametrize(
    ("error", "status"),
    [(ProtcliError("diverged"), "FAILED"), (RuntimeError("a bug"), "FAILED"), (KeyboardInterrupt(), "KILLED")],
)
def test_ended_by_an_error(client, error, status):
    with pytest.raises(type(error)), start_run("r"):
        raise error
    assert only_run(client).info.status == status
    assert mlflow.active_run() is None


def test_killed_when_nobody_wants_the_rest(client):
    def events():
        with start_run("r") as run:
            for step in range(100):
                run.log_metrics({"train/mse": step}, step=step)
                yield step

    generator = events()
    assert list(islice(generator, 3)) == [0, 1, 2]
    generator.close()
    ended = only_run(client)
    assert ended.info.status == "KILLED"
    assert ended.data.metrics["train/mse"] == 2


def test_an_experiment_of_its_own(client):
    with start_run("r", "ablations") as run:
        assert run.experiment == "ablations"


def test_mlflows_choice_of_experiment(client, monkeypatch):
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "from outside")
    with start_run("r") as run:
        assert run.experiment == "from outside"


def test_an_experiment_that_cannot_be(client, monkeypatch):
    client.delete_experiment(client.create_experiment("gone"))
    with (
        pytest.raises(ProtcliError, match=r"^cannot start a run in the experiment gone: .*deleted"),
        start_run("r", "gone"),
    ):
        pass
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "77")
    with (
        pytest.raises(ProtcliError, match=r"^MLFLOW_EXPERIMENT_ID is 77, but .* has no experiment with that id"),
        start_run("r"),
    ):
        pass
    assert client.search_runs(["0"]) == []


def test_system_metrics(client, monkeypatch):
    monkeypatch.setattr("protcli.tracking.run.SECONDS_BETWEEN_SAMPLES", 0.2)
    with start_run("r") as run:
        deadline = time.monotonic() + 20
        while not any(key.startswith("system/") for key in client.get_run(run.id).data.metrics):
            assert time.monotonic() < deadline
            time.sleep(0.1)
    assert "system/cpu_utilization_percentage" in only_run(client).data.metrics


# --- a run that `mlflow run` has begun ---


def test_the_begun_run_is_the_run(client, monkeypatch):
    experiment = client.create_experiment("chosen outside")
    begun = client.create_run(experiment, tags={"mlflow.source.type": "PROJECT"})
    client.log_param(begun.info.run_id, "model", "psp1")
    monkeypatch.setenv("MLFLOW_RUN_ID", begun.info.run_id)
    waiting = project_run()
    assert waiting is not None
    assert waiting.id == begun.info.run_id
    with start_run("psp1 seed 0", "another experiment") as run:
        assert run.id == begun.info.run_id
        assert run.experiment == "chosen outside"
        run.log_params({"model": "psp1", "seed": 0})
    ended = only_run(client)
    assert ended.info.status == "FINISHED"
    assert ended.info.run_name == "psp1 seed 0"  # MLflow's invention is replaced
    assert ended.data.params == {"model": "psp1", "seed": "0"}
    assert client.get_experiment_by_name("another experiment") is None


def test_no_run_was_begun(client):
    assert project_run() is None


def test_a_begun_run_that_fails(client, monkeypatch):
    begun = client.create_run("0")
    monkeypatch.setenv("MLFLOW_RUN_ID", begun.info.run_id)
    with pytest.raises(KeyboardInterrupt), start_run("r"):
        raise KeyboardInterrupt
    assert only_run(client).info.status == "KILLED"


@pytest.mark.parametrize(
    ("name", "source", "command"),
    [
        ("my-run-1", "PROJECT", ["mlflow", "run", "--run-name=my-run-1", "."]),
        ("Tuesday", "PROJECT", ["mlflow", "run", "."]),
        ("bold-fish-123", "LOCAL", ["python"]),
    ],
)
def test_a_given_name_is_kept(client, monkeypatch, name, source, command):
    begun = client.create_run("0", run_name=name, tags={"mlflow.source.type": source})
    monkeypatch.setenv("MLFLOW_RUN_ID", begun.info.run_id)
    monkeypatch.setattr("psutil.Process.cmdline", lambda self: command)
    with start_run("psp1 seed 0"):
        pass
    assert only_run(client).info.run_name == name


def test_a_begun_run_of_another_store(client, monkeypatch):
    monkeypatch.setenv("MLFLOW_RUN_ID", "0123456789abcdef0123456789abcdef")
    match = r"^run 0123456789abcdef0123456789abcdef, set by MLFLOW_RUN_ID, cannot be used in sqlite:.*not found"
    with pytest.raises(ProtcliError, match=match), start_run("r"):
        pass
    assert client.search_runs(["0"]) == []


# --- what is written ---


def test_params(client, run):
    run.log_params({"model": "psp1", "lr": 1e-6, "clip": None, "deterministic": True})
    run.log_params({"model": "psp1", "lr": 1e-6, "clip": None, "epochs": 5})
    assert find_run(run.id).params == {
        "model": "psp1", "lr": "1e-06", "clip": "", "deterministic": "True", "epochs": "5"
    }  # fmt: skip
    with pytest.raises(ProtcliError, match=f"^run {run.id} already has model=psp1, not psp0: start a new run$"):
        run.log_params({"seed": 1, "model": "psp0"})
    assert "seed" not in find_run(run.id).params  # all of a call or none


def test_many_params(run):
    values = {f"model.setting_{number}": number for number in range(250)}  # MLflow takes 100 at a time
    run.log_params(values)
    assert find_run(run.id).params == {key: str(value) for key, value in values.items()}


def test_metrics_have_steps(client, run):
    for step, mse in enumerate((9.5, 4.0, 6.0), start=1):
        run.log_metrics({"valid/mse": mse, "train/lr": 1e-3}, step=step)
    history = client.get_metric_history(run.id, "valid/mse")
    assert [(metric.step, metric.value) for metric in history] == [(1, 9.5), (2, 4.0), (3, 6.0)]
    assert find_run(run.id).metrics == {"valid/mse": 6.0, "train/lr": 1e-3}


def test_tags_name_and_note(client, run):
    run.set_tags({"deterministic": False})
    run.set_tags({"deterministic": True})
    run.set_note("# psp1\n")
    tags = find_run(run.id).tags
    assert tags["deterministic"] == "True"
    assert tags["mlflow.note.content"] == "# psp1\n"


def test_dataset_inputs(client, run):
    for context, digest in (("training", "a" * 64), ("validation", "b" * 32)):
        run.log_dataset(
            f"casp12/{context}", digest=digest, source="/data/casp12", context=context, profile={"proteins": 933}
        )
    inputs = {found.tags[0].value: found.dataset for found in client.get_run(run.id).inputs.dataset_inputs}
    assert inputs.keys() == {"training", "validation"}
    assert inputs["training"].name == "casp12/training"
    assert inputs["training"].digest == "a" * 36  # MLflow takes no more
    assert inputs["validation"].digest == "b" * 32
    assert json.loads(inputs["training"].profile) == {"proteins": 933}
    assert json.loads(inputs["training"].source) == {"uri": "/data/casp12"}


def test_artifacts(client, run, tmp_path):
    folder = tmp_path / "files"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "log.txt").write_text("begun\n")
    (folder / "checkpoints" / "best.json").write_text("{}")
    run.log_artifact(folder)
    run.log_artifact(folder / "log.txt", "logs")
    run.log_text("a,b\n", "tables/test.csv")
    found = find_run(run.id)
    to = tmp_path / "brought"
    to.mkdir()
    assert found.path("log.txt").read_text() == "begun\n"
    assert found.path("checkpoints/best.json").read_text() == "{}"
    assert found.path("logs/log.txt").read_text() == "begun\n"
    assert found.path("tables/test.csv").read_text() == "a,b\n"
    assert all(path.is_relative_to(to) for path in to.rglob("*"))


# --- what is read again ---


def test_a_finished_run_can_be_written_to(client):
    with start_run("r") as run:
        run.log_params({"model": "psp1"})
    found = find_run(run.id)
    assert (found.id, found.status, found.params) == (run.id, "FINISHED", {"model": "psp1"})
    found.log_metrics({"test/mse": 12.5})
    found.set_tags({"test_opened": True})
    again = find_run(run.id)
    assert again.status == "FINISHED"
    assert again.metrics["test/mse"] == 12.5
    assert again.tags["test_opened"] == "True"


@pytest.mark.parametrize("path", ["config.yaml", "checkpoints/best.safetensors"])
def test_a_file_that_is_not_there(run, tmp_path, path):
    with pytest.raises(
        ProtcliError, match=rf"^run {run.id} \(RUNNING\) has no file {path}: it is not a protcli training"
    ):
        find_run(run.id).path(path)


@pytest.mark.parametrize("wrong", ["0123456789abcdef0123456789abcdef", "psp1", "../..", ""])
def test_a_run_that_is_not_there(client, wrong):
    with pytest.raises(ProtcliError, match=rf"^no run {wrong} in sqlite:///.*mlflow\.db: copy the ID"):
        find_run(wrong)


def test_the_ui_is_told_that_models_are_trained_here(mlflow_store) -> None:
    with start_run("r", "mine"):
        pass
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("mine")
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"
    view = json.loads(experiment.tags["mlflow.sharedViewState.protcli"])
    assert "metrics.`best/valid_mse`" in view["selectedColumns"]
    assert [section["name"] for section in view["compareRunSections"]] == ["Per epoch", "Best epoch"]
    first, *_, last = view["compareRunCharts"]
    assert (first["metricKey"], first["type"]) == ("valid/mse", "LINE")
    assert (last["metricKey"], last["type"]) == ("best/valid_blockiness_8", "BAR")
    find_runs("mine")[0].show_metric("test-12345678/mse")
    find_runs("mine")[0].show_metric("test-12345678/mse")
    experiment = client.get_experiment_by_name("mine")
    columns = json.loads(experiment.tags["mlflow.sharedViewState.protcli"])["selectedColumns"]
    assert columns == [*view["selectedColumns"], "metrics.`test-12345678/mse`"]
    client.set_experiment_tag(experiment.experiment_id, "mlflow.experimentKind", "chosen")
    client.delete_experiment_tag(experiment.experiment_id, "mlflow.sharedViewState.protcli")
    find_runs("mine")[0].show_metric("test-12345678/mse")  # there is no view to add it to
    with start_run("r", "mine"):
        pass
    assert client.get_experiment_by_name("mine").tags["mlflow.experimentKind"] == "chosen"


def test_runs_begun_at_once_share_one_new_experiment(client):
    with ThreadPoolExecutor(6) as threads:
        begun = list(threads.map(lambda number: create_run(f"run {number}", "new", {"number": str(number)}), range(6)))
    assert {log.experiment for log in begun} == {"new"}
    assert {run.tags["number"] for run in find_runs("new")} == {str(number) for number in range(6)}
    begun[0].end("FAILED")
    assert find_run(begun[0].id).status == "FAILED"
    begun[0].end("RUNNING")
    assert find_run(begun[0].id).status == "RUNNING"


def test_runs_are_found_by_experiment_and_tag_the_oldest_first(client):
    runs = [create_run(name, "mine", {"kind": kind}) for name, kind in (("a", "x"), ("b", "y"), ("c", "x"))]
    create_run("d", "other", {"kind": "x"})
    assert [run.id for run in find_runs("mine")] == [log.id for log in runs]
    assert [run.name for run in find_runs("mine", tags={"kind": "x"})] == ["a", "c"]
    assert [run.name for run in find_runs(tags={"kind": "x"})] == ["a", "c", "d"]
    with pytest.raises(ProtcliError, match=r"no experiment 'yours'.*mine"):
        find_runs("yours")


def test_the_history_of_a_metric(client):
    log = create_run("a", "mine")
    for step in (2, 1, 3):
        log.log_metrics({"valid/mse": 10.0 * step}, step=step)
    assert find_run(log.id).history("valid/mse") == {1: 10.0, 2: 20.0, 3: 30.0}
    assert find_run(log.id).history("valid/mae") == {}
