"""Runs trained offline are copied once and as a whole; journals that were left are delivered."""

from pathlib import Path

import mlflow
import pytest
from typer.testing import CliRunner

from protcli.cli import app
from protcli.tracking.journal import journal_path
from protcli.tracking.run import create_run, find_run, find_runs


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROTCLI_CACHE", str(tmp_path / "cache"))


def call(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == code, result.output
    return result.output


def test_a_run_trained_offline_is_copied_once(tiny_data: Path, tiny_model: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    arguments = ["train", "tiny", "--model-file", str(tiny_model), "--data", str(tiny_data), "--experiment", "e"]
    said = call(*arguments, code=1)
    assert "cannot be opened" in said
    assert said.rstrip().endswith("check MLFLOW_TRACKING_URI or train with --offline and `protcli sync` later")
    said = call(*arguments, "--offline", "--seed", "4")
    assert said.endswith("`protcli sync` copies it to MLFLOW_TRACKING_URI\n")
    (offline,) = find_runs("e")  # the process now writes to the local store
    assert offline.tags["run.offline"] == "yes"
    own = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")

    (tmp_path / "server").mkdir()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/server/mlflow.db")
    monkeypatch.setattr("mlflow.tracking.fluent._active_experiment_id", None)
    # as a process does that is killed while it copies
    begun = create_run(offline.name, "e", {"run.copied_from": offline.id}).id
    assert call("sync") == f"run {begun}: copied from {offline.id}, which was trained offline\n"
    (copy,) = find_runs("e")
    assert (copy.id, copy.name, copy.status) == (begun, "tiny seed 4", "FINISHED")
    assert copy.params == offline.params
    assert copy.tags["run.copied_from"] == offline.id
    assert "run.offline" not in copy.tags
    assert offline.id not in copy.tags["mlflow.note.content"]
    assert copy.id in copy.tags["mlflow.note.content"]
    for key in offline.metrics:
        first, second = (
            [(point.value, point.step, point.timestamp) for point in each.get_metric_history(run, key)]
            for each, run in ((own, offline.id), (mlflow.MlflowClient(), copy.id))
        )
        assert first == second, key
    whole, copied = own.get_run(offline.id), mlflow.MlflowClient().get_run(copy.id)
    assert copied.info.end_time == whole.info.end_time
    used = [[(each.dataset.name, each.dataset.digest) for each in run.inputs.dataset_inputs] for run in (whole, copied)]
    assert used[0] == used[1]
    assert len(used[0]) == 2
    assert copy.files() == {item.path for item in own.list_artifacts(offline.id)}
    best = "checkpoints/best.safetensors"
    assert copy.path(best).read_bytes() == Path(own.download_artifacts(offline.id, best)).read_bytes()
    assert "validation" in call("evaluate", "--run-id", copy.id)
    assert call("sync") == "nothing waits to be delivered or copied\n"
    assert len(find_runs("e")) == 1


def test_journals_are_delivered(mlflow_store: Path) -> None:
    run_id = create_run("r", "e").id
    path = journal_path(run_id)
    path.parent.mkdir(parents=True)
    path.write_text(f'"sqlite:///{mlflow_store}"\n{{"write": "end", "status": "FINISHED", "time": 12}}\n')
    other = journal_path("0123")
    other.write_text('"http://127.0.0.1:9"\n{"write": "tags", "values": {"a": "b"}}\n')
    gone = journal_path("4567")
    gone.write_text(f'"sqlite:///{mlflow_store.parent}/gone.db"\n{{"write": "tags", "values": {{"a": "b"}}}}\n')
    journal_path("89ab").touch()  # its process was killed when it was made
    said = call("sync", code=1)
    assert f"Error: {gone} waits for sqlite:///{mlflow_store.parent}/gone.db, which is not there: if that" in said
    assert gone.exists()
    assert not (mlflow_store.parent / "gone.db").exists()
    assert f"run {run_id}: 1 records delivered" in said
    assert "Error: 1 records of run 0123 wait in" in said
    assert find_run(run_id).status == "FINISHED"
    assert not path.exists()
    assert other.exists()
