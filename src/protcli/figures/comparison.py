"""Several models in one figure: curves, maps, errors. Uses the colour-blind-safe palette of Okabe and Ito."""

import io
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, ScalarFormatter
from PIL import Image

# Okabe and Ito 2008, without the yellow, which is hard to see on white
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
DASHES = ("-", "--", ":")
BASELINE: dict[str, Any] = {"color": "0.45", "linestyle": (0, (6, 2)), "linewidth": 1.2}
DPI, MAPS_DPI = 110, 85
MAX_LABELLED_CROSSINGS = 4  # curves; with more, the legend leaves the crossings out
MINOR_LABEL_SPAN = 15  # ratio; an axis that spans more is labelled only at 1, 2 and 5 times powers of ten
MAPS_ABREAST = 6  # beside the true map


@dataclass(frozen=True, eq=False)
class EpochCurve:
    """One model's MSE by epoch for each seed.

    Attributes:
        name: model name.
        train, valid: float [seeds, epochs] in A^2.
        crossing: epoch from which its order relative to the reference no longer changes; None marks nothing.
        colour_group: models in one group share a colour and differ in dashes; empty for a model on its own.
    """

    name: str
    train: np.ndarray
    valid: np.ndarray
    crossing: int | None = None
    colour_group: str = ""


@dataclass(frozen=True, eq=False)
class Line:
    """One model's error as a function of x.

    Attributes:
        name: name of the model or baseline.
        x, y: float [points].
        is_baseline: drawn grey and dashed.
        colour_group: as in `EpochCurve`.
    """

    name: str
    x: np.ndarray
    y: np.ndarray
    is_baseline: bool = False
    colour_group: str = ""


@dataclass(frozen=True, eq=False)
class ProteinMaps:
    """One protein's true map and every model's prediction.

    Attributes:
        title: title of the row.
        true: float [L, L] in A, NaN where a residue is unresolved.
        predicted: float [L, L] in A, in the order of the columns.
        rmse: of each predicted map, in A.
    """

    title: str
    true: np.ndarray
    predicted: tuple[np.ndarray, ...]
    rmse: tuple[float, ...]


@dataclass(frozen=True)
class Spread:
    """One model's mean with its interval and the value of each seed.

    Attributes:
        name: model name.
        value, low, high: mean and interval; with NaN ends no interval is drawn.
        seeds: value of each seed.
    """

    name: str
    value: float
    low: float
    high: float
    seeds: tuple[float, ...]


def crossing_epoch(first: np.ndarray, second: np.ndarray) -> int | None:
    """The epoch (from 1) from which two curves [epochs] keep their final order.

    None if they keep it throughout, end level, or cross only at the last epoch, where the order may not be final.
    Only the epochs that both curves have count.
    """
    common = min(len(first), len(second))
    order = np.sign(first[:common] - second[:common])
    other = np.flatnonzero(order != order[-1])
    epoch = int(other[-1]) + 2 if len(other) else None
    return None if order[-1] == 0 or epoch == common else epoch


def draw_epochs(
    path: Path, curves: Sequence[EpochCurve], *, title: str, sepmean_mse: float, reference: str | None
) -> None:
    """Write a PNG of MSE by epoch on a log scale: training on the left, validation on the right.

    Lines are means over seeds, bands span the lowest to the highest seed. `sepmean_mse` is the baseline's validation
    MSE in A^2; a ring marks where a curve crosses that of `reference`.
    """
    figure = Figure(figsize=(11, 4.8 + 0.2 * len(curves)), layout="constrained")
    figure.suptitle(title, fontsize=11)
    panels = figure.subplots(1, 2, sharey=True)
    styles = _styles([curve.colour_group or curve.name for curve in curves])
    for axes, kind in zip(panels, ("train", "valid"), strict=True):
        for curve, style in zip(curves, styles, strict=True):
            values = curve.train if kind == "train" else curve.valid
            epochs = np.arange(1, values.shape[1] + 1)
            axes.plot(epochs, values.mean(axis=0), marker=".", label=curve.name, **style)
            if len(values) > 1:
                axes.fill_between(
                    epochs, values.min(axis=0), values.max(axis=0), color=style["color"], alpha=0.15, lw=0
                )
            if kind == "valid" and curve.crossing is not None:
                height = values.mean(axis=0)[curve.crossing - 1]
                label = f"{curve.name} crosses {reference}, epoch {curve.crossing}"
                axes.plot(
                    [curve.crossing], [height], "o", markersize=11, fillstyle="none", color=style["color"],
                    label=label if len(curves) <= MAX_LABELLED_CROSSINGS else None,
                )  # fmt: skip
        axes.axhline(sepmean_mse, label=f"sepmean on validation, {sepmean_mse:.1f} Å²", **BASELINE)
        axes.set(xlabel="epoch", yscale="log", title="training" if kind == "train" else "validation")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.yaxis.set_major_formatter(ScalarFormatter())
        low, high = axes.get_ylim()
        if high < MINOR_LABEL_SPAN * low:
            axes.yaxis.set_minor_formatter(ScalarFormatter())
        else:
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_minor_formatter(NullFormatter())
        axes.grid(which="both", alpha=0.25)
    panels[0].set_ylabel("MSE over residue pairs (Å²)")
    _legend(figure, panels[1])
    _save(figure, path)


def draw_lines(path: Path, lines: Sequence[Line], *, title: str, xlabel: str, ylabel: str) -> None:
    """Write a PNG of errors in A, one line per model, with a y axis from zero."""
    figure = Figure(figsize=(8.5, 4.4 + 0.2 * len(lines)), layout="constrained")
    axes = figure.subplots()
    marker = "." if max(len(line.x) for line in lines) < 20 else ""
    styles = iter(_styles([line.colour_group or line.name for line in lines if not line.is_baseline]))
    for line in lines:
        axes.plot(line.x, line.y, marker=marker, label=line.name, **(BASELINE if line.is_baseline else next(styles)))
    axes.set(xlabel=xlabel, ylabel=ylabel, ylim=(0, None))
    axes.set_title(title, fontsize=11)
    axes.grid(alpha=0.25)
    _legend(figure, axes)
    _save(figure, path)


def draw_spreads(path: Path, spreads: Sequence[Spread], *, title: str, xlabel: str, sepmean: float) -> None:
    """Write a PNG with one row per model: mean and 95 % interval (a ring without one), seeds as small dots, sepmean as
    a line.

    The x axis covers means and seeds, plus up to half their range on either side if intervals reach there.
    """
    figure = Figure(figsize=(8.5, 1.5 + 0.38 * len(spreads)), layout="constrained")
    axes = figure.subplots()
    for row, spread in enumerate(spreads):
        axes.plot(spread.seeds, [row + 0.18] * len(spread.seeds), ".", color="0.6", markersize=6)
        if not np.isnan(spread.low):
            axes.plot([spread.low, spread.high], [row, row], color=COLOURS[0], linewidth=2)
        fill = "none" if np.isnan(spread.low) else "full"
        axes.plot([spread.value], [row], "o", color=COLOURS[0], markersize=6, fillstyle=fill)
    axes.axvline(sepmean, **BASELINE)
    # at the edge of the axes, so that it never overlaps a row
    axes.annotate("sepmean", (sepmean, 1), xycoords=("data", "axes fraction"), xytext=(3, -10), color="0.35",
                  textcoords="offset points", fontsize=8)  # fmt: skip
    axes.set_yticks(range(len(spreads)), [spread.name for spread in spreads])
    figures = [sepmean, *(value for spread in spreads for value in (spread.value, *spread.seeds))]
    low, high = min(figures), max(figures)
    margin = (high - low or 1) / 2
    lows, highs = ([getattr(spread, end) for spread in spreads] for end in ("low", "high"))
    left, right = max(low - margin, np.nanmin([low, *lows])), min(high + margin, np.nanmax([high, *highs]))
    left, right = left - margin / 10, right + margin / 10
    for row, spread in enumerate(spreads):
        for is_cut_off, edge, arrow in ((spread.low < left, left, "<"), (spread.high > right, right, ">")):
            if is_cut_off:
                axes.plot([edge], [row], arrow, color=COLOURS[0], markersize=8, clip_on=False)
    axes.set(xlabel=xlabel, xlim=(left, right), ylim=(len(spreads) - 0.5, -0.9))
    axes.set_title(title, fontsize=11)
    axes.grid(axis="x", alpha=0.25)
    _save(figure, path)


def draw_maps(path: Path, names: Sequence[str], proteins: Sequence[ProteinMaps], *, title: str) -> None:
    """Write a PNG with each protein's true map beside the maps predicted by every model.

    All maps share one colour scale in A, up to the largest true distance; grey is unresolved. With more than six
    models a protein takes several rows.
    """
    blocks = -(-len(names) // MAPS_ABREAST)
    wide = -(-len(names) // blocks)
    rows = len(proteins) * blocks
    # squares of 1.75 inches below two or three text lines; manual layout is much faster
    width, height = 1.0 + 1.75 * (wide + 1), 0.9 + 2.25 * rows
    figure = Figure(figsize=(width, height))
    figure.suptitle(title, fontsize=11, y=1 - 0.15 / height, va="top")
    grid = figure.add_gridspec(
        rows, wide + 2, width_ratios=[1] * (wide + 1) + [0.08], left=0.3 / width, right=1 - 0.65 / width,
        bottom=0.3 / height, top=1 - 0.95 / height, hspace=0.34, wspace=0.12,
    )  # fmt: skip
    farthest = max(float(np.nanmax(protein.true, initial=1.0)) for protein in proteins)
    distances = Normalize(0, farthest)
    for row, protein in enumerate(proteins):
        shown = [(f"true: {protein.title}", protein.true)]
        for name, predicted, rmse in zip(names, protein.predicted, protein.rmse, strict=True):
            shown.append(("\n".join(textwrap.wrap(name, 25)) + f"\nRMSE {rmse:.1f} Å", predicted))
        for index, (title_of_map, values) in enumerate(shown):
            block, column = (0, 0) if index == 0 else divmod(index - 1, wide)
            axes = figure.add_subplot(grid[row * blocks + block, column + (index > 0)])
            axes.imshow(values, cmap="viridis_r", norm=distances, interpolation="nearest")
            axes.set_facecolor("0.75")
            axes.set(xticks=[], yticks=[])
            axes.set_title(title_of_map, fontsize=7.5, pad=3)
    figure.colorbar(
        ScalarMappable(distances, "viridis_r"), cax=figure.add_subplot(grid[:blocks, -1]), label="distance (Å)"
    )
    _save(figure, path, MAPS_DPI)


def _styles(colour_groups: Sequence[str]) -> list[dict[str, Any]]:
    """One colour per group and one dash pattern per member; if a group has too many members, one colour per line."""
    if max(map(colour_groups.count, colour_groups), default=0) > len(DASHES):
        colour_groups = list(map(str, range(len(colour_groups))))
    styles, groups = [], list(dict.fromkeys(colour_groups))
    for index, group in enumerate(colour_groups):
        colour, member = groups.index(group), colour_groups[:index].count(group)
        dash = member + colour // len(COLOURS)  # other dashes once all colours are used
        styles.append({"color": COLOURS[colour % len(COLOURS)], "linestyle": DASHES[dash % len(DASHES)]})
    return styles


def _legend(figure: Figure, axes: Axes) -> None:
    """Put the legend below the figure, where it covers no lines."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=8, frameon=False)


def _save(figure: Figure, path: Path, dpi: int = DPI) -> None:
    """Save as a PNG of 256 colours, enough for these figures at a third of the size."""
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=dpi, format="png")
    with Image.open(buffer) as image:
        image.convert("RGB").quantize(256).save(path, format="png", optimize=True)
