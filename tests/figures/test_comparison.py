"""Pictures of several models: what is drawn where, and the epoch at which two curves cross."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.image import imread

from protcli.figures.comparison import COLOURS, crossing_epoch, draw_epochs, draw_lines, draw_maps, draw_spreads
from protcli.figures.maps import MapPair

pytestmark = pytest.mark.draws


@pytest.mark.parametrize(
    ("first", "second", "epoch"),
    [
        ([9, 7, 5, 3], [8, 7.5, 6, 5], 2),
        ([9, 7, 5, 3], [8, 6, 4, 2], None),  # never
        ([9, 5, 9, 5, 4], [8, 6, 8, 6, 5], 4),  # to and fro: from when on they keep their order
        ([9, 8, 5, 4], [9, 7, 6, 5], 3),
        ([9, 8, 5], [9, 7, 6], None),  # at the end: whether it stays so is not known
        ([9, 5], [8, 5], None),  # level in the end
        ([9, 5, 3, 1], [8, 6, 4], 2),  # as far as both go
    ],
)
def test_crossing_epoch(first, second, epoch):
    assert crossing_epoch(np.array(first), np.array(second)) == epoch
    assert crossing_epoch(np.array(second), np.array(first)) == epoch


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=8))
def test_after_the_crossing_the_order_stays(pairs):
    first, second = np.array(pairs).T
    epoch = crossing_epoch(first, second)
    order = np.sign(first - second)
    if epoch is not None:
        assert (order[epoch - 1 :] == order[-1]).all()
        assert order[epoch - 2] != order[-1]
    else:
        assert order[-1] == 0 or (order == order[-1]).all() or order[-2] != order[-1]


@pytest.mark.filterwarnings("error")
def test_epochs(tmp_path, drawn):
    seeds = np.array([[90.0, 60.0, 40.0], [80.0, 50.0, 30.0]])
    crossings = draw_epochs(
        tmp_path / "e.png", ["a", "b"], ["a", "b"], train=[seeds, seeds[:1]],
        valid=[seeds + 5, np.array([[80.0, 65.0, 50.0]])], title="t", sepmean_mse=55.0, reference="b",
    )  # fmt: skip
    assert crossings == {"a": 2}
    assert imread(tmp_path / "e.png").ndim == 3
    training, validation = drawn[0].axes
    assert [axes.get_title() for axes in (training, validation)] == ["training", "validation"]
    mean = training.get_lines()[0]
    assert mean.get_xydata().tolist() == [[1, 85], [2, 55], [3, 35]]
    assert len(training.collections) == 1  # a band for the one that has seeds
    band = training.collections[0].get_paths()[0].vertices
    assert (band[:, 1].min(), band[:, 1].max()) == (30, 90)
    first, ring, second, baseline = validation.get_lines()
    assert ring.get_xydata().tolist() == [[2, 60]]
    assert ring.get_label() == "a crosses b, epoch 2"
    assert first.get_color() != second.get_color()
    assert set(baseline.get_ydata()) == {55.0}


def test_a_colour_group_shares_a_colour(tmp_path, drawn):
    x = np.arange(3.0)

    def styles(groups: list[str]) -> list[tuple[str, str]]:
        names = list(map(str, range(len(groups))))
        draw_lines(tmp_path / "l.png", names, groups, x, [x] * len(names), title="t", xlabel="x", ylabel="y (Å)")
        return [(line.get_color(), line.get_linestyle()) for line in drawn[-1].axes[0].get_lines()]

    assert styles(["0", "a", "a", "b"]) == [
        (COLOURS[0], "-"), (COLOURS[1], "-"), (COLOURS[1], "--"), (COLOURS[2], "-"),
    ]  # fmt: skip
    assert len(set(styles(["a"] * 4))) == 4  # more than there are dashes
    assert len(set(styles(list("abcdefghijklmnopqrst")))) == 20


@pytest.mark.filterwarnings("error")
def test_lines_and_spreads(tmp_path, drawn):
    x = np.arange(3.0)
    names, groups = ["a", "sepmean", "b"], ["a", None, "b"]
    draw_lines(tmp_path / "l.png", names, groups, x, [x + 1, x + 2, x], title="t", xlabel="x", ylabel="y (Å)")
    colours = [line.get_color() for line in drawn[0].axes[0].get_lines()]
    assert [colours[0], colours[2]] == list(COLOURS[:2])
    path, names = tmp_path / "s.png", ["a", "one seed"]
    means = np.array([(5.0, 4.0, 6.0), (7.0, np.nan, np.nan)])
    draw_spreads(path, names, means, [[4.5, 5.5], []], title="t", xlabel="MSE", sepmean=6.0)
    axes = drawn[1].axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "one seed"]
    assert axes.get_lines()[1].get_xdata().tolist() == [4.0, 6.0]
    huge = np.array([(5.0, -400.0, 410.0), (8.0, 7.5, 8.5)])
    draw_spreads(path, names, huge, [[4.0, 6.0], [7.5, 8.5]], title="t", xlabel="MSE", sepmean=6.0)
    low, high = drawn[2].axes[0].get_xlim()
    assert 0 < low < 4
    assert 8.5 < high < 12


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("models", [1, 8])
def test_maps(tmp_path, drawn, models):
    true = np.array([[0, 10.0, np.nan], [10.0, 0, np.nan], [np.nan] * 3])
    names = [f"a model of a long name, number {index}" for index in range(models)]
    maps = [[MapPair("", true, np.full((3, 3), float(index)))] * 2 for index in range(models)]
    draw_maps(tmp_path / "m.png", names, ["1AKI", "1TUP"], maps, np.ones((models, 2)), title="t")
    images = [axes.get_images()[0] for axes in drawn[0].axes if axes.get_images()]
    assert len(images) == 2 * (models + 1)
    assert {image.get_clim() for image in images} == {(0, 10)}
    titles = [axes.get_title() for axes in drawn[0].axes if axes.get_images()]
    assert titles[0] == "true: 1AKI"
    assert titles[1] == "a model of a long name,\nnumber 0\nRMSE 1.0 Å"
