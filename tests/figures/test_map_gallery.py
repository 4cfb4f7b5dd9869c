"""The gallery: what is shown beside what, on which scale."""

import numpy as np
import pytest
from matplotlib.image import imread

from protcli.figures.maps import MapPair, draw_gallery

pytestmark = pytest.mark.draws


def pair(title: str, true: list[list[float]], predicted: list[list[float]]) -> MapPair:
    return MapPair(title, np.array(true), np.array(predicted))


@pytest.mark.filterwarnings("error")
def test_gallery(tmp_path, drawn):
    nan = np.nan
    first = pair("1AKI, 2 residues", [[0, 10], [10, 0]], [[0, 13], [13, 0]])
    second = pair("1TUP", [[0, nan, 25], [nan, nan, nan], [25, nan, 0]], [[0, 90, 18], [90, 0, 5], [18, 5, 0]])
    path = tmp_path / "maps.png"
    draw_gallery(path, [first, second], title="best and worst")
    assert imread(path).shape[2] == 4
    assert drawn[0].get_suptitle() == "best and worst"

    panels = [axes for axes in drawn[0].axes if axes.get_images()]
    assert len(panels) == 6
    assert [axes.get_title("left") for axes in panels] == ["true", "predicted", "predicted minus true"] * 2
    assert [axes.get_title() for axes in drawn[0].axes if axes.get_title()] == ["1AKI, 2 residues", "1TUP"]
    images = [axes.get_images()[0] for axes in panels]
    for row, shown in enumerate((first, second)):
        expected = (shown.true, shown.predicted, shown.predicted - shown.true)
        for image, values in zip(images[3 * row : 3 * row + 3], expected, strict=True):
            found = np.ma.masked_invalid(image.get_array())
            np.testing.assert_array_equal(found.filled(-1), np.ma.masked_invalid(values).filled(-1))
    # one scale for all distances, up to the farthest true pair; another, symmetric, for all differences
    assert {images[i].get_clim() for i in (0, 1, 3, 4)} == {(0, 25)}
    assert {images[i].get_clim() for i in (2, 5)} == {(-7, 7)}
    # an unresolved pair has no difference, whatever was predicted there
    assert np.ma.getmaskarray(np.ma.masked_invalid(images[5].get_array()))[0, 1]


@pytest.mark.filterwarnings("error")
def test_nothing_resolved(tmp_path, drawn):
    draw_gallery(tmp_path / "maps.png", [pair("lost", [[np.nan] * 2] * 2, [[0, 3], [3, 0]])], title="t")
    assert (tmp_path / "maps.png").stat().st_size > 1000
    images = [axes.get_images()[0] for axes in drawn[0].axes if axes.get_images()]
    assert images[0].get_clim() == (0, 1)
