"""From training to serving on the command line."""

import json
import re
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from protcli.proteins.residues import sequence_profile
from protcli.proteins.store import open_store
from protcli.tracking.registry import Registry
from protcli.tracking.run import find_run

CHAMPION = "models:/protein-distance@champion"

pytestmark = pytest.mark.usefixtures("mlflow_store")


@pytest.fixture
def train(said, tiny_data: Path, tiny_model: Path):
    """`train(experiment, learning rate)`: the run's id."""

    def trained(experiment: str, lr: float = 1e-2) -> str:
        options = ("--model-file", tiny_model, "--data", tiny_data, "--experiment", experiment, "--lr", lr)
        text = said("train", "tiny", "--epochs", 1, *options)
        return text.partition("run ")[2].split()[0].rstrip(",:")

    return trained


def test_wrong_input_is_one_sentence(refused, train, tmp_path: Path) -> None:
    run_id = train("some")
    assert "no experiment 'none'" in refused("promote", "--experiment", "none")
    assert "no models:/protein-distance@champion" in refused("evaluate", "--model", CHAMPION)
    assert "is not a model address" in refused("evaluate", "--model", "protein-distance")
    assert "give the protein" in refused("predict", "--model", CHAMPION, "--out", tmp_path / "out")
    sentence = refused("predict", "--run-id", run_id, "--sequence", "MKB", "--out", tmp_path / "out")
    assert "'B' at position 3" in sentence


def test_a_dry_run_makes_no_store(refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/new/mlflow.db")
    assert "no finished training run in any experiment" in refused("promote", "--dry-run")
    assert not (tmp_path / "new").exists()


def test_a_baseline_is_shown_once(said, tiny_data: Path) -> None:
    run_id = said("train", "sepmean", "--data", tiny_data).partition("run ")[2].split()[0].rstrip(",:")
    assert re.search(r"0 = none sepmean [-\d. ]+ true maps ", said("evaluate", "--run-id", run_id))


@pytest.mark.slow
def test_promotion_is_told_and_the_test_set_counted(said, train, tiny_data: Path, tmp_path: Path) -> None:
    good, bad = train("good"), train("bad", 1e-9)
    dry = said("promote", "--dry-run", "--experiment", "good")
    assert "It would be registered as a new version of protein-distance and would be champion" in dry
    assert "Dry run: nothing was written." in dry
    for told, why in (("has been", ": there was no champion."), ("was already", "")):
        shown = said("promote", "--experiment", "good")
        assert f"{told} registered as models:/protein-distance/1 and is champion{why}" in shown
    promoted = said("promote", "--experiment", "bad", "--force", "to see")
    assert re.search(
        r"is champion: forced: to see \(its validation MSE \(1 seed\) is [\d.]+ \[-?[\d.]+, [\d.]+\] % higher than "
        r"that of the configuration of the champion, version 1 \(tiny, lr [\d.]+, 1 seed; 97.5 % interval over protein "
        r"families\)",
        promoted,
    )

    digest = open_store(tiny_data).split("testing").digest
    first = said("evaluate", "--run-id", good, "--split", "test")
    assert f"Test set {digest[:16]}: 1 reading, 1 of them by models that were not champion" in first
    percent = r"[\d.]+ \[-?[\d.]+, -?[\d.]+\] % (lower|higher)"
    told = f"The MSE of these weights is {percent} than sepmean's on testing, and {percent} on validation, which chose"
    assert re.search(told, first)
    second = said("evaluate", "--model", CHAMPION, "--split", "test")
    assert f"Test set {digest[:16]}: 2 readings, 1 of them by models that were not champion" in second
    name = f"test-{digest[:8]}"
    assert f"as {name}/mse etc." in second
    for run_id, number, readings in ((good, 1, "1 reading, 1 of them"), (bad, 2, "2 readings, 1 of them")):
        run, version = find_run(run_id), Registry().find(f"models:/protein-distance/{number}")
        for metric in (f"{name}/mse", f"{name}/mse_sepmean"):
            assert float(version.tags[metric]) == pytest.approx(run.metrics[metric], rel=1e-5)
        assert version.tags[f"evaluated.{name}.readings"].startswith(readings)
        assert run.tags[f"evaluated.{name}.readings"] == version.tags[f"evaluated.{name}.readings"]
    said("evaluate", "--model", CHAMPION)
    assert find_run(bad).tags[f"evaluated.{name}.readings"] == "2 readings, 1 of them by models that were not champion"


def asked(address: str, body: object) -> tuple[int, dict]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(address, data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def record(sequence: object, **more: object) -> dict:
    return {"dataframe_records": [{"sequence": sequence, **more}]}


@pytest.mark.slow
def test_a_champion_is_promoted_measured_served_and_asked(said, train, served, tiny_model, tmp_path) -> None:
    """The walk-through of docs/from-training-to-serving.md, with a model of the user's own whose file is gone."""
    run_id = train("first")
    said("promote", "--experiment", "first")
    tiny_model.unlink()
    said("evaluate", "--model", CHAMPION, "--split", "test")
    sequence = "MKVLAAGIX"
    said("predict", "--model", CHAMPION, "--sequence", sequence, "--out", tmp_path / "maps")
    expected = np.load(tmp_path / "maps" / "sequence.npz")["distance"]
    profile = sequence_profile(sequence).tolist()
    with served(CHAMPION) as address:
        for body in (
            *(record(sequence), record(sequence, profile=profile), record(sequence, profile=None)),
            {"dataframe_split": {"columns": ["sequence"], "data": [[sequence]]}},
            *({"inputs": [{"sequence": sequence}]}, {"instances": [{"sequence": sequence}]}),
        ):
            status, answer = asked(address, body)
            assert status == 200, answer
            np.testing.assert_array_equal(np.float32(answer["predictions"][0]["distance"]), expected)
        several = {"instances": [{"sequence": sequence}, {"sequence": "MK"}]}
        assert [len(row["distance"]) for row in asked(address, several)[1]["predictions"]] == [9, 2]
        for wrong, sentence in (
            (b'{"dataframe_records": [', "valid JSON"),
            ({"rows": [1]}, "dataframe_records"),
            (record("MKVB1"), "'B' at position 4 is not one of the amino acids"),
            (record("mkv"), "'m' at position 1"),
            (record(""), "the sequence is empty"),
            (record(None), "not text"),
            (record(7), "not text"),
            (record("A" * 33), "has 33 residues, but this tiny model accepts at most 32"),
            (record(sequence, profile=profile[:3]), "the profile is 3 x 21"),
            (record(sequence, profile=[row[:20] for row in profile]), "the profile is 9 x 20"),
            (record(sequence, profile=[*profile[:8], [0.5]]), "is not a table of numbers"),
            (record(sequence, profile="no"), "Failed to convert column profile"),
            ({"dataframe_records": [{"seq": "MKV"}]}, "sequence"),
        ):
            status, answer = asked(address, wrong)
            assert status == 400, (wrong, answer)
            assert sentence in answer["message"]
            assert "Traceback" not in json.dumps(answer)
            assert "stack_trace" not in answer
        assert asked(address, record(sequence))[0] == 200  # it is none the worse
    assert find_run(run_id).tags["promotion.decision"] == "champion"
