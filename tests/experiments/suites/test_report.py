"""Reports: effects, curves and study tables by hand, and a suite's whole page with real MLflow."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from typer.testing import CliRunner

from protcli.cli import app
from protcli.errors import ProtcliError
from protcli.experiments.config import RunConfig
from protcli.experiments.configuration import Configuration, TrainingData
from protcli.experiments.statistics.contrasts import level_of_looks
from protcli.experiments.suites.page import comparison_tables, plan_table, recipes, run_table, study
from protcli.experiments.suites.report import SuiteReport, configurations_of, find_suite_report
from protcli.experiments.suites.suite import Suite, read_suite
from protcli.experiments.suites.tables import class_table, upsampling_patterns
from protcli.experiments.train import Finished, train
from protcli.tracking.run import Run, create_run, find_run

FACTORIAL = """
question: Which?
reference: published
at_epochs: [2, 9]
cells:
  - {name: published, model: psp0}
factorial:
  model: psp1-profile
  factors:
    tail: [transposed, nearest, bilinear]
    dropout: [0.0, 0.3]
published:
  unit: legacy_sse_pm2
  validation:
    2: {published: 120000000000}
    7: {published: 100000000000}
"""
STUDY = """
question: Which?
reference: simple
at_epochs: [2, 9]
cells: [{model: simple}, {model: improved}]
published:
  unit: legacy_sse_pm2
  validation:
    2: {simple: 120000000000, improved: 90000000000}
    7: {simple: 100000000000, improved: 80000000000}
  best_epoch: {simple: 6, improved: 7}
  last_five: {simple: 110000000000, improved: 82500000000}
"""


class FakeParent:
    id = "parent"
    tags = {"suite.command": "protcli suite run s --seeds 2"}  # noqa: RUF012


def suite_of(text: str) -> Suite:
    return read_suite("s", text, "s", Path())


def report_of(text: str, runs, missing: tuple[str, ...] = (), parent=FakeParent) -> SuiteReport:
    suite = suite_of(text)
    return SuiteReport(suite, parent(), configurations_of(suite, runs), missing)


def lost(trained, cell: str, seeds) -> list:
    """Runs that diverged."""
    runs = [trained([9] * 3, seed=seed, model=cell) for seed in seeds]
    for run in runs:
        run.status, run.tags = "FAILED", run.tags | {"diverged": "True"}
    return runs


def flat(trained, cell: str, mse: float, seeds: int = 3, **options):
    """Runs that err alike on all proteins, and in all seeds: intervals of no width, to check the middle by hand."""
    return [trained([mse] * 3, seed=seed, model=cell, **options) for seed in range(seeds)]


def test_the_recipes_say_what_was_tuned_and_how_many_steps_were_made(trained):
    runs = flat(trained, "simple", 40, run__steps="12") + flat(trained, "improved", 30, run__steps="10")

    class Tuned(FakeParent):
        tags = FakeParent.tags | {"suite.tuned_trials": "20", "suite.tuned_held_out": "0.15"}

    said = recipes(report_of(STUDY + "steps: 9\ntuned: true\n", runs, parent=Tuned))
    assert "steps 12 (simple), 10 (improved); epochs 3;" in said
    assert "The suite asks for 9 optimiser steps of every model" in said
    assert "Learning rate and batch size were tuned in 20 trials of each model" in said
    assert "(0.15 of it)" in said
    assert "tuned" not in recipes(report_of(STUDY, runs))


# --- the study's table ---


def test_the_study_table_by_hand(trained):
    runs = flat(trained, "simple", 40, curve=(90.0, 60.0, 50.0))
    runs += flat(trained, "improved", 30, curve=(70.0, 30.0, 40.0))
    table = study(report_of(STUDY, runs))
    assert table.headings == ("", "", "simple", "improved")
    # epoch 9 was never run, epoch 7 is only printed; the last is always there; each percentage is of two figures here
    lasts = [f"mean of the last {count} epochs" for count in (3, 5)]
    assert table.rows == (
        ("epoch 2", "here", "60.00 [60.00, 60.00]", "30.00 [30.00, 30.00]"),
        ("epoch 2", "study", "120.00", "90.00"),
        ("epoch 3 (last)", "here", "50.00 [50.00, 50.00]", "40.00 [40.00, 40.00]"),
        ("epoch 7", "study", "100.00", "80.00"),
        ("epoch of lowest validation error", "here", "2", "2"),
        ("epoch of lowest validation error", "study", "6", "7"),
        (lasts[0], "here", "66.67 [66.67, 66.67]", "46.67 [46.67, 46.67]"),
        (lasts[1], "study", "110.00", "82.50"),
        ("improvement over simple (%), epoch 2", "here", "0.00", "50.00"),
        ("improvement over simple (%), epoch 2", "study", "0.00", "25.00"),
        ("improvement over simple (%), epoch 3 (last)", "here", "0.00", "20.00"),
        ("improvement over simple (%), epoch 7", "study", "0.00", "20.00"),
        (f"improvement over simple (%), {lasts[0]}", "here", "0.00", "30.00"),
        (f"improvement over simple (%), {lasts[1]}", "study", "0.00", "25.00"),
    )
    runs = flat(trained, "published", 40) + flat(trained, "nearest, dropout 0.0", 30)
    assert study(report_of(FACTORIAL, runs)).headings == ("", "", "published")  # the study had no others


# --- factors ---


def cells(trained, figures: dict[str, float], **options):
    return [run for name, mse in figures.items() for run in flat(trained, name, mse, **options)]


FIGURES = {
    "published": 60.0,
    "transposed, dropout 0.0": 50.0,
    "transposed, dropout 0.3": 56.0,
    "nearest, dropout 0.0": 40.0,
    "nearest, dropout 0.3": 42.0,
    "bilinear, dropout 0.0": 38.0,
    "bilinear, dropout 0.3": 44.0,
}


def test_main_effects_by_hand(trained):
    """Of ratios: nearest has 40 of transposed's 50, and 42 of its 56: the geometric mean is their main effect."""
    report = report_of(FACTORIAL, cells(trained, FIGURES))
    effects = {(gain.model, gain.other): gain.percent.value for gain in report.groups[2]}
    assert effects == {
        ("nearest", "transposed"): pytest.approx(100 * (1 - (40 / 50 * 42 / 56) ** 0.5)),
        ("bilinear", "transposed"): pytest.approx(100 * (1 - (38 / 50 * 44 / 56) ** 0.5)),
        ("bilinear", "nearest"): pytest.approx(100 * (1 - (38 / 40 * 44 / 42) ** 0.5)),
        ("dropout 0.3", "dropout 0.0"): pytest.approx(100 * (1 - (56 / 50 * 42 / 40 * 44 / 38) ** (1 / 3))),
    }
    assert report.groups[2][0].improvement.value == pytest.approx(effects["nearest", "transposed"] / 100 * 53)
    families = {model.name: model.colour_group for model in report.comparison.models}
    assert families["published"] == ""
    assert families["nearest, dropout 0.0"] == families["nearest, dropout 0.3"] == "nearest"
    assert report.factorial.grid.headings == ("", "dropout 0.0", "dropout 0.3")
    assert [row[0] for row in report.factorial.grid.rows] == ["transposed", "nearest", "bilinear"]
    assert report.factorial.grid.rows[1][2].startswith("42.00")
    _, main, simple = report.factorial.section(*report.groups[2:4]).tables
    assert [row[0] for row in simple.rows] == [f"dropout 0.3 ({t})" for t in ("transposed", "nearest", "bilinear")]
    assert [row[2].split()[0] for row in simple.rows] == ["-12.0", "-5.0", "-15.8"]
    assert "from -15.8 % (bilinear) to -5.0 % (nearest)" in simple.note
    assert main.rows[0][-1] == "better"


def test_main_effects_take_the_levels_that_both_have(trained):
    """Without nearest at dropout 0.3, nearest is compared with the others at dropout 0 alone."""
    figures = {name: mse for name, mse in FIGURES.items() if name != "nearest, dropout 0.3"}
    report = report_of(FACTORIAL, cells(trained, figures))
    effects = {(gain.model, gain.other): gain.percent.value for gain in report.groups[2]}
    assert effects["nearest", "transposed"] == pytest.approx(20)
    assert effects["dropout 0.3", "dropout 0.0"] == pytest.approx(100 * (1 - (56 / 50 * 44 / 38) ** 0.5))
    assert report.factorial.grid.rows[1][2] == "missing"


def test_conclusions_are_computed(trained):
    said = "\n".join(report_of(FACTORIAL, cells(trained, FIGURES), ("nearest, seed 2: not started",)).conclusions)
    assert "Lowest validation MSE of the trained models: bilinear, dropout 0.0, 38.00 [38.00, 38.00] Å²" in said
    assert "Å², 0.760 of sepmean's 50.00 Å²." in said
    assert (
        "Compared with the reference published: better: transposed, dropout 0.0 / transposed, dropout 0.3 / nearest"
    ) in said
    assert "Effect of tail, averaged over dropout: nearest beats transposed by 22.5 [22.5, 22.5] %; bilinear" in said
    assert "Effect of dropout, averaged over tail: dropout 0.0 beats dropout 0.3 by 9.8 [" in said
    assert "worse: published / transposed, dropout 0.3" in said
    assert "20 comparisons are adjusted" in said  # 6 with the reference, 3 + 1 of levels, 3 simple, 7 with sepmean
    assert "not complete" in said


def test_two_seeds_claim_nothing(trained):
    report = report_of(FACTORIAL, cells(trained, FIGURES, seeds=2))
    assert not any(gain.is_claimed for gain in report.differences)
    said = " ".join(report.conclusions)
    assert "no model is shown to be better; too few seeds to say: published /" in said
    assert (
        "Effect of tail, averaged over dropout: too few seeds to say for nearest against transposed, bilinear" in said
    )


def test_the_primary_comparison_is_not_adjusted(trained):
    """The seeds of the two cells nearly overlap, so that an adjustment for other comparisons would matter."""
    text = STUDY.replace("reference: simple\n", "reference: simple\nprimary: [improved, simple]\nequal_within: 30\n")
    runs = [trained([m] * 3, seed=s, model="simple") for s, m in enumerate((40, 44, 48))]
    runs += [trained([m] * 3, seed=s, model="improved") for s, m in enumerate((35, 37, 39))]
    report = report_of(text, runs)
    over_reference, *others = report.groups
    assert (report.primary.adjusted_p, over_reference) == (None, [])  # which would be the same comparison
    assert all(gain.adjusted_p is not None for gains in others for gain in gains)
    assert report.conclusions[0].startswith("The primary comparison: ")
    assert comparison_tables(report)[0].rows[0][5] == "primary"
    expected = stats.ttest_ind(np.log([40, 44, 48]), np.log([35, 37, 39]), equal_var=False).pvalue
    assert report.primary.contrast.p == pytest.approx(expected, rel=0.1)
    assert report.primary.is_claimed == (report.primary.contrast.p <= 0.05)


def test_a_look_has_its_own_level_and_seeds(trained):
    text = STUDY.replace("reference: simple\n", "reference: simple\nprimary: [improved, simple]\nlooks: [3, 5]\n")
    report = report_of(text, flat(trained, "simple", 40) + flat(trained, "improved", 30))
    assert 0.025 < report.primary.alpha == level_of_looks((3, 5)) < 0.05
    assert "one of the declared looks (3, 5 seeds), each at p 0.0" in report.conclusions[1]
    assert report.conclusions[1].endswith("; at 3 seeds it is decided.")
    table = comparison_tables(report)[0]
    level = f"{100 - 100 * report.primary.alpha:.1f} %"
    assert f"The intervals of improved over simple are {level} intervals" in table.note
    interval = report.primary.at_last.improvement(1 - report.primary.alpha)
    assert f"[{interval.low:.1f}, {interval.high:.1f}]" in table.rows[0][6]
    equal = [trained([40 + seed] * 3, seed=seed, model=m) for m in ("simple", "improved") for seed in range(3)]
    assert report_of(text, equal).conclusions[1].endswith("; at 3 seeds it is not decided.")
    four = flat(trained, "simple", 40, seeds=4) + flat(trained, "improved", 30, seeds=4)
    assert "now there are 4: this is no decision" in report_of(text, four).conclusions[1]


def test_diverged_runs_are_counted(trained):
    text = STUDY.replace("reference: simple\n", "reference: simple\nprimary: [improved, simple]\n")
    runs = flat(trained, "simple", 40) + lost(trained, "improved", (3, 4))
    report = report_of(text, runs + flat(trained, "improved", 30))
    assert report.comparison.results.rows[1][5] == "2 of 5 (up to 81 %)"
    assert any(said.startswith("improved: 2 of 5 runs collapsed or diverged") for said in report.conclusions)
    diverged = [row[:4] for row in run_table(report).rows if row[3] == "diverged"]
    assert diverged == [("improved", "3", "", "diverged"), ("improved", "4", "", "diverged")]

    report = report_of(text, runs)  # all of them
    assert report.comparison.results.rows[1] == ("improved", "2", "diverged", "", "", "2 of 2 (up to 100 %)", "", "")
    assert report.conclusions[:2] == (
        "The primary comparison cannot be made.",
        "Not compared: improved with simple (2 of 2 runs of improved diverged).",
    )
    assert "improved: 2 of 2 runs collapsed or diverged (a rate of up to 100 %)." in report.conclusions
    assert not any("not complete" in said for said in report.conclusions)


def test_a_seed_that_is_left_over_is_no_mean(trained):
    runs = [trained([mse] * 3, seed=seed, model="simple") for seed, mse in enumerate((10, 45, 46, 45.5))]
    report = report_of(STUDY, runs + flat(trained, "improved", 30))
    said = " ".join(report.conclusions)
    assert "Lowest validation MSE of the trained models: simple (1 seed that did not collapse), 10.00 Å²" in said
    assert "since simple has fewer than 3 seeds that did not collapse; simple is ahead by 66.7 [" in said


def test_a_plan_knows_the_scatter_and_the_seeds(trained):
    runs = [trained([m] * 3, seed=s, model="simple") for s, m in enumerate((40, 44, 48))]
    runs += [trained([m] * 3, seed=s, model="improved") for s, m in enumerate((38, 40, 42))]
    table = plan_table(report_of(STUDY, runs), 20.0)
    row = dict(zip(table.headings, table.rows[0], strict=True))
    assert (row["model"], row["over"], row["seeds now"]) == ("improved", "simple", "3 and 3")
    assert row["scatter of seeds (%) [95 % interval]"] == "5.0 [2.6, 31.4] and 9.1 [4.7, 57.1]"
    assert int(row["seeds needed"]) > 3
    assert table.note.endswith("more validation proteins do.")
    with pytest.raises(ProtcliError, match="not known yet"):
        plan_table(report_of(STUDY, [trained([1, 2, 3], model=m) for m in ("simple", "improved")]), 20.0)


def test_models_that_were_still_improving_are_named(trained):
    for curve, said in (((9.0, 5.0), True), ((5.0,), False)):  # of one epoch nobody can say
        report = report_of(STUDY, flat(trained, "simple", 40) + flat(trained, "improved", 30, curve=curve))
        sentence = "Still improving when training ended, at epoch 2: improved. Their figures hold for that many epochs"
        assert any(each.startswith(sentence) for each in report.conclusions) == said


def test_short_maps_have_no_figure_of_long_periods(trained):
    runs = flat(trained, "simple", 40) + flat(trained, "improved", 30)
    truth, kinds = runs[0].scores.truth, ("checkerboard", "blockiness")
    truth |= {f"{kind}_{period}": float("nan") for kind in kinds for period in (16, 32)}
    (first, _), _ = upsampling_patterns(report_of(STUDY, runs).comparison)
    assert first.headings == ("", "A₂", "A₄", "A₈")
    truth |= {f"{kind}_{period}": float("nan") for kind in kinds for period in (2, 4, 8)}
    assert list(upsampling_patterns(report_of(STUDY, runs).comparison)) == []


def test_pairs_are_compared_besides(trained):
    text = STUDY.replace("reference: simple\n", "reference: simple\npairs: [[improved, simple], [improved, psp0]]\n")
    text = text.replace("{model: improved}]", "{model: improved}, {model: psp0}]")
    runs = flat(trained, "simple", 40) + flat(trained, "improved", 30)
    report = report_of(text, runs)
    # psp0 has no runs, and the other pair is with the reference
    (gain,), others = report.groups[:2]
    assert (gain.model, gain.other, others) == ("improved", "simple", [])
    said = "\n".join(report.conclusions)
    assert "\nimproved is better than simple by 25.0 [25.0, 25.0] % (10.00 [" in said
    assert "3 comparisons are adjusted" in said  # and two with sepmean


def test_a_comparison_and_its_reverse_are_one(trained):
    """The primary one is with the reference, the other way round, and an effect too; so is a pair, and its reverse.

    Holm's p-values, by hand, are those of five comparisons, not of nine.
    """
    text = (
        "question: q?\nreference: 'dropout 0.0'\nprimary: ['dropout 0.0', 'dropout 0.3']\nseeds: 3\n"
        "pairs: [['dropout 0.1', 'dropout 0.3'], ['dropout 0.3', 'dropout 0.1']]\n"
        "factorial: {model: psp1, factors: {dropout: [0.0, 0.1, 0.3]}}\n"
    )
    figures = {"dropout 0.0": (40, 44, 48), "dropout 0.1": (39, 40, 41), "dropout 0.3": (30, 34, 38)}
    runs = [trained([m] * 3, seed=s, model=name) for name, mses in figures.items() for s, m in enumerate(mses)]
    report = report_of(text, runs)
    over_reference, pairs, effects, _, over_sepmean = report.groups
    assert [(gain.model, gain.other) for gain in over_reference] == [("dropout 0.1", "dropout 0.0")]
    assert [(gain.model, gain.other) for gain in pairs] == [("dropout 0.3", "dropout 0.1")]
    # the factor's table has all of its effects, and shows what stands elsewhere with the same p
    assert [gain.adjusted_p for gain in effects] == [over_reference[0].adjusted_p, None, pairs[0].adjusted_p]
    assert len(report.differences) == 6
    assert any(said.startswith("5 comparisons are adjusted for each other") for said in report.conclusions)
    once = [*over_reference, *pairs, *over_sepmean]
    p_values = sorted(gain.contrast.p for gain in once)
    steps = np.maximum.accumulate([(5 - rank) * p for rank, p in enumerate(p_values)])
    assert sorted(gain.adjusted_p for gain in once) == pytest.approx(np.minimum(steps, 1).tolist())
    missing = report_of(text, [run for run in runs if run.tags["suite.cell"] != "dropout 0.3"])
    assert missing.not_compared == [
        "Not compared: dropout 0.3 with dropout 0.0, dropout 0.3 with dropout 0.1 (no run of dropout 0.3 has finished)."
    ]


def test_without_its_reference_a_suite_is_compared_with_sepmean(trained):
    report = report_of(STUDY, flat(trained, "improved", 30))
    assert report.comparison.reference == "sepmean"
    assert study(report).rows[0][2:] == ("4.00 [4.00, 4.00]",)


# --- the whole way ---

SUITE = """
question: Is a root better than a line?
reference: power 1.0
at_epochs: [1]
factorial:
  model: gaps
  file: gaps.py
  factors:
    power: [1.0, 0.5, 0.3]
"""


@pytest.fixture(scope="module")
def suite_store(
    tiny_data: Path, gaps_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, str, list[str]]:
    """A suite as `suite run` leaves it: two seeds of one cell, one of another, one failed; its folder and parent."""
    folder = tmp_path_factory.mktemp("reported")
    shutil.copytree(tiny_data, folder / "data")
    (folder / "data/testing.arrow").write_bytes(b"")  # whoever opens the test split fails
    shutil.copy(gaps_model, folder / "gaps.py")
    (folder / "roots.yaml").write_text(SUITE, encoding="utf-8")
    suite = read_suite("roots", SUITE, "roots", folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        tags = {"suite": "roots", "suite.seeds": "2", "suite.command": "protcli suite run roots.yaml --seeds 2"}
        parent = create_run("suite roots", "suite-roots", tags)
        parent.log_text(SUITE, "suite.yaml")
        ids = []
        for number, seed in ((0, 0), (1, 0), (1, 1)):
            cell = suite.cells[number]
            child = _child(parent, cell.name, seed)
            config = RunConfig(spec=cell.spec, model_file=cell.model_file).with_settings(
                source=str(folder / "data"), seed=seed
            )
            patch.setenv("MLFLOW_RUN_ID", child.id)
            *_, last = train(config)
            assert isinstance(last, Finished)
            ids.append(last.run_id)
        patch.delenv("MLFLOW_RUN_ID", raising=False)  # MLflow takes it away itself
        failed = _child(parent, suite.cells[1].name, 0)  # beside one that has finished: it is not missed
        failed.end("FAILED")
        failed = _child(parent, suite.cells[2].name, 0)
        failed.set_tags({"error": "too little memory"})
        failed.end("FAILED")
        parent.end("FAILED")
    return folder, parent.id, ids


def _child(parent: Run, cell: str, seed: int) -> Run:
    tags = {"mlflow.parentRunId": parent.id, "suite": "roots", "suite.cell": cell, "suite.seed": str(seed)}
    return create_run(f"{cell}, seed {seed}", parent.experiment, tags)


@pytest.fixture
def stored(suite_store: tuple[Path, str, list[str]], monkeypatch: pytest.MonkeyPatch) -> tuple[Path, str, list[str]]:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{suite_store[0]}/mlflow.db")
    return suite_store


def test_what_is_finished_and_what_is_missing(stored) -> None:
    folder, parent, ids = stored
    found = find_suite_report(str(folder / "roots.yaml"))
    assert (found.parent.id, [run.id for run in found.runs]) == (parent, ids)
    first, failed, last = found.missing
    assert (first, last) == ("power 1.0, seed 1: not started", "power 0.3, seed 1: not started")
    assert failed.startswith("power 0.3, seed 0: FAILED (run ")
    assert failed.endswith("too little memory")


def test_a_file_is_told_of_if_its_cells_were_run(stored, tmp_path: Path) -> None:
    folder, parent, _ = stored
    shutil.copy(folder / "gaps.py", tmp_path)
    file, other_cells = tmp_path / "roots.yaml", SUITE.replace("0.5, 0.3", "0.25")
    file.write_text(SUITE.replace("Is a root", "Is any root") + "pairs: [[power 0.3, power 0.5]]\n")
    found = find_suite_report(str(file))
    assert (found.parent.id, len(found.suite.pairs)) == (parent, 1)
    assert found.suite.question == "Is any root better than a line?"
    file.write_text(other_cells)
    with pytest.raises(ProtcliError, match=rf"has other cells than what was run as suite roots \(run {parent}\)"):
        find_suite_report(str(file))
    later = create_run("suite roots", "suite-roots", {"suite": "roots"})
    later.log_text(other_cells, "suite.yaml")
    try:
        found = find_suite_report(str(folder / "roots.yaml"))
        assert (found.parent.id, [run.id for run in found.others]) == (parent, [later.id])
    finally:
        later.set_tags({"suite": "elsewhere"})  # the store is shared


def test_the_page(stored, tmp_path: Path) -> None:
    folder, parent, ids = stored
    out = tmp_path / "out" / "roots"
    result = CliRunner().invoke(app, ["suite", "report", str(folder / "roots.yaml"), "--out", str(out)])
    assert result.exit_code == 0, result.output
    pictures = {"mse.png", "epochs.png", "maps.png", "separation.png", "length.png"}
    assert {path.name for path in out.iterdir()} == {"report.html", "report.md", *pictures}
    html, markdown = ((out / name).read_text(encoding="utf-8") for name in ("report.html", "report.md"))
    digest, command = find_run(ids[0]).params["data.digest"], "protcli suite run roots.yaml --seeds 2"
    for part in ("Is a root better than a line?", command, "too little memory", digest, *ids):
        assert part in html
        assert part in markdown
    assert html.count("data:image/png;base64,") == len(pictures)
    assert "<script" not in html
    assert "http" not in html.replace('charset="utf-8"', "")
    assert all(f"]({name})" in markdown for name in pictures)
    assert not any(str(place) in html + markdown for place in (tmp_path, folder))

    run = find_run(parent)
    assert run.path("report/report.html").read_text(encoding="utf-8") == html
    assert "# Suite roots" in run.tags["mlflow.note.content"]
    assert "Lowest validation MSE" in run.tags["mlflow.note.content"]
    assert run.metrics == {}  # a chart of the UI is for runs
    assert not any(name.startswith("test") for each in ids for name in find_run(each).metrics)


def test_what_cannot_be_reported(stored, tmp_path: Path) -> None:
    folder, _, ids = stored
    begun = create_run("suite void", "suite-void", {"suite": "void"})
    begun.log_text(SUITE, "suite.yaml")
    (folder / "void.yaml").write_text(SUITE)
    for name, run_id, said in (
        ("attention", None, "suite attention has not been run here: run it with `protcli suite run attention`"),
        (str(folder / "roots.yaml"), ids[0], "does not hold the runs of suite roots"),
        ("it's", None, r'there is no suite "it\'s": choose attention, flagship, .*, upsampling'),
        ("rots", None, "there is no suite 'rots': choose attention"),
        (str(folder / "void.yaml"), None,
         r"no run of suite void has finished .*: power 1\.0, seeds 0, 1, 2, 3, 4: .*; .*seeds 0, 1, 2, 3, 4"),
    ):  # fmt: skip
        with pytest.raises(ProtcliError, match=said):
            find_suite_report(name, run_id)
    blocked = tmp_path / "file"
    blocked.write_text("")
    result = CliRunner().invoke(app, ["suite", "report", str(folder / "roots.yaml"), "--out", str(blocked / "x")])
    assert result.exit_code == 1
    assert "cannot be written to" in result.stderr


def test_scores_by_class_by_hand(trained):
    """Two seeds of three proteins, two of them of class 10: pooled errors, means over proteins and seeds."""
    runs = [trained([10, 20, 30], seed=0), trained([20, 40, 30], seed=1)]
    for run, shift in zip(runs, (0.0, 0.2), strict=True):
        proteins = run.scores.proteins
        proteins["class"] = ["10", "FM", "10"]
        proteins["lddt"], proteins["precision_long_L5"] = np.array([0.1, 0.5, 0.3]) + shift, [0.2, np.nan, 0.4]
        proteins["sepmean_lddt"], proteins["sepmean_precision_long_L5"] = [0.1, 0.1, 0.2], [0.0, np.nan, 0.0]
    (table,) = class_table([Configuration("a", tuple(runs), TrainingData(runs[0]))])
    rows = {(row[0], row[2]): row for row in table.rows}
    assert [row[:2] for row in table.rows[::2]] == [("all", "3"), ("10#", "2"), ("FM#", "1")]
    # of class 10 10 and 30 pairs with 50 Å² each: squared errors of 100 + 900 and 200 + 900, of 2000
    assert rows["10#", "a"][3].startswith("47.5 [")
    assert rows["10#", "a"][4:] == ("0.300", "0.300")  # of two families there is no interval
    assert rows["10#", "sepmean (baseline)"][3:] == ("", "0.150", "0.000")
    assert rows["FM#", "a"][3:] == ("40.0", "0.600", "")


def test_proteins_without_classes_have_no_table_of_them(trained):
    run = trained([10, 20, 30])
    assert class_table([Configuration("a", (run,), TrainingData(run))]) == ()


CURVE = """
question: What do more proteins bring?
reference: all
steps: 10
cells:
  - {name: all, model: improved}
  - {name: half, model: improved, recipe: {train_share: 0.5}}
  - {name: quarter, model: improved, recipe: {train_share: 0.25}}
learning_curve: {cells: [quarter, half, all], target: 0.1}
"""


def on_shares(trained, *mse: float, seeds: int = 3) -> list:
    """Runs of the cells of CURVE, on 100, 200 and 400 proteins, with the same MSE of every protein."""
    return [
        run
        for name, proteins, value in zip(("quarter", "half", "all"), ("100", "200", "400"), mse, strict=True)
        for run in flat(trained, name, value, seeds=seeds, data__train_share_proteins=proteins)
    ]


def test_a_learning_curve_by_hand(trained, tmp_path: Path) -> None:
    """The MSE halves with each doubling, from 40 to 10 Å²; a tenth of sepmean's 50 takes twice as many proteins."""
    curve = report_of(CURVE, on_shares(trained, 40, 20, 10)).learning_curve
    assert curve.proteins == [100, 200, 400]
    assert [ratio.value for ratio in curve.ratios] == pytest.approx([0.8, 0.4, 0.2])
    assert curve.per_doubling.value == pytest.approx(50)
    first, second = curve.sentences
    assert first.startswith(
        "Learning curve: twice as many training proteins lower the MSE by 50.0 [50.0, 50.0] %, from "
    )
    assert "0.1 of sepmean's MSE would take 800 proteins [800, 800]" in second
    section = curve.section(tmp_path)
    assert section.tables[0].rows[0] == ("quarter", "100", "3", "0.800 [0.800, 0.800]")
    assert section.pictures[0].path.read_bytes().startswith(b"\x89PNG")
    assert "Learning curve: twice as many" in " ".join(report_of(CURVE, on_shares(trained, 40, 20, 10)).conclusions)


def test_a_learning_curve_of_each_class_by_hand(trained, tmp_path: Path) -> None:
    """Two proteins of class 10, and one of class FM, which alone has no interval."""
    runs = on_shares(trained, 40, 20, 10)
    for run in runs:
        run.scores.proteins["class"] = ["10", "FM", "10"]
    table = report_of(CURVE, runs).learning_curve.section(tmp_path).tables[1]
    assert table.headings[2:5] == ("MSE / sepmean, 100", "MSE / sepmean, 200", "MSE / sepmean, 400")
    (row,) = table.rows
    assert row[:2] == ("10#", "2")
    assert row[2:4] == ("0.800 [0.800, 0.800]", "0.400 [0.400, 0.400]")
    assert row[5:] == ("50.0 [50.0, 50.0]", "800 proteins [800, 800]")


def test_a_learning_curve_that_falls_no_more_or_has_fallen_enough(trained) -> None:
    flat_one = report_of(CURVE, on_shares(trained, 20, 20, 20)).learning_curve
    assert "0.1 of sepmean's MSE would take endlessly many proteins" in flat_one.sentences[1]
    enough = report_of(CURVE, on_shares(trained, 20, 10, 4)).learning_curve
    assert enough.sentences[1] == "With 400 it is 0.080 [0.080, 0.080] of sepmean's, below the target of 0.1."
    one_cell = [run for run in on_shares(trained, 40, 20, 10) if run.params["data.train_share_proteins"] == "400"]
    assert report_of(CURVE, one_cell).learning_curve is None
