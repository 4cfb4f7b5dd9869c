"""The registry of a real MLflow store: versions, aliases, what a version holds and answers, who has read a test set."""

import os
import platform
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from mlflow.exceptions import MlflowException

from protcli.errors import ProtcliError
from protcli.models.zoo import configure, find_model
from protcli.process import this_process
from protcli.tracking.bundle import read_bundle, write_bundle
from protcli.tracking.keys import Tag
from protcli.tracking.registry import CHALLENGER, CHAMPION, Readings, Registry, Version, count_readings, record_reading
from protcli.tracking.run import Run, find_run
from protcli.tracking.store import open_store
from protcli.training.checkpoint import save_checkpoint
from protcli.training.predictor import Predictor, SavedModel

NAME = "protein-distance"


@pytest.fixture
def client(mlflow_store: Path) -> mlflow.MlflowClient:
    return open_store()


@pytest.fixture
def run(client: mlflow.MlflowClient) -> Run:
    made = client.create_run("0")
    client.log_metric(made.info.run_id, "best/valid_mse", 4.5, step=3)
    client.set_terminated(made.info.run_id)
    return find_run(made.info.run_id)


@pytest.fixture
def bundle(tiny_model: Path, tmp_path: Path) -> Path:
    """A model of the user's own with a setting that is not its default, whose file is gone."""
    torch.manual_seed(1)
    spec = configure(find_model("tiny", tiny_model), ["scale=2.0"])
    save_checkpoint(tmp_path, "best", spec.build().state_dict(), {})
    write_bundle(SavedModel(spec, (tmp_path / "best.safetensors",), "32", 32), tmp_path / "bundle")
    tiny_model.unlink()
    return tmp_path / "bundle"


def register(run: Run, bundle: Path, name: str = NAME, description: str = "a card") -> Version:
    return Registry().register(name, run, read_bundle(bundle), description=description, tags={"run.seed": 7}, step=3)


def test_a_run_is_registered_once_with_its_lineage(client: mlflow.MlflowClient, run: Run, bundle: Path) -> None:
    version = register(run, bundle)
    assert version == Version(NAME, 1, run.id, (), {"run.seed": "7"}) == register(run, bundle)
    assert version.uri == f"models:/{NAME}/1"
    stored = client.get_model_version(NAME, "1")
    model = client.get_logged_model(stored.source.removeprefix("models:/"))
    assert (stored.description, model.source_run_id) == ("a card", run.id)
    assert [(metric.key, metric.value) for metric in model.metrics] == [("best/valid_mse", 4.5)]
    assert [output.model_id for output in client.get_run(run.id).outputs.model_outputs] == [model.model_id]
    register(run, bundle, "another")
    assert {version.name for version in Registry().versions_of(run.id)} == {NAME, "another"}
    assert Registry().of_run(run.id, NAME) == version
    register(run, bundle, description="a newer card" + "." * 5000)
    assert client.get_model_version(NAME, "1").description == "a newer card" + "." * 4988  # MLflow's limit
    assert Registry().find(version.uri) == version
    with pytest.raises(ProtcliError, match="cannot create a registered model 'a/b'"):
        register(run, bundle, "a/b")


def test_who_is_slower_without_a_lock_takes_back_what_it_registered(client, run: Run, bundle: Path, monkeypatch):
    log_model = Registry._log_model

    def overtaken(self, *arguments):
        monkeypatch.setattr(Registry, "_log_model", log_model)
        register(run, bundle)
        return log_model(self, *arguments)

    monkeypatch.setattr(Registry, "_log_model", overtaken)
    assert register(run, bundle).number == 1
    assert [int(version.version) for version in client.search_model_versions(f"name = '{NAME}'")] == [1]


def test_aliases_and_addresses(run: Run, bundle: Path) -> None:
    registry, version = Registry(), register(run, bundle)
    assert registry.aliased(NAME, CHAMPION) is None
    assert registry.aliased("nothing", CHAMPION) is None
    for uri, said in (
        *((uri, "is not a model address") for uri in (NAME, "runs:/a/b", f"models:/{NAME}", f"models:/{NAME}/latest")),
        ("models:/protein-distance@challenger", rf"there is no .*registered models: {NAME}"),
        ("models:/protein-distance/7", "there is no"),
        ("models:/unknown@champion", "there is no"),
    ):
        with pytest.raises(ProtcliError, match=said):
            registry.find(uri)
    for alias in (CHALLENGER, CHAMPION):
        registry.set_alias(version, alias)
    champion = registry.find(f"models:/{NAME}@champion")
    assert champion == registry.find(f"models:/{NAME}/1") == registry.of_run(run.id, NAME)
    assert champion == registry.aliased(NAME, CHAMPION)
    assert set(champion.aliases) == {CHALLENGER, CHAMPION}


def test_a_version_of_somebody_else(client: mlflow.MlflowClient, tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    client.create_registered_model("theirs")
    client.create_model_version("theirs", str(tmp_path / "files"))
    version = Registry().find("models:/theirs/1")
    assert version.run_id == ""
    with pytest.raises(ProtcliError, match="does not hold a model registered by protcli promote"):
        Registry().load(version)


def test_a_version_loads_without_pickle_and_answers_as_the_model(run: Run, bundle: Path, monkeypatch) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    monkeypatch.setattr(sys, "path", sys.path.copy())
    version = register(run, bundle)
    files = [path for path in Path(mlflow.artifacts.download_artifacts(version.uri)).rglob("*") if path.is_file()]
    assert {".safetensors", ".py"} <= {path.suffix for path in files}
    assert not {".pkl", ".pickle", ".pt", ".pth", ".bin", ".joblib"} & {path.suffix for path in files}
    model = mlflow.pyfunc.load_model(version.uri)
    profile = np.random.default_rng(0).random((5, 21))
    table = pd.DataFrame({"sequence": ["MKVLA", "ACDEFGHIK"], "profile": [profile.tolist(), None]})
    answer = model.predict(table)
    stored = Registry().load(version)
    assert stored.spec.config.scale == 2.0
    predictor = Predictor(stored, torch.device("cpu"))
    chains = [predictor.chain("a", "MKVLA", profile), predictor.chain("b", "ACDEFGHIK")]
    for said, expected in zip(
        answer["distance"], (each.distance for each in predictor.predict_all(chains)), strict=True
    ):
        np.testing.assert_array_equal(said, expected)
    for sequence, said in (("MKVLAB", "'B' at position 6"), ("A" * 33, "accepts at most 32"), ("", "is empty")):
        with pytest.raises(MlflowException, match=f"row 1.*{said}") as refused:
            model.predict(pd.DataFrame({"sequence": [sequence]}))
        assert refused.value.get_http_status_code() == 400
    with pytest.raises(MlflowException, match="the profile is 5 x 21") as refused:
        model.predict(pd.DataFrame({"sequence": ["MK"], "profile": [profile.tolist()]}))
    assert refused.value.get_http_status_code() == 400


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"model": "tiny"', '"model": 3', "not a model registered by protcli promote .*model"),
        ('"members": 1', '"members": 0', "not a model registered by protcli promote .*members"),
        ('"members": 1', '"members": 2', "it has no 2-weights"),
        ('"longest_chain": 32', '"longest_chain": -1', "not a model registered by protcli promote"),
        ('"precision": "32"', '"precision": "8"', "unknown precision '8'"),
        ('"scale": 2.0', '"size": 2.0', "size"),
        ("{", "[" * 100_000, "not a model registered by protcli promote"),
    ],
)
def test_a_bundle_that_was_changed_is_one_sentence(bundle: Path, old: str, new: str, said: str) -> None:
    path = bundle / "model.json"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(ProtcliError, match=said):
        Predictor(read_bundle(bundle), torch.device("cpu"))


def test_what_a_killed_process_left_of_a_version_is_removed(client, run: Run, bundle: Path) -> None:
    gone = f"{platform.node()}:{os.getpid()}:1"  # began when this process did not
    left = client.create_logged_model("0", NAME, source_run_id=run.id, tags={Tag.PROCESS: gone})
    other = client.create_logged_model("0", NAME, source_run_id=run.id, tags={Tag.PROCESS: this_process()})
    version = register(run, bundle)
    kept = {model.model_id for model in client.search_logged_models(["0"])}
    assert left.model_id not in kept
    assert other.model_id in kept  # of a process that may still be at it
    register(run, bundle, "another name")
    assert mlflow.pyfunc.load_model(version.uri) is not None
    assert len(client.search_logged_models(["0"])) == 3


@pytest.mark.slow
def test_a_version_runs_its_own_copy_of_protcli(run: Run, bundle: Path, tmp_path: Path) -> None:
    """In a process that has not imported protcli, as a server is."""
    version = register(run, bundle)
    program = (
        "import sys, mlflow, pandas as pd\n"
        f"model = mlflow.pyfunc.load_model({version.uri!r})\n"
        "print(model.predict(pd.DataFrame({'sequence': ['MKV']}))['distance'][0].shape)\n"
        "print(sys.modules['protcli'].__file__)"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=tmp_path)
    shape, place = said.stdout.split("\n")[:2]
    assert shape == "(3, 3)"
    assert place.endswith("/code/protcli/__init__.py")
    assert not (Path(place).parent / "weights").exists()  # of protcli's own model


def test_readings_of_a_test_set_are_counted_over_the_store(client: mlflow.MlflowClient, run: Run, bundle: Path) -> None:
    digest, other = "d" * 64, "e" * 64
    assert count_readings(digest) == Readings(0, 0)
    assert record_reading(run, digest) == Readings(1, 1)
    Registry().set_alias(register(run, bundle), CHAMPION)
    assert record_reading(run, digest) == Readings(2, 1)
    assert record_reading(run, other) == Readings(1, 0)
    elsewhere = client.create_run(client.create_experiment("elsewhere"))
    assert record_reading(find_run(elsewhere.info.run_id), digest) == Readings(3, 2)
    tags = find_run(run.id).tags
    readers = sorted(value for key, value in tags.items() if key.startswith(f"test.read.{digest[:16]}."))
    assert readers == [f"champion of {NAME}", "no champion"]
    client.delete_run(elsewhere.info.run_id)
    client.delete_experiment(elsewhere.info.experiment_id)
    assert count_readings(digest) == Readings(3, 2)  # what has been read stays read
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: record_reading(run, other), range(12)))
    assert count_readings(other) == Readings(13, 0)  # none is lost when many read at once
