"""What an evaluation leaves with a run, and its reading again."""

import json
import math
import shutil
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import load_file, save_file

from protcli.errors import ProtcliError
from protcli.experiments import evaluate as evaluating
from protcli.experiments import scores as scoring
from protcli.experiments.config import RunConfig
from protcli.experiments.evaluate import evaluate, validation_of
from protcli.experiments.scores import Scores, best_and_worst, read_epochs, score, write_epochs
from protcli.experiments.train import train
from protcli.models.sepmean import SepMean, SepMeanConfig
from protcli.models.zoo import find_model
from protcli.proteins.batches import ProteinBatches
from protcli.proteins.metrics import PairErrors
from protcli.proteins.store import Families, create_store, open_store
from protcli.tracking.run import find_run, start_run

CLASSES = ("10", "10", "FM", "90", "")
FAMILIES = ["007", "1.5", "007", "NA", "12"]  # text that a reader might take for numbers, or for nothing


@pytest.fixture
def data(tmp_path: Path, chain) -> Path:
    """Validation chains of three classes and none, 40 to 120 residues; the last has one resolved residue."""
    folder = tmp_path / "data"
    with create_store(folder) as writer:
        for split, lengths in (("training", (30, 50, 70)), ("validation", (40, 60, 80, 120, 40)), ("testing", (30,))):
            with writer.split(split) as proteins:
                for index, length in enumerate(lengths):
                    missing = tuple(range(1, 40)) if index == 4 else (length // 2,)
                    protein = chain(length, seed=length + index, missing=missing)
                    name = f"{CLASSES[index]}#{split}{index}" if CLASSES[index] else f"{split}{index}"
                    proteins.add(replace(protein, id=name))
                if split == "validation":
                    proteins.families = Families(FAMILIES, "by hand")
    return folder


@pytest.fixture
def run_id(data: Path, tiny_model: Path, request: pytest.FixtureRequest) -> str:
    request.getfixturevalue("mlflow_store")
    spec = find_model("tiny", tiny_model)
    *_, last = train(RunConfig(spec=spec, model_file=tiny_model).with_settings(source=str(data), epochs=1, crop=64))
    return last.run_id


def test_the_artifacts_hold_everything(run_id: str, tmp_path: Path, data: Path) -> None:
    result = evaluate(run_id=run_id)
    digest = open_store(data).split("validation").digest
    folder = find_run(run_id).path(f"evaluation/valid-{digest[:8]}")
    about = json.loads((folder / "metrics.json").read_text(), parse_constant=pytest.fail)  # JSON has no NaN
    assert (about["digest"], about["proteins"], about["metrics"]["mse"]) == (digest, 5, result.scores.errors.mse)
    assert about["metrics"].keys() == about["sepmean"].keys()
    assert about["truth"].keys() == {
        f"{what}_{s}" for what in ("checkerboard", "blockiness") for s in (2, 4, 8, 16, 32)
    }
    assert about["sepmean"]["checkerboard_8"] == pytest.approx(0, abs=1e-6)
    assert {name: group["n"] for name, group in about["groups"]["class"].items()} == {"10": 2, "90": 1, "FM": 1}
    assert {name: group["n"] for name, group in about["groups"]["length"].items()} == {"0-64": 3, "65-128": 2}

    proteins = pd.read_csv(folder / "proteins.csv", engine="pyarrow")
    assert (proteins["length"].tolist(), proteins["pairs"].tolist()[-1]) == ([40, 60, 80, 120, 40], 0)
    assert proteins.iloc[-1][["mse", "mae", "lddt", "precision_long_L"]].isna().all()
    for predictor, metrics in (("", about["metrics"]), ("sepmean_", about["sepmean"])):
        assert metrics["mse"] == proteins[f"{predictor}squared"].sum() / proteins["pairs"].sum()
        assert metrics["mae"] == proteins[f"{predictor}absolute"].sum() / proteins["pairs"].sum()
        assert metrics["mae_8"] == proteins[f"{predictor}absolute_8"].sum() / proteins["pairs_8"].sum()
        for name in ("lddt", "drmsd", "precision_long_L5", "precision_short_L"):
            assert metrics[name] == pytest.approx(proteins[f"{predictor}{name}"].mean(), rel=1e-12)
    ten = proteins[proteins["class"] == "10"]
    assert about["groups"]["class"]["10"]["metrics"]["mse"] == ten["squared"].sum() / ten["pairs"].sum()

    separations = pd.read_csv(folder / "separation.csv", engine="pyarrow")
    assert separations["separation"].tolist() == list(range(1, 64))
    assert separations["pairs"].sum() == proteins["pairs"].sum()
    for predictor in ("", "sepmean_"):
        assert separations[f"{predictor}squared"].sum() == pytest.approx(proteins[f"{predictor}squared"].sum())
        expected = separations[f"{predictor}absolute"] / separations["pairs"]
        np.testing.assert_allclose(separations[f"{predictor}mae"], expected, rtol=1e-12)

    logged = find_run(run_id).metrics
    for name in ("mae_8", "lddt", "precision_long_L5", "drmsd", "checkerboard_8", "blockiness_8", "lddt_sepmean"):
        values = about["sepmean"] if name.endswith("_sepmean") else about["metrics"]
        assert logged[f"best/valid_{name}"] == values[name.removesuffix("_sepmean")]
    assert not any(math.isnan(value) for value in logged.values())


def test_they_are_read_as_written_and_measured_once(
    run_id: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, data: Path
) -> None:
    before = find_run(run_id)
    (data / "testing.arrow").unlink()  # nothing here opens the test split
    tried = validation_of(before, keep=False)
    after = find_run(run_id)
    assert (after.tags, after.files()) == (before.tags, before.files())
    first = evaluate(run_id=run_id, structures=True).scores
    assert tried.errors.mse == first.errors.mse
    monkeypatch.setattr(evaluating, "score", lambda *_: pytest.fail("measured again"))
    again = validation_of(find_run(run_id))
    for field in fields(Scores):
        ours, theirs = getattr(first, field.name), getattr(again, field.name)
        if isinstance(ours, pd.DataFrame):
            pd.testing.assert_frame_equal(ours, theirs, check_exact=True)
        elif isinstance(ours, dict):
            assert ours == pytest.approx(theirs, rel=0, abs=0, nan_ok=True)
        else:
            assert ours == theirs, field.name
    assert (again.run_id, again.split) == (run_id, "validation")
    assert again.errors.mse == again.metrics["mse"] == find_run(run_id).metrics["best/valid_mse"]
    assert (again.sepmean_errors.mse, again.sepmean_errors.mae) == (again.sepmean["mse"], again.sepmean["mae"])
    assert (again.proteins["class"].tolist(), again.families.tolist()) == (list(CLASSES), FAMILIES)
    assert list(again.classes) == ["10#", "90#", "FM#"]
    again.proteins["class"] = ["10", "10-strict", "FM", "90", ""]
    classes = {name: rows.tolist() for name, rows in again.classes.items()}
    assert list(classes) == ["10#", "10-strict#", "90#", "FM#"]
    assert classes["10#"] == [True, True, False, False, False]
    assert classes["10-strict#"] == [False, True, False, False, False]
    mse = again.errors.protein_mse
    assert best_and_worst(again.errors, 1) == [np.nanargmin(mse), np.nanargmax(mse)]
    assert sorted(best_and_worst(again.errors, 2)) == [0, 1, 2, 3]  # the last has no pair
    older = shutil.copytree(find_run(run_id).path(f"evaluation/valid-{again.digest[:8]}"), tmp_path / "older")
    old = pd.read_csv(older / "proteins.csv", dtype=str).drop(columns="family")
    old.to_csv(older / "proteins.csv", index=False)
    assert Scores.load(older).families.tolist() == again.proteins["id"].tolist()


def test_validation_of_says_why_it_cannot(run_id: str, data: Path) -> None:
    with start_run("empty") as empty:
        pass
    with pytest.raises(ProtcliError, match=r"has no file config\.yaml"):
        validation_of(find_run(empty.id))
    shutil.rmtree(data)
    with pytest.raises(ProtcliError, match="there is no such folder"):
        validation_of(find_run(run_id))


def test_a_model_that_fails_is_one_sentence(run_id: str) -> None:
    (artifacts,) = Path.cwd().glob(f"mlruns/*/{run_id}/artifacts")
    file = artifacts / "model.py"
    sound = file.read_text()
    for statement, said in (
        ("raise torch.OutOfMemoryError('CUDA')", "does not fit in memory with batches of 4 and crop 64: free some"),
        ("raise ZeroDivisionError('a bug')", r"model\.py, line \d+: ZeroDivisionError: a bug"),
    ):
        file.write_text(sound.replace("        each =", f"        {statement}\n        each ="))
        with pytest.raises(ProtcliError, match=said):
            evaluate(run_id=run_id)
    assert "evaluated.valid.digest" not in find_run(run_id).tags


def test_maps_scored_few_at_a_time_score_the_same(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    proteins, model = open_store(data).split("validation"), SepMean(SepMeanConfig())
    batches = ProteinBatches(proteins=proteins, atom="ca", crop=64, batch_size=5)
    model.fit(batches.epoch())
    (scores,), truth = score([model], batches, torch.device("cpu"))
    monkeypatch.setitem(scoring.SCORED_AT_ONCE, "cpu", 1)
    (one_by_one,), true_one_by_one = score([model], batches, torch.device("cpu"))
    assert one_by_one.metrics == pytest.approx(scores.metrics, rel=1e-9, abs=1e-12, nan_ok=True)
    assert true_one_by_one.metrics == pytest.approx(truth.metrics, rel=1e-9, nan_ok=True)


@pytest.fixture
def epochs() -> list[PairErrors]:
    """Two epochs of three proteins, the second without a resolved pair."""
    count = np.array([3, 0, 1])
    first = PairErrors(count, np.array([14.0, 0, 9]), np.array([6.0, 0, 3]))
    return [first, PairErrors(count, np.array([1 / 3, 0, 0.1]), np.array([0.7, 0, 1e-300]))]


def test_errors_of_epochs_are_read_as_written(epochs: list[PairErrors], tmp_path: Path) -> None:
    path = tmp_path / "errors.safetensors"
    for done in (1, 2):  # written again after each epoch
        write_epochs(path, epochs[:done])
        for read, written in zip(read_epochs(path), epochs[:done], strict=True):
            for column in ("count", "squared", "absolute"):
                np.testing.assert_array_equal(getattr(read, column), getattr(written, column), strict=True)
    layout = {key: (str(value.dtype), value.shape) for key, value in load_file(path).items()}
    assert layout == {"count": ("int64", (3,)), "squared": ("float64", (2, 3)), "absolute": ("float64", (2, 3))}
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "not a readable safetensors file"),
        (b"", "not a readable safetensors file"),
        (b"text" * 9, "not a readable safetensors file"),
        ({"squared": np.zeros(3)}, "no table of validation errors"),
        ({"further": np.zeros(1)}, "no table of validation errors"),
    ],
)
def test_a_damaged_file_is_refused(epochs: list[PairErrors], tmp_path: Path, content: object, said: str) -> None:
    path = tmp_path / "errors.safetensors"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        write_epochs(path, epochs)
        save_file(load_file(path) | content, path)
    with pytest.raises(ValueError, match=f"^is {said}"):
        read_epochs(path)
