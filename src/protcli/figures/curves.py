"""One model in a figure: error by epoch, by training proteins, and what its confidence is worth."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter, ScalarFormatter

from protcli.proteins.confidence import Reliability


def draw_loss_curve(
    path: Path, *, title: str, train_mse: Sequence[float], valid_mse: Sequence[float], sepmean_mse: float, best: int
) -> None:
    """Write a PNG of MSE (Å², log scale) by epoch from 1, with sepmean as a line and the best epoch marked."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    epochs = range(1, len(train_mse) + 1)
    axes.plot(epochs, train_mse, marker=".", color="tab:blue", label="training")
    axes.plot(epochs, valid_mse, marker=".", color="tab:orange", label="validation")
    axes.axhline(sepmean_mse, color="0.4", linestyle="--", label=f"sepmean on validation, {sepmean_mse:.1f} Å²")
    best_label = f"best epoch {best}, {valid_mse[best - 1]:.1f} Å²"
    axes.plot([best], [valid_mse[best - 1]], "o", markersize=10, fillstyle="none", color="tab:red", label=best_label)
    axes.set(xlabel="epoch", ylabel="MSE over residue pairs (Å²)", title=title, yscale="log")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))  # no fractional ticks for a single epoch
    axes.yaxis.set_major_formatter(ScalarFormatter())
    axes.yaxis.set_minor_formatter(ScalarFormatter())
    axes.grid(which="both", alpha=0.25)
    axes.legend()
    figure.savefig(path, dpi=120, format="png")


def draw_reliability(path: Path, groups: Reliability, *, title: str) -> None:
    """Write a PNG of the mean lDDT found against the one expected, a point for each group, beside the diagonal."""
    figure = Figure(figsize=(5.5, 5), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="0.4", linestyle="--", label="found as expected")
    label = f"groups of about {groups.count[0]:,} residues"
    axes.plot(groups.expected, groups.found, marker="o", color="tab:blue", label=label)
    axes.set(xlabel="confidence: lDDT expected", ylabel="lDDT found", title=title, xlim=(0, 1), ylim=(0, 1))
    axes.set_aspect("equal")
    axes.grid(alpha=0.25)
    axes.legend(loc="upper left")
    figure.savefig(path, dpi=120, format="png")


def draw_learning_curve(path: Path, *, proteins: np.ndarray, ratios: np.ndarray) -> None:
    """Write a PNG of MSE / sepmean by training proteins [N] on a logarithmic axis; ratios [N, 3]: value, low, high."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    values, low, high = ratios.T
    axes.errorbar(proteins, values, [values - low, high - values], marker="o", capsize=4, color="#0072B2")
    axes.axhline(1, color="0.45", linestyle="--")
    axes.annotate("sepmean", (proteins[0], 1), xytext=(0, 4), textcoords="offset points", color="0.35")
    axes.set(xscale="log", xlabel="training proteins", ylabel="MSE / sepmean's [95 %]")
    axes.set_xticks(proteins)
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(alpha=0.25)
    figure.savefig(path, dpi=110, format="png")
