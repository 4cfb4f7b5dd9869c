"""What `protcli evaluate` prints."""

from protcli.experiments.evaluate import evaluate
from protcli.experiments.train import Finished


def test_the_tables_fit_a_terminal_of_80_columns(printed, finished: Finished, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    output = "\n".join(printed("evaluate", "--run-id", finished.run_id))
    tables, sentences = output.split("The MSE of these weights is ")
    lines = tables.splitlines()
    assert max(map(len, lines)) <= 80
    for told in ("MSE (Å²)", "MAE of pairs < 8 Å apart (Å)", "lDDT", "long, |i-j| ≥ 24", "true maps", "length 0-64"):
        assert sum(told in line for line in lines) >= 1, told
    assert f"{finished.best.valid.mse:.4f}" in output
    assert f"{finished.sepmean_mse:.4f}" in output
    over = evaluate(run_id=finished.run_id).scores.improvement
    low, high, way = (over.low, over.high, "lower") if over.value > 0 else (-over.high, -over.low, "higher")
    assert sentences.startswith(f"{abs(over.value):.1f} [{low:.1f}, {high:.1f}] % {way} than sepmean's on validation. ")
    assert "nan" not in output.lower()  # no chain of the sample has an inside: a dash
