"""Runs that version 0.1.0 has finished are still evaluated, compared, promoted and predicted with: the figures of then.

`data/runs_0_1_0.tar.gz` was made by commit e05f079: a store of synthetic proteins, and three seeds of the tests' tiny
model trained on them, of which 0.1.0 has measured the first. The figures below are what 0.1.0 printed.
"""

import sqlite3
import tarfile
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from protcli.cli import app

ARCHIVE = Path(__file__).parent / "data" / "runs_0_1_0.tar.gz"
MADE_IN = "/tmp/protcli-0.1.0"
MEASURED, SECOND = "bbc81fc8b9dd49399969f973ac42262a", "72c2e5deebf54b0aaf8960bd069cf60b"
COLUMNS = (
    ("experiments", "artifact_location"), ("runs", "artifact_uri"), ("params", "value"), ("datasets", "dataset_source"),
)  # fmt: skip


@pytest.fixture
def old_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The store of 0.1.0, in a folder of the test."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path)  # of our own making
    folder = tmp_path / Path(MADE_IN).name
    with closing(sqlite3.connect(folder / "mlflow.db")) as database, database:
        for table, column in COLUMNS:
            database.execute(f"UPDATE {table} SET {column} = replace({column}, ?, ?)", (MADE_IN, str(folder)))
    for config in folder.glob("mlruns/*/*/artifacts/config.yaml"):
        config.write_text(config.read_text(encoding="utf-8").replace(MADE_IN, str(folder)), encoding="utf-8")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
    return folder


def protcli(*arguments: str) -> str:
    """What the command prints, with single spaces."""
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    return " ".join(result.output.replace("│", " ").replace("|", " ").split())


def test_a_run_is_evaluated(old_runs: Path) -> None:
    said = protcli("evaluate", "--run-id", SECOND)
    for row in ("MSE (Å²) 48.6191 17.3346 17.2376", "lDDT, mean over proteins 0.2818 0.4965 0.4967"):
        assert row in said


def test_runs_are_compared(old_runs: Path) -> None:
    said = protcli("compare")
    assert "tiny 3 47.33 [35.82, 62.54] 2.730 48.62 0 of 3 (up to 63 %) 3 47.33 [35.82, 62.54]" in said
    assert (
        "sepmean is better than tiny by 63.4 [49.9, 73.2] % (29.99 [20.21, 40.51] Å²; p < 0.001); at the last epoch "
        "63.4 [49.9, 73.2] %." in said  # the jackknife over families by another program
    )


def test_a_run_is_promoted_tested_and_predicted_with(old_runs: Path) -> None:
    champion = "models:/protein-distance@champion"
    said = protcli("promote")
    assert f"Best: tiny, run {MEASURED}." in said
    assert "173.0 [99.7, 273.2] % higher" in said
    assert "MSE (Å²) 43.1131 16.1001 15.9695" in protcli("evaluate", "--model", champion, "--split", "test")
    protcli("predict", "--model", champion, "--sequence", "MKVLAAGIVALLAACSS", "--out", "maps", "--write", "npz")
    distance = np.load("maps/sequence.npz")["distance"]
    np.testing.assert_allclose(distance[0, :4], [0, 3.1850395, 3.9764633, 4.9237204], rtol=1e-5)
    assert distance[3, 12] == pytest.approx(7.7858195, rel=1e-5)
