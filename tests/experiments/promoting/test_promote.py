"""Promotion in a real MLflow store. Most runs are copies of one trained run whose recorded errors are replaced."""

import os
import re
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.entities import Metric, Param
from scipy import stats
from scipy.spatial.distance import cdist

from protcli.errors import ProtcliError
from protcli.experiments.comparing.comparison import compare_configurations
from protcli.experiments.config import RunConfig
from protcli.experiments.configuration import Configuration, TrainingData, best_mse_of, by_configuration
from protcli.experiments.evaluate import evaluate, validation_of
from protcli.experiments.predicting.predict import load
from protcli.experiments.promoting.decision import Candidate, configuration_of, seeds_of
from protcli.experiments.promoting.model_card import caution, chosen_from
from protcli.experiments.promoting.promote import MODEL_NAME, promote
from protcli.experiments.scores import write_epochs
from protcli.experiments.train import train
from protcli.models.zoo import configure, find_model
from protcli.proteins.metrics import PairErrors
from protcli.proteins.store import create_store, open_store
from protcli.tracking.registry import CHALLENGER, CHAMPION, Registry, Version
from protcli.tracking.run import Run, find_run

pytestmark = pytest.mark.usefixtures("mlflow_store")

Make = Callable[..., Run]
PAIRS = np.array([100, 200, 300, 400, 500])  # of the five validation proteins
# the halves that choose each other's epoch, with 800 and 700 pairs: the families, which are the proteins, go to the
# lighter half, the largest first
FIRST_HALF = np.array([True, True, False, False, True])


@pytest.fixture
def client(mlflow_store: Path) -> mlflow.MlflowClient:
    return mlflow.MlflowClient(os.environ["MLFLOW_TRACKING_URI"])


@pytest.fixture
def config(tiny_data: Path, tiny_model: Path) -> RunConfig:
    """To train in earnest, a model of the user's own."""
    return RunConfig(spec=find_model("tiny", tiny_model), model_file=tiny_model).with_settings(
        source=str(tiny_data), epochs=1
    )


def trained(config: RunConfig, experiment: str | None = None) -> Run:
    *_, last = train(config, experiment)
    return find_run(last.run_id)


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory, tiny_data: Path) -> tuple[dict[str, str], Path]:
    """The parameters and the files of one trained run."""
    folder = tmp_path_factory.mktemp("base")
    spec = configure(find_model("improved"), ["length=64"])
    config = RunConfig(spec=spec).with_settings(source=str(tiny_data), epochs=1, crop=32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        patch.chdir(folder)
        run = trained(config, "base")
        validation_of(run)
        return run.params, shutil.copytree(find_run(run.id).path(""), folder / "files")


@pytest.fixture
def make(base: tuple[dict[str, str], Path], client: mlflow.MlflowClient, tmp_path: Path) -> Make:
    """A run whose MSE is `factor` times sepmean's, which is 100; one factor, or one for each protein.

    `epochs` are such factors for each epoch, if it has more than one.
    """
    copy = tmp_path / "copy"

    def made(
        factor: float | Sequence[float], *, seed: int = 0, experiment: str = "copies", status: str = "FINISHED",
        params: dict[str, str] | None = None, tags: dict[str, str] | None = None, families: str | None = None,
        epochs: Sequence[Sequence[float]] = (),
    ) -> Run:  # fmt: skip
        found = client.get_experiment_by_name(experiment)
        params = base[0] | {"run.seed": str(seed)} | (params or {})
        tags = {"evaluated.valid.digest": params["data.valid_digest"]} | (tags or {})
        run = client.create_run(found.experiment_id if found else client.create_experiment(experiment), tags=tags)
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(base[1], copy)
        (measured,) = (copy / "evaluation").iterdir()
        table = pd.read_csv(measured / "proteins.csv")
        table["pairs"], table["squared"], table["sepmean_squared"] = PAIRS, 100 * PAIRS * factor, 100 * PAIRS
        table["family"] = list(families) if families else table["family"]
        table.to_csv(measured / "proteins.csv", index=False)
        errors = [
            PairErrors(PAIRS, 100 * PAIRS * np.array(each), table["absolute"].to_numpy()) for each in epochs or [factor]
        ]
        write_epochs(copy / "validation_errors.safetensors", errors)
        measured.rename(measured.with_name(f"valid-{params['data.valid_digest'][:8]}"))
        client.log_artifacts(run.info.run_id, str(copy))
        mse = table["squared"].sum() / table["pairs"].sum()
        client.log_batch(
            run.info.run_id,
            metrics=[
                Metric("best/valid_mse", mse, run.info.start_time, 1),
                Metric("best/epoch", 1, run.info.start_time, 1),
            ],
            params=[Param(*item) for item in params.items()],
        )
        client.set_terminated(run.info.run_id, status)
        return find_run(run.info.run_id)

    return made


def champion() -> Version:
    return Registry().aliased(MODEL_NAME, CHAMPION)


def versions(client: mlflow.MlflowClient) -> list[int]:
    return sorted(int(version.version) for version in client.search_model_versions(f"name = '{MODEL_NAME}'"))


def test_the_first_one_is_champion_as_a_dry_run_says(make: Make, client: mlflow.MlflowClient) -> None:
    run = make(0.5)
    before = find_run(run.id)
    dry = promote(experiment="copies", dry_run=True)
    assert client.search_registered_models() == []
    assert (find_run(run.id).tags, find_run(run.id).metrics, dry.version) == (before.tags, before.metrics, None)
    result = promote(experiment="copies")
    assert (dry.is_new, dry.decision) == (result.is_new, result.decision)
    assert (result.is_new, result.decision.is_champion, result.champion) == (True, True, None)
    assert (set(champion().aliases), champion().run_id) == ({CHAMPION, CHALLENGER}, run.id)
    tags = champion().tags
    assert run.params.items() <= tags.items()
    assert float(tags["best/valid_mse_sepmean"]) == pytest.approx(100.0, rel=1e-5)
    assert (tags["promotion.decision"], tags["promotion.reason"]) == ("champion", "there was no champion")
    after = find_run(run.id)
    assert after.tags["promotion.version"] == f"models:/{MODEL_NAME}/1"
    assert (after.tags["promotion.decision"], after.status) == ("champion", "FINISHED")
    card = client.get_model_version(MODEL_NAME, "1").description
    assert len(card) < 5000
    assert card.endswith(f"`{run.id}`, at commit `{run.params['run.git_commit'] or 'unknown'}`.")
    assert f"| MSE, Å² | {best_mse_of(run):.3f} | 100.000 |" in card
    assert "trained with crop 32; the first 32 residues of each chain are evaluated" in card
    assert "its only seed, 0" in card
    make(0.6, seed=1, experiment="copies")
    promote(experiment="copies")
    card = client.get_model_version(MODEL_NAME, "1").description  # that of the last promotion
    assert "(2 seeds)" in card
    assert "the lowest of its 2 seeds" in card
    assert champion().tags["promotion.reason"] == "there was no champion"  # the decision of then


def test_the_lowest_mean_over_seeds_wins_then_its_best_seed(make: Make) -> None:
    lucky = make(0.59, seed=0, params={"recipe.lr": "0.5"})
    make(1.17, seed=1, params={"recipe.lr": "0.5"})
    chosen = make(0.6, seed=0)
    make(0.01, seed=1)  # trained again below: the latest counts, whatever it scores
    make(0.01, seed=2, status="FAILED")
    make(0.8, seed=1)
    make(0.85, params={"run.precision": "bf16"})
    make(0.85, params={"model.negative_slope": "0.3"})
    candidate = promote(experiment="copies", dry_run=True).candidate
    ranked = candidate.configurations
    assert ([len(each.runs) for each in ranked], caution(candidate)) == ([2, 1, 1, 2], "")
    assert "mean over 1 seed, but others have up to 2" in caution(Candidate(ranked[1:]))
    run = make(0.5, experiment="other", params={"model": "sepmean", "model.parameters": "0"})
    baseline = Configuration("sepmean", (run,), TrainingData(run))
    assert caution(Candidate([baseline, *ranked])) == ""  # it has no seeds to have more of
    assert (len(ranked[0].repeated), candidate.run.id) == (1, chosen.id)
    assert best_mse_of(lucky) < best_mse_of(chosen)
    assert ranked[0].mse.value == pytest.approx(70)
    assert {each.name for each in ranked} == {
        f"improved, negative_slope {slope}, lr {lr}, precision {precision}"
        for slope, lr, precision in (
            ("0.1", "0.01", 32),
            ("0.3", "0.01", 32),
            ("0.1", "0.01", "bf16"),
            ("0.1", "0.5", 32),
        )
    }


def test_a_worse_one_changes_nothing_and_a_better_one_takes_over(make: Make, client: mlflow.MlflowClient) -> None:
    runs = {
        name: make(factor, experiment=name, params={"recipe.lr": name})
        for name, factor in (("good", 0.5), ("bad", 5.0), ("better", 0.01))
    }
    promote(experiment="good")
    worse = promote(experiment="bad").decision
    assert (worse.is_champion, worse.improvement.value) == (False, pytest.approx(-900))  # ten times its MSE
    assert champion().run_id == runs["good"].id
    second = Registry().find(f"models:/{MODEL_NAME}/2")
    assert second.aliases == (CHALLENGER,)
    for tags in (second.tags, find_run(runs["bad"].id).tags):
        assert tags["promotion.decision"] == "challenger only"
        assert "these weights are worse by more than chance" in tags["promotion.reason"]
        assert tags["promotion.against"] == f"models:/{MODEL_NAME}/1"
        assert tags["promotion.improvement"] == "-900.0 [-900.0, -900.0] %"

    better = promote(experiment="better").decision
    assert (better.is_champion, better.improvement.value) == (True, pytest.approx(98))
    assert champion().run_id == runs["better"].id
    reason = champion().tags["promotion.reason"]
    assert (
        "these weights are better by more than chance; with fewer than 3 seeds nothing is claimed about the" in reason
    )
    first = Registry().find(f"models:/{MODEL_NAME}/1")
    assert (first.aliases, first.tags["promotion.decision"]) == ((), "champion")  # as it was then
    assert first.tags["promotion.succeeded_by"].startswith(f"models:/{MODEL_NAME}/3")

    again = promote(experiment="better")
    assert (again.is_new, again.decision.is_champion, again.decision.reason) == (False, True, "it already was champion")
    assert champion().tags["promotion.reason"] == reason
    assert not promote(experiment="bad").is_new
    forced = promote(experiment="bad", force="the others' weights are lost")
    assert (forced.decision.is_champion, forced.is_new, champion().run_id) == (True, False, runs["bad"].id)
    assert champion().tags["promotion.forced"] == "the others' weights are lost"
    assert "forced: the others' weights are lost (its" in find_run(runs["bad"].id).tags["promotion.reason"]
    assert versions(client) == [1, 2, 3]


def welch(ours: Sequence[float], theirs: Sequence[float], alpha: float = 0.025) -> tuple[float, float, float]:
    """By how many per cent our mean is lower, with Welch's interval of the logarithm of the ratio."""
    parts = [np.var(values, ddof=1) / len(values) / np.mean(values) ** 2 for values in (ours, theirs)]
    freedom = sum(parts) ** 2 / sum(part**2 / (len(ours) - 1) for part in parts)
    log = np.log(np.mean(ours) / np.mean(theirs))
    ends = stats.t.interval(1 - alpha, freedom, loc=log, scale=sum(parts) ** 0.5)
    low, high = sorted(100 * (1 - np.exp(end)) for end in ends)
    return 100 * (1 - np.exp(log)), low, high


def test_configurations_are_compared_not_a_lucky_seed(make: Make) -> None:
    """Errors that are scaled alike on all proteins leave no variance over families: the interval is Welch's."""
    for seed, factor in enumerate((0.5, 0.6, 0.7)):
        make(factor, seed=seed, experiment="old" if seed else "champion")
    promote(experiment="champion")
    for seed, factor in enumerate((0.35, 0.6, 0.65)):
        make(factor, seed=seed, experiment="lucky", params={"recipe.lr": "0.5"})
    lucky = promote(experiment="lucky")
    assert best_mse_of(lucky.candidate.run) < best_mse_of(find_run(champion().run_id))
    assert not lucky.decision.is_champion
    assert "The mean over its 3 seeds " in lucky.candidate.over_sepmean
    found = lucky.decision.improvement
    assert (found.value, found.low, found.high) == pytest.approx(welch((0.35, 0.6, 0.65), (0.5, 0.6, 0.7)))
    assert found.low < 0 < found.value
    assert "(improved, lr 0.01, 3 seeds; 97.5 % interval over protein families and seeds)" in lucky.decision.reason
    assert lucky.decision.reason.endswith("no difference can be claimed")  # and three seeds are enough to say so

    for seed, factor in enumerate((0.11, 0.1, 0.12)):
        make(factor, seed=seed, experiment="good", params={"recipe.lr": "0.7"})
    good = promote(experiment="good")
    assert good.decision.is_champion
    found = good.decision.improvement
    assert (found.value, found.low, found.high) == pytest.approx(welch((0.11, 0.1, 0.12), (0.5, 0.6, 0.7), 0.05 / 6))
    assert (
        "99.167 % interval over protein families and seeds): it is better by more than chance" in good.decision.reason
    )
    assert good.decision.reason.endswith("on these proteins: this is number 2, of the best of 1")
    assert champion().tags["run.seed"] == "1"
    assert "those of seed 1, whose validation MSE" in champion().tags["promotion.weights"]


def test_proteins_of_one_family_count_together(make: Make) -> None:
    """Better on each of five proteins, but four of them are one family: two families show less than five."""
    make(0.5, experiment="good")
    promote(experiment="good")
    factors = [0.3, 0.33, 0.31, 0.36, 0.34]
    expected = {"abcde": (32.93333, 23.77556, 40.99087), "aaaab": (32.93333, -21.34439, 62.93246)}  # by another program
    for families, numbers in expected.items():
        make(factors, experiment=families, params={"recipe.lr": "0.5"}, families=families)
        found = promote(experiment=families, dry_run=True).decision.improvement
        assert (found.value, found.low, found.high) == pytest.approx(numbers, abs=1e-5)


def test_collapsed_runs_are_left_out_on_both_sides(make: Make) -> None:
    for seed, factor in enumerate((0.5, 0.51, 0.52, 40.0)):
        make(factor, seed=seed, experiment="champion")
    promote(experiment="champion")
    for seed, factor in enumerate((0.3, 0.31, 0.32, 30.0)):
        make(factor, seed=seed, experiment="new", params={"recipe.lr": "0.5"})
    make(0.4, seed=0, experiment="new", params={"recipe.lr": "0.7"})
    result = promote(experiment="new", dry_run=True)
    best = result.candidate.best
    assert (len(best.runs), best.collapsed, seeds_of(best)) == (4, 1, "4 seeds, 1 of them collapsed or diverged")
    assert best.mse.value == pytest.approx(31)  # 30 times would rank it last
    assert configuration_of(find_run(champion().run_id)).collapsed == 1
    found = result.decision.improvement
    assert (found.value, found.low, found.high) == pytest.approx(
        welch((0.3, 0.31, 0.32), (0.5, 0.51, 0.52), 0.0125)
    )  # the best of two
    assert result.decision.is_champion


def test_another_seed_of_the_champions_configuration_must_be_better_itself(make: Make) -> None:
    first = make(0.5, seed=0, experiment="one")
    promote(experiment="one")
    make([0.2, 0.4, 0.9, 0.4, 0.5], seed=1, experiment="two")
    unclear = promote(experiment="two").decision
    assert (unclear.is_champion, champion().run_id) == (False, first.id)
    assert "the best configuration is that of the champion, version 1" in unclear.reason
    assert unclear.reason.endswith("no difference can be claimed")
    better = make(0.3, seed=2, experiment="three")
    result = promote(experiment="three").decision
    assert (result.is_champion, champion().run_id) == (True, better.id)
    assert "the MSE of its seed 2 is 40.0 [40.0, 40.0] % lower than that of the champion's seed 0" in result.reason
    assert promote().decision.reason == "it already was champion"


def test_whether_it_beats_sepmean_is_always_said_and_may_be_a_condition(
    make: Make, client: mlflow.MlflowClient
) -> None:
    for name, factor, beats, interval, said in (
        ("worse", 100.0, "no", "-9900.0 [-9900.0, -9900.0] %", "It does not beat sepmean, the trivial baseline: its"),
        # the interval by another program
        ("equal", [0.8, 1.2, 0.7, 1.1, 1.0], "not shown", "2.0 [-27.0, 24.4] %", "It is not shown to beat sepmean"),
        ("better", 0.01, "yes", "99.0 [99.0, 99.0] %", "at an epoch chosen on other families, is 99.0 ["),
    ):
        run = make(factor, experiment=name, params={"recipe.lr": name})
        result = promote(experiment=name)
        version = Registry().versions_of(run.id)[0]
        assert (result.candidate.beats_sepmean, version.tags["promotion.beats_sepmean"]) == (beats, beats)
        assert version.tags["promotion.improvement_over_sepmean"] == interval
        card = client.get_model_version(MODEL_NAME, str(version.number)).description
        assert said in card
        assert "of this run alone: it has fewer than 3 seeds" in card
        decision = promote(experiment=name, must_beat="sepmean", model_name="careful").decision
        assert decision.is_champion == (beats == "yes")  # also where there is no champion yet
        assert decision.is_champion or decision.reason.startswith("it must beat sepmean, and that is not shown (MSE ")


def test_the_model_of_protcli_as_the_one_to_beat(config: RunConfig) -> None:
    run, own = trained(config.with_settings(lr=1e-9)), load()
    squared, pairs = 0.0, 0
    for protein in open_store(config.data.source).split("validation"):
        length = min(len(protein), 32)
        error = own.predict(protein.sequence[:length], protein.profile[:length]).distance - cdist(
            *2 * [protein.atom("ca")[:length].astype(float)]
        )
        known = np.triu(~np.isnan(error), 1)
        squared, pairs = squared + np.square(error[known]).sum(), pairs + known.sum()
    lower = 100 * (1 - best_mse_of(run) / (squared / pairs))
    decision = promote(must_beat="protcli").decision
    assert not decision.is_champion
    found = re.fullmatch(r"it must beat the model of protcli, and that is not shown \(MSE (.+?) \[.*", decision.reason)
    assert float(found[1]) == pytest.approx(lower, abs=0.06)


def test_a_run_that_diverged_is_counted(make: Make, client: mlflow.MlflowClient) -> None:
    for seed in range(2):
        make(0.5, seed=seed, experiment="some")
    make(0.5, seed=2, experiment="some", status="FAILED", tags={"diverged": "True"})
    make(0.5, seed=0, experiment="some", status="FAILED", params={"recipe.lr": "9"}, tags={"diverged": "True"})
    result = promote(experiment="some")
    (best,) = result.candidate.configurations  # no run of the other one has figures
    assert (len(best.runs), len(best.diverged), seeds_of(best)) == (2, 1, "3 seeds, 1 of them collapsed or diverged")
    card = client.get_model_version(MODEL_NAME, str(result.version.number)).description
    assert "(1 more collapsed or diverged)" in card
    assert "Recipe: epochs 1, batch_size" in card


def epochs_of_luck(low: float, high: float) -> list[np.ndarray]:
    """Two epochs, each good for one half of the proteins and bad for the other: what one half chooses is bad for it."""
    return [np.where(half, low, high) for half in (FIRST_HALF, ~FIRST_HALF)]


def test_the_best_is_the_one_that_compare_shows_as_the_best(make: Make) -> None:
    """By its own best epoch the lucky one, 0.2 of 800 pairs and 0.9 of 700, 52.7 Å², would win over 60; what either
    half chooses is 0.9 for the other, 90 Å². And a seed that would not have collapsed at its best epoch has."""
    lucky = make([0.2, 0.2, 0.9, 0.9, 0.2], params={"recipe.lr": "0.5"}, epochs=epochs_of_luck(0.2, 0.9))
    steady = make(0.6)
    assert best_mse_of(lucky) == pytest.approx((0.2 * 800 + 0.9 * 700) / 15)
    for seed in (1, 2):
        make(0.6 + seed / 100, seed=seed)
    luckless = make([0.2, 0.2, 1.4, 1.4, 0.2], seed=3, epochs=epochs_of_luck(0.2, 1.4))
    assert best_mse_of(luckless) < 2 * best_mse_of(steady)
    candidate = promote(dry_run=True).candidate
    assert candidate.run.id == steady.id
    ranked = [(each.mse.value, each.collapsed) for each in candidate.configurations]
    assert ranked == [(pytest.approx(61), 1), (pytest.approx(90), 0)]
    (comparison,) = compare_configurations(by_configuration([find_run(lucky.id), *candidate.best.runs]))
    assert [row[2].split()[0] for row in comparison.results.rows[:2]] == ["61.00", "90.00"]
    said = "the lowest validation MSE, 61.000 Å² as the mean over 3 seeds (1 more collapsed or diverged), each at an "
    assert said in chosen_from(candidate)
    assert "whose validation MSE, 60.000 Å² at its best epoch, is the lowest" in candidate.served
    make(1.0, experiment="luck", params={"recipe.lr": "0.7"}, epochs=epochs_of_luck(0.5, 1.5))
    barred = promote(experiment="luck", must_beat="sepmean", dry_run=True)
    assert (barred.decision.is_champion, barred.candidate.improvement.value) == (False, pytest.approx(-50))


def test_which_runs_are_considered(make: Make) -> None:
    make(0.5)
    other = make(0.4, params={"data.digest": "f" * 32}, tags={"suite": "inputs", "mlflow.parentRunId": "0"})
    with pytest.raises(ProtcliError, match=r"several data sets: choose one with --digest: .*f{32} \(.*: 1 run"):
        promote(experiment="copies", dry_run=True)
    for choice in ({"digest": "fff"}, {"suite": "inputs"}):
        assert promote(dry_run=True, **choice).candidate.run.id == other.id
    diverged = {"params": {"data.digest": "e" * 32}, "tags": {"diverged": "True"}, "status": "FAILED"}
    make(0.4, **diverged)  # no figures, so nothing to promote
    with pytest.raises(ProtcliError, match="no run has data digest eee"):
        promote(experiment="copies", digest="eee", dry_run=True)
    with pytest.raises(ProtcliError, match="no run has data digest 0123"):
        promote(experiment="copies", digest="0123", dry_run=True)


def test_what_cannot_be_promoted_is_one_sentence(make: Make, client: mlflow.MlflowClient) -> None:
    client.create_experiment("empty")
    make(0.5)
    for options, said in (
        ({"experiment": "empty"}, "no finished training run in experiment empty"),
        ({"suite": "none.yaml"}, "suite none has no finished training run: .* suites that have been run here: none"),
        ({"experiment": "unknown"}, "there is no experiment 'unknown'"),
        ({"experiment": "a", "suite": "b"}, "not both"),
        ({"force": " "}, "--force needs a reason"),
        ({"must_beat": "simple"}, "--must-beat simple: give sepmean, or protcli for the model that comes with it"),
        ({"must_beat": "sepmean", "force": "so"}, "give --must-beat or --force, not both"),
        ({"model_name": "a/b"}, "--model-name is 'a/b': give 1 to 200 letters, none of them"),
        ({"ensemble": True}, "--ensemble needs two seeds or more, but the best configuration, improved"),
    ):
        with pytest.raises(ProtcliError, match=said):
            promote(**options)
    assert client.search_registered_models() == []


def test_sepmean_may_win_and_that_is_said_plainly(config: RunConfig) -> None:
    baseline = trained(RunConfig(spec=find_model("sepmean")).with_settings(source=config.data.source, crop=32))
    trained(config.with_settings(lr=1e-9))
    result = promote()
    assert result.candidate.run.id == baseline.id
    assert "trivial baseline itself" in result.candidate.over_sepmean
    assert (champion().tags["promotion.beats_sepmean"], seeds_of(result.candidate.best)) == ("no", "fitted")
    assert not promote(must_beat="sepmean", model_name="other").decision.is_champion
    assert load(champion().uri).predict("MKV").distance.shape == (3, 3)


@pytest.mark.parametrize(
    ("params", "said"),
    [
        (None, "is deleted"),
        ({"data.atom": "cb", "data.digest": "b" * 32}, "was trained with atom ca, run .* with cb"),
        ({"data.evaluated_length": "16", "data.digest": "b" * 32}, "with evaluated length 32, run .* with 16"),
        ({"data.valid_digest": "c" * 64, "data.digest": "b" * 32}, "no longer holds the validation proteins of run"),
    ],
)
def test_a_champion_that_cannot_be_compared_with_stays_unless_forced(
    make: Make, client: mlflow.MlflowClient, params: dict[str, str], said: str
) -> None:
    first = make(0.5, experiment="good")
    promote(experiment="good")
    if params is None:
        client.delete_run(first.id)
    other = make(0.01, experiment="other", params=params)
    with pytest.raises(ProtcliError, match=f"the champion, .*/1, cannot be compared: .*{said}.*; --force 'REASON'"):
        promote(experiment="other")
    assert (versions(client), champion().run_id) == ([1], first.id)
    assert promote(experiment="other", force="new data").decision.is_champion
    assert champion().run_id == other.id
    assert (
        "forced: new data (the champion, models:/protein-distance/1, cannot be compared: "
        in champion().tags["promotion.reason"]
    )


@pytest.mark.slow
def test_a_champion_of_other_validation_proteins_is_measured_on_the_new_ones(
    config: RunConfig, tiny_data: Path, tiny_model: Path, tmp_path: Path
) -> None:
    old = trained(config, "old")
    promote(experiment="old")
    store = open_store(tiny_data)
    with create_store(tmp_path / "new") as writer:
        for name, proteins in (
            ("training", store.split("training")),
            ("validation", list(store.split("training"))[:4]),
        ):
            with writer.split(name) as split:
                for protein in proteins:
                    split.add(protein)
    find_model("tiny", tiny_model)  # the file that it was loaded from last, a version's, is gone
    new = trained(config.with_settings(source=str(tmp_path / "new"), seed=1), "new")
    before = find_run(old.id)
    result = promote(experiment="new")
    theirs = evaluate(run_id=old.id, data=str(tmp_path / "new")).scores.metrics["mse"]
    found = result.decision.improvement
    assert found.value == pytest.approx(100 * (1 - find_run(new.id).metrics["best/valid_mse"] / theirs))
    assert found.low < found.value < found.high
    assert before.metrics.items() <= find_run(old.id).metrics.items()


def test_a_run_that_nobody_has_measured_is_measured_and_no_test_set_read(
    config: RunConfig, tiny_data: Path, tmp_path: Path
) -> None:
    """The store's test file is poisoned: whoever opened it would fail."""
    copy = tmp_path / "poisoned"
    shutil.copytree(tiny_data, copy)
    (copy / "testing.arrow").write_bytes(b"whoever reads this has cheated")
    run = trained(config.with_settings(source=str(copy)))
    before = find_run(run.id)
    promote(dry_run=True)
    assert (find_run(run.id).tags, find_run(run.id).metrics) == (before.tags, before.metrics)
    assert promote().candidate.run.id == run.id
    measured = validation_of(find_run(run.id))
    assert measured.errors.mse == best_mse_of(run)
    tags = champion().tags
    assert tags["best/valid_lddt"] == f"{measured.metrics['lddt']:.6g}"
    assert float(tags["best/valid_mse"]) == pytest.approx(best_mse_of(run), rel=1e-5)
    with pytest.raises(ProtcliError, match="testing"):
        evaluate(run_id=run.id, split="test")
    assert not any(key.startswith("test") for key in find_run(run.id).tags)


def test_several_at_once_end_with_one_champion_and_one_version_a_run(make: Make, client: mlflow.MlflowClient) -> None:
    make(0.5, experiment="good", params={"recipe.lr": "0.1"})
    better = make(0.01, experiment="better")
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda name: promote(experiment=name), ["good", "better"] * 2))
    assert (sum(result.is_new for result in results), versions(client)) == (2, [1, 2])
    assert champion().run_id == better.id


def test_who_is_faster_without_a_lock_is_compared_with(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    make(0.5, experiment="good")
    best = make(0.01, experiment="better")
    register = Registry.register

    def overtaken(self, *arguments, **options):
        monkeypatch.setattr(Registry, "register", register)
        promote(experiment="better")
        return register(self, *arguments, **options)

    monkeypatch.setattr(Registry, "register", overtaken)
    monkeypatch.setattr(Registry, "locked", lambda self: nullcontext())
    result = promote(experiment="good")
    assert not result.decision.is_champion
    assert "worse by more than chance" in result.decision.reason
    assert champion().run_id == best.id


@pytest.mark.slow
def test_the_seeds_of_a_configuration_as_one_model(config: RunConfig) -> None:
    """It predicts their mean and scores better than they do on average; nothing of the runs themselves changes."""
    runs = [trained(config.with_settings(seed=seed)) for seed in range(3)]
    single = promote()
    first = promote(ensemble=True)
    assert (single.version.number, first.version.number) == (1, 2)
    assert first.is_new
    assert (set(first.version.members), single.version.members) == ({run.id for run in runs}, ())
    assert "only their weights are compared: the MSE of its mean of 3 seeds is" in first.decision.reason
    assert promote(ensemble=True, dry_run=True).version == Registry().find("models:/protein-distance/2")
    assert promote().version.number == 1

    protein = open_store(Path(config.data.source)).split("validation")[0]
    sequence, profile = protein.sequence[:32], protein.profile[:32]
    members = [load(run.id).predict(sequence, profile).distance for run in runs]
    found = load("models:/protein-distance/2").predict(sequence, profile).distance
    np.testing.assert_allclose(found, np.mean(members, axis=0), rtol=1e-5, atol=1e-4)

    for run in runs:
        evaluate(run_id=run.id)
    before = {run.id: find_run(run.id).metrics for run in runs}
    result = evaluate(model="models:/protein-distance/2")
    assert result.scores.metrics["mse"] < np.mean([best_mse_of(run) for run in runs])
    assert result.scores.metrics["mse"] == pytest.approx(first.candidate.scores.errors.mse)
    assert {run.id: find_run(run.id).metrics for run in runs} == before
    tags = Registry().find("models:/protein-distance/2").tags
    assert float(tags["best/valid_mse"]) == pytest.approx(result.scores.metrics["mse"], rel=1e-5)
    evaluate(run_id=single.candidate.run.id)  # of the run, which is not the ensemble
    assert Registry().find("models:/protein-distance/2").tags["best/valid_mse"] == tags["best/valid_mse"]
    test = evaluate(model="models:/protein-distance/2", split="test")
    assert f"{test.scores.prefix}mse" not in find_run(single.candidate.run.id).metrics
    assert f"{test.scores.prefix}mse" in Registry().find("models:/protein-distance/2").tags
    card = mlflow.MlflowClient().get_model_version("protein-distance", "2").description
    assert card.startswith("# tiny, mean of 3 seeds")
    assert f"| MSE, Å² | {first.candidate.scores.errors.mse:.3f} |" in card


def test_weights_are_compared_where_there_is_an_ensemble(config: RunConfig) -> None:
    """Its seeds are worse than their mean: another configuration must beat what is served."""
    for seed in range(2):
        trained(config.with_settings(seed=seed))
    champion = promote(ensemble=True)
    assert champion.decision.is_champion
    longer = trained(config.with_settings(epochs=3))
    result = promote()
    assert result.candidate.run.id == longer.id
    assert "there is an ensemble, here or as champion, version 1, so only their weights are compared" in (
        result.decision.reason
    )
    found = result.decision.improvement
    assert found.value == pytest.approx(100 * (1 - best_mse_of(longer) / champion.candidate.scores.errors.mse))
    assert found.low < found.value < found.high
    assert promote(ensemble=False, dry_run=True).decision.is_champion == (found.low > 0)


@pytest.mark.parametrize(
    "name", ["v1.0", "a/b", "a:b", "50%", "it's", 'a"b', "a@b", "", " ", "x" * 201, "a\nb", "\udcc3"]
)
def test_a_name_that_mlflow_would_half_accept(client: mlflow.MlflowClient, name: str) -> None:
    with pytest.raises(ProtcliError, match=r"^--model-name is .*: give 1 to 200 letters"):
        promote(model_name=name)
    assert list(client.search_registered_models()) == []
