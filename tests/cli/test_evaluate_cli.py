"""What `protcli evaluate` prints."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from protcli.cli import app
from protcli.experiments.config import RunConfig
from protcli.experiments.evaluate import evaluate
from protcli.experiments.train import Finished, train
from protcli.models.zoo import find_model


@pytest.mark.usefixtures("mlflow_store")
def test_the_tables_fit_a_terminal_of_80_columns(
    tiny_data: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = find_model("tiny", tiny_model)
    *_, last = train(RunConfig(spec=spec, model_file=tiny_model).with_settings(source=str(tiny_data), epochs=1))
    assert isinstance(last, Finished)
    monkeypatch.setenv("COLUMNS", "80")
    result = CliRunner().invoke(app, ["evaluate", "--run-id", last.run_id])
    assert result.exit_code == 0, result.output
    tables, sentences = result.output.split("The MSE of these weights is ")
    lines = tables.splitlines()
    assert max(map(len, lines)) <= 80
    for told in ("MSE (Å²)", "MAE of pairs < 8 Å apart (Å)", "lDDT", "long, |i-j| ≥ 24", "true maps", "length 0-64"):
        assert sum(told in line for line in lines) >= 1, told
    assert f"{last.best.valid.mse:.4f}" in result.output
    assert f"{last.sepmean_mse:.4f}" in result.output
    over = evaluate(run_id=last.run_id).scores.improvement
    low, high, way = (over.low, over.high, "lower") if over.value > 0 else (-over.high, -over.low, "higher")
    assert sentences.startswith(f"{abs(over.value):.1f} [{low:.1f}, {high:.1f}] % {way} than sepmean's on validation. ")
    assert "nan" not in result.output.lower()  # no chain of the sample has an inside: a dash
