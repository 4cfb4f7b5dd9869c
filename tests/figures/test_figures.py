"""What is drawn where, on which scale and in which colour, and the epoch at which two curves cross."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from matplotlib.image import imread

from protcli.figures.curves import COLOURS, crossing_epoch, draw_epochs, draw_lines, draw_loss_curve, draw_spreads
from protcli.figures.maps import MapPair, draw_gallery, draw_maps

pytestmark = [pytest.mark.draws, pytest.mark.filterwarnings("error")]


@pytest.fixture
def drawn(monkeypatch) -> list[Figure]:
    """Figures as they are saved."""
    figures: list[Figure] = []
    save = Figure.savefig

    def keep(self, *arguments, **options):
        figures.append(self)
        return save(self, *arguments, **options)

    monkeypatch.setattr(Figure, "savefig", keep)
    return figures


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


@pytest.mark.parametrize(("train", "valid", "best"), [([90, 60, 41, 38], [95, 70, 55, 58], 3), ([50], [60], 1)])
def test_loss_curve(tmp_path, drawn, train, valid, best):
    path = tmp_path / "curve.png"
    draw_loss_curve(path, title="psp1", train_mse=train, valid_mse=valid, sepmean_mse=94.06, best=best)
    assert imread(path).shape[:2] == (540, 840)
    axes = drawn[0].axes[0]
    *curves, baseline, ring = axes.get_lines()
    for line, values in zip(curves, (train, valid), strict=True):
        assert line.get_xydata().tolist() == [[epoch, value] for epoch, value in enumerate(values, start=1)]
    assert set(baseline.get_ydata()) == {94.06}
    assert ring.get_xydata().tolist() == [[best, valid[best - 1]]]
    assert (axes.get_title(), axes.get_xlabel(), axes.get_yscale()) == ("psp1", "epoch", "log")
    assert "Å²" in axes.get_ylabel()
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    said = f"best epoch {best}, {valid[best - 1]:.1f} Å²"
    assert labels == ["training", "validation", "sepmean on validation, 94.1 Å²", said]
    assert all(tick == 1 for tick in axes.get_xticks() if 0.9 < tick < 1.1)


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
    assert training.get_lines()[0].get_xydata().tolist() == [[1, 85], [2, 55], [3, 35]]  # the mean
    (band,) = training.collections  # of the one that has seeds
    heights = band.get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == (30, 90)
    first, ring, second, baseline = validation.get_lines()
    assert ring.get_xydata().tolist() == [[2, 60]]
    assert ring.get_label() == "a crosses b, epoch 2"
    assert first.get_color() != second.get_color()
    assert set(baseline.get_ydata()) == {55.0}


def test_a_colour_group_shares_a_colour_and_a_baseline_has_none(tmp_path, drawn):
    x = np.arange(3.0)

    def styles(groups: list[str | None]) -> list[tuple[str, str]]:
        names = list(map(str, range(len(groups))))
        draw_lines(tmp_path / "l.png", names, groups, x, [x] * len(names), title="t", xlabel="x", ylabel="y (Å)")
        return [(line.get_color(), line.get_linestyle()) for line in drawn[-1].axes[0].get_lines()]

    assert styles(["0", "a", None, "a", "b"]) == [
        (COLOURS[0], "-"), (COLOURS[1], "-"), ("0.45", "--"), (COLOURS[1], "--"), (COLOURS[2], "-"),
    ]  # fmt: skip
    assert len(set(styles(["a"] * 4))) == 4  # more than there are dashes
    assert len(set(styles(list("abcdefghijklmnopqrst")))) == 20


def test_spreads(tmp_path, drawn):
    def axes(*arguments):
        draw_spreads(tmp_path / "s.png", ["a", "b"], *arguments, title="t", xlabel="MSE", sepmean=6.0)
        return drawn[-1].axes[0]

    shown = axes(np.array([(5.0, 4.0, 6.0), (7.0, np.nan, np.nan)]), [[4.5, 5.5], []])
    assert [label.get_text() for label in shown.get_yticklabels()] == ["a", "b"]
    assert shown.get_lines()[1].get_xdata().tolist() == [4.0, 6.0]
    low, high = axes(np.array([(5.0, -400.0, 410.0), (8.0, 7.5, 8.5)]), [[4.0, 6.0], [7.5, 8.5]]).get_xlim()
    assert 0 < low < 4
    assert 8.5 < high < 12


@pytest.mark.parametrize("models", [1, 8])
def test_maps(tmp_path, drawn, models):
    true = np.array([[0, 10.0, np.nan], [10.0, 0, np.nan], [np.nan] * 3])
    names = [f"a model of a long name, number {index}" for index in range(models)]
    maps = [[MapPair("", true, np.full((3, 3), float(index)))] * 2 for index in range(models)]
    draw_maps(tmp_path / "m.png", names, ["1AKI", "1TUP"], maps, np.ones((models, 2)), title="t")
    panels = [axes for axes in drawn[0].axes if axes.get_images()]
    assert len(panels) == 2 * (models + 1)
    assert {axes.get_images()[0].get_clim() for axes in panels} == {(0, 10)}
    titles = [axes.get_title() for axes in panels]
    assert titles[:2] == ["true: 1AKI", "a model of a long name,\nnumber 0\nRMSE 1.0 Å"]


def test_gallery(tmp_path, drawn):
    nan = np.nan
    first = MapPair("1AKI, 2 residues", np.array([[0, 10.0], [10, 0]]), np.array([[0, 13.0], [13, 0]]))
    true, predicted = [[0, nan, 25], [nan, nan, nan], [25, nan, 0]], [[0, 90.0, 18], [90, 0, 5], [18, 5, 0]]
    second = MapPair("1TUP", np.array(true), np.array(predicted))
    draw_gallery(tmp_path / "maps.png", [first, second], title="best and worst")
    assert drawn[0].get_suptitle() == "best and worst"
    panels = [axes for axes in drawn[0].axes if axes.get_images()]
    assert [axes.get_title("left") for axes in panels] == ["true", "predicted", "predicted minus true"] * 2
    assert [axes.get_title() for axes in drawn[0].axes if axes.get_title()] == ["1AKI, 2 residues", "1TUP"]
    images = [axes.get_images()[0] for axes in panels]
    expected = [map for pair in (first, second) for map in (pair.true, pair.predicted, pair.predicted - pair.true)]
    for image, values in zip(images, expected, strict=True):  # an unresolved pair has no difference
        np.testing.assert_array_equal(np.ma.filled(image.get_array(), nan), values)
    # one scale for all distances, up to the farthest true pair; another, symmetric, for all differences
    assert [image.get_clim() for image in images] == [(0, 25), (0, 25), (-7, 7)] * 2


def test_a_gallery_of_which_nothing_is_resolved(tmp_path, drawn):
    draw_gallery(tmp_path / "maps.png", [MapPair("lost", np.full((2, 2), np.nan), np.eye(2))], title="t")
    images = [axes.get_images()[0] for axes in drawn[0].axes if axes.get_images()]
    assert images[0].get_clim() == (0, 1)
