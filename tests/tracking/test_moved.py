"""A store elsewhere than it was made, or in a folder whose name means something in an address."""

import shutil
from pathlib import Path

import mlflow
import pytest
from mlflow.tracking._tracking_service import client

from protcli.errors import ProtcliError
from protcli.tracking.run import Run, create_run, find_run
from protcli.tracking.store import open_store, sqlite_file, tracking_uri


def content(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def make_run(name: str = "run", experiment: str = "runs") -> Run:
    run = create_run(name, experiment)
    run.log_text(name, "a/name.txt")
    run.end("FINISHED")
    return run


@pytest.fixture
def project(mlflow_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a run, and nothing beside it."""
    (project := tmp_path / "old" / "project").mkdir(parents=True)
    mlflow_store.rename(project / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    monkeypatch.chdir(project)
    make_run()
    return project


@pytest.mark.parametrize("name", ["my?run", "my%20run", "a#b?c=%", "ü ö&=.", "n" * 255])
def test_a_folder_of_any_name(mlflow_store, tmp_path, monkeypatch, name):
    (folder := tmp_path / name).mkdir()
    mlflow_store.rename(folder / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    monkeypatch.setenv("_MLFLOW_SERVER_ARTIFACT_ROOT", "")  # so that it is gone after the test
    monkeypatch.delenv("_MLFLOW_SERVER_ARTIFACT_ROOT")
    monkeypatch.chdir(folder)
    runs = [make_run(experiment=experiment) for experiment in ("runs", "Default")]
    assert sqlite_file(tracking_uri()) == folder / "mlflow.db"
    assert list(tmp_path.iterdir()) == [folder]
    for run in map(find_run, (run.id for run in runs)):
        assert run.path("a/name.txt").read_text() == "run"
        assert run.path("a/name.txt").is_relative_to(folder / "mlruns")
        downloaded = mlflow.artifacts.download_artifacts(f"runs:/{run.id}/a/name.txt", tracking_uri=tracking_uri())
        assert Path(downloaded).read_text() == "run"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_uri())  # as a training of a suite gets it
    assert sqlite_file(tracking_uri()) == folder / "mlflow.db"


def test_an_address_is_read_as_sqlalchemy_reads_it(tmp_path, monkeypatch):
    for typed, name in (
        ("a%20b.db", "a b.db"),
        ("a b.db", "a b.db"),
        ("a%3Fb.db", "a?b.db"),
        ("x.db?timeout=9", "x.db"),
    ):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{typed}")
        assert sqlite_file(tracking_uri()) == tmp_path / name
    assert tracking_uri() == f"sqlite:///{tmp_path}/x.db?timeout=9"
    for typed in ("my?run/mlflow.db", "my?.db"):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{typed}")
        with pytest.raises(ProtcliError, match="write %3F for one in a name"):
            open_store()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("is_copied", [False, True])
def test_a_store_moves_with_its_folder(project, tmp_path, monkeypatch, caplog, is_copied):
    (run,) = open_store().search_runs([open_store().get_experiment_by_name("runs").experiment_id])
    (tmp_path / "new").mkdir()
    shutil.copytree(project, new := tmp_path / "new" / "my%20project")
    if not is_copied:
        shutil.rmtree(tmp_path / "old")
    before = content(tmp_path / "old")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    monkeypatch.setenv("_MLFLOW_SERVER_ARTIFACT_ROOT", "")
    monkeypatch.delenv("_MLFLOW_SERVER_ARTIFACT_ROOT")
    monkeypatch.chdir(new)
    client.utils._artifact_repos_cache.clear()  # as in a new process
    caplog.clear()
    found = find_run(run.info.run_id)
    found.log_text("more", "a/more.txt")
    assert found.path("a/name.txt").is_relative_to(new / "mlruns")
    for experiment in ("runs", "another", "Default"):
        assert make_run(experiment=experiment).path("a/name.txt").is_relative_to(new / "mlruns")
    assert caplog.messages == [f"this store was in {project}: the files of its runs are now those in {new}/mlruns"]
    assert content(tmp_path / "old") == before
    assert sorted(each.name for each in new.iterdir()) == ["mlflow.db", "mlflow.db.lock", "mlruns"]


def test_files_that_are_elsewhere_stay_there(project, tmp_path, monkeypatch):
    """The store alone is moved: its runs go on where their files are; without these the folder is named."""
    (run,) = open_store().search_runs([open_store().get_experiment_by_name("runs").experiment_id])
    (new := tmp_path / "new").mkdir()
    (project / "mlflow.db").rename(new / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{new}/mlflow.db")
    monkeypatch.chdir(new)
    make_run("other", "others")
    assert find_run(run.info.run_id).folder.is_relative_to(project)
    shutil.rmtree(project)
    with pytest.raises(ProtcliError, match=rf"the files of run .* are gone: {project}/mlruns/.* does not exist"):
        find_run(run.info.run_id).path("config.yaml")
    assert not project.exists()


def test_the_store_may_lie_below_the_working_folder(project, tmp_path, monkeypatch):
    (project / "store").mkdir()
    (project / "mlflow.db").rename(project / "store" / "runs.db")
    project.rename(new := tmp_path / "new")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///store/runs.db")
    monkeypatch.chdir(new)
    (run,) = open_store().search_runs([open_store().get_experiment_by_name("runs").experiment_id])
    assert find_run(run.info.run_id).path("a/name.txt").is_relative_to(new)
    assert not list((tmp_path / "old").iterdir())
