"""What a prediction can be asked, and the files it is written to; what a real browser makes of its page."""

import base64
import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from protcli.errors import ProtcliError
from protcli.experiments.predicting.writers import WRITERS, map_page, write_npz, write_rr
from protcli.models.zoo import find_model
from protcli.proteins.formats.structures import read_structure
from protcli.proteins.protein import Protein
from protcli.proteins.residues import sequence_profile
from protcli.training.predictor import ChainPrediction, SavedModel

SEQUENCE = "MKVLAAGIVALLAACSSGKT" * 3
EDGES = np.arange(0.0, 101.0, 0.5, dtype=np.float32)
MODEL = SavedModel(find_model("sepmean"), (), "32", 256, "ca", name="models:/m/1", run_id="abc")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def helix(length: int) -> np.ndarray:
    angle = np.deg2rad(100) * np.arange(length)
    return np.stack([2.3 * np.cos(angle), 2.3 * np.sin(angle), 1.5 * np.arange(length)], axis=1)


@pytest.fixture
def prediction() -> ChainPrediction:
    """A helix that is predicted almost surely: each pair's bin has a probability of 0.9, both neighbours 0.05."""
    coords = helix(len(SEQUENCE))
    true = np.linalg.norm(coords[:, None] - coords[None], axis=-1)
    place = np.clip(np.searchsorted(EDGES, true, side="right") - 1, 1, len(EDGES) - 3)
    probabilities = np.zeros((*true.shape, len(EDGES) - 1), dtype=np.float32)
    for shift, value in ((0, 0.9), (-1, 0.05), (1, 0.05)):
        np.put_along_axis(probabilities, place[..., None] + shift, value, axis=-1)
    distance = (probabilities @ (EDGES[1:] + EDGES[:-1]) / 2).astype(np.float32)
    np.fill_diagonal(distance, 0)
    chain = Protein("one/helix", SEQUENCE, sequence_profile(SEQUENCE), np.full((60, 3, 3), np.nan), np.zeros(60, bool))
    return ChainPrediction(chain, MODEL, distance, probabilities, EDGES)


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


# --- the interactive page ---


@pytest.fixture
def straight() -> ChainPrediction:
    apart = np.abs(np.subtract.outer(np.arange(20), np.arange(20)))
    probabilities = np.zeros((20, 20, 20), dtype=np.float32)
    np.put_along_axis(probabilities, apart[..., None], 1, axis=-1)  # |i - j| = k is in bin k
    distance = np.where(apart, 2.0 * apart + 1.005, 0).astype(np.float32)
    chain = Protein(
        "a</script>b", SEQUENCE[:20], sequence_profile(SEQUENCE[:20]), np.full((20, 3, 3), np.nan), np.zeros(20, bool)
    )
    return ChainPrediction(chain, MODEL, distance, probabilities, np.arange(0.0, 41.0, 2, dtype=np.float32))


@pytest.fixture
def known() -> Protein:
    coords = np.full((20, 3, 3), np.nan, dtype=np.float32)
    coords[:, 1] = np.arange(20)[:, None] * [1.5, 0, 0]
    coords[4, 1] = np.nan
    return Protein("a</script>b", SEQUENCE[:20], sequence_profile(SEQUENCE[:20]), coords, np.isfinite(coords[:, 1, 0]))


def held(page: str) -> dict:
    found = re.search(r'<script id="data" type="application/json">(.*?)</script>', page, re.DOTALL)
    return json.loads(found[1])


def test_the_page_holds_the_prediction_and_the_truth(straight: ChainPrediction, known: Protein) -> None:
    page = map_page(replace(straight, chain=known))
    data = held(page)  # the name does not end the script
    assert (data["id"], data["sequence"]) == (straight.id, SEQUENCE[:20])
    first, second = np.triu_indices(20, 1)
    predicted, true = (np.frombuffer(base64.b64decode(data[key]), "<u2") / 100 for key in ("predicted", "true"))
    np.testing.assert_allclose(predicted, straight.distance[first, second], atol=0.006)
    np.testing.assert_allclose(true, np.where((first == 4) | (second == 4), 0, 1.5 * (second - first)), atol=0.006)
    chances = np.frombuffer(base64.b64decode(data["probabilities"]), np.uint8).reshape(-1, 20)
    assert (chances.argmax(axis=1) == second - first).all()
    assert data["worst"][0] == [0, 19]  # 39 against 28.5 A
    assert len(data["worst"]) == 20
    assert all(j - i >= 6 and 4 not in (i, j) for i, j in data["worst"])
    assert "Confidence (expected lDDT): not calibrated." in page
    assert "src=" not in page.partition("<script")[0]
    assert "https://" not in page.partition("<script>")[0]


def test_without_truth_and_distribution(straight: ChainPrediction) -> None:
    page = map_page(replace(straight, probabilities=None, edges=None))
    assert set(held(page)) == {"id", "sequence", "steps", "predicted"}
    assert 'id="true"' not in page
    assert 'id="distribution"' not in page
    assert "Confidence" not in page


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here")
@pytest.mark.parametrize("whole", [True, False])
def test_a_browser_draws_it(straight: ChainPrediction, known: Protein, tmp_path: Path, whole: bool) -> None:
    path = tmp_path / "page.html"
    shown = replace(straight, **({"chain": known} if whole else {"probabilities": None, "edges": None}))
    path.write_text(map_page(shown), encoding="utf-8")
    result = subprocess.run(
        [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=10000", "--dump-dom",
         f"--user-data-dir={tmp_path / 'browser'}", path.as_uri()],
        capture_output=True, text=True, check=True, timeout=200,
    )  # fmt: skip
    dom = result.stdout
    assert 'data-ready="yes"' in dom  # the script ran to its end
    assert "M1 and L11, |i - j| = 10: predicted 21.0 Å" in dom
    assert dom.count("<canvas") == (3 if whole else 1)
    if whole:
        assert "true 15.0 Å" in dom
        assert "0 % nearer than 8 Å" in dom
        assert dom.count("data-pair=") == 20
