"""Looks: a suite stops at the first that decides its primary comparison, and at no other moment."""

from dataclasses import replace
from pathlib import Path

import pytest
from scipy import stats
from typer.testing import CliRunner

from protcli.cli import app
from protcli.cli.suite import show_suite
from protcli.errors import ProtcliError
from protcli.experiments.comparing.differences import Difference
from protcli.experiments.statistics.contrasts import Contrast
from protcli.experiments.statistics.multiplicity import level_of_looks
from protcli.experiments.suites import run as suites
from protcli.experiments.suites.run import InterimAnalysis, SuiteStarted, run_until_decided
from protcli.experiments.suites.suite import Suite, read_suite
from protcli.experiments.tasks import RunFinished

SUITE = """
question: Which?
reference: psp0
primary: [psp1, psp0]
seeds: 8
looks: [3, 5, 8]
cells: [{model: psp0}, {model: psp1}]
"""


@pytest.fixture
def suite() -> Suite:
    return read_suite("s", SUITE, "s", Path())


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch):
    """Trainings that take no time: the numbers of seeds asked for, and what the comparison says after each."""
    asked: list[int] = []
    said: dict[int, float] = {}  # p of the primary comparison by number of seeds
    ends = {"status": "FINISHED", "diverged": False}

    class Told:
        def __init__(self, suite_runs, runs) -> None:
            found = Contrast(-0.1, 0.01, 40.0, (0.0, 0.0), (asked[-1],) * 2, (1, -1), {})
            gain = Difference("psp1", "psp0", found, found, None, 50.0, 0.5, alpha=level_of_looks((3, 5, 8)))
            # a standard error at which the ratio has the wanted p
            error = 0.1 / stats.t.isf(said[asked[-1]] / 2, 40)
            self.primary = replace(gain, found=replace(found, family_variance=error**2))

    def run_suite(suite, configs, *, seeds, **options):
        asked.append(seeds)
        yield SuiteStarted("parent", seeds * 2, 0)
        yield RunFinished("psp0, seed 0", "run", ends["status"], "", 50.0, ends["diverged"])

    class Runs:
        runs = ()

    monkeypatch.setattr(suites, "run_suite", run_suite)
    monkeypatch.setattr(suites, "find_suite_runs", lambda name, run_id: Runs)
    monkeypatch.setattr(suites, "Analysis", Told)
    return asked, said, ends


def test_it_stops_at_the_look_that_decides(suite, trainings) -> None:
    asked, said, _ = trainings
    assert level_of_looks((3, 5, 8)) == pytest.approx(0.0225, abs=0.001)
    said.update({3: 0.04, 5: 0.01, 8: 0.001})  # 0.04 would do for a single look
    looks = [event for event in run_until_decided(suite, "s", []) if isinstance(event, InterimAnalysis)]
    assert asked == [3, 5]
    assert [(look.seeds, look.is_decided) for look in looks] == [(3, False), (5, True)]
    assert "97.7 % intervals" in looks[1].sentence or "97.8 % intervals" in looks[1].sentence


def test_what_is_printed_at_the_end(suite, trainings, capsys: pytest.CaptureFixture[str]) -> None:
    _, said, _ = trainings
    said.update({3: 0.5, 5: 0.01, 8: 0.04})
    show_suite("s", run_until_decided(suite, "s", []))
    assert "suite s is decided at 5 seeds: see the results" in capsys.readouterr().out
    said[5] = 0.5
    show_suite("s", run_until_decided(suite, "s", []))
    assert "suite s is complete: see the results" in capsys.readouterr().out


def test_it_ends_undecided_after_the_last_look(suite, trainings) -> None:
    asked, said, _ = trainings
    said.update({3: 0.5, 5: 0.5, 8: 0.04})
    *_, last = run_until_decided(suite, "s", [])
    assert asked == [3, 5, 8]
    assert isinstance(last, InterimAnalysis)
    assert not last.is_decided


def test_a_failure_is_no_look_but_a_divergence_is(suite, trainings) -> None:
    asked, said, ends = trainings
    said.update({3: 0.001})
    ends["status"] = "FAILED"
    assert not any(isinstance(event, InterimAnalysis) for event in run_until_decided(suite, "s", []))
    ends["diverged"] = True
    assert any(isinstance(event, InterimAnalysis) for event in run_until_decided(suite, "s", []))
    assert asked == [3, 3]


def test_looks_must_be_declared(tmp_path: Path) -> None:
    undeclared = read_suite("s", SUITE.replace("looks: [3, 5, 8]\n", ""), "s", Path())
    with pytest.raises(ProtcliError, match="suite s declares no looks: add `looks: "):
        next(run_until_decided(undeclared, "s", []))
    (tmp_path / "s.yaml").write_text(SUITE)
    result = CliRunner().invoke(app, ["suite", "run", str(tmp_path / "s.yaml"), "--seeds", "3", "--until-decided"])
    assert result.exit_code == 2
    assert "give --seeds or --until-decided" in result.output
