"""Error by the number of training proteins."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, ScalarFormatter


class Interval(Protocol):
    """A figure with its interval."""

    @property
    def value(self) -> float: ...
    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...


def draw_learning_curve(path: Path, *, proteins: np.ndarray, ratios: Sequence[Interval]) -> None:
    """Write a PNG of MSE / sepmean, with intervals, by training proteins [N] on a logarithmic axis."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    values, low, high = (np.array([getattr(each, name) for each in ratios]) for name in ("value", "low", "high"))
    axes.errorbar(proteins, values, [values - low, high - values], marker="o", capsize=4, color="#0072B2")
    axes.axhline(1, color="0.45", linestyle="--")
    axes.annotate("sepmean", (proteins[0], 1), xytext=(0, 4), textcoords="offset points", color="0.35")
    axes.set(xscale="log", xlabel="training proteins", ylabel="MSE / sepmean's [95 %]")
    axes.set_xticks(proteins)
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(alpha=0.25)
    figure.savefig(path, dpi=110, format="png")
