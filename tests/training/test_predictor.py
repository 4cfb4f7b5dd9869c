from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from protcli.errors import ProtcliError
from protcli.models.spec import ModelSpec
from protcli.models.zoo import configure, find_model
from protcli.proteins.batches import ProteinBatches
from protcli.proteins.protein import Protein
from protcli.proteins.residues import sequence_profile
from protcli.training import predictor as predictor_module
from protcli.training.checkpoint import save_checkpoint
from protcli.training.predictor import Predictor, SavedModel

CPU = torch.device("cpu")


@pytest.fixture
def spec(tiny_model: Path) -> ModelSpec:
    return find_model("tiny", tiny_model)


@pytest.fixture
def predictor(spec: ModelSpec, tmp_path: Path) -> Predictor:
    torch.manual_seed(0)
    save_checkpoint(tmp_path, "best", spec.build().state_dict(), {})
    return Predictor(SavedModel(spec, (tmp_path / "best.safetensors",), "32", spec.recipe.crop), CPU)


def test_maps_are_those_that_evaluation_sees(
    predictor: Predictor, spec: ModelSpec, tmp_path: Path, chain: Callable[..., Protein]
) -> None:
    proteins = [replace(chain(length, seed=length), id=f"p{length}") for length in (5, 32, 9, 17, 1, 20)]
    maps = [
        each.distance for each in predictor.predict_all(predictor.chain(p.id, p.sequence, p.profile) for p in proteins)
    ]
    network = spec.build()
    network.load_state_dict({key: value for key, value in predictor._network.state_dict().items()})
    network.eval()
    batches = ProteinBatches(proteins=proteins, atom="ca", crop=spec.recipe.crop, batch_size=spec.recipe.batch_size)
    padded = [row for batch in batches.epoch() for row in network(batch.residues).distance.detach().numpy()]
    for protein, predicted, evaluated in zip(proteins, maps, padded, strict=True):
        assert predicted.shape == (len(protein), len(protein))
        assert predicted.dtype == np.float32
        np.testing.assert_array_equal(predicted, evaluated[: len(protein), : len(protein)])


def test_without_a_profile_it_is_made_of_the_sequence(predictor: Predictor) -> None:
    sequence = "MKVXLA"
    given = predictor.chain("a", sequence, sequence_profile(sequence).tolist())
    made = predictor.chain("a", sequence)
    (first, second) = (each.distance for each in predictor.predict_all([given, made]))
    np.testing.assert_array_equal(first, second)
    assert given.has_profile
    assert not made.has_profile


@pytest.mark.parametrize(
    ("sequence", "profile", "said"),
    [
        ("", None, "p: the sequence is empty"),
        (None, None, "p: the sequence is NoneType, not text"),
        (["M"], None, "p: the sequence is list, not text"),
        ("MKB", None, "p: 'B' at position 3 is not one of the amino acids ACDEFGHIKLMNPQRSTVWY: write X"),
        ("MK-V", None, "p: '-' at position 3"),
        ("mK", None, "p: 'm' at position 1"),
        ("M\n", None, r"p: '\\n' at position 2"),
        ("Ж", None, "p: 'Ж' at position 1"),
        ("A" * 33, None, "p has 33 residues, but this tiny model accepts at most 32"),
        ("MK", np.zeros((3, 21)), "p: the profile is 3 x 21, but a sequence of 2 residues needs 2 x 21"),
        ("MK", np.zeros((21, 2)), "the profile is 21 x 2"),
        ("MK", [[0.0] * 21, [0.0] * 20], "the profile is not a table of numbers: give 2 rows of 21"),
        ("MK", "profile", "the profile is not a table of numbers"),
        ("MK", 3.0, "the profile is a single number"),
        ("MK", np.full((2, 21), np.inf), "p: inf in a profile: expected frequencies and information content from 0 to"),
        ("MK", np.full((2, 21), np.nan), "p: nan in a profile"),
        ("MK", np.full((2, 21), 3.0), "p: 3 in a profile"),
        ("MK", np.full((2, 21), -0.5), "p: -0.5 in a profile"),
    ],
)
def test_what_it_does_not_take_is_one_sentence(predictor: Predictor, sequence, profile, said: str) -> None:
    with pytest.raises(ProtcliError, match=said):
        predictor.chain("p", sequence, profile)


def test_a_model_of_the_users_own_that_fails_is_one_sentence(tiny_model: Path, tmp_path: Path) -> None:
    tiny_model.write_text(
        tiny_model.read_text().replace("        gaps =", "        raise ZeroDivisionError('mine')\n        gaps =")
    )
    spec = find_model("tiny", tiny_model)
    save_checkpoint(tmp_path, "best", spec.build().state_dict(), {})
    predictor = Predictor(SavedModel(spec, (tmp_path / "best.safetensors",), "32", spec.recipe.crop), CPU)
    with pytest.raises(ProtcliError, match=r"my_model\.py, line \d+: ZeroDivisionError: mine"):
        list(predictor.predict_all([predictor.chain("p", "MKV")]))


@pytest.fixture
def any_length(tmp_path: Path, chain: Callable[..., Protein]) -> Predictor:
    """The flagship, small, untrained: without templates its map depends on the separation alone."""
    spec = configure(find_model("pairmix"), ["templates=0", "channels=16", "pair_channels=8", "pair_blocks=2"])
    network = spec.build()
    network.prepare([chain(90, seed=seed) for seed in range(3)], "ca")
    save_checkpoint(tmp_path, "best", network.state_dict(), {})
    return Predictor(SavedModel(spec, (tmp_path / "best.safetensors",), "32", 32), CPU)


def test_a_model_of_any_length_takes_longer_chains_than_it_was_measured_on(
    any_length: Predictor, chain: Callable[..., Protein]
) -> None:
    proteins = [any_length.chain(f"p{length}", chain(length).sequence) for length in (100, 1, 33)]
    maps = list(any_length.predict_all(proteins))
    assert [each.distance.shape for each in maps] == [(100, 100), (1, 1), (33, 33)]
    assert maps[0].probabilities.shape == (100, 100, 64)
    np.testing.assert_allclose(maps[0].probabilities.sum(-1), 1, rtol=1e-5)


@pytest.mark.parametrize("length", [41, 64, 75, 76, 200])
def test_a_very_long_chain_is_put_together_from_tiles(
    any_length: Predictor, chain: Callable[..., Protein], length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What depends on the separation alone is the same as of the whole chain, at every pair."""
    (whole,) = any_length.predict_all([any_length.chain("p", chain(length).sequence)])
    monkeypatch.setattr("protcli.training.predictor.WHOLE", 40)
    monkeypatch.setattr("protcli.training.predictor.PART", 20)
    monkeypatch.setattr("protcli.training.predictor.OVERLAP", 8)
    sizes = []
    collated = predictor_module.collate
    monkeypatch.setattr(
        predictor_module, "collate", lambda batch, **given: sizes.append(len(batch[0])) or collated(batch, **given)
    )
    (tiled,) = any_length.predict_all([any_length.chain("p", chain(length).sequence)])
    np.testing.assert_allclose(tiled.distance, whole.distance, rtol=1e-4)
    np.testing.assert_allclose(tiled.probabilities, whole.probabilities, atol=1e-5)
    assert max(sizes) <= 40
