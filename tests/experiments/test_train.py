import csv
import json
import os
import re
import shutil
import threading
import time
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open

from protcli.errors import ProtcliError
from protcli.experiments import train as training
from protcli.experiments.config import RunConfig, read_config
from protcli.experiments.evaluate import evaluate
from protcli.experiments.pages import Progress
from protcli.experiments.predicting.predict import predict
from protcli.experiments.scores import read_epochs
from protcli.experiments.train import CheckpointInterval, Finished, Started, train, training_batches
from protcli.models.recipe import Recipe
from protcli.models.zoo import configure, find_model
from protcli.proteins.homology import SequenceDatabase
from protcli.tracking.run import find_run, find_runs
from protcli.training.loop import Diverged, Epoch, Step
from protcli.training.losses import LOSSES
from protcli.training.optimizers import OPTIMIZERS, SCHEDULES

EPOCH_METRICS = [
    *("train/mse", "train/loss", "train/lr", "train/seconds", "train/samples_per_second"),
    *("valid/mse", "valid/rmse", "valid/mae", "valid/legacy_sse_pm2", "valid/mse_sepmean", "valid/mse_over_sepmean"),
    *("best/valid_mse", "best/epoch"),
]


pytestmark = pytest.mark.usefixtures("mlflow_store")


@pytest.fixture
def config(tiny_data: Path, tiny_model: Path) -> RunConfig:
    return RunConfig(spec=find_model("tiny", tiny_model), model_file=tiny_model).with_settings(
        source=str(tiny_data), seed=3
    )


def curve(run_id: str, metric: str) -> list[float]:
    return [point.value for point in mlflow.MlflowClient().get_metric_history(run_id, metric)]


def run_to_end(config: RunConfig) -> Finished:
    *_, last = train(config)
    assert isinstance(last, Finished)
    return last


def files(run_id: str, folder: str = "") -> set[str]:
    return {item.path for item in mlflow.MlflowClient().list_artifacts(run_id, folder or None)}


@pytest.mark.draws
def test_a_run_is_complete(config: RunConfig, tmp_path: Path) -> None:
    events = list(train(config))
    started, finished = events[0], events[-1]
    assert isinstance(started, Started)
    assert isinstance(finished, Finished)
    assert [event.number for event in events if isinstance(event, Epoch)] == [1, 2, 3]
    assert [event.number for event in events if isinstance(event, Step)] == [1, 2, 3] * 3

    run = find_run(finished.run_id)
    assert run.status == "FINISHED"
    assert run.tags["mlflow.runName"] == "tiny seed 3"
    assert "tiny" in run.tags["mlflow.note.content"]
    assert run.tags["deterministic"] == "True"
    expected = {"model": "tiny", "model.scale": "1.0", "recipe.epochs": "3", "recipe.crop": "32", "run.seed": "3"}
    expected |= {"data.train_proteins": "10", "data.valid_proteins": "5", "data.digest": started.training.data.digest}
    assert expected.items() <= run.params.items()
    assert {"version.torch", "run.git_commit", "data.train_digest", "data.valid_digest"} <= run.params.keys()
    for metric in EPOCH_METRICS:
        assert len(curve(run.id, metric)) == 3, metric
    assert run.metrics["best/valid_mse"] == min(curve(run.id, "valid/mse"))
    assert run.metrics["best/epoch"] == 1 + curve(run.id, "valid/mse").index(min(curve(run.id, "valid/mse")))
    inputs = mlflow.MlflowClient().get_run(run.id).inputs.dataset_inputs
    assert {item.dataset.name for item in inputs} == {"tiny/training", "tiny/validation"}

    assert files(run.id) == {
        *("config.yaml", "model.py", "layers.txt", "log.txt", "loss.png", "gallery.png", "best_and_worst.png"),
        *("validation_proteins.csv", "validation_errors.safetensors", "checkpoints"),
    }
    weights = ("best", "last", "sepmean", "sepmean-length")
    names = {f"checkpoints/{name}.{kind}" for name in weights for kind in ("json", "safetensors")}
    assert files(run.id, "checkpoints") == names
    about = json.loads(run.path("checkpoints/best.json").read_text())
    assert about == {"model": "tiny", "epoch": run.metrics["best/epoch"], "valid_mse": run.metrics["best/valid_mse"]}
    epochs = read_epochs(run.path("validation_errors.safetensors"))
    assert [errors.mse for errors in epochs] == curve(run.id, "valid/mse")
    assert [errors.mae for errors in epochs] == curve(run.id, "valid/mae")
    table = list(csv.DictReader(run.path("validation_proteins.csv").open()))
    best = epochs[int(run.metrics["best/epoch"]) - 1]
    assert [(int(row["pairs"]), float(row["squared"])) for row in table] == [
        *zip(best.count, best.squared, strict=True)
    ]
    assert [row["family"] for row in table] == [row["id"] for row in table]  # its store knows no families
    pooled = sum(float(row["mse"]) * int(row["pairs"]) for row in table) / sum(int(row["pairs"]) for row in table)
    assert pooled == pytest.approx(run.metrics["best/valid_mse"], rel=1e-5)
    assert "epoch 3: train MSE" in run.path("log.txt").read_text()


def test_the_stored_configuration_repeats_the_run(config: RunConfig, tiny_model: Path, tmp_path: Path) -> None:
    first = run_to_end(config.with_settings(epochs=2, lr=3e-3, loss="huber", accumulate=2, max_grad_norm=1.0))
    tiny_model.unlink()  # the run holds a copy
    run = find_run(first.run_id)
    again = tmp_path / "again"
    again.mkdir()
    shutil.copy(run.path("model.py"), again)
    repeated = read_config(Path(shutil.copy(run.path("config.yaml"), again)))
    assert repeated.spec.recipe.loss == "huber"
    second = run_to_end(repeated)
    assert curve(first.run_id, "valid/mse") == curve(second.run_id, "valid/mse")


def test_a_training_asks_its_store_for_nothing_once_it_has_begun(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the thread that delivers its journal waits for a store that is away."""
    asked = []
    for name in ("get_run", "get_experiment", "list_artifacts", "log_batch", "set_terminated"):
        method = getattr(mlflow.MlflowClient, name)

        def answer(self, *arguments, method=method, name=name, **named):
            if threading.current_thread() is threading.main_thread():
                asked.append(name)
            return method(self, *arguments, **named)

        monkeypatch.setattr(mlflow.MlflowClient, name, answer)
    events = train(config)
    run_id = next(events).run_id
    assert asked  # before that it may
    asked.clear()
    *_, last = events
    assert isinstance(last, Finished)
    assert asked == []
    assert find_run(run_id).status == "FINISHED"


def test_a_model_file_is_kept_as_it_is(config: RunConfig, tiny_model: Path) -> None:
    text = tiny_model.read_text(encoding="utf-8")
    tiny_model.write_bytes(f"# coding: latin-1\n# Zoë's\n{text}".encode("latin-1"))
    config = replace(config, spec=find_model("tiny", tiny_model))
    assert "Zo" in config.identity
    kept = find_run(run_to_end(config.with_settings(epochs=1)).run_id).path("model.py")
    assert kept.read_bytes() == tiny_model.read_bytes()


def test_a_repeat_under_other_conditions_says_so_in_one_sentence(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def warnings(config: RunConfig, name: str) -> tuple[list[str], RunConfig]:
        """The warnings of a training that is stopped when it has begun, and what its config.yaml says."""
        events = train(config, name)
        run = find_run(next(events).run_id)
        next(events)
        events.close()
        folder = tmp_path / name
        folder.mkdir()
        for file in ("model.py", "config.yaml", "log.txt"):
            shutil.copy(run.path(file), folder)
        lines = (folder / "log.txt").read_text().splitlines()
        return [line.partition(" WARNING ")[2] for line in lines if " WARNING " in line], read_config(
            folder / "config.yaml"
        )

    said, stored = warnings(config, "first")
    assert said == []
    assert stored.run.threads == torch.get_num_threads()
    assert stored.made_with["version.torch"] == version("torch")
    params = find_runs("first")[-1].params
    assert params["run.threads"] == str(stored.run.threads)
    assert stored.made_with.items() <= params.items()
    assert {"run.device_name", "run.git_commit", "version.protcli", "version.python"} <= stored.made_with.keys()

    assert warnings(stored, "again")[0] == []
    other = stored.made_with | {"version.torch": "1.0", "run.device_name": "abacus"}
    said, written = warnings(replace(stored, made_with=other), "other")
    assert said == [
        f"figures may differ in their last digits: run.device_name is {stored.made_with['run.device_name']}, was "
        f"abacus; version.torch is {version('torch')}, was 1.0"
    ]
    assert written.made_with == stored.made_with  # its own

    monkeypatch.setattr("os.cpu_count", lambda: 1)
    assert warnings(stored.with_settings(threads=2), "crowded")[0] == [
        "figures may differ in their last digits: run.threads is 2, more than the cores here (1)"
    ]


def test_sepmean_is_fitted_and_scores_itself(tiny_data: Path, tmp_path: Path) -> None:
    finished = run_to_end(RunConfig(spec=find_model("sepmean")).with_settings(source=str(tiny_data), ema=0.9))
    run = find_run(finished.run_id)
    assert run.metrics["valid/mse_over_sepmean"] == 1
    (only,) = read_epochs(run.path("validation_errors.safetensors"))
    assert only.mse == finished.sepmean_mse
    assert run.metrics["best/valid_mse"] == run.metrics["valid/mse_sepmean"] == finished.sepmean_mse
    with pytest.raises(ProtcliError, match="one pass"):
        next(train(RunConfig(spec=find_model("sepmean")).with_settings(source=str(tiny_data), epochs=2)))


def test_training_never_opens_the_test_split(config: RunConfig, tiny_data: Path, tmp_path: Path) -> None:
    copy = tmp_path / "without_test"
    shutil.copytree(tiny_data, copy)
    (copy / "testing.arrow").unlink()
    assert find_run(run_to_end(config.with_settings(source=str(copy))).run_id).status == "FINISHED"


def broken(config: RunConfig, tiny_model: Path, statement: str) -> RunConfig:
    """The tiny model, doing something else from the second epoch on (three batches of training, two of validation)."""
    text = tiny_model.read_text().replace(
        "    def forward(self, residues):\n",
        "    calls = 0\n\n    def forward(self, residues):\n        Tiny.calls += 1\n"
        f"        if Tiny.calls > 7:\n            {statement}\n",
    )
    tiny_model.write_text(text)
    return replace(config, spec=find_model("tiny", tiny_model))


@pytest.mark.parametrize(
    ("statement", "error", "said", "status"),
    [
        (
            "residues.profile[:] = torch.nan",
            Diverged,
            "the training loss is nan at batch 1 of epoch 2: .*--lr",
            "FAILED",
        ),
        (
            "raise torch.OutOfMemoryError('CUDA')",
            ProtcliError,
            "tiny does not fit in memory with batches of 4",
            "FAILED",
        ),
        (
            "raise ZeroDivisionError('a bug')",
            ProtcliError,
            r"model\.py, line \d+: ZeroDivisionError: a bug",
            "FAILED",
        ),
        ("raise KeyboardInterrupt", KeyboardInterrupt, "", "KILLED"),
    ],
)
def test_a_run_that_breaks_says_so_and_keeps_its_last_state(
    config: RunConfig, tiny_model: Path, tmp_path: Path, statement: str, error: type, said: str, status: str
) -> None:
    events = []
    following = train(broken(config, tiny_model, statement))
    with pytest.raises(error, match=said):
        events.extend(following)
    assert isinstance(events[0], Started)
    run = find_run(events[0].run_id)
    assert run.status == status
    finished = [event.number for event in events if isinstance(event, Epoch)]
    with safe_open(run.path("checkpoints/state.safetensors"), "pt") as file:
        assert json.loads(file.metadata()["about"])["epoch"] == finished[-1] + 1
    assert torch.isfinite(torch.tensor(run.metrics["best/valid_mse"]))
    ends = "stopped before it was finished" if error is KeyboardInterrupt else f"stopped by {error.__name__}: .*{said}"
    assert re.search(ends, run.path("log.txt").read_text())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"epochs": 0}, "--epochs"),
        ({"batch_size": 0}, "--batch-size"),
        ({"lr": -1.0}, "--lr"),
        ({"lr": float("nan")}, "--lr"),
        ({"max_grad_norm": 0.0}, "--max-grad-norm"),
        ({"crop": 1}, "--crop"),
        ({"train_share": 0.0}, "--train-share"),
        ({"train_share": 1.01}, "--train-share"),
        ({"loss": "mes"}, "unknown loss"),
        ({"optimizer": "adm"}, "unknown optimizer"),
        ({"schedule": "cos"}, "unknown schedule 'cos': choose one of constant, linear, cosine with --schedule$"),
        ({"threads": 0}, "^--threads is 0: give a number from 1 to 1024$"),
        ({"seed": -1}, "^--seed is -1: give a number from 0 to 4294967295$"),
        ({"devices": 0}, "^--devices is 0: give a number of processes, 1 or more$"),
        ({"digest": "00"}, "made for data 00"),
    ],
)
def test_a_recipe_that_cannot_be_trained_by_leaves_no_run(
    config: RunConfig, change: dict, said: str, tmp_path: Path
) -> None:
    with pytest.raises(ProtcliError, match=said):
        next(train(config.with_settings(**change)))
    assert not (tmp_path / "mlruns").exists()
    assert mlflow.MlflowClient(os.environ["MLFLOW_TRACKING_URI"]).search_runs(["0"]) == []


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda c: c["recipe"].update(epochs="many"), r"config\.yaml: recipe\.epochs must be int, not 'many'"),
        (lambda c: c["recipe"].update(epochs=0), r"config\.yaml: --epochs is 0"),
        (lambda c: c["model"]["config"].update(dropout="x"), r"config\.yaml: psp1: dropout must be float, not 'x'"),
        (lambda c: c["data"].update(source=None), r"data\.source must be str, not None"),
        (lambda c: c.update(extra={}), "unknown setting extra: expected protcli, model, recipe, data, run"),
        (lambda c: c["run"].update({7: "red"}), r"unknown setting run\.7"),
        (
            lambda c: c["recipe"].update(epoch=c["recipe"].pop("epochs")),
            r"unknown setting recipe\.epoch \(did you mean epochs\?\)",
        ),
        (lambda c: c["recipe"].update(lr=True), r"recipe\.lr must be float, not True"),
        (lambda c: c["recipe"].update(lr=float("nan")), r"--lr is nan: give a number above 0"),
        (lambda c: c.update(data=[1]), r"data: expected the settings source, .*, held_out, found \[1\]"),
        (lambda c: c.pop("data"), "missing setting data: expected protcli, model, recipe, data, run, made_with"),
        (lambda c: c["model"].update(name="psp9"), "psp9"),
    ],
)
def test_a_broken_configuration_is_explained(edit, said: str, tmp_path: Path) -> None:
    content = yaml.safe_load(RunConfig(spec=find_model("psp1")).to_yaml())
    edit(content)
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(ProtcliError, match=said):
        read_config(path)


def test_numbers_in_a_configuration_may_be_written_as_people_write_them(tmp_path: Path) -> None:
    text = RunConfig(spec=find_model("psp1")).with_settings(lr=0.5).to_yaml()
    path = tmp_path / "config.yaml"
    path.write_text(
        text.replace("lr: 0.5", "lr: 1e-3").replace("max_grad_norm: null", "max_grad_norm: 2").replace("'32'", "32")
    )
    config = read_config(path)
    assert config.spec.recipe.lr == 1e-3
    assert config.spec.recipe.max_grad_norm == 2
    assert config.run.precision == "32"
    path.write_text(config.to_yaml())
    assert read_config(path) == config


TEXT = st.text() | st.sampled_from(["1e-3", "12e4", "-.5E+7", "1", "yes", "null", "2024-01-01", "~", "=", "<<", ".inf"])
ABOVE_0 = st.floats(min_value=0, exclude_min=True, allow_infinity=False)
COUNT = st.integers(min_value=2)


@given(
    model=st.sampled_from(["psp1", "improved", "simple"]),
    recipe=st.builds(
        Recipe, epochs=COUNT, batch_size=COUNT, lr=ABOVE_0, loss=st.sampled_from(list(LOSSES)), accumulate=COUNT,
        optimizer=st.sampled_from(list(OPTIMIZERS)), schedule=st.sampled_from(list(SCHEDULES)),
        max_grad_norm=st.none() | ABOVE_0, crop=COUNT, random_crop=st.booleans(), note=TEXT,
        train_share=st.floats(min_value=0, max_value=1, exclude_min=True),
    ),
    settings=st.builds(
        dict, source=TEXT, train_split=st.none() | TEXT, atom=TEXT, digest=st.none() | TEXT, seed=st.integers(),
        precision=TEXT, device=TEXT,
        threads=st.none() | COUNT, made_with=st.dictionaries(TEXT, TEXT),
    ),
)  # fmt: skip
def test_any_configuration_goes_to_yaml_and_back(
    model: str, recipe: Recipe, settings: dict, tmp_path_factory: pytest.TempPathFactory
) -> None:
    config = RunConfig(
        spec=replace(find_model(model), recipe=recipe), made_with=settings.pop("made_with")
    ).with_settings(**settings)
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_text(config.to_yaml(), encoding="utf-8")
    assert read_config(path) == config
    assert read_config(path).made_with == config.made_with


def test_a_file_that_is_no_configuration_is_explained(tmp_path: Path) -> None:
    for text in ("- 1\n", "a: [", "\x00", "? [a]\n: 1"):  # see test_yaml_file
        (tmp_path / "config.yaml").write_text(text)
        with pytest.raises(ProtcliError, match=r"config\.yaml") as error:
            read_config(tmp_path / "config.yaml")
        assert "\n" not in str(error.value)
    with pytest.raises(ProtcliError, match="cannot read"):
        read_config(tmp_path / "none.yaml")


def test_crop_and_evaluated_length_are_two_things(config: RunConfig, tmp_path: Path) -> None:
    longer = config.with_settings(evaluate_length=60)
    *_, finished = events = list(train(longer))
    assert isinstance(finished, Finished)
    data = events[0].training.data
    assert data.evaluated_length == 60
    run = find_run(finished.run_id)
    assert (run.params["recipe.crop"], run.params["data.evaluated_length"]) == ("32", "60")
    pairs = sum(len(p) * (len(p) - 1) // 2 - (len(p) - 1) for p in data.valid)  # one residue of each is not resolved
    assert finished.best.valid.count.sum() == pairs
    assert all(max(event.sums.columns["count"]) <= 4 * 32 * 31 // 2 for event in events if isinstance(event, Step))
    shorter = next(train(config))
    assert isinstance(shorter, Started)
    assert shorter.training.data.digest != data.digest

    ((prediction, _),) = predict(tmp_path / "maps", run_id=run.id, sequence="MKVLA" * 12)
    assert len(prediction) == 60
    with pytest.raises(ProtcliError, match="has 61 residues, but this tiny model accepts at most 60"):
        list(predict(tmp_path / "maps", run_id=run.id, sequence="M" * 61))


def test_a_model_of_fixed_size_refuses_a_longer_evaluation(tiny_data: Path) -> None:
    config = RunConfig(spec=find_model("improved")).with_settings(source=str(tiny_data), evaluate_length=300, epochs=1)
    with pytest.raises(ProtcliError, match="this network takes 256 residues but got 300"):
        next(train(config))
    with pytest.raises(ProtcliError, match="this network takes 256 residues but got 300"):
        next(train(config.with_settings(evaluate_length=None, crop=300)))
    with pytest.raises(ProtcliError, match="give --evaluate-length 2 or more"):
        next(train(config.with_settings(evaluate_length=0)))
    assert find_runs() == []


def test_a_share_of_the_training_proteins(config: RunConfig, tmp_path: Path) -> None:
    """The baseline, the proteins compared on and the digest stay; a configuration without a share is as before."""
    *_, whole = train(config)
    *_, half = train(config.with_settings(train_share=0.5, epochs=1))
    first, second = (find_run(each.run_id) for each in (whole, half))
    assert (first.params["data.train_proteins"], second.params["data.train_proteins"]) == ("10", "10")
    assert second.params["data.train_share_proteins"] == "5"
    assert "data.train_share_proteins" not in first.params
    assert "recipe.train_share" not in first.params
    assert second.params["recipe.train_share"] == "0.5"
    assert first.params["data.digest"] == second.params["data.digest"]
    assert half.sepmean_mse == whole.sepmean_mse
    assert (first.params["run.steps"], second.params["run.steps"]) == ("9", "2")  # batches of 4
    written = [run.path("config.yaml").read_text() for run in (first, second)]
    assert ["train_share" in text for text in written] == [False, True]


def test_relatives_are_searched_before_the_first_step_and_kept(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another seed and the evaluation of both search no more, and what is predicted is the same."""
    monkeypatch.setenv("PROTCLI_CACHE", str(tmp_path / "cache"))
    small = ["channels=16", "heads=2", "blocks=1", "pair_channels=8", "pair_blocks=2", "bottleneck=4", "triangle=4"]
    config = RunConfig(spec=configure(find_model("pairmix"), small)).with_settings(
        source=str(tiny_data), epochs=1, crop=32, batch_size=4
    )
    events = list(train(config))
    searched = [event for event in events if isinstance(event, Progress)]
    assert searched == [Progress("relatives", done, 15, "sequences") for done in range(1, 16)]
    assert events[1:16] == searched  # after the start
    monkeypatch.setattr(SequenceDatabase, "relatives", lambda *_: pytest.fail("searched again"))
    assert run_to_end(config).best.valid.mse == events[-1].best.valid.mse
    evaluate(run_id=events[-1].run_id)
    with monkeypatch.context() as lost:
        lost.setenv("PROTCLI_CACHE", str(tmp_path / "other"))
        with pytest.raises(pytest.fail.Exception, match="searched again"):
            run_to_end(config)


def test_batches_by_length(config: RunConfig) -> None:
    lengths = []

    def sizes(events):
        for event in events:
            if isinstance(event, Started):
                batches = training_batches(event.training.config, event.training.data)
                lengths.extend(batch.coords.shape[1] for batch in batches.epoch(1))
            yield event

    bucketed = config.with_settings(crop=50, padded_lengths=(24, 40, 50))
    *_, finished = sizes(train(bucketed))
    assert isinstance(finished, Finished)
    assert set(lengths) == {24, 40, 50}
    assert find_run(finished.run_id).params["recipe.padded_lengths"] == "(24, 40, 50)"
    for wrong in ((24, 40), (60, 50), (1, 50)):
        with pytest.raises(ProtcliError, match=r"padded_lengths is \[.*\]: give increasing lengths, the last at "):
            next(train(config.with_settings(crop=50, padded_lengths=wrong)))


@pytest.mark.parametrize("name", ["improved", "psp1"])
def test_a_loss_that_needs_logits_refuses_a_model_that_has_none(tiny_data: Path, name: str) -> None:
    config = RunConfig(spec=find_model(name)).with_settings(source=str(tiny_data), loss="distogram")
    with pytest.raises(ProtcliError, match=f"--loss distogram needs .* distribution .*{name} predicts distances only"):
        next(train(config))
    assert find_runs() == []


def test_pictures_are_of_the_runs_own_precision(config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    monkeypatch.setattr("protcli.figures.maps.draw_gallery", lambda path, maps, title: drawn.append((path.name, maps)))
    *_, finished = train(config.with_settings(precision="bf16"))
    assert isinstance(finished, Finished)
    maps = dict(drawn)["gallery.png"]
    for drawn_map, mse in zip(maps, finished.best.valid.protein_mse, strict=False):
        error = np.triu(np.nan_to_num(drawn_map.predicted - drawn_map.true), 1)
        pairs = np.triu(~np.isnan(drawn_map.true), 1).sum()
        assert (error**2).sum() / pairs == pytest.approx(mse, rel=1e-5)  # in float32 it is 1e-3 away


def saves(text: str | None, seconds_per_batch: float, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The batches of 1,000 after which the state is saved, by a clock of its own."""
    now = [time.monotonic()]
    monkeypatch.setattr(training.time, "monotonic", lambda: now[0])
    chosen, saved = CheckpointInterval(text), []
    for number in range(1, 1001):
        now[0] += seconds_per_batch
        if chosen.is_due():
            chosen.reset()
            saved.append(number)
    return saved


def test_batches_or_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert saves("400", 99.0, monkeypatch) == [400, 800]
    assert saves("1", 0.1, monkeypatch) == list(range(1, 1001))
    assert saves("2m", 0.5, monkeypatch) == [240, 480, 720, 960]
    assert saves("0.5m", 7.0, monkeypatch)[:3] == [5, 10, 15]
    assert saves(None, 1.0, monkeypatch) == [600]  # ten minutes


@pytest.mark.parametrize("text", ["", "0", "-1", "0m", "10 m", "1e3", "10s", "m", "1.5", "٣", "1" * 12])
def test_others_are_refused(text: str) -> None:
    with pytest.raises(ProtcliError, match=r"^--checkpoint-every is .*: give minutes, as 10m, or a number of batches"):
        CheckpointInterval(text)
