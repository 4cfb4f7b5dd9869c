"""Curves and intervals: of one training, of several models, of what a confidence is worth.

Uses the colour-blind-safe palette of Okabe and Ito.
"""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, ScalarFormatter
from PIL import Image

from protcli.proteins.confidence import Reliability

# Okabe and Ito 2008, without the yellow, which is hard to see on white
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
DASHES = ("-", "--", ":")
BASELINE: dict[str, Any] = {"color": "0.45", "linestyle": (0, (6, 2)), "linewidth": 1.2}
RING: dict[str, Any] = {"marker": "o", "linestyle": "none", "markersize": 11, "fillstyle": "none"}
DPI = 110
MAX_LABELLED_CROSSINGS = 4  # curves; with more, the legend leaves the crossings out
MINOR_LABEL_SPAN = 15  # ratio; an axis that spans more is labelled only at 1, 2 and 5 times powers of ten


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


def draw_loss_curve(
    path: Path, *, title: str, train_mse: Sequence[float], valid_mse: Sequence[float], sepmean_mse: float, best: int
) -> None:
    """Write a PNG of MSE (Å², log scale) by epoch from 1, with sepmean as a line and the best epoch marked."""
    with _panel(path, (7, 4.5), dpi=120, ylabel="MSE over residue pairs (Å²)", title=title) as axes:
        epochs, lowest = range(1, len(train_mse) + 1), valid_mse[best - 1]
        axes.plot(epochs, train_mse, marker=".", color=COLOURS[0], label="training")
        axes.plot(epochs, valid_mse, marker=".", color=COLOURS[1], label="validation")
        _complete_epochs(axes, sepmean_mse)
        axes.plot([best], [lowest], **RING, color=COLOURS[2], label=f"best epoch {best}, {lowest:.1f} Å²")
        axes.legend()


def draw_reliability(path: Path, groups: Reliability, *, title: str) -> None:
    """Write a PNG of the mean lDDT found against the one expected, a point for each group, beside the diagonal."""
    labels = {"xlabel": "confidence: lDDT expected", "ylabel": "lDDT found", "title": title}
    with _panel(path, (5.5, 5), dpi=120, xlim=(0, 1), ylim=(0, 1), **labels) as axes:
        axes.plot([0, 1], [0, 1], color="0.4", linestyle="--", label="found as expected")
        label = f"groups of about {groups.count[0]:,} residues"
        axes.plot(groups.expected, groups.found, marker="o", color=COLOURS[0], label=label)
        axes.set_aspect("equal")
        axes.legend(loc="upper left")


def draw_learning_curve(path: Path, *, proteins: np.ndarray, ratios: np.ndarray) -> None:
    """Write a PNG of MSE / sepmean by training proteins [N] on a logarithmic axis; ratios [N, 3]: value, low, high."""
    with _panel(path, (6, 4), xlabel="training proteins", ylabel="MSE / sepmean's [95 %]") as axes:
        values, low, high = ratios.T
        axes.errorbar(proteins, values, [values - low, high - values], marker="o", capsize=4, color=COLOURS[0])
        axes.axhline(1, **BASELINE)
        axes.annotate("sepmean", (proteins[0], 1), xytext=(0, 4), textcoords="offset points", color="0.35")
        axes.set_xscale("log")
        axes.set_xticks(proteins)
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.xaxis.set_minor_formatter(NullFormatter())


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
    means = {name: values.mean(axis=0) for name, values in zip(names, valid, strict=True)}
    crossings = {
        name: epoch
        for name, mean in means.items()
        if reference is not None and (epoch := crossing_epoch(mean, means[reference]))
    }
    figure = Figure(figsize=(11, 4.8 + 0.2 * len(names)), layout="constrained")
    figure.suptitle(title, fontsize=11)
    panels = figure.subplots(1, 2, sharey=True)
    for axes, kind, curves in zip(panels, ("training", "validation"), (train, valid), strict=True):
        axes.set_title(kind)
        for name, values, style in zip(names, curves, _styles(groups), strict=True):
            epochs, colour = np.arange(1, values.shape[1] + 1), style["color"]
            axes.plot(epochs, values.mean(axis=0), marker=".", label=name, **style)
            if len(values) > 1:
                axes.fill_between(epochs, values.min(axis=0), values.max(axis=0), color=colour, alpha=0.15, lw=0)
            if curves is valid and name in crossings:
                epoch = crossings[name]
                label = f"{name} crosses {reference}, epoch {epoch}" if len(names) <= MAX_LABELLED_CROSSINGS else None
                axes.plot([epoch], [means[name][epoch - 1]], **RING, color=colour, label=label)
        _complete_epochs(axes, sepmean_mse)
    panels[0].set_ylabel("MSE over residue pairs (Å²)")
    _legend_below(panels[1])
    save(figure, path)
    return crossings


def draw_lines(
    path: Path, names: Sequence[str], groups: Sequence[str | None], x: np.ndarray, y: Sequence[np.ndarray], *,
    title: str, xlabel: str, ylabel: str,
) -> None:  # fmt: skip
    """Write a PNG of errors in Å, one line per model, with a y axis from zero.

    `x` and each of `y` are float [points]; groups are as in `draw_epochs`, None for a baseline: grey and dashed.
    """
    with _panel(path, (8.5, 4.4 + 0.2 * len(names)), xlabel=xlabel, ylabel=ylabel) as axes:
        styles = iter(_styles([group for group in groups if group is not None]))
        for name, group, values in zip(names, groups, y, strict=True):
            style = BASELINE if group is None else next(styles)
            axes.plot(x, values, marker="." if len(x) < 20 else "", label=name, **style)
        axes.set_ylim(0, None)
        axes.set_title(title, fontsize=11)
        _legend_below(axes)


def draw_spreads(
    path: Path, names: Sequence[str], means: np.ndarray, seeds: Sequence[Sequence[float]], *,
    title: str, xlabel: str, sepmean: float,
) -> None:  # fmt: skip
    """Write a PNG with one row per model: mean and 95 % interval (a ring without one), seeds as small dots, sepmean as
    a line.

    `means` are value, low and high of each model, [models, 3]; with NaN ends no interval is drawn. The x axis covers
    means and seeds, plus up to half their range on either side if intervals reach there.
    """
    figures = [sepmean, *means[:, 0], *chain.from_iterable(seeds)]
    low, high = min(figures), max(figures)
    margin = (high - low or 1) / 2
    left = max(low - margin, np.nanmin([low, *means[:, 1]])) - margin / 10
    right = min(high + margin, np.nanmax([high, *means[:, 2]])) + margin / 10
    with _panel(path, (8.5, 1.5 + 0.38 * len(names)), xlabel=xlabel, xlim=(left, right)) as axes:
        for row, ((value, low, high), of_seeds) in enumerate(zip(means, seeds, strict=True)):
            axes.plot(of_seeds, [row + 0.18] * len(of_seeds), ".", color="0.6", markersize=6)
            axes.plot([low, high], [row, row], color=COLOURS[0], linewidth=2)
            fill = "none" if np.isnan(low) else "full"
            axes.plot([value], [row], "o", color=COLOURS[0], markersize=6, fillstyle=fill)
            for is_cut_off, edge, arrow in ((low < left, left, "<"), (high > right, right, ">")):
                if is_cut_off:
                    axes.plot([edge], [row], arrow, color=COLOURS[0], markersize=8, clip_on=False)
        axes.axvline(sepmean, **BASELINE)
        # at the edge of the axes, so that it never overlaps a row
        axes.annotate("sepmean", (sepmean, 1), xycoords=("data", "axes fraction"), xytext=(3, -10), color="0.35",
                      textcoords="offset points", fontsize=8)  # fmt: skip
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.5, -0.9)
        axes.set_title(title, fontsize=11)


def save(figure: Figure, path: Path, dpi: int = DPI) -> None:
    """Save as a PNG of 256 colours, enough for curves and maps at a third of the size."""
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=dpi, format="png")
    with Image.open(buffer) as image:
        image.convert("RGB").quantize(256).save(path, format="png", optimize=True)


@contextmanager
def _panel(path: Path, size: tuple[float, float], dpi: int = DPI, **labels: Any) -> Iterator[Axes]:
    """A figure of one panel with a grid, of a size in inches; it is saved when the block ends."""
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    axes.set(**labels)
    yield axes
    axes.grid(alpha=0.25)
    save(figure, path, dpi)


def _complete_epochs(axes: Axes, sepmean_mse: float) -> None:
    """Draw sepmean beside curves by epoch, and their axes: whole epochs, MSE on a log scale with plain numbers."""
    axes.axhline(sepmean_mse, label=f"sepmean on validation, {sepmean_mse:.1f} Å²", **BASELINE)
    axes.set(xlabel="epoch", yscale="log")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))  # no fractional ticks for a single epoch
    axes.yaxis.set_major_formatter(ScalarFormatter())
    axes.yaxis.set_minor_formatter(ScalarFormatter())
    low, high = axes.get_ylim()
    if high >= MINOR_LABEL_SPAN * low:
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(which="both", alpha=0.25)


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


def _legend_below(axes: Axes) -> None:
    """Put the legend below the figure, where it covers no lines."""
    handles, labels = axes.get_legend_handles_labels()
    axes.figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=8, frameon=False)
