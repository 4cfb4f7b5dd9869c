"""What a prediction can be asked, and the files it is written to: of a helix that is predicted almost surely."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from protcli.errors import ProtcliError
from protcli.experiments.predicting.writers import WRITERS, write_npz, write_rr
from protcli.models.zoo import find_model
from protcli.proteins.formats.structures import read_structure
from protcli.proteins.protein import Protein
from protcli.proteins.residues import sequence_profile
from protcli.training.predictor import ChainPrediction, SavedModel

SEQUENCE = "MKVLAAGIVALLAACSSGKT" * 3
EDGES = np.arange(0.0, 101.0, 0.5, dtype=np.float32)


def helix(length: int) -> np.ndarray:
    angle = np.deg2rad(100) * np.arange(length)
    return np.stack([2.3 * np.cos(angle), 2.3 * np.sin(angle), 1.5 * np.arange(length)], axis=1)


@pytest.fixture
def prediction() -> ChainPrediction:
    """Each pair's bin has a probability of 0.9, both neighbours 0.05."""
    coords = helix(len(SEQUENCE))
    true = np.linalg.norm(coords[:, None] - coords[None], axis=-1)
    place = np.clip(np.searchsorted(EDGES, true, side="right") - 1, 1, len(EDGES) - 3)
    probabilities = np.zeros((*true.shape, len(EDGES) - 1), dtype=np.float32)
    for shift, value in ((0, 0.9), (-1, 0.05), (1, 0.05)):
        np.put_along_axis(probabilities, place[..., None] + shift, value, axis=-1)
    distance = (probabilities @ (EDGES[1:] + EDGES[:-1]) / 2).astype(np.float32)
    np.fill_diagonal(distance, 0)
    chain = Protein("one/helix", SEQUENCE, sequence_profile(SEQUENCE), np.full((60, 3, 3), np.nan), np.zeros(60, bool))
    model = SavedModel(find_model("sepmean"), (), "32", 256, "ca", name="models:/m/1", run_id="abc")
    return ChainPrediction(chain, model, distance, probabilities, EDGES)


def test_contacts_confidence_and_errors(prediction: ChainPrediction) -> None:
    contacts = prediction.contacts(8.0)
    assert contacts.shape == (60, 60)
    assert contacts[0, 3] > 0.99  # 5.0 A apart
    assert contacts[0, 10] < 0.01  # 15 A apart
    assert (np.diff([prediction.contacts(cutoff)[0, 5] for cutoff in (4, 8, 12, 20)]) >= 0).all()
    assert (prediction.confidence > 0.9).all()
    assert (prediction.confidence <= 1).all()
    np.testing.assert_allclose(prediction.deviation[0, 5], (0.1 * 0.25 + 0.25 / 12) ** 0.5, rtol=1e-3)
    assert prediction.residue_error == pytest.approx(np.full(60, 0.214), abs=0.01)


def test_coordinates_are_those_of_the_helix(prediction: ChainPrediction, tmp_path: Path) -> None:
    found = prediction.coords()
    np.testing.assert_allclose(np.linalg.norm(found[:, None] - found[None], axis=-1), prediction.distance, atol=0.8)
    assert prediction.handedness == 1
    assert "100 % of the helical turns are right-handed; the B factor is the expected error in A" in prediction.remark
    for kind in ("pdb", "cif"):
        path = tmp_path / f"x.{kind}"
        WRITERS[kind](path, prediction)
        (read,) = read_structure(path)
        assert read.sequence == SEQUENCE
        np.testing.assert_allclose(read.atom("ca"), prediction.coords(), atol=1e-3)
    of_betas = replace(prediction, model=replace(prediction.model, atom="cb"))
    with pytest.raises(ProtcliError, match="predicts distances between CB atoms: coordinates need CA"):
        of_betas.coords()
    with pytest.raises(ProtcliError, match="cannot be written"):
        prediction.to_pdb(tmp_path / "x.pdb" / "y.pdb")


def test_contacts_in_casps_format(prediction: ChainPrediction, tmp_path: Path) -> None:
    write_rr(tmp_path / "x.rr", prediction)
    lines = (tmp_path / "x.rr").read_text().splitlines()
    assert lines[:2] == ["PFRMAT RR", "TARGET one/helix"]
    start = lines.index("MODEL 1")
    assert "".join(lines[start + 1 : start + 3]) == SEQUENCE
    assert all(len(line) <= 80 for line in lines)
    rows = [line.split() for line in lines[start + 3 : -1]]
    assert lines[-1] == "END"
    assert all(int(j) - int(i) >= 6 and (low, high) == ("0", "8") for i, j, low, high, _ in rows)
    chances = [float(row[4]) for row in rows]
    assert chances == sorted(chances, reverse=True)
    assert all(0.01 <= chance <= 1 for chance in chances)


def test_arrays(prediction: ChainPrediction, tmp_path: Path) -> None:
    write_npz(tmp_path / "x.npz", prediction)
    with np.load(tmp_path / "x.npz", allow_pickle=False) as arrays:
        assert set(arrays.files) == {
            "distance", "sequence", "id", "model", "run", "probabilities", "edges", "confidence",
        }  # fmt: skip
        np.testing.assert_array_equal(arrays["distance"], prediction.distance)
        np.testing.assert_allclose(arrays["probabilities"].astype(float).sum(axis=-1), 1, atol=2e-3)
