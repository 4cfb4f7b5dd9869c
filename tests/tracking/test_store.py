"""Where runs are kept: the address, a store made once however many start, and one that cannot be opened."""

import os
import re
from pathlib import Path

import pytest

from protcli.errors import ProtcliError
from protcli.tracking.store import open_store, tracking_uri

MAKE_STORE = """
import os
from protcli.tracking.store import open_store

def work():
    open_store().create_experiment(str(os.getpid()))
"""


def test_only_a_relative_address_is_made_absolute(tmp_path, monkeypatch):
    for uri in (None, "", "sqlite:///mlflow.db"):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri or "")
        if uri is None:
            monkeypatch.delenv("MLFLOW_TRACKING_URI")
        assert tracking_uri() == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///runs/all.db")
    assert tracking_uri() == f"sqlite:///{tmp_path}/runs/all.db"
    for uri in ("sqlite:////srv/mlflow.db", "http://localhost:5000", "postgresql://me@host/db"):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        assert tracking_uri() == uri


def test_a_change_of_folder_changes_nothing(mlflow_store, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    made = open_store().create_experiment("here")
    (tmp_path / "below").mkdir()
    os.chdir("below")
    assert open_store().get_experiment(made).name == "here"
    assert not Path("mlflow.db").exists()


@pytest.mark.slow
def test_four_processes_make_one_store(tmp_path, at_once, monkeypatch):
    """Without the lock all four would make the same tables."""
    runs = tmp_path / "new" / "folder"  # made as well
    uri = f"sqlite:///{runs}/mlflow.db"
    at_once(4, MAKE_STORE, MLFLOW_TRACKING_URI=uri)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert len(open_store().search_experiments()) == 5  # theirs and MLflow's own


def test_a_damaged_store(tmp_path):
    (tmp_path / "mlflow.db").write_text("this is no database\n" * 500)
    with pytest.raises(ProtcliError, match=r"mlflow\.db cannot be opened \(.*not a database.*\): check MLFLOW_TRACKI"):
        open_store()


@pytest.mark.parametrize(
    ("uri", "reason"), [("nonsense://here", "unsupported URI"), ("sqlite:////dev/null/mlflow.db", "File exists")]
)
def test_an_address_that_cannot_be(monkeypatch, uri, reason):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(ProtcliError, match=f"the MLflow store {uri} cannot be opened .*{reason}") as error:
        open_store()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("address", "meant"),
    [
        ("localhost:5999", "http://localhost:5999"),
        ("my.host:5000/path", "http://my.host:5000/path"),
        ("http:/127.0.0.1:5999", "http://127.0.0.1:5999"),
        ("http//localhost:5999", "http://localhost:5999"),
        ("mlflow.db", "sqlite:///mlflow.db"),
        ("/data/runs.db", "sqlite:////data/runs.db"),
        ("sqlite://mlflow.db", "sqlite:///mlflow.db"),
        ("sqlite:mlflow.db", "sqlite:///mlflow.db"),
    ],
)
def test_an_address_that_is_almost_one(monkeypatch, tmp_path, address, meant):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    with pytest.raises(ProtcliError, match=rf"did you mean {re.escape(meant)}\?$"):
        open_store()
    assert list(tmp_path.iterdir()) == []
