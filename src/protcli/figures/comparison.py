"""Several models in one figure: curves, maps, errors. Uses the colour-blind-safe palette of Okabe and Ito."""

import io
import textwrap
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, ScalarFormatter
from PIL import Image

from protcli.figures.maps import MapPair

# Okabe and Ito 2008, without the yellow, which is hard to see on white
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
DASHES = ("-", "--", ":")
BASELINE: dict[str, Any] = {"color": "0.45", "linestyle": (0, (6, 2)), "linewidth": 1.2}
DPI, MAPS_DPI = 110, 85
MAX_LABELLED_CROSSINGS = 4  # curves; with more, the legend leaves the crossings out
MINOR_LABEL_SPAN = 15  # ratio; an axis that spans more is labelled only at 1, 2 and 5 times powers of ten
MAPS_ABREAST = 6  # beside the true map


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
    path: Path, names: Sequence[str], groups: Sequence[str], train: Sequence[np.ndarray],
    valid: Sequence[np.ndarray], *, title: str, sepmean_mse: float, reference: str | None,
) -> dict[str, int]:  # fmt: skip
    """Write a PNG of MSE by epoch on a log scale: training on the left, validation on the right.

    Lines are means over seeds, bands span the lowest to the highest seed. A ring marks where a model's curve crosses
    that of `reference`; see `crossing_epoch`.

    Args:
        path: of the PNG.
        names: of the models.
        groups: models with the same one share a colour and differ in dashes.
        train, valid: MSE of each model, float [seeds, epochs] in Å².
        title: of the figure.
        sepmean_mse: the baseline's validation MSE in Å².
        reference: one of the names; None marks nothing.

    Returns:
        the epoch of each ring, by name.
    """
    figure = Figure(figsize=(11, 4.8 + 0.2 * len(names)), layout="constrained")
    figure.suptitle(title, fontsize=11)
    panels = figure.subplots(1, 2, sharey=True)
    means = {name: values.mean(axis=0) for name, values in zip(names, valid, strict=True)}
    found = {name: crossing_epoch(mean, means[reference]) for name, mean in means.items() if reference is not None}
    crossings = {name: epoch for name, epoch in found.items() if epoch is not None}
    for axes, kind, curves in zip(panels, ("training", "validation"), (train, valid), strict=True):
        for name, values, style in zip(names, curves, _styles(groups), strict=True):
            epochs = np.arange(1, values.shape[1] + 1)
            axes.plot(epochs, values.mean(axis=0), marker=".", label=name, **style)
            if len(values) > 1:
                axes.fill_between(
                    epochs, values.min(axis=0), values.max(axis=0), color=style["color"], alpha=0.15, lw=0
                )
            if curves is valid and name in crossings:
                epoch = crossings[name]
                label = f"{name} crosses {reference}, epoch {epoch}" if len(names) <= MAX_LABELLED_CROSSINGS else None
                axes.plot(
                    [epoch], [means[name][epoch - 1]], "o", markersize=11, fillstyle="none", color=style["color"],
                    label=label,
                )  # fmt: skip
        axes.axhline(sepmean_mse, label=f"sepmean on validation, {sepmean_mse:.1f} Å²", **BASELINE)
        axes.set(xlabel="epoch", yscale="log", title=kind)
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
    return crossings


def draw_lines(
    path: Path, names: Sequence[str], groups: Sequence[str | None], x: np.ndarray, y: Sequence[np.ndarray], *,
    title: str, xlabel: str, ylabel: str,
) -> None:  # fmt: skip
    """Write a PNG of errors in Å, one line per model, with a y axis from zero.

    `x` and each of `y` are float [points]; groups are as in `draw_epochs`, None for a baseline: grey and dashed.
    """
    figure = Figure(figsize=(8.5, 4.4 + 0.2 * len(names)), layout="constrained")
    axes = figure.subplots()
    styles = iter(_styles([group for group in groups if group is not None]))
    for name, group, values in zip(names, groups, y, strict=True):
        style = BASELINE if group is None else next(styles)
        axes.plot(x, values, marker="." if len(x) < 20 else "", label=name, **style)
    axes.set(xlabel=xlabel, ylabel=ylabel, ylim=(0, None))
    axes.set_title(title, fontsize=11)
    axes.grid(alpha=0.25)
    _legend(figure, axes)
    _save(figure, path)


def draw_spreads(
    path: Path, names: Sequence[str], means: np.ndarray, seeds: Sequence[Sequence[float]], *,
    title: str, xlabel: str, sepmean: float,
) -> None:  # fmt: skip
    """Write a PNG with one row per model: mean and 95 % interval (a ring without one), seeds as small dots, sepmean as
    a line.

    `means` are value, low and high of each model, [models, 3]; with NaN ends no interval is drawn. The x axis covers
    means and seeds, plus up to half their range on either side if intervals reach there.
    """
    figure = Figure(figsize=(8.5, 1.5 + 0.38 * len(names)), layout="constrained")
    axes = figure.subplots()
    for row, ((value, low, high), of_seeds) in enumerate(zip(means, seeds, strict=True)):
        axes.plot(of_seeds, [row + 0.18] * len(of_seeds), ".", color="0.6", markersize=6)
        if not np.isnan(low):
            axes.plot([low, high], [row, row], color=COLOURS[0], linewidth=2)
        fill = "none" if np.isnan(low) else "full"
        axes.plot([value], [row], "o", color=COLOURS[0], markersize=6, fillstyle=fill)
    axes.axvline(sepmean, **BASELINE)
    # at the edge of the axes, so that it never overlaps a row
    axes.annotate("sepmean", (sepmean, 1), xycoords=("data", "axes fraction"), xytext=(3, -10), color="0.35",
                  textcoords="offset points", fontsize=8)  # fmt: skip
    axes.set_yticks(range(len(names)), names)
    figures = [sepmean, *means[:, 0], *chain.from_iterable(seeds)]
    low, high = min(figures), max(figures)
    margin = (high - low or 1) / 2
    left, right = max(low - margin, np.nanmin([low, *means[:, 1]])), min(high + margin, np.nanmax([high, *means[:, 2]]))
    left, right = left - margin / 10, right + margin / 10
    for row, (_, low, high) in enumerate(means):
        for is_cut_off, edge, arrow in ((low < left, left, "<"), (high > right, right, ">")):
            if is_cut_off:
                axes.plot([edge], [row], arrow, color=COLOURS[0], markersize=8, clip_on=False)
    axes.set(xlabel=xlabel, xlim=(left, right), ylim=(len(names) - 0.5, -0.9))
    axes.set_title(title, fontsize=11)
    axes.grid(axis="x", alpha=0.25)
    _save(figure, path)


def draw_maps(
    path: Path, names: Sequence[str], titles: Sequence[str], maps: Sequence[Sequence[MapPair]],
    rmse: Sequence[np.ndarray], *, title: str,
) -> None:  # fmt: skip
    """Write a PNG with each protein's true map beside the maps predicted by every model.

    All maps share one colour scale in Å, up to the largest true distance; grey is unresolved. With more than six
    models a protein takes several rows.

    Args:
        path: of the PNG.
        names: of the models.
        titles: of the proteins.
        maps: of each model for each protein; their own titles are not shown.
        rmse: of each model for each protein, in Å.
        title: of the figure.
    """
    blocks = -(-len(names) // MAPS_ABREAST)
    wide = -(-len(names) // blocks)
    rows = len(titles) * blocks
    # squares of 1.75 inches below two or three text lines; manual layout is much faster
    width, height = 1.0 + 1.75 * (wide + 1), 0.9 + 2.25 * rows
    figure = Figure(figsize=(width, height))
    figure.suptitle(title, fontsize=11, y=1 - 0.15 / height, va="top")
    grid = figure.add_gridspec(
        rows, wide + 2, width_ratios=[1] * (wide + 1) + [0.08], left=0.3 / width, right=1 - 0.65 / width,
        bottom=0.3 / height, top=1 - 0.95 / height, hspace=0.34, wspace=0.12,
    )  # fmt: skip
    distances = Normalize(0, max(float(np.nanmax(pair.true, initial=1.0)) for pair in maps[0]))
    for row, protein in enumerate(titles):
        shown = [(f"true: {protein}", maps[0][row].true)]
        for name, predicted, errors in zip(names, maps, rmse, strict=True):
            label = "\n".join(textwrap.wrap(name, 25)) + f"\nRMSE {errors[row]:.1f} Å"
            shown.append((label, predicted[row].predicted))
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
