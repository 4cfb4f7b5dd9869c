"""Comparisons: grouping, figures of a table by hand, claims, and the whole way with real MLflow."""

import csv
import io
import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from typer.testing import CliRunner

from protcli.cli import app
from protcli.errors import ProtcliError
from protcli.experiments.comparing.comparison import (
    Comparison,
    compare_configurations,
    repeated_seeds,
    to_csv,
    to_markdown,
    training_runs,
)
from protcli.experiments.comparing.differences import (
    Difference,
    adjusted,
    comparison_summary,
    dominated,
    multiplicity_note,
)
from protcli.experiments.comparing.figures import draw_comparison, length_bins, typical_proteins
from protcli.experiments.config import RunConfig
from protcli.experiments.configuration import (
    by_configuration,
    distinguish,
    read_runs,
    seed_of,
    settings_of,
)
from protcli.experiments.statistics.contrasts import Contrast
from protcli.experiments.train import train
from protcli.models.zoo import configure, find_model
from protcli.tracking.run import create_run, current_experiment, find_run

# --- grouping and names ---


def test_runs_that_differ_in_the_seed_alone_are_one_model(trained):
    """A seed counts once, and the latest run stands."""
    again = trained([1] * 3, seed=1, started=-5)
    runs = [trained([1] * 3, seed=seed) for seed in (2, 0, 1)] + [trained([2] * 3, recipe__lr="0.1"), again]
    first, second = by_configuration(runs)
    assert (first.name, second.name) == ("a, lr 0.001", "a, lr 0.1")
    assert list(map(seed_of, first.runs)) == [0, 1, 2]
    assert (first.repeated, second.repeated) == ((again,), ())
    assert repeated_seeds([first]) == ["skipped a1-5 (a1-5): a later run of a, lr 0.001 has the same seed 1"]


def test_names_say_how_namesakes_differ_and_no_more():
    first = {"model": "a", "model.tail": "nearest", "model.parameters": "1", "recipe.lr": "0.1"}
    second = first | {"model.tail": "bilinear", "model.parameters": "7", "recipe.max_grad_norm": "1.0"}
    assert distinguish([first, second, first | {"model": "b", "model.parameters": "9"}]) == [
        "a, tail nearest, max_grad_norm none",
        "a, tail bilinear, max_grad_norm 1.0",
        "b",
    ]


def test_other_data_is_another_table(trained):
    runs = [trained([1] * 3), trained([2] * 3, model="b"), trained([3] * 3, data__digest="d2", data__atom="cb")]
    comparisons = compare_configurations(by_configuration(runs))
    assert [comparison.data.digest for comparison in comparisons] == ["d1", "d2"]
    assert [len(comparison.models) for comparison in comparisons] == [2, 1]
    assert "atom CB" in comparisons[1].data.sentence
    assert {row["digest"] for row in csv.DictReader(io.StringIO(to_csv(comparisons)))} == {"d1", "d2"}


# --- figures of the tables ---


def comparison_of(*models: list, reference: str | None = None) -> Comparison:
    configurations = by_configuration([run for runs in models for run in runs])
    (comparison,) = compare_configurations(configurations, reference)
    return comparison


def test_a_row_by_hand(trained):
    """The interval is Student's t with one degree of freedom, 12.7062, of the logarithm."""
    seeds = [trained([10, 20, 30], seed=0), trained([10, 20, 40], seed=1, curve=(9, 4, 5, 1, 2, 3, 4))]
    comparison = comparison_of(seeds)
    model = comparison.models[0]
    # (10*10 + 20*20 + 30*30) / 60 and (10*10 + 20*20 + 40*30) / 60
    assert [errors.mse for errors in model.errors] == pytest.approx([1400 / 60, 1700 / 60])
    half = 12.7062 * (300 / 60 / 2) / (1550 / 60)  # of two values the standard error is half of their difference
    interval = [1550 / 60 * np.exp(shift) for shift in (0, -half, half)]
    assert [model.mse.value, model.mse.low, model.mse.high] == pytest.approx(interval, rel=1e-4)
    assert model.median == pytest.approx(1550 / 60)
    assert (model.last_mse.value, model.seconds) == (pytest.approx((1400 * 5 / 4 + 1700 * 4) / 60 / 2), 3.0)
    assert model.best_run is seeds[0]
    assert comparison.results.rows[0][:2] == ("a", "2")
    assert comparison.results.rows[0][3:6] == (f"{1550 / 60 / 50:.3f}", "25.83", "0 of 2 (up to 78 %)")
    assert comparison.results.rows[-1][:4] == ("sepmean (baseline)", "fitted", "50.00", "1.000")
    assert comparison.costs.rows == (("a", "1,234", "0.5", "3.0", "1.50", "32", "3"),)


def test_improvement_and_per_cent(trained):
    """Every error is a third lower, so neither the proteins nor the seeds leave a doubt."""
    good = [trained([10, 20, 30], seed=seed) for seed in (0, 1, 2)]
    bad = [trained([15, 30, 45], seed=seed, model="b", curve=(4.0, 5.0)) for seed in (0, 1, 2)]
    comparison = comparison_of(good, bad, reference="b")
    (gain,) = comparison.over_reference
    assert (gain.percent.low, gain.percent.high) == pytest.approx((100 / 3, 100 / 3))
    assert (gain.improvement.value, gain.a12, gain.few_seeds) == (pytest.approx((2100 - 1400) / 60), 1.0, ())
    # at the last epoch 5/4 of the best, for both
    assert gain.sentence == (
        "a is better than b by 33.3 [33.3, 33.3] % (11.67 [11.67, 11.67] Å²; p < 0.001); at the last epoch 33.3 [33.3, "
        "33.3] %."
    )
    (back,) = comparison_of(good, bad, reference="a").over_reference
    assert back.percent.value == pytest.approx(-50)
    assert back.sentence == gain.sentence  # the one that is ahead comes first


def test_two_seeds_claim_nothing(trained):
    good = [trained([10, 20, 30], seed=seed, run__git_commit=f"c{seed}") for seed in (0, 1)]
    bad = [trained([15, 30, 45], seed=seed, model="b") for seed in (0, 1, 2)]
    comparison = comparison_of(good, bad, reference="b")
    assert any("several commits of protcli (c0, c1)" in sentence for sentence in comparison.claims)
    (gain,) = comparison.over_reference
    assert (gain.is_claimed, gain.few_seeds) == (False, ("a",))
    assert gain.sentence.startswith(
        "Nothing is claimed about a and b, since a has fewer than 3 seeds that did not collapse; a is ahead by 33.3"
    )


def test_the_interval_is_that_of_the_statistics(trained):
    """Of three families and one seed each: the numbers are those of another program."""
    good, bad = trained([10, 20, 30]), trained([22, 21, 50], model="b")
    comparison = comparison_of([good], [bad], reference="b")
    row = comparison.results.rows[0]
    assert row == ("a", "1", "23.33", "0.467", "23.33", "0 of 1 (up to 95 %)", "2", "29.17")  # one seed, no interval
    (gain,) = comparison.over_reference
    assert (gain.percent.value, gain.percent.low, gain.percent.high) == pytest.approx((34.57944, -827.53278, 95.38577))
    found = gain.improvement.value, gain.improvement.low, gain.improvement.high
    assert found == pytest.approx((37 / 3, -78.38631, 128.10132))
    back = gain.reversed.improvement
    assert (-back.value, -back.high, -back.low) == pytest.approx(found)
    for run in (good, bad):
        run.scores.proteins["family"] = ["f1", "f2", "f2"]  # two families are left
    assert set(comparison_of([good], [bad], reference="b").over_reference[0].contrast.shares) == {"f1", "f2"}


def test_a_collapsed_run_is_counted_apart(trained):
    """Of four seeds one has more than twice the error of the best."""
    mixed = [trained([10, 20, 30 + seed], seed=seed) for seed in range(3)] + [trained([500, 500, 500], seed=3)]
    steady = [trained([12, 22, 33 + seed], seed=seed, model="b") for seed in range(4)]
    comparison = comparison_of(mixed, steady, reference="b")
    a = comparison.find("a")
    assert (a.collapsed, len(a.kept), a.failures) == (1, 3, "1 of 4 (up to 75 %)")
    assert a.mse.value == pytest.approx(np.mean([1400, 1430, 1460]) / 60)
    assert a.median == pytest.approx((1430 + 1460) / 2 / 60)
    (gain,) = comparison.over_reference
    assert gain.is_claimed
    assert gain.is_better
    assert gain.with_collapsed.value > 0
    assert "; with the collapsed runs -" in gain.sentence
    assert "from which nothing is claimed" in gain.sentence
    assert any(s.startswith("a: 1 of 4 runs collapsed or diverged (a rate of up to 75 %") for s in comparison.claims)
    titles = [table.title for table in comparison.section.tables]
    assert "Improvement (%) without and with the collapsed runs [95 % interval]" in titles


def test_the_epoch_is_chosen_on_other_proteins(trained):
    """The second protein is best at epoch 1, the third at epoch 2: each is measured at the other's."""
    run = trained([10, 20, 30], curve=(4.0, 4.0))
    first, second = run.epochs
    first.squared[2] *= 2  # 900 -> 1800 at epoch 1
    second.squared[1] *= 10  # 400 -> 4000 at epoch 2
    # halves by pairs: the third protein (30) against the first two (10, 20); epoch 1 is best for those, 2 for that one
    (found,) = by_configuration([run])
    assert (found.errors[0].squared.tolist(), found.mse.value) == ([100, 4000, 1800], pytest.approx(5900 / 60))


def made_up(p: float, value: float = -0.1, shares=None) -> Contrast:
    """A contrast with that p-value, of models with three seeds, whose variance is in the families."""
    error = abs(value) / stats.t.isf(p / 2, 40)
    return Contrast(value, error**2, 40.0, (0.0, 0.0), (3, 3), (1, -1), shares or {})


def test_what_may_be_claimed():
    found = made_up(0.03)
    sure = Difference("a", "b", found, found, None, 50.0, 0.9, sides=frozenset({("a",), ("b",)}))
    assert sure.sentence.startswith("a is better than b by 9.5 [1.0, 17.3] % (4.76 [0.48, 9.04] Å²; p 0.030); at the")
    worse = Difference("c", "sepmean", made_up(0.001, 0.2), found, None, 50.0, 0.1)
    ((first, second),) = adjusted([[sure, worse]])
    assert (first.adjusted_p, second.adjusted_p) == pytest.approx((0.03, 0.002))
    many = adjusted([[sure, worse], [replace(sure, sides=frozenset("x"))], [sure.reversed]])
    assert many[0][0].adjusted_p == pytest.approx(0.06)  # three: one is given twice, the second time reversed
    assert many[0][0].sentence.startswith("No difference between a and b can be claimed: a is ahead by 9.5")
    assert "p 0.030, adjusted 0.060" in many[0][0].sentence
    assert comparison_summary([many[0][0], second], "sepmean") == (
        "Compared with sepmean: no model is shown to be better; no difference can be claimed for: a; worse: c."
    )
    assert comparison_summary([replace(sure, few_seeds=("a",))], "sepmean") == (
        "Compared with sepmean: no model is shown to be better; too few seeds to say: a."
    )
    assert multiplicity_note(3).startswith("3 comparisons are adjusted")


def test_equality_is_claimed_within_the_margin_alone():
    near = Contrast(0.001, 0.01**2, 40.0, (0.0, 0.0), (3, 3), (1, -1), {})
    gain = Difference("a", "b", near, near, None, 50.0, 0.5)
    assert not gain.is_equal
    assert replace(gain, equal_within=5.0).is_equal
    assert "; they are equal within 5 %;" in replace(gain, equal_within=5.0).sentence
    assert not replace(gain, equal_within=1.0).is_equal
    assert not replace(gain, equal_within=5.0, few_seeds=("a",)).is_equal


def test_a_chain_that_decides_is_named():
    found = made_up(0.2, shares={"f1": 0.6, "f2": 0.3, "f3": 0.1})
    gains = [Difference(name, "b", found, found, None, 50.0, 0.5) for name in ("a", "c")]
    assert dominated(gains, ["1abc", "2abc", "3abc", "4abc"], ["f1", "f2", "f2", "f3"]) == [
        "1abc carries 60 % of the variance over proteins of a against b, and more than 25 % in 2 comparisons.",
        "2abc / 3abc carry, as one family, 30 % of the variance over proteins of a against b, and more than 25 % in 2 "
        "comparisons.",
    ]


def test_diverged_runs_are_counted_where_runs_are_compared(trained):
    """One of three runs of b diverged, and the only run of c."""
    runs = [trained([10, 20, 30], seed=seed) for seed in range(3)]
    runs += [trained([15, 30, 45], seed=seed, model="b") for seed in range(2)]
    lost = [trained([9] * 3, seed=2, model="b"), trained([9] * 3, model="c")]
    for run in lost:
        run.status, run.tags = "FAILED", {"diverged": "True"}
    comparison = comparison_of(runs, lost, reference="a")
    rows = {row[0]: row for row in comparison.results.rows}
    assert (rows["b"][1], rows["b"][5]) == ("3", "1 of 3 (up to 86 %)")
    assert rows["c"][1:6] == ("1", "diverged", "", "", "1 of 1 (up to 100 %)")
    both = comparison.find("b")
    assert both.median == max(errors.mse for errors in both.all_errors)  # the worst is the one without figures
    assert replace(both, diverged=both.runs).median == np.inf


def test_reference(trained):
    two = [trained([10, 20, 30])], [trained([20, 30, 40], model="b")]
    assert comparison_of(*two).reference == "a"
    assert comparison_of(*two, [trained([9, 9, 9], model="c")]).reference == "sepmean"
    with pytest.raises(ProtcliError, match=r"no such model among these runs: a, b"):
        comparison_of(*two, reference="psp9")
    namesakes = [trained([1] * 3), trained([2] * 3, recipe__lr="0.1")]
    with pytest.raises(ProtcliError, match="several models"):
        comparison_of(namesakes, reference="a")
    assert comparison_of(namesakes, reference="a, lr 0.1").reference == "a, lr 0.1"


def test_length_bins_and_the_proteins_that_are_shown(trained):
    """Bins hold every protein once; those shown go from easy to hard, and none is without a pair."""
    lengths = np.random.default_rng(0).integers(20, 400, 111)
    bins = length_bins(lengths)
    assert len(bins) == 10
    assert sorted(np.concatenate(bins)) == list(range(111))
    assert all(lengths[a].max() <= lengths[b].min() for a, b in pairwise(bins))
    assert [len(members) for members in length_bins(np.array([5, 3]))] == [2]
    comparison = comparison_of([trained([30, 10, np.nan])], [trained([40, 10, np.nan], model="b")])
    assert typical_proteins(comparison) == [1, 0]


# --- the whole way ---


@pytest.fixture(scope="module")
def trained_store(
    tiny_data: Path, gaps_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[str]]:
    """Two seeds of a model, one of a variant, the baseline, in experiment `e`; the test split is unreadable."""
    folder = tmp_path_factory.mktemp("compared")
    shutil.copytree(tiny_data, folder / "data")
    (folder / "data/testing.arrow").write_bytes(b"")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        config = RunConfig(spec=find_model("gaps", gaps_model), model_file=gaps_model).with_settings(
            source=str(folder / "data")
        )
        other = replace(config, spec=configure(config.spec, ["power=1.0"]))
        baseline = RunConfig(spec=find_model("sepmean")).with_settings(source=str(folder / "data"), crop=32)
        ids = []
        for each in (config, config.with_settings(seed=1), other, baseline):
            *_, last = train(each, "e")
            ids.append(last.run_id)
    return folder / "mlflow.db", ids


@pytest.fixture
def runs(trained_store: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Their ids."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{trained_store[0]}")
    return trained_store[1]


@pytest.mark.draws
def test_an_experiment_is_compared_and_drawn(runs: list[str], tmp_path: Path) -> None:
    failed = create_run("broken", "e")
    failed.log_params({"data.digest": "x"})
    failed.end("FAILED")
    parent = create_run("suite s", "e", {"suite": "s"})
    found, passed = training_runs([], "e")
    assert ([run.id for run in found], len(passed)) == (runs, 2)
    assert f"broken ({failed.id}): it is FAILED" in passed[0]
    assert f"({parent.id}): it holds the runs of suite s" in passed[1]
    configurations = by_configuration(found)
    assert {run.id for run in read_runs(configurations)} == set(runs)
    comparisons = compare_configurations(configurations, "gaps, power 0.5")
    (comparison,) = comparisons
    assert {model.name: len(model.runs) for model in comparison.models} == {
        "gaps, power 0.5": 2,
        "gaps, power 1.0": 1,
        "sepmean": 1,
    }
    own = comparison.find("gaps, power 0.5")
    # no choice of epochs scores better than the one that was made on all proteins
    assert own.mse.value >= np.mean([find_run(run).metrics["best/valid_mse"] for run in runs[:2]])
    assert own.last_mse.value == pytest.approx(np.mean([find_run(run).metrics["valid/mse"] for run in runs[:2]]))
    assert comparison.sepmean.mse == find_run(runs[3]).metrics["best/valid_mse"]
    table = list(csv.DictReader(io.StringIO(to_csv(comparisons))))
    assert {row["model"]: row["run_ids"].split() for row in table}["gaps, power 0.5"] == runs[:2]
    text = to_markdown(comparisons)
    assert "gaps, power 1.0 and gaps, power 0.5 have fewer than 3 seeds that did not collapse" in text
    assert text.count("| sepmean |") == 4
    # code of the user's own is part of what a model is
    settings = [settings_of(find_run(run)) for run in runs]
    assert (len(settings[0]["model.py"]), settings[0], "model.py" in settings[3]) == (8, settings[1], False)

    pictures = draw_comparison(comparison, tmp_path / "figures")
    assert {picture.path.name for picture in pictures} == {
        "mse.png", "epochs.png", "maps.png", "separation.png", "length.png",
    }  # fmt: skip
    assert all(picture.path.stat().st_size > 2000 for picture in pictures)


def test_command(runs: list[str], tmp_path: Path) -> None:
    files = ["--csv", str(tmp_path / "out" / "a.csv"), "--markdown", str(tmp_path / "out" / "a.md")]
    result = CliRunner().invoke(app, ["compare", *runs[:3], runs[0], *files])
    assert result.exit_code == 0, result.output
    assert "have fewer than 3 seeds" in result.stdout
    assert f"run {runs[0]} is named several times: it counts once\n" in result.stdout
    table = result.stdout.split("Validation MSE, mean over")[1].split("\n\n")[0]
    assert "MSE / sepmean   median" in table
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"a.csv", "a.md"}
    folder = ["--csv", str(tmp_path)]
    for arguments in ([runs[0], "--experiment", "e"], [*runs[:3], *folder], [*runs[:3], "--markdown", "."]):
        assert CliRunner().invoke(app, ["compare", *arguments]).exit_code == 2
    blocked = CliRunner().invoke(app, ["compare", *runs[:3], "--figures", str(tmp_path / "out" / "a.csv")])
    assert (blocked.exit_code, blocked.stdout) == (1, "")
    assert "a.csv cannot be used: File exists" in blocked.stderr
    failed = CliRunner().invoke(app, ["compare", runs[0], "--reference", "psp9"])
    assert failed.exit_code == 1
    assert "no such model" in failed.stderr


def test_without_runs_the_current_experiment_is_compared(runs: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def compared(code: int = 0, **environment: str) -> str:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        result = CliRunner().invoke(app, ["compare"])
        assert (result.exit_code, result.stdout == "") == (code, code == 1), result.output
        return result.output

    assert "experiment 'Default' has no finished training run" in compared(1)  # it is there and has no run
    assert "MLFLOW_EXPERIMENT_ID is 77" in compared(1, MLFLOW_EXPERIMENT_ID="77")
    for environment in (
        {"MLFLOW_EXPERIMENT_ID": find_run(runs[0]).experiment_id},
        {"MLFLOW_EXPERIMENT_ID": "0", "MLFLOW_EXPERIMENT_NAME": "e"},
    ):
        said = compared(**environment)
        assert said.startswith("Comparing the finished runs of the current MLflow experiment, e.\n")
        assert all(name in said for name in ("gaps, power 0.5", "gaps, power 1.0"))
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "f")
    with pytest.raises(ProtcliError, match="there is no experiment 'f'"):
        training_runs([], current_experiment())


def test_what_cannot_be_compared(runs: list[str]) -> None:
    empty = create_run("something", "other")

    def refused(ids: list[str], experiment: str | None, said: str) -> None:
        with pytest.raises(ProtcliError, match=said):
            training_runs(ids, experiment)

    refused(["nowhere"], None, "no run nowhere")
    refused([], "f", "there is no experiment 'f'")
    refused([], "other", r"'other' has no finished training run, only others \(1\): something")
    refused([runs[0], empty.id], None, f"run {empty.id} cannot be compared: it is RUNNING")
    empty.end("FINISHED")
    refused([empty.id], None, f"run {empty.id} cannot be compared: it is not a training run")
    empty.log_params({"data.digest": "x"})
    refused([empty.id], None, "it has no validation MSE")


def test_a_run_whose_errors_are_damaged_or_gone_is_named(runs: list[str], trained_store: tuple, tmp_path: Path) -> None:
    (folder,) = trained_store[0].parent.glob(f"mlruns/*/{runs[2]}/artifacts")
    shutil.copytree(folder, tmp_path / "kept")
    try:
        path = folder / "validation_errors.safetensors"
        path.write_bytes(path.read_bytes()[:-9])
        result = CliRunner().invoke(app, ["compare", *runs[:3]])
        assert (result.exit_code, result.stdout) == (1, "")
        said = f"run {runs[2]} (gaps seed 0) cannot be compared: its validation_errors.safetensors is not a readable"
        assert said in result.stderr
        assert "/tmp" not in result.stderr
        shutil.rmtree(folder)
        with pytest.raises(ProtcliError, match=f"run {runs[2]}"):
            list(read_runs(by_configuration([find_run(runs[2])])))
    finally:
        shutil.copytree(tmp_path / "kept", folder, dirs_exist_ok=True)
