"""Distance maps: predicted beside true, with their difference."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class MapPair:
    """One protein's maps, cut to its own length.

    Attributes:
        title: what stands above the row.
        true: float [L, L] in A, NaN where a residue is unresolved.
        predicted: float [L, L] in A.
    """

    title: str
    true: np.ndarray
    predicted: np.ndarray


def draw_gallery(path: Path, maps: Sequence[MapPair], *, title: str) -> None:
    """Write a PNG with a row a protein: true map, predicted map, predicted minus true.

    All distances of the page share one colour scale in A, and so do all differences; grey is unresolved.
    """
    figure = Figure(figsize=(10, 0.8 + 3.1 * len(maps)), layout="constrained")
    figure.suptitle(title)
    grid = figure.subplots(len(maps), 3, squeeze=False)
    farthest = max(float(np.nanmax(pair.true, initial=1.0)) for pair in maps)
    widest = max(float(np.nanmax(np.abs(pair.predicted - pair.true), initial=1.0)) for pair in maps)
    for row, pair in zip(grid, maps, strict=True):
        difference = pair.predicted - pair.true
        panels = (
            ("true", pair.true, "viridis_r", 0.0, farthest),
            ("predicted", pair.predicted, "viridis_r", 0.0, farthest),
            ("predicted minus true", difference, "RdBu_r", -widest, widest),
        )
        for axes, (name, values, colours, low, high) in zip(row, panels, strict=True):
            image = axes.imshow(values, cmap=colours, vmin=low, vmax=high, interpolation="nearest")
            axes.set_facecolor("0.75")
            axes.set_title(f"{pair.title}\n{name}" if name == "true" else name, fontsize=9)
            axes.tick_params(labelsize=7)
            if name != "true":
                figure.colorbar(image, ax=axes, label="Å", shrink=0.85)
    figure.savefig(path, dpi=100, format="png")
