"""Looks: a suite stops at the first that decides its primary comparison, and at no other moment."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from protcli.cli import app
from protcli.cli.suite import show_suite
from protcli.errors import ProtcliError
from protcli.experiments.statistics.contrasts import level_of_looks
from protcli.experiments.suites.run import InterimAnalysis, SuiteStarted, run_until_decided, suite_configs
from protcli.experiments.suites.suite import find_suite
from protcli.experiments.tasks import RunFinished, Train
from protcli.tracking.run import find_run

SUITE = """
question: Which?
reference: square
primary: [root, square]
seeds: 4
looks: [3, 4]
cells:
  - {name: root, model: gaps, file: gaps.py}
  - {name: square, model: gaps, file: gaps.py, set: {power: POWER}}
"""


def write(folder: Path, gaps_model: Path, power: str) -> Path:
    """A suite of the model `gaps` and of the same with another power."""
    (folder / "gaps.py").write_text(gaps_model.read_text(encoding="utf-8"), encoding="utf-8")
    (path := folder / "s.yaml").write_text(SUITE.replace("POWER", power), encoding="utf-8")
    return path


@pytest.mark.usefixtures("mlflow_store")
@pytest.mark.parametrize(("power", "asked", "end"), [("2.0", [3], "decided at 3 seeds"), ("0.51", [3, 4], "complete")])
def test_it_stops_at_the_look_that_decides(
    power: str, asked: list[int], end: str, tmp_path: Path, tiny_data: Path, gaps_model: Path, train_here: Train,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    path = write(tmp_path, gaps_model, power)
    suite = find_suite(str(path))
    events = list(run_until_decided(suite, str(path), suite_configs(suite, source=str(tiny_data)), train=train_here))
    started = [event for event in events if isinstance(event, SuiteStarted)]
    assert [(event.total, event.done) for event in started] == [(6, 0), (8, 6)][: len(asked)]
    looks = [event for event in events if isinstance(event, InterimAnalysis)]
    assert [look.seeds for look in looks] == asked
    assert [look.is_decided for look in looks] == [False] * (len(asked) - 1) + [end.startswith("decided")]
    level = 100 * (1 - level_of_looks((3, 4)))
    assert all(f"{level:.1f} % interval" in look.sentence for look in looks)
    assert len([event for event in events if isinstance(event, RunFinished)]) == 2 * asked[-1]
    assert find_run(started[0].run_id).status == "FINISHED"
    show_suite("s", (event for event in events))
    assert f"suite s is {end}: see the results with `protcli suite report s`" in capsys.readouterr().out


@pytest.mark.usefixtures("mlflow_store")
def test_a_failure_is_no_look_but_a_divergence_is(
    tmp_path: Path, tiny_data: Path, gaps_model: Path, train_here: Train
) -> None:
    path = write(tmp_path, gaps_model, "2.0")
    suite = find_suite(str(path))
    configs = suite_configs(suite, source=str(tiny_data))

    def fail(run, config, on_line, stops) -> int:
        if "square, seed 1" in run.name:
            on_line("Error: out of memory")
            return 1
        return train_here(run, config, on_line, stops)

    events = list(run_until_decided(suite, str(path), configs, train=fail))
    assert not any(isinstance(event, InterimAnalysis) for event in events)
    (failed,) = (event for event in events if isinstance(event, RunFinished) and event.is_failure)
    assert failed.reason == "out of memory"
    find_run(failed.run_id).set_tags({"diverged": True})
    *_, last = run_until_decided(suite, str(path), configs, train=fail)
    assert isinstance(last, InterimAnalysis)


def test_looks_must_be_declared(tmp_path: Path, gaps_model: Path) -> None:
    path = write(tmp_path, gaps_model, "2.0")
    path.write_text(path.read_text().replace("looks: [3, 4]\n", ""))
    with pytest.raises(ProtcliError, match="suite s declares no looks: add `looks: "):
        next(run_until_decided(find_suite(str(path)), "s", []))
    result = CliRunner().invoke(app, ["suite", "run", str(path), "--seeds", "3", "--until-decided"])
    assert result.exit_code == 2
    assert "give --seeds or --until-decided" in result.output
