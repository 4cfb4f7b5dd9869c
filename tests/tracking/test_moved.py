"""A store elsewhere than it was made, or in a folder whose name means something in an address."""

import shutil
from pathlib import Path

import mlflow
import pytest
from mlflow.tracking._tracking_service import client

from protcli.errors import ProtcliError
from protcli.tracking.journal import journal_path, open_journal
from protcli.tracking.run import Run, create_run, find_run
from protcli.tracking.store import open_store, sqlite_file, tracking_uri
from protcli.tracking.sync import sync_journals


def content(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def make_run(name: str = "run", experiment: str = "runs") -> Run:
    run = create_run(name, experiment)
    run.log_params({"name": name})
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
    ):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{typed}")
        assert sqlite_file(tracking_uri()) == tmp_path / name
    for typed in ("my?run/mlflow.db", "my?.db"):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{typed}")
        with pytest.raises(ProtcliError, match=r"write %3F for a \? in its name"):
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
    assert open_store().get_experiment_by_name("runs").artifact_location == f"{project}/mlruns/1"
    shutil.rmtree(project)
    with pytest.raises(ProtcliError, match=rf"has no file config.yaml: {project}/mlruns/.* does not exist"):
        find_run(run.info.run_id).path("config.yaml")
    assert not project.exists()


def test_records_of_the_original_wait_for_it(project, tmp_path, monkeypatch):
    """A copy doesn't take what a killed process left for the original; once that is gone, it is the store itself."""
    (run,) = open_store().search_runs([open_store().get_experiment_by_name("runs").experiment_id])
    monkeypatch.setenv("PROTCLI_CACHE", str(tmp_path / "cache"))
    journal = journal_path(run.info.run_id)
    journal.parent.mkdir(parents=True)
    journal.write_text(f'"{tracking_uri()}"\n{{"write": "tags", "values": {{"left": "yes"}}}}\n')
    shutil.copytree(project, copy := tmp_path / "copy")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    monkeypatch.chdir(copy)
    assert "left" not in find_run(run.info.run_id).tags
    message = r"has records of run .*/old/project/mlflow.db: `protcli sync` delivers"
    with pytest.raises(ProtcliError, match=message), open_journal(open_store(), tracking_uri(), run.info.run_id):
        pass
    shutil.rmtree(project)
    (error,) = sync_journals()
    assert "if that was moved, `protcli runs` delivers it there" in str(error)
    assert find_run(run.info.run_id).tags["left"] == "yes"
    assert not project.exists()
    assert not journal.exists()
