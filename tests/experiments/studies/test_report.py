"""Reports: percentages, effects and study tables by hand, and a suite's whole page with real MLflow."""

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from protcli.cli import app
from protcli.errors import ProtcliError
from protcli.experiments.running.train import Finished, train
from protcli.experiments.runs.config import RunConfig
from protcli.experiments.studies.report import Report
from protcli.experiments.studies.study_table import percent_improvement
from protcli.experiments.studies.suite import Suite, read_suite
from protcli.experiments.studies.suite_runs import SuiteRuns, find_suite_runs
from protcli.tracking.runs import RunLog, begin_run, find_run

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


def report_of(text: str, runs, missing: tuple[str, ...] = ()) -> Report:
    return Report(SuiteRuns(suite_of(text), FakeParent(), {}, missing), runs)  # type: ignore[arg-type]


def flat(trained, cell: str, mse: float, seeds: int = 2, **options):
    """Runs that err alike on all proteins, and in all seeds: intervals of no width, to check the middle by hand."""
    return [trained([mse] * 3, seed=seed, model=cell, **options) for seed in range(seeds)]


# --- the study's table ---


def test_percentages_of_the_studies():
    """As study A printed, or ought to have: 28.21 % at validation's epoch 25, 27.78 % of the last five's means."""
    assert percent_improvement(116_364_894_208, 83_543_984_916) == pytest.approx(28.205, abs=1e-3)
    assert percent_improvement(116_252_187_286, 83_953_332_980) == pytest.approx(27.783, abs=1e-3)
    assert percent_improvement(157_040_312_320, 39_560_581_120) == pytest.approx(74.809, abs=1e-3)
    assert percent_improvement(100, 125) == -25


def test_the_study_table_by_hand(trained):
    runs = flat(trained, "simple", 40, curve=(90.0, 60.0, 50.0)) + flat(
        trained, "improved", 30, curve=(70.0, 30.0, 40.0)
    )
    table = report_of(STUDY, runs).study
    assert table.headings == ("", "", "simple", "improved")
    rows = {row[:2]: row[2:] for row in table.rows}
    # epoch 9 was never run, epoch 7 is only printed; the last is always there
    assert rows["epoch 2", "here"] == ("60.00 [60.00, 60.00]", "30.00 [30.00, 30.00]")
    assert rows["epoch 2", "study"] == ("120.00", "90.00")
    assert rows["epoch 3 (last)", "here"][0] == "50.00 [50.00, 50.00]"
    assert rows["epoch 7", "study"] == ("100.00", "80.00")
    assert ("epoch 7", "here") not in rows
    assert ("epoch 9", "here") not in rows
    assert rows["epoch of lowest validation error", "here"] == ("2", "2")
    assert rows["epoch of lowest validation error", "study"] == ("6", "7")
    assert rows["mean of the last 3 epochs", "here"][1] == "46.67 [46.67, 46.67]"
    assert rows["mean of the last 5 epochs", "study"] == ("110.00", "82.50")
    # each percentage is of the two figures in the row it names
    assert rows["improvement over simple (%), epoch 2", "here"] == ("0.00", "50.00")
    assert rows["improvement over simple (%), epoch 2", "study"] == ("0.00", "25.00")
    assert rows["improvement over simple (%), epoch 3 (last)", "here"] == ("0.00", "20.00")
    assert rows["improvement over simple (%), epoch 7", "study"] == ("0.00", "20.00")
    assert rows["improvement over simple (%), mean of the last 3 epochs", "here"][1] == "30.00"
    assert rows["improvement over simple (%), mean of the last 5 epochs", "study"][1] == "25.00"


def test_a_study_table_holds_what_the_study_had(trained):
    runs = flat(trained, "published", 40) + flat(trained, "nearest, dropout 0.0", 30)
    assert report_of(FACTORIAL, runs).study.headings == ("", "", "published")


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
    report = report_of(FACTORIAL, cells(trained, FIGURES))
    effects = {
        (gain.model, gain.other): gain.improvement.value
        for gains in report.factorial.effects.values()
        for gain in gains
    }
    assert effects == {
        ("nearest", "transposed"): pytest.approx(53 - 41),
        ("bilinear", "transposed"): pytest.approx(53 - 41),
        ("bilinear", "nearest"): pytest.approx(0),
        ("dropout 0.3", "dropout 0.0"): pytest.approx(-(6 + 2 + 6) / 3),
    }
    assert report.factorial.effects["tail"][0].percent.value == pytest.approx(100 * 12 / 53)
    families = {model.name: model.colour_group for model in report.comparison.models}
    assert families["published"] == ""
    assert families["nearest, dropout 0.0"] == families["nearest, dropout 0.3"] == "nearest"
    assert report.factorial.grid.headings == ("", "dropout 0.0", "dropout 0.3")
    assert [row[0] for row in report.factorial.grid.rows] == ["transposed", "nearest", "bilinear"]
    assert report.factorial.grid.rows[1][2].startswith("42.00")
    simple = report.factorial.simple_effects
    assert simple is not None
    assert [row[2].split()[0] for row in simple.rows] == ["-6.00", "-2.00", "-6.00"]
    assert "from -6.00 Å²" in simple.note
    assert "to -2.00 Å² (nearest)" in simple.note


def test_main_effects_take_the_levels_that_both_have(trained):
    """Without nearest at dropout 0.3, nearest is compared with the others at dropout 0 alone."""
    figures = {name: mse for name, mse in FIGURES.items() if name != "nearest, dropout 0.3"}
    report = report_of(FACTORIAL, cells(trained, figures))
    effects = {(gain.model, gain.other): gain.improvement.value for gain in report.factorial.effects["tail"]}
    assert effects["nearest", "transposed"] == pytest.approx(10)
    assert effects["bilinear", "transposed"] == pytest.approx(12)
    assert report.factorial.effects["dropout"][0].improvement.value == pytest.approx(-6)
    assert report.factorial.grid.rows[1][2] == "missing"


def test_conclusions_are_computed(trained):
    said = "\n".join(report_of(FACTORIAL, cells(trained, FIGURES), ("nearest, seed 2: not started",)).conclusions)
    assert "Lowest validation MSE of the trained models: bilinear, dropout 0.0, 38.00 [38.00, 38.00] Å²" in said
    assert "Å², 0.760 of sepmean's 50.00 Å²." in said
    assert (
        "Compared with the reference published: better: transposed, dropout 0.0 / transposed, dropout 0.3 / nearest"
    ) in said
    assert (
        "Effect of tail, averaged over dropout: nearest beats transposed by 12.00 [12.00, 12.00] Å²; bilinear beats"
    ) in said
    assert "no difference can be claimed for bilinear against nearest" in said
    assert "Effect of dropout, averaged over tail: dropout 0.0 beats dropout 0.3 by 4.67" in said
    assert "worse: published / transposed, dropout 0.3" in said
    assert "17 comparisons were made" in said  # 6 with the reference, 3 + 1 of levels, 7 with sepmean
    assert "not complete" in said
    assert "weights" not in said


def test_one_seed_claims_nothing_of_the_architecture(trained):
    report = report_of(FACTORIAL, cells(trained, FIGURES, seeds=1))
    said = report.conclusions
    assert "(one seed)" in said[0]
    assert all("holds for its weights, not the architecture" in sentence for sentence in said[1:5])
    assert report.factorial.effect_table.rows[0][4] == "nearest is better (these weights)"


def test_reservations_are_computed(trained):
    falling = {"curve": (9.0, 5.0), "run__git_commit": "c2"}
    report = report_of(STUDY, flat(trained, "simple", 40) + flat(trained, "improved", 30, **falling))
    assert report.conclusions[-3:-1] == (
        "Still improving when training ended, at epoch 2: improved. Their figures hold for that many epochs, not for "
        "what the models can reach.",
        "The runs were made by several commits of protcli (c1, c2): a difference may come from the commits.",
    )
    once = {"curve": (5.0,)}  # of one epoch nobody can say
    report = report_of(STUDY, flat(trained, "simple", 40) + flat(trained, "improved", 30, **once))
    assert "Still improving" not in " ".join(report.conclusions)


def test_short_maps_have_no_figure_of_long_periods(trained):
    runs = flat(trained, "simple", 40) + flat(trained, "improved", 30)
    truth = runs[0].measurement.truth
    truth |= {f"{kind}_{period}": float("nan") for kind in ("checkerboard", "blockiness") for period in (16, 32)}
    first, _ = report_of(STUDY, runs).patterns
    assert first.headings == ("", "A₂", "A₄", "A₈")
    truth |= {f"{kind}_{period}": float("nan") for kind in ("checkerboard", "blockiness") for period in (2, 4, 8)}
    assert report_of(STUDY, runs).patterns == ()


def test_few_models_are_told_one_by_one(trained):
    runs = flat(trained, "simple", 40) + flat(trained, "improved", 30)
    said = report_of(STUDY, runs).conclusions
    assert "improved is better than simple by 10.00 [10.00, 10.00] Å² (25.0 [25.0, 25.0] %)." in said


def test_pairs_are_compared_besides(trained):
    text = STUDY.replace("reference: simple\n", "reference: simple\npairs: [[improved, simple], [improved, psp0]]\n")
    text = text.replace("{model: improved}]", "{model: improved}, {model: psp0}]")
    report = report_of(text, flat(trained, "simple", 40) + flat(trained, "improved", 30))
    assert report.pair_table.rows == (("improved", "simple", "10.00 [10.00, 10.00]", "25.0 [25.0, 25.0]"),)  # no psp0
    assert report.conclusions.count("improved is better than simple by 10.00 [10.00, 10.00] Å² (25.0 [25.0, 25.0] %).")
    assert any("4 comparisons" in sentence for sentence in report.conclusions)  # one, the same again, two with sepmean


def test_without_its_reference_a_suite_is_compared_with_sepmean(trained):
    report = report_of(STUDY, flat(trained, "improved", 30))
    assert report.comparison.reference == "sepmean"
    assert report.study.rows[0][2:] == ("4.00 [4.00, 4.00]",)


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
        parent = begin_run("suite roots", "suite-roots", tags)
        parent.text(SUITE, "suite.yaml")
        ids = []
        for number, seed in ((0, 0), (1, 0), (1, 1)):
            cell = suite.cells[number]
            child = _child(parent, cell.name, seed)
            config = RunConfig(spec=cell.spec, model_file=cell.model_file, data=str(folder / "data"), seed=seed)
            patch.setenv("MLFLOW_RUN_ID", child.id)
            *_, last = train(config)
            assert isinstance(last, Finished)
            ids.append(last.run_id)
        patch.delenv("MLFLOW_RUN_ID", raising=False)  # MLflow takes it away itself
        failed = _child(parent, suite.cells[1].name, 0)  # beside one that has finished: it is not missed
        failed.end("FAILED")
        failed = _child(parent, suite.cells[2].name, 0)
        failed.tags({"error": "too little memory"})
        failed.end("FAILED")
        parent.end("FAILED")
    return folder, parent.id, ids


def _child(parent: RunLog, cell: str, seed: int) -> RunLog:
    tags = {"mlflow.parentRunId": parent.id, "suite": "roots", "suite.cell": cell, "suite.seed": str(seed)}
    return begin_run(f"{cell}, seed {seed}", parent.experiment, tags)


@pytest.fixture
def stored(suite_store: tuple[Path, str, list[str]], monkeypatch: pytest.MonkeyPatch) -> tuple[Path, str, list[str]]:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{suite_store[0]}/mlflow.db")
    return suite_store


def test_what_is_finished_and_what_is_missing(stored) -> None:
    folder, parent, ids = stored
    found = find_suite_runs(str(folder / "roots.yaml"))
    assert found.parent.id == parent
    assert [run.id for run in found.runs] == ids
    assert found.missing[0] == "power 1.0, seed 1: not started"
    assert found.missing[1].startswith("power 0.3, seed 0: FAILED (run ")
    assert found.missing[1].endswith("too little memory")
    assert found.missing[2] == "power 0.3, seed 1: not started"


def test_a_file_is_told_of_if_its_cells_were_run(stored, tmp_path: Path) -> None:
    folder, parent, _ = stored
    shutil.copy(folder / "gaps.py", tmp_path)
    asked = SUITE.replace("Is a root", "Is any root") + "pairs: [[power 0.3, power 0.5]]\n"
    (tmp_path / "roots.yaml").write_text(asked)
    found = find_suite_runs(str(tmp_path / "roots.yaml"))
    assert (found.parent.id, found.suite.question, len(found.suite.pairs)) == (
        parent,
        "Is any root better than a line?",
        1,
    )
    (tmp_path / "roots.yaml").write_text(SUITE.replace("0.5, 0.3", "0.25"))
    with pytest.raises(ProtcliError, match=rf"has other cells than what was run as suite roots \(run {parent}\)"):
        find_suite_runs(str(tmp_path / "roots.yaml"))
    later = begin_run("suite roots", "suite-roots", {"suite": "roots"})
    later.text(SUITE.replace("0.5, 0.3", "0.25"), "suite.yaml")
    try:
        found = find_suite_runs(str(folder / "roots.yaml"))
        assert (found.parent.id, [run.id for run in found.others]) == (parent, [later.id])
    finally:
        later.tags({"suite": "elsewhere"})  # the store is shared


def test_the_page(stored, tmp_path: Path) -> None:
    folder, parent, ids = stored
    out = tmp_path / "out" / "roots"
    result = CliRunner().invoke(app, ["suite", "report", str(folder / "roots.yaml"), "--out", str(out)])
    assert result.exit_code == 0, result.output
    files = {path.name for path in out.iterdir()}
    pictures = {"mse.png", "epochs.png", "maps.png", "separation.png", "length.png"}
    assert files == {"report.html", "report.md", *pictures}
    html, markdown = ((out / name).read_text(encoding="utf-8") for name in ("report.html", "report.md"))
    for text in (html, markdown):
        for part in (
            "Is a root better than a line?",
            "protcli suite run roots.yaml --seeds 2",
            "too little memory",
            *ids,
        ):
            assert part in text
        assert find_run(ids[0]).params["data.digest"] in text
    assert html.count("data:image/png;base64,") == len(pictures)
    assert "<script" not in html
    assert "http" not in html.replace('charset="utf-8"', "")
    assert all(f"]({name})" in markdown for name in pictures)
    assert str(tmp_path) not in html + markdown
    assert str(folder) not in html + markdown

    run = find_run(parent)
    kept = run.download("report/report.html", tmp_path).read_text(encoding="utf-8")
    assert kept == html
    assert "# Suite roots" in run.tags["mlflow.note.content"]
    assert "Lowest validation MSE" in run.tags["mlflow.note.content"]
    assert run.metrics == {}  # a chart of the UI is for runs
    assert not any(name.startswith("test") for each in ids for name in find_run(each).metrics)


def test_what_cannot_be_reported(stored, tmp_path: Path) -> None:
    folder, _, ids = stored
    with pytest.raises(
        ProtcliError, match="suite attention has not been run here: run it with `protcli suite run attention`"
    ):
        find_suite_runs("attention")
    with pytest.raises(ProtcliError, match="does not hold the runs of suite roots"):
        find_suite_runs(str(folder / "roots.yaml"), ids[0])
    with pytest.raises(ProtcliError, match='there is no suite "it\'s": choose attention, inputs, upsampling'):
        find_suite_runs("it's")
    begun = begin_run("suite void", "suite-void", {"suite": "void"})
    begun.text(SUITE, "suite.yaml")
    (folder / "void.yaml").write_text(SUITE)
    with pytest.raises(
        ProtcliError,
        match=r"no run of suite void has finished .*: power 1\.0, seeds 0, 1, 2, 3, 4: .*; .*seeds 0, 1, 2, 3, 4",
    ):
        find_suite_runs(str(folder / "void.yaml"))
    blocked = tmp_path / "file"
    blocked.write_text("")
    result = CliRunner().invoke(app, ["suite", "report", str(folder / "roots.yaml"), "--out", str(blocked / "x")])
    assert result.exit_code == 1
    assert "cannot be written to" in result.stderr
