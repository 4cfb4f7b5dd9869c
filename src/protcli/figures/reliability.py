"""Expected and found values of groups of residues."""

from pathlib import Path

from matplotlib.figure import Figure

from protcli.proteins.confidence import Reliability


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
