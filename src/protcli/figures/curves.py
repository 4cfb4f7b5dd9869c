"""Error by epoch."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, ScalarFormatter


def draw_loss_curve(
    path: Path, *, title: str, train_mse: Sequence[float], valid_mse: Sequence[float], sepmean_mse: float, best: int
) -> None:
    """Write a PNG of MSE (A^2, log scale) by epoch from 1, with sepmean as a line and the best epoch marked."""
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
