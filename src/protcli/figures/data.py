"""A data set on one page: lengths, gaps, size, composition, profiles and a few true maps."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from protcli.figures.maps import show_map
from protcli.proteins.protein import Protein
from protcli.proteins.residues import ALPHABET_SIZE, AMINO_ACIDS, UNKNOWN, encode
from protcli.proteins.store import Split
from protcli.proteins.structure_scores import radius_of_gyration

SAMPLED = 1000  # proteins sampled per split, evenly spread; lengths use all of them


def draw_data(path: Path, splits: Sequence[Split], *, title: str, note: str) -> None:
    """Write a page of figures of the splits (one colour each, in this order) as a PNG.

    The two maps show chains of the first split on one scale in Å; grey is unresolved.

    Args:
        title: page title; it must say so if the proteins are synthetic.
        note: text at the foot of the page, after the note on sampling.
    """
    sampled = {split.name: _sample(split) for split in splits}
    resolved = {name: [_resolved(each) for each in proteins] for name, proteins in sampled.items()}
    missing = {
        name: np.array([100 * (1 - len(xyz) / len(each)) for each, xyz in zip(sampled[name], points, strict=True)])
        for name, points in resolved.items()
    }
    composition, profiles = {}, {}
    for name, proteins in sampled.items():
        codes = np.concatenate([encode(each.sequence) for each in proteins])
        composition[name] = 100 * (np.bincount(codes, minlength=ALPHABET_SIZE) / len(codes))
        profiles[name] = np.concatenate([each.profile for each in proteins])  # [S, 21]
    means = {name: values.mean(axis=0) for name, values in profiles.items()}
    present = {name: 100 * np.count_nonzero(values, axis=0) / len(values) for name, values in profiles.items()}
    information = {name: values[:, 20] for name, values in profiles.items()}
    figure = Figure(figsize=(13, 11.5), layout="constrained")
    figure.suptitle(title, fontsize=13)
    grid = figure.subplots(3, 3)
    _histogram(grid[0, 0], {split.name: split.lengths for split in splits}, "residues per chain", "Lengths")
    _histogram(grid[0, 1], missing, "residues without C-alpha (%)", "Missing residues", top=100)
    _radii(grid[0, 2], resolved)
    _columns(grid[1, 0], composition, UNKNOWN, "share (%)", "Residues")
    _columns(grid[1, 1], means, "\ninfo", "mean", "Profile columns: mean")
    _columns(grid[1, 2], present, "\ninfo", "residues with nonzero value (%)", "Profile columns: share nonzero")
    _histogram(grid[2, 0], information, "information content", "Profile information by residue", top=1)
    for axes in grid.flat[:7]:
        axes.grid(alpha=0.25)
        axes.legend(fontsize=8)
    _maps(grid[2, 1:], splits[0])
    figure.supxlabel(f"At most {SAMPLED:,} proteins per split, evenly sampled; lengths use all. {note}", fontsize=9)
    figure.savefig(path, dpi=110, format="png")


def _sample(split: Split) -> list[Protein]:
    return [split[int(i)] for i in np.linspace(0, len(split) - 1, min(len(split), SAMPLED)).round()]


def _resolved(protein: Protein) -> np.ndarray:
    """C-alphas in Å, [resolved residues, 3]."""
    points = protein.atom("ca")
    return points[~np.isnan(points).any(axis=1)]


def _histogram(axes: Axes, series: dict[str, np.ndarray], label: str, title: str, top: float = 0.0) -> None:
    """Draw shares, not counts, so that splits of different sizes compare; no value is cut off."""
    highest = max(float(values.max()) for values in series.values())
    bins = np.linspace(0, max(top, highest), 41).tolist()
    for name, values in series.items():
        weights = np.full(len(values), 100 / len(values))
        axes.hist(values, bins, weights=weights, histtype="step", linewidth=1.5, label=name)
    axes.set(xlabel=label, ylabel="share (%)", title=title)


def _radii(axes: Axes, resolved: dict[str, list[np.ndarray]]) -> None:
    longest = 10
    for name, chains in resolved.items():
        lengths = [len(xyz) for xyz in chains]
        radii = [radius_of_gyration(xyz) if len(xyz) else np.nan for xyz in chains]
        axes.plot(lengths, radii, ".", markersize=3, alpha=0.6, label=name)
        longest = max(longest, *lengths)
    curve = np.linspace(10, longest, 200)
    axes.plot(curve, 2.2 * curve**0.38, color="0.2", linewidth=1, label="2.2 L$^{0.38}$ Å, globular chains")
    axes.set(xlabel="residues with C-alpha", ylabel="radius of gyration (Å)", title="Compactness")


def _maps(cells: Sequence[Axes], split: Split) -> None:
    """True maps of the chains at the median and 90th percentile of lengths up to 400, where residues are visible."""
    pool = np.flatnonzero(split.lengths <= 400) if (split.lengths <= 400).any() else np.arange(len(split))
    pool = pool[np.argsort(split.lengths[pool], kind="stable")]
    proteins = [split[int(pool[int(share * (len(pool) - 1))])] for share in (0.5, 0.9)]
    points = [protein.atom("ca") for protein in proteins]
    distances = [np.linalg.norm(xyz[:, None] - xyz[None], axis=-1) for xyz in points]  # [L, L] each
    farthest = max(float(np.nanmax(values, initial=1.0)) for values in distances)
    for axes, protein, values in zip(cells, proteins, distances, strict=True):
        image = show_map(axes, values, farthest)
        axes.set(title=f"{protein.id}\n({split.name}), true C-alpha distances")
        axes.title.set_fontsize(9)
        axes.figure.colorbar(image, ax=axes, label="Å", shrink=0.85)


def _columns(axes: Axes, series: dict[str, np.ndarray], last: str, label: str, title: str) -> None:
    """One value for each of the 21 columns; one marker per split, side by side."""
    for position, (name, values) in enumerate(series.items()):
        shift = (position - (len(series) - 1) / 2) * min(0.8 / len(series), 0.2)
        axes.plot(np.arange(21) + shift, values, ".", label=name)
    axes.set_xticks(range(21), [*AMINO_ACIDS, last], fontsize=8)
    axes.set_ylim(bottom=0)
    axes.set(ylabel=label, title=title)
