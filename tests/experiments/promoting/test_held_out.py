"""A run that is validated on held-out families, from its options to what is made of it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from protcli.cli import app
from protcli.errors import ProtcliError
from protcli.experiments.comparing.comparison import compare_configurations
from protcli.experiments.comparing.figures import draw_comparison
from protcli.experiments.config import RunConfig, recorded_config
from protcli.experiments.configuration import by_configuration
from protcli.experiments.evaluate import evaluate, validation_of
from protcli.experiments.predicting.predict import predict
from protcli.experiments.promoting.promote import promote
from protcli.experiments.train import Finished, train
from protcli.models.zoo import find_model
from protcli.proteins.store import Families, create_store, open_store, replace_families
from protcli.tracking.run import find_run

pytestmark = pytest.mark.usefixtures("mlflow_store")


@pytest.fixture
def data(tmp_path: Path, chain: Callable) -> Path:
    """20 training proteins in 10 families, 4 validation proteins."""
    folder = tmp_path / "data"
    with create_store(folder) as writer:
        for split, count in (("training", 20), ("validation", 4), ("testing", 3)):
            with writer.split(split) as proteins:
                for index in range(count):
                    proteins.add(replace(chain(20 + index, len(split) * 100 + index), id=f"{split}_{index}"))
                proteins.families = Families([f"f{index // 2}" for index in range(count)], "a test")
    return folder


@pytest.fixture
def config(data: Path, tiny_model: Path) -> RunConfig:
    config = RunConfig(spec=find_model("tiny", tiny_model), model_file=tiny_model).with_settings(
        source=str(data), held_out=0.2
    )
    return config.with_settings(epochs=2)


def trained(config: RunConfig) -> Finished:
    *_, last = train(config)
    return last


def test_a_run_on_held_out_families_is_one_in_every_way(config: RunConfig, data: Path, tmp_path: Path) -> None:
    (data / "validation.arrow").rename(tmp_path / "validation.arrow")  # it is not opened
    (data / "testing.arrow").unlink()
    finished = trained(config)
    run = find_run(finished.run_id)
    params = run.params
    assert (params["data.train_proteins"], params["data.valid_proteins"]) == ("16", "4")
    assert (params["data.train_split"], params["data.valid_split"]) == ("training", "training (held-out families)")
    assert params["data.held_out"] == "0.2"
    assert run.history("valid/mse")
    stored = recorded_config(run)
    assert stored.data.held_out == 0.2
    again = find_run(trained(stored).run_id)
    assert again.history("valid/mse") == run.history("valid/mse")

    measured = validation_of(run)
    assert measured.errors.mse == pytest.approx(finished.best.valid.mse, rel=1e-6)
    families = measured.proteins["family"].tolist()
    assert (len(families), len(set(families)), measured.digest) == (4, 2, params["data.valid_digest"])
    assert evaluate(run_id=run.id).scores.metrics["mse"] == finished.best.valid.mse

    [comparison] = compare_configurations(by_configuration([run]))
    [picture] = draw_comparison(comparison, tmp_path / "figures", ["maps"])
    assert picture.path.stat().st_size > 0
    [(predicted, _)] = predict(tmp_path / "maps", run_id=run.id, sequence="ACDEF")
    assert len(predicted) == 5


def test_it_can_be_measured_on_the_validation_split_too(config: RunConfig, data: Path) -> None:
    finished = trained(config)
    result = evaluate(run_id=finished.run_id, data=str(data))
    digest = open_store(data).split("validation").digest
    assert (result.scores.split, result.scores.digest) == ("validation", digest)
    assert f"valid-{digest[:8]}/mse" in find_run(finished.run_id).metrics
    assert find_run(finished.run_id).metrics["best/valid_mse"] == finished.best.valid.mse
    tested = evaluate(run_id=finished.run_id, split="test")
    assert f"test-{tested.scores.digest[:8]}/mse" in tested.scores.logged
    assert tested.validation == evaluate(run_id=finished.run_id).scores.improvement  # on the held-out families


def test_other_families_are_other_data(config: RunConfig, data: Path) -> None:
    finished = trained(config)
    stored = find_run(finished.run_id)
    replace_families(data, {"training": Families([f"g{index % 10}" for index in range(20)], "other")})
    with pytest.raises(ProtcliError, match=r"is no longer the data that run .* \(its validation proteins have changed"):
        evaluate(run_id=finished.run_id)
    with pytest.raises(ProtcliError, match=r"the configuration was made for data .*: use the same data, families"):
        trained(recorded_config(stored))


def test_it_is_not_promoted_and_stands_in_nobodys_way(config: RunConfig) -> None:
    held = trained(config).run_id
    with pytest.raises(
        ProtcliError, match=rf"only on families held out of training \(run {held}\): train the settings .* --held-out"
    ):
        promote()
    usual = trained(config.with_settings(held_out=0.0, digest=None)).run_id
    candidate = promote(dry_run=True).candidate
    assert [each.best_run.id for each in candidate.configurations] == [usual]
    with pytest.raises(ProtcliError, match="only on families held out of training"):
        promote(digest=find_run(held).params["data.digest"])


def test_the_option(data: Path, tiny_model: Path) -> None:
    options = ["train", "tiny", "--model-file", str(tiny_model), "--data", str(data), "--epochs", "1"]
    result = CliRunner().invoke(app, [*options, "--held-out", "1"])
    assert result.exit_code == 1
    assert "Error: --held-out is 1.0: give 0 or more, and less than 1" in result.output
    result = CliRunner().invoke(app, [*options, "--held-out", "0.2"])
    assert result.exit_code == 0, result.output
    assert "16 proteins of training, 4 of training (held-out families)" in " ".join(result.output.split())
