import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import mlflow
import numpy as np
import pytest
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from protcli.cli import app
from protcli.errors import ProtcliError
from protcli.experiments.config import RunConfig
from protcli.experiments.evaluate import evaluate
from protcli.experiments.promoting.promote import promote
from protcli.experiments.statistics.contrasts import improvement_over_sepmean
from protcli.experiments.statistics.estimates import Estimate, per_cent_lower
from protcli.experiments.train import Finished, train
from protcli.models.zoo import find_model
from protcli.proteins.metrics import PairErrors
from protcli.proteins.store import create_store, open_store
from protcli.tracking.registry import Registry
from protcli.tracking.run import find_run


def test_validation_gives_the_figures_of_training_to_the_bit(finished: Finished, tiny_data: Path) -> None:
    before = find_run(finished.run_id).metrics
    result = evaluate(run_id=finished.run_id)
    assert result.scores.errors.mse == finished.best.valid.mse
    assert result.scores.sepmean_errors.mse == finished.sepmean_mse
    after = find_run(finished.run_id).metrics
    of_length = RunConfig(spec=find_model("sepmean-length")).with_settings(source=str(tiny_data), crop=32)
    *_, length = train(of_length)
    assert result.scores.sepmean_length["mse"] == length.best.valid.mse
    ratio = before["best/valid_mse"] / length.best.valid.mse
    assert after["best/valid_mse_over_sepmean_length"] == pytest.approx(ratio)
    assert after["best/valid_mse"] == before["best/valid_mse"]
    assert after["best/valid_rmse"] == pytest.approx(before["best/valid_mse"] ** 0.5)
    assert after["valid/mse"] == before["valid/mse"]  # the curve of the epochs is left alone
    assert not any(name.startswith("test") for name in after)


def test_the_test_split_is_read_when_said_and_recorded(finished: Finished, tiny_data: Path, tmp_path: Path) -> None:
    result = evaluate(run_id=finished.run_id, split="test")
    run = find_run(finished.run_id)
    testing = open_store(tiny_data).split("testing")
    name = f"test-{testing.digest[:8]}"
    gain, names = result.scores.improvement, ("mse", "improvement", "improvement_low", "improvement_high")
    logged = [run.metrics[f"{name}/{each}"] for each in names]
    assert logged == [result.scores.errors.mse, gain.value, gain.low, gain.high]
    assert run.metrics[f"{name}/mse_over_sepmean"] == pytest.approx(
        result.scores.errors.mse / result.scores.sepmean_errors.mse
    )
    contexts = {tag.value for item in mlflow.MlflowClient().get_run(run.id).inputs.dataset_inputs for tag in item.tags}
    assert contexts == {"training", "validation", name}
    table = run.path(f"evaluation/{name}/proteins.csv")
    rows = list(csv.DictReader(table.open()))
    assert [row["id"] for row in rows] == [protein.id for protein in testing]
    assert [int(row["resolved"]) for row in rows] == [int(np.isfinite(p.coords[:, 1, 0]).sum()) for p in testing]


@pytest.mark.parametrize(("split", "name"), [("valid", "validation"), ("test", "testing")])
def test_other_data_has_names_of_its_own(
    finished: Finished, tiny_data: Path, tmp_path: Path, split: str, name: str
) -> None:
    """Other data may hold nothing but the split that is asked for."""
    other = tmp_path / "other"
    with create_store(other) as writer, writer.split(name) as proteins:
        for protein in list(open_store(tiny_data).split("training"))[:3]:
            proteins.add(protein)
    before = find_run(finished.run_id).metrics
    result = evaluate(run_id=finished.run_id, split=split, data=str(other))
    after = find_run(finished.run_id).metrics
    assert result.scores.prefix == f"{split}-{open_store(other).split(name).digest[:8]}/"
    assert after[f"{result.scores.prefix}mse"] == result.scores.errors.mse
    assert {name: after[name] for name in before} == before
    assert result.validation is None


def test_two_test_sets_are_two_things(finished: Finished, tiny_data: Path, tmp_path: Path) -> None:
    """Two stores share training and validation and differ in testing: neither reading overwrites the other."""
    own, other = open_store(tiny_data), tmp_path / "other"
    with create_store(other) as writer:
        for split in ("training", "validation", "testing"):
            with writer.split(split) as proteins:
                for protein in list(own.split(split))[1 if split == "testing" else 0 :]:
                    proteins.add(protein)
    digests = [store.split("testing").digest for store in (own, open_store(other))]
    assert open_store(other).split("validation").digest == own.split("validation").digest
    promote()
    first = evaluate(run_id=finished.run_id, split="test")
    second = evaluate(model="models:/protein-distance@champion", split="test", data=str(other))
    run, version = find_run(finished.run_id), Registry().find("models:/protein-distance/1")
    for result, digest, proteins in zip((first, second), digests, (0, -1), strict=True):
        name, mse = f"test-{digest[:8]}", result.scores.errors.mse
        assert (result.scores.prefix, run.metrics[f"{name}/mse"]) == (f"{name}/", mse)
        assert float(version.tags[f"{name}/mse"]) == pytest.approx(mse, rel=1e-5)
        for tags in (run.tags, version.tags):
            assert tags[f"evaluated.{name}.digest"] == digest
            assert tags[f"evaluated.{name}.proteins"] == str(len(own.split("testing")) + proteins)
            assert tags[f"evaluated.{name}.readings"] == "1 reading, 0 of them by models that were not champion"
        table = run.path(f"evaluation/{name}/proteins.csv")
        assert len(table.read_text().splitlines()) == 1 + len(own.split("testing")) + proteins
    assert first.scores.errors.mse != second.scores.errors.mse
    assert (first.other_tests, second.other_tests) == ((), ((f"test-{digests[0][:8]}", len(own.split("testing"))),))
    said = CliRunner().invoke(app, ["evaluate", "--run-id", finished.run_id, "--split", "test", "--data", str(other)])
    assert f"Warning: this run was measured on another test set before, test-{digests[0][:8]} with 4 pro" in said.output
    assert len([name for name in run.metrics if name.startswith("test") and name.endswith("/mse")]) == 2
    view = json.loads(mlflow.get_experiment("0").tags["mlflow.sharedViewState.protcli"])
    assert {f"metrics.`test-{digest[:8]}/mse`" for digest in digests} <= set(view["selectedColumns"])


def test_damaged_data_is_not_measured(finished: Finished, tiny_data: Path, tmp_path: Path) -> None:
    copy = tmp_path / "damaged"
    shutil.copytree(tiny_data, copy)
    data = bytearray((copy / "testing.arrow").read_bytes())
    profile = open_store(tiny_data).split("testing")[0].profile.tobytes()
    data[data.index(profile)] ^= 1
    (copy / "testing.arrow").write_bytes(data)
    evaluate(run_id=finished.run_id, data=str(copy))  # its validation split is whole
    with pytest.raises(ProtcliError, match=r"testing\.arrow: .* its manifest says .* the store is damaged"):
        evaluate(run_id=finished.run_id, split="test", data=str(copy))
    assert not any(name.startswith("evaluated.test") for name in find_run(finished.run_id).tags)


def test_a_registered_model_is_measured_by_its_own_weights_and_validation_is_of_the_same(
    finished: Finished, tmp_path: Path
) -> None:
    first = evaluate(run_id=finished.run_id, split="test")  # validation is measured for it
    known = evaluate(run_id=finished.run_id)
    second = evaluate(run_id=finished.run_id, split="test")  # validation is known
    assert first.validation == second.validation == known.scores.improvement
    assert known.validation is None
    promote()
    uri = "models:/protein-distance@champion"
    assert evaluate(model=uri).scores.errors.mse == known.scores.errors.mse
    (weights,) = tmp_path.glob("mlruns/0/models/*/artifacts/artifacts/model/weights.safetensors")
    tensors = load_file(weights)
    tensors["slope"] *= 2
    save_file(tensors, weights)
    changed, other = evaluate(model=uri).scores, evaluate(model=uri, split="test")
    assert changed.errors.mse > 1.5 * known.scores.errors.mse
    assert other.validation == changed.improvement != known.scores.improvement
    gain = other.scores.improvement
    interval = f"{gain.value:.1f} [{gain.low:.1f}, {gain.high:.1f}] %"
    assert Registry().find(uri).tags[f"evaluated.{other.scores.name}.improvement_over_sepmean"] == interval
    assert evaluate(run_id=finished.run_id).scores.errors.mse == known.scores.errors.mse
    with pytest.raises(ProtcliError, match="name a run with --run-id, or a registered model with --model"):
        evaluate(run_id=finished.run_id, model=uri)


def test_proteins_of_one_family_leave_no_interval() -> None:
    count = np.array([10, 20])
    errors, sepmean = (PairErrors(count, squared, squared) for squared in (np.array([9.0, 21]), np.array([20.0, 40])))
    estimate = improvement_over_sepmean([errors], sepmean, ["a", "a"])
    assert (estimate.value, np.isnan(estimate.low), np.isnan(estimate.high)) == (50, True, True)
    assert per_cent_lower(estimate) == "50.0 % lower"
    assert per_cent_lower(Estimate(-3.0, -7.0, 1.0)) == "3.0 [-1.0, 7.0] % higher"


def test_what_does_not_fit_is_refused(finished: Finished, tiny_data: Path, tmp_path: Path) -> None:
    with pytest.raises(ProtcliError, match="no run nowhere"):
        evaluate(run_id="nowhere")
    with pytest.raises(ProtcliError, match="unknown split"):
        evaluate(run_id=finished.run_id, split="training")
    with pytest.raises(ProtcliError, match="elsewhere"):
        evaluate(run_id=finished.run_id, data=str(tmp_path / "elsewhere"))


@pytest.mark.usefixtures("mlflow_store")
def test_a_store_without_the_runs_atom_is_refused(tiny_data: Path, tiny_model: Path, tmp_path: Path) -> None:
    spec = find_model("tiny", tiny_model)
    *_, last = train(
        RunConfig(spec=spec, model_file=tiny_model).with_settings(source=str(tiny_data), atom="cb", epochs=1)
    )
    with create_store(tmp_path / "ca_only") as writer, writer.split("validation") as proteins:
        for protein in open_store(tiny_data).split("validation"):
            coords = protein.coords.copy()
            coords[:, [0, 2]] = np.nan
            proteins.add(replace(protein, coords=coords))
    with pytest.raises(ProtcliError, match="two residues with the atom cb"):
        evaluate(run_id=last.run_id, data=str(tmp_path / "ca_only"))
