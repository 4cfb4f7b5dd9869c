"""What would give a false figure is refused, or marked, with the reason."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from protcli.experiments.train import Finished
from protcli.proteins.protein import Protein
from protcli.proteins.store import create_store, open_store
from protcli.tracking.keys import Metric
from protcli.tracking.run import create_run, find_run

pytestmark = pytest.mark.usefixtures("mlflow_store")


def copied(data: Path, to: Path, without: tuple[str, int]) -> Path:
    """A copy of a store in which a split lacks its first proteins."""
    source, (shorter, fewer) = open_store(data), without
    with create_store(to) as store:
        for name in source.splits:
            with store.split(name) as writer:
                for protein in list(source.split(name))[fewer if name == shorter else 0 :]:
                    writer.add(protein)
    return to


def test_training_on_proteins_that_measure(refused, tiny_data: Path, tiny_model: Path) -> None:
    for split, purpose in (
        ("testing", "testing is reserved for the final measurement"),
        ("training,testing", "testing is reserved for the final measurement"),
        ("validation", "validation is reserved for choosing between models"),
    ):
        sentence = refused("train", "tiny", "--model-file", tiny_model, "--data", tiny_data, "--train-split", split)
        assert sentence == f"Error: split {purpose}: train on another split"


def test_measuring_another_atom_or_crop(refused, finished: Finished) -> None:
    run = finished.run_id
    for option, value, own in (("atom", "cb", "ca"), ("crop", 64, 32)):
        sentence = refused("evaluate", "--run-id", run, f"--{option}", value)
        assert sentence == f"Error: run {run} was trained with --{option} {own}: it cannot be measured with {value}"


def test_comparing_runs_on_different_data(said, refused, finished: Finished, tiny_data, tiny_model, tmp_path) -> None:
    other = copied(tiny_data, tmp_path / "other", ("validation", 1))
    text = said("train", "tiny", "--model-file", tiny_model, "--data", other, "--epochs", 1)
    run = text.partition("run ")[2].split()[0]
    shown = said("compare", finished.run_id, run)
    assert re.findall(r"measured on (\d) of validation", shown) == ["5", "4"]  # each with its own sepmean
    assert not re.search(r"tiny\s+tiny", shown)
    sentence = refused("promote")
    assert sentence.startswith("Error: the runs use several data sets: choose one with --digest: ")
    for each in (finished.run_id, run):
        assert find_run(each).params["data.digest"] in sentence


def test_promoting_a_run_whose_data_nobody_knows(refused) -> None:
    run = create_run("of another program", "theirs")
    run.log_metrics({Metric.BEST_MSE: 0.1})
    run.end("FINISHED")
    sentence = refused("promote", "--experiment", "theirs")
    assert sentence == "Error: there is no finished training run in experiment theirs: train one with `protcli train`"


def test_data_that_are_not_what_they_were(said, refused, finished: Finished, tiny_data: Path, tmp_path: Path) -> None:
    said("evaluate", "--run-id", finished.run_id, "--split", "test")
    shrunk = copied(tiny_data, tmp_path / "shrunk" / tiny_data.name, ("testing", 1))
    shown = said("evaluate", "--run-id", finished.run_id, "--split", "test", "--data", shrunk)
    earlier = f"test-{open_store(tiny_data).split('testing').digest[:8]} with 4 proteins"
    assert f"Warning: this run was measured on another test set before, {earlier}; this one has 3" in shown
    run = find_run(finished.run_id)
    moved = copied(tiny_data, tmp_path / "moved", ("validation", 1))
    config = run.folder / "config.yaml"
    config.write_text(config.read_text().replace(str(tiny_data), str(moved)))
    sentence = refused("evaluate", "--run-id", finished.run_id, "--split", "valid")
    assert sentence == (
        f"Error: {moved} is no longer the data that run {finished.run_id} was trained on (its validation proteins have "
        "changed or are gone): choose the data to measure it on with --data"
    )
    assert "is no longer the data" in refused("evaluate", "--run-id", finished.run_id, "--split", "test")


def test_a_chain_in_two_splits(said, tmp_path: Path, chain: Callable[..., Protein]) -> None:
    (folder := tmp_path / "text").mkdir()
    shutil.copyfile(_proteinnet(folder / "training_30", [chain(40, 1), chain(45, 2)]), folder / "validation")
    shown = said("data", "import", folder, "--out", tmp_path / "store")
    overlap = "2 proteins with a sequence that training_30 has too, 2 proteins with a relative in training_30"
    assert f"Warning: validation: {overlap}" in shown
    counted = said("data", "inspect", tmp_path / "store")
    assert re.search(r"validation\s+2\s+training_30\s+2\s+2\s", counted), counted


def _proteinnet(path: Path, proteins: list[Protein]) -> Path:
    records = []
    for protein in proteins:
        coordinates = protein.coords.reshape(-1, 3).T * 100
        records += [
            "[ID]", protein.id, "[PRIMARY]", protein.sequence, "[EVOLUTIONARY]",
            *("\t".join(["0.1"] * len(protein.sequence)) for _ in range(21)), "[TERTIARY]",
            *("\t".join(f"{value:.1f}" for value in axis) for axis in coordinates),
            "[MASK]", "+" * len(protein.sequence), "",
        ]  # fmt: skip
    path.write_text("\n".join(records) + "\n", encoding="utf-8")
    return path
