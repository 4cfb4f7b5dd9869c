"""Expected and found values of groups of residues."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure


def draw_reliability(
    path: Path, *, title: str, expected: Sequence[float], found: Sequence[float], count: Sequence[int]
) -> None:
    """Write a PNG of the mean lDDT found against the one expected, a point for each group, beside the diagonal."""
    figure = Figure(figsize=(5.5, 5), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="0.4", linestyle="--", label="found as expected")
    axes.plot(expected, found, marker="o", color="tab:blue", label=f"groups of about {count[0]:,} residues")
    axes.set(xlabel="confidence: lDDT expected", ylabel="lDDT found", title=title, xlim=(0, 1), ylim=(0, 1))
    axes.set_aspect("equal")
    axes.grid(alpha=0.25)
    axes.legend(loc="upper left")
    figure.savefig(path, dpi=120, format="png")
