"""Runs in a real MLflow store: written, ended in every way, read again."""

import json
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import mlflow
import pytest

from protcli.errors import ProtcliError
from protcli.process import this_process
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


def test_a_finished_run_is_read_and_can_be_written_to(client, monkeypatch):
    monkeypatch.setattr("protcli.tracking.run.SECONDS_BETWEEN_SAMPLES", 0.2)
    assert project_run() is None
    with start_run("psp1 seed 0") as run:
        assert client.get_run(run.id).info.status == "RUNNING"
        assert run.experiment == "Default"
        run.log_params({"model": "psp1"})
        logging.getLogger("protcli").info("epoch 1")
        deadline = time.monotonic() + 20
        while not any(key.startswith("system/") for key in client.get_run(run.id).data.metrics):
            assert time.monotonic() < deadline
            time.sleep(0.1)
    found = find_run(only_run(client).info.run_id)
    assert (found.id, found.name, found.status, found.params) == (run.id, "psp1 seed 0", "FINISHED", {"model": "psp1"})
    assert "system/cpu_utilization_percentage" in found.metrics
    assert [line.partition(" INFO ")[2] for line in found.path("log.txt").open()] == ["epoch 1\n", "finished\n"]
    assert mlflow.active_run() is None
    run.log_metrics({"test/mse": 12.5})
    found.set_tags({"test_opened": True})
    again = find_run(run.id)
    assert (again.status, again.metrics["test/mse"], again.tags["test_opened"]) == ("FINISHED", 12.5, "True")


@pytest.mark.parametrize(
    ("error", "status", "last"),
    [
        (ProtcliError("diverged"), "FAILED", "ERROR stopped by ProtcliError: diverged\n"),
        (RuntimeError("a bug"), "FAILED", "ERROR stopped by RuntimeError: a bug\n"),
        (KeyboardInterrupt(), "KILLED", "INFO stopped before it was finished\n"),
    ],
)
def test_ended_by_an_error(client, error, status, last):
    with pytest.raises(type(error)), start_run("r"):
        raise error
    assert only_run(client).info.status == status
    assert find_runs()[0].path("log.txt").read_text().endswith(last)
    assert mlflow.active_run() is None


def test_the_experiment_is_mlflows_choice_or_ones_own(client, monkeypatch):
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "from outside")
    for own, name in ((None, "from outside"), ("ablations", "ablations")):
        with start_run("r", own) as run:
            assert run.experiment == name


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("MLFLOW_EXPERIMENT_NAME", "gone", r"^cannot start a run in the experiment gone: .*deleted"),
        ("MLFLOW_EXPERIMENT_ID", "77", r"^MLFLOW_EXPERIMENT_ID is 77, but .* has no experiment with that id"),
        ("MLFLOW_RUN_ID", "01" * 16, r"^no run (01)+ in sqlite:.*: MLFLOW_RUN_ID names it: set"),
    ],
)
def test_an_experiment_or_a_begun_run_that_cannot_be(client, monkeypatch, variable, value, said):
    client.delete_experiment(client.create_experiment("gone"))
    monkeypatch.setenv(variable, value)
    with pytest.raises(ProtcliError, match=said), start_run("r", value if value == "gone" else None):
        pass
    assert client.search_runs(["0"]) == []


# --- a run that `mlflow run` has begun ---

PROJECT = {"mlflow.source.type": "PROJECT"}


def test_the_begun_run_is_the_run(client, monkeypatch, caplog):
    begun = client.create_run(client.create_experiment("chosen outside"), tags=PROJECT)
    client.log_param(begun.info.run_id, "model", "psp1")
    monkeypatch.setenv("MLFLOW_RUN_ID", begun.info.run_id)
    waiting = project_run()
    assert waiting is not None
    assert waiting.id == begun.info.run_id
    with start_run("psp1 seed 0", "another experiment") as run:
        assert caplog.messages == [
            "--experiment another experiment is not used: `mlflow run --experiment-name` chooses it"
        ]
        assert (run.id, run.experiment) == (begun.info.run_id, "chosen outside")
        run.log_params({"model": "psp1", "seed": 0})
    ended = only_run(client)
    assert (ended.info.status, ended.info.run_name) == ("FINISHED", "psp1 seed 0")  # MLflow's invention is replaced
    assert ended.data.params == {"model": "psp1", "seed": "0"}
    assert client.get_experiment_by_name("another experiment") is None


@pytest.mark.parametrize(
    ("status", "tags", "params"),
    [
        ("FINISHED", PROJECT, {"run.seed": "0"}),
        ("FAILED", PROJECT, {}),
        ("KILLED", {"run.process": this_process(), "mlflow.parentRunId": "ab"}, {}),
        ("RUNNING", PROJECT | {"run.process": "another-machine:1:12"}, {}),
        ("RUNNING", PROJECT, {"run.seed": "0"}),
        ("RUNNING", {}, {}),
        ("RUNNING", {"run.process": this_process(), "sweep": "psp1"}, {}),
    ],
)
def test_a_run_that_the_variable_still_names_is_not_written_to(client, monkeypatch, caplog, status, tags, params):
    left = client.create_run("0", tags=tags, run_name="theirs").info.run_id
    for key, value in params.items():
        client.log_param(left, key, value)
    client.log_text(left, "theirs", "config.yaml")
    client.update_run(left, status)
    before = client.get_run(left).to_dictionary()
    monkeypatch.setenv("MLFLOW_RUN_ID", left)
    assert project_run(besides=left) is None
    assert caplog.messages == []
    assert project_run() is None
    with start_run("psp1 seed 0") as run:
        assert run.id != left
        run.log_params({"run.seed": "0"})
        run.log_text("ours", "config.yaml")
    assert project_run() is None
    (sentence,) = [each for each in caplog.messages if "MLFLOW_RUN_ID" in each]
    said = (
        f"MLFLOW_RUN_ID names run {left} (theirs, {status}), which is complete, lost or of something else: nothing is"
    )
    assert sentence.startswith(said)
    assert client.get_run(left).to_dictionary() == before
    assert find_run(run.id).status == "FINISHED"
    assert find_run(left).path("config.yaml").read_text() == "theirs"


def test_a_run_that_another_process_finished_meanwhile_is_not_resumed(client):
    with start_run("psp1 seed 0") as run:
        pass
    before = client.get_run(run.id).to_dictionary()
    with (
        pytest.raises(ProtcliError, match=f"^run {run.id} is finished: there is nothing"),
        start_run("r", run_id=run.id),
    ):
        raise AssertionError("it must not begin")
    assert client.get_run(run.id).to_dictionary() == before


@pytest.mark.parametrize(
    ("name", "tags", "command"),
    [
        ("my-run-1", PROJECT, ["mlflow", "run", "--run-name=my-run-1", "."]),
        ("Tuesday", PROJECT, ["mlflow", "run", "."]),
        ("bold-fish-123", {"run.process": this_process(), "mlflow.parentRunId": "ab"}, ["python"]),  # a suite's
    ],
)
def test_a_given_name_is_kept(client, monkeypatch, name, tags, command):
    monkeypatch.setenv("MLFLOW_RUN_ID", client.create_run("0", run_name=name, tags=tags).info.run_id)
    monkeypatch.setattr("psutil.Process.cmdline", lambda self: command)
    with pytest.raises(KeyboardInterrupt), start_run("psp1 seed 0"):
        raise KeyboardInterrupt
    assert (only_run(client).info.run_name, only_run(client).info.status) == (name, "KILLED")


# --- what is written ---


def test_params(client, run):
    many = {f"model.setting_{number}": str(number) for number in range(250)}  # MLflow takes 100 at a time
    run.log_params({"model": "psp1", "lr": 1e-6, "clip": None, "deterministic": True})
    run.log_params({"model": "psp1", "lr": 1e-6, "clip": None, "epochs": 5, **many})
    written = {"model": "psp1", "lr": "1e-06", "clip": "", "deterministic": "True", "epochs": "5", **many}
    assert find_run(run.id).params == written
    with pytest.raises(ProtcliError, match=f"^run {run.id} already has model=psp1, not psp0: start a new run$"):
        run.log_params({"seed": 1, "model": "psp0"})
    assert find_run(run.id).params == written  # all of a call or none


def test_metrics_have_steps_and_there_are_tags_and_a_note(run):
    for step, mse in ((2, 4.0), (1, 9.5), (3, 6.0)):
        run.log_metrics({"valid/mse": mse, "train/lr": 1e-3}, step=step)
    found = find_run(run.id)
    assert found.history("valid/mse") == {1: 9.5, 2: 4.0, 3: 6.0}
    assert found.history("valid/mae") == {}
    assert found.metrics == {"valid/mse": 6.0, "train/lr": 1e-3}
    run.set_tags({"deterministic": False})
    run.set_tags({"deterministic": True})
    run.set_note("# psp1\n")
    tags = find_run(run.id).tags
    assert (tags["deterministic"], tags["mlflow.note.content"]) == ("True", "# psp1\n")


def test_dataset_inputs(client, run):
    for context, digest in (("training", "a" * 64), ("validation", "b" * 32)):
        of = {"source": "/data/casp12", "context": context, "profile": {"proteins": 933}}
        run.log_dataset(f"casp12/{context}", digest=digest, **of)
    inputs = {found.tags[0].value: found.dataset for found in client.get_run(run.id).inputs.dataset_inputs}
    training = inputs["training"]
    assert (training.name, training.digest) == ("casp12/training", "a" * 36)  # MLflow takes no more
    assert (json.loads(training.profile), json.loads(training.source)) == ({"proteins": 933}, {"uri": "/data/casp12"})
    assert inputs["validation"].digest == "b" * 32


@pytest.mark.parametrize("is_local", [True, False])
def test_files(run, tmp_path, monkeypatch, is_local):
    monkeypatch.setenv("PROTCLI_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(Run, "is_local", is_local)
    folder = tmp_path / "files"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "log.txt").write_text("begun\n")
    (folder / "checkpoints" / "best.json").write_text("{}")
    run.log_artifact(folder)
    run.log_artifact(folder / "log.txt", "logs")
    run.log_text("a,b\n", "tables/test.csv")
    found = find_run(run.id)
    files = {"log.txt": "begun\n", "checkpoints/best.json": "{}", "logs/log.txt": "begun\n", "tables/test.csv": "a,b\n"}
    assert {name: found.path(name).read_text() for name in files} == files
    assert found.path("log.txt") == found.path("log.txt")
    assert (found.path("tables") / "test.csv").is_file()
    assert found.path("log.txt").is_relative_to(run.folder) is is_local
    run.delete_artifact("log.txt")
    for file in ("log.txt", "config.yaml", "checkpoints/best.safetensors"):
        with pytest.raises(ProtcliError, match=rf"^run {run.id} \(RUNNING\) has no file {file}: it is not a protcli t"):
            find_run(run.id).path(file)


# --- what is found ---


@pytest.mark.parametrize("wrong", ["0123456789abcdef0123456789abcdef", "psp1", "../..", ""])
def test_a_run_that_is_not_there(client, wrong):
    with pytest.raises(ProtcliError, match=rf"^no run {wrong} in sqlite:///.*mlflow\.db: is this the folder"):
        find_run(wrong)


def test_runs_are_found_by_experiment_and_tag_the_oldest_first(client):
    runs = [create_run(name, "mine", {"kind": kind}) for name, kind in (("a", "x"), ("b", "y"), ("c", "x"))]
    create_run("d", "other", {"kind": "x"})
    assert [run.id for run in find_runs("mine")] == [run.id for run in runs]
    assert [run.name for run in find_runs("mine", tags={"kind": "x"})] == ["a", "c"]
    assert [run.name for run in find_runs(tags={"kind": "x"})] == ["a", "c", "d"]
    with pytest.raises(ProtcliError, match=r"no experiment 'yours'.*mine"):
        find_runs("yours")


def test_runs_begun_at_once_share_one_new_experiment(client):
    with ThreadPoolExecutor(6) as threads:
        begun = list(threads.map(lambda number: create_run(f"run {number}", "new", {"number": str(number)}), range(6)))
    assert {run.experiment for run in begun} == {"new"}
    assert {run.tags["number"] for run in find_runs("new")} == {str(number) for number in range(6)}
    for status in ("FAILED", "RUNNING"):
        begun[0].end(status)
        assert find_run(begun[0].id).status == status


def test_the_ui_is_told_that_models_are_trained_here(client) -> None:
    create_run("r", "mine")
    experiment = client.get_experiment_by_name("mine")
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"
    view = json.loads(experiment.tags["mlflow.sharedViewState.protcli"])
    assert "metrics.`best/valid_mse`" in view["selectedColumns"]
    assert [section["name"] for section in view["compareRunSections"]] == ["Per epoch", "Best epoch"]
    first, *_, last = view["compareRunCharts"]
    assert (first["metricKey"], first["type"]) == ("valid/mse", "LINE")
    assert (last["metricKey"], last["type"]) == ("best/valid_blockiness_8", "BAR")
    for _ in range(2):
        find_runs("mine")[0].show_metric("test-12345678/mse")
    columns = json.loads(client.get_experiment_by_name("mine").tags["mlflow.sharedViewState.protcli"])
    assert columns["selectedColumns"] == [*view["selectedColumns"], "metrics.`test-12345678/mse`"]
    client.set_experiment_tag(experiment.experiment_id, "mlflow.experimentKind", "chosen")
    client.delete_experiment_tag(experiment.experiment_id, "mlflow.sharedViewState.protcli")
    find_runs("mine")[0].show_metric("test-12345678/mse")  # there is no view to add it to
    create_run("r", "mine")
    assert client.get_experiment_by_name("mine").tags["mlflow.experimentKind"] == "chosen"


def test_reading_creates_no_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert find_runs() == []
    with pytest.raises(ProtcliError, match="there is no experiment 'mine' in "):
        find_runs("mine")
    with pytest.raises(ProtcliError, match=r"no run abc in .*: is this the folder where you trained\?"):
        find_run("abc")
    assert list(tmp_path.iterdir()) == []
