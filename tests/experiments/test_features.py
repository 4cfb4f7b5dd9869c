"""Models that read features: trained, stopped and resumed to the bit, measured, registered and served with them."""

from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file

from protcli.errors import ProtcliError
from protcli.experiments.config import RunConfig, recorded_config
from protcli.experiments.data.features import add_features
from protcli.experiments.evaluate import evaluate
from protcli.experiments.predicting.predict import load, predict
from protcli.experiments.promoting.promote import promote
from protcli.experiments.train import Finished, Step, resume, train
from protcli.models.zoo import config_dict, configure, find_model
from protcli.proteins.store import open_store
from protcli.tracking.keys import Param
from protcli.tracking.run import find_run

pytestmark = pytest.mark.usefixtures("mlflow_store")

D = 7
SETTINGS = {
    "pairmix": "channels=8 heads=1 blocks=1 pair_channels=8 pair_blocks=1 bottleneck=4 triangle=0 head=8 templates=2",
    "psp2": "backbone=resnet18 reduced=4",
    "crossattn": "channels=16 heads=2 blocks=1",
}


@pytest.fixture(scope="module")
def data(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, rng = tmp_path_factory.mktemp("features"), np.random.default_rng(0)
    store = open_store(tiny_data)
    arrays = {each.id: rng.normal(size=(len(each), D)) for name in store.splits for each in store.split(name)}
    np.savez(folder / "arrays.npz", **arrays)
    list(add_features(tiny_data, [folder / "arrays.npz"], folder / "data"))
    return folder / "data"


def config_of(model: str, data: Path, features: str = "features=true") -> RunConfig:
    spec = configure(find_model(model), [*SETTINGS[model].split(), features])
    recipe = {"epochs": 2, "batch_size": 4, "crop": 64, "padded_lengths": (64,)}
    return RunConfig(spec=spec).with_settings(source=str(data), device="cpu", **recipe)


def last_of(events) -> Finished:
    *_, last = events
    assert isinstance(last, Finished)
    return last


def weights(run_id: str) -> dict[str, np.ndarray]:
    return load_file(find_run(run_id).path("checkpoints/last.safetensors"))


@pytest.mark.parametrize("model", SETTINGS)
def test_the_whole_journey(model: str, data: Path, tmp_path: Path) -> None:
    whole = last_of(train(config_of(model, data)))
    events = train(config_of(model, data))
    stopped = ""
    for event in events:
        stopped = getattr(event, "run_id", stopped)
        if isinstance(event, Step) and event.epoch == 2:
            break
    events.close()
    resumed = last_of(resume(stopped))
    one, other = weights(whole.run_id), weights(resumed.run_id)
    assert any(name.startswith("features.") for name in one)
    for name in one:
        np.testing.assert_array_equal(one[name], other[name])
    run = find_run(whole.run_id)
    assert (run.params["model.features"], recorded_config(run).spec.features) == (str(D), D)

    measured = evaluate(run_id=whole.run_id, split="valid", device="cpu").scores
    assert measured.metrics["mse"] == pytest.approx(whole.best.valid.mse, rel=1e-4)
    predictor = load(whole.run_id, "cpu")
    protein = open_store(data).split("validation")[0]
    maps = [
        predictor.predict(protein.sequence, protein.profile, features=factor * protein.features).distance
        for factor in (1, -1)
    ]
    assert np.abs(maps[0] - maps[1]).max() > 1e-3  # they are read
    for features, words in (
        (None, f"reads {D} features of each residue: give --features"),
        (np.zeros((len(protein), D + 1)), f"x 8: expected {D} numbers for each of"),
    ):
        with pytest.raises(ProtcliError, match=words):
            predictor.predict(protein.sequence, features=features)

    version = promote(force="a test").version
    assert version is not None
    served = mlflow.pyfunc.load_model(version.uri)
    table = {"sequence": protein.sequence, "profile": protein.profile.tolist(), "features": protein.features.tolist()}
    (found,) = served.predict(pd.DataFrame([table]))["distance"]
    np.testing.assert_allclose(found, maps[0], atol=1e-3)

    np.savez(tmp_path / "f.npz", **{"sequence": protein.features})
    np.save(tmp_path / "f.npy", protein.features)
    for name in ("f.npz", "f.npy"):
        ((prediction, _),) = predict(
            tmp_path / "out", run_id=whole.run_id, sequence=protein.sequence, features=tmp_path / name, device="cpu"
        )
        assert len(prediction) == len(protein)
    np.savez(tmp_path / "f.npz", **{"other": protein.features})
    with pytest.raises(ProtcliError, match="has no features of sequence"):
        list(predict(tmp_path / "no", run_id=whole.run_id, sequence=protein.sequence, features=tmp_path / "f.npz"))


def test_data_without_or_with_other_features_are_refused(data: Path, tiny_data: Path) -> None:
    with pytest.raises(ProtcliError, match=r"training in .* has no features: give it some with"):
        list(train(config_of("crossattn", tiny_data)))
    with pytest.raises(ProtcliError, match=r"training in .* has 7 features for each residue, but 9 are read"):
        list(train(config_of("crossattn", data, "features=9")))
    with pytest.raises(ProtcliError, match="--set features is -1"):
        config_of("crossattn", data, "features=-1")
    with pytest.raises(ProtcliError, match="this pairmix model reads no features: leave out"):
        load("", "cpu").predict("MKV", features=np.zeros((3, D)))


def test_without_them_nothing_mentions_them_and_nothing_reads_them(data: Path) -> None:
    config = config_of("crossattn", data, "features=false")
    assert "features" not in config_dict(config.spec) | config.parameters
    assert config_dict(config_of("crossattn", data).spec)["features"] is True
    last = last_of(train(config))
    assert not any(name.startswith("features.") for name in weights(last.run_id))
    assert f"{Param.MODEL_SECTION}features" not in find_run(last.run_id).params
