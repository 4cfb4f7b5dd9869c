"""The loss curve: every epoch, the baseline and the best are on it."""

import pytest
from matplotlib.image import imread

from protcli.figures.curves import draw_loss_curve

pytestmark = pytest.mark.draws


@pytest.mark.filterwarnings("error")
def test_loss_curve(tmp_path, drawn):
    train, valid = [90.0, 60.0, 41.0, 38.0], [95.0, 70.0, 55.0, 58.0]
    path = tmp_path / "curve.png"
    draw_loss_curve(path, title="psp1 seed 0", train_mse=train, valid_mse=valid, sepmean_mse=94.06, best=3)
    image = imread(path)
    assert image.shape == (540, 840, 4)
    assert image.min() < 0.5 < image.max()

    axes = drawn[0].axes[0]
    training, validation, baseline, best = axes.get_lines()
    assert training.get_xydata().tolist() == [[1, 90], [2, 60], [3, 41], [4, 38]]
    assert validation.get_xydata().tolist() == [[1, 95], [2, 70], [3, 55], [4, 58]]
    assert set(baseline.get_ydata()) == {94.06}
    assert best.get_xydata().tolist() == [[3, 55]]
    assert axes.get_yscale() == "log"
    assert axes.get_title() == "psp1 seed 0"
    assert axes.get_xlabel() == "epoch"
    assert "Å²" in axes.get_ylabel()
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["training", "validation", "sepmean on validation, 94.1 Å²", "best epoch 3, 55.0 Å²"]


@pytest.mark.filterwarnings("error")
def test_one_epoch(tmp_path, drawn):
    path = tmp_path / "curve.png"
    draw_loss_curve(path, title="t", train_mse=[50.0], valid_mse=[60.0], sepmean_mse=94.0, best=1)
    assert imread(path).shape == (540, 840, 4)
    ticks = [tick for tick in drawn[0].axes[0].get_xticks() if 0.9 < tick < 1.1]
    assert all(tick == 1 for tick in ticks)
