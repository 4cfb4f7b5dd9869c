"""The interactive page: what it holds, and what a real browser makes of it."""

import base64
import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from protcli.experiments.predicting.writers import map_page
from protcli.models.zoo import find_model
from protcli.proteins.protein import Protein
from protcli.proteins.residues import sequence_profile
from protcli.training.predictor import ChainPrediction, SavedModel

SEQUENCE = "MKVLAAGIVALLAACSSGKT"
EDGES = np.arange(0.0, 41.0, 2, dtype=np.float32)
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture
def prediction() -> ChainPrediction:
    apart = np.abs(np.subtract.outer(np.arange(20), np.arange(20)))
    probabilities = np.zeros((20, 20, 20), dtype=np.float32)
    np.put_along_axis(probabilities, apart[..., None], 1, axis=-1)  # |i - j| = k is in bin k
    distance = np.where(apart, 2.0 * apart + 1.005, 0).astype(np.float32)
    chain = Protein(
        "a</script>b", SEQUENCE, sequence_profile(SEQUENCE), np.full((20, 3, 3), np.nan), np.zeros(20, bool)
    )
    model = SavedModel(find_model("sepmean"), (), "32", 256, "ca", name="models:/m/1", run_id="abc")
    return ChainPrediction(chain, model, distance, probabilities, EDGES)


@pytest.fixture
def known() -> Protein:
    coords = np.full((20, 3, 3), np.nan, dtype=np.float32)
    coords[:, 1] = np.arange(20)[:, None] * [1.5, 0, 0]
    coords[4, 1] = np.nan
    return Protein("a</script>b", SEQUENCE, sequence_profile(SEQUENCE), coords, np.isfinite(coords[:, 1, 0]))


def held(page: str) -> dict:
    found = re.search(r'<script id="data" type="application/json">(.*?)</script>', page, re.DOTALL)
    return json.loads(found[1])


def test_the_page_holds_the_prediction_and_the_truth(prediction: ChainPrediction, known: Protein) -> None:
    page = map_page(replace(prediction, chain=known))
    data = held(page)  # the name does not end the script
    assert (data["id"], data["sequence"]) == (prediction.id, SEQUENCE)
    first, second = np.triu_indices(20, 1)
    predicted, true = (np.frombuffer(base64.b64decode(data[key]), "<u2") / 100 for key in ("predicted", "true"))
    np.testing.assert_allclose(predicted, prediction.distance[first, second], atol=0.006)
    np.testing.assert_allclose(true, np.where((first == 4) | (second == 4), 0, 1.5 * (second - first)), atol=0.006)
    chances = np.frombuffer(base64.b64decode(data["probabilities"]), np.uint8).reshape(-1, 20)
    assert (chances.argmax(axis=1) == second - first).all()
    assert data["worst"][0] == [0, 19]  # 39 against 28.5 A
    assert len(data["worst"]) == 20
    assert all(j - i >= 6 and 4 not in (i, j) for i, j in data["worst"])
    assert "src=" not in page.partition("<script")[0]
    assert "https://" not in page.partition("<script>")[0]


def test_without_truth_and_distribution(prediction: ChainPrediction) -> None:
    page = map_page(replace(prediction, probabilities=None, edges=None))
    assert set(held(page)) == {"id", "sequence", "steps", "predicted"}
    assert 'id="true"' not in page
    assert 'id="distribution"' not in page


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here")
@pytest.mark.parametrize("whole", [True, False])
def test_a_browser_draws_it(prediction: ChainPrediction, known: Protein, tmp_path: Path, whole: bool) -> None:
    path = tmp_path / "page.html"
    shown = replace(prediction, **({"chain": known} if whole else {"probabilities": None, "edges": None}))
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
