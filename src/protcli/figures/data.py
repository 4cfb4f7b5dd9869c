"""A data set on one page: lengths, gaps, size, composition, profiles and a few true maps."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from protcli.proteins.residues import ALPHABET_SIZE, AMINO_ACIDS, UNKNOWN, encode
from protcli.proteins.store import Split
from protcli.proteins.structure_scores import radius_of_gyration

SAMPLED = 1000  # proteins sampled per split, evenly spread; lengths use all of them


@dataclass(frozen=True, eq=False)
class _Sample:
    """The data shown for one split, from n sampled proteins with S residues in total.

    Attributes:
        name: split name.
        lengths: int64 [all proteins], residues.
        missing: float [n], share of a protein's residues without C-alpha.
        resolved: int [n], residues with C-alpha.
        radii: float [n], radius of gyration of the C-alphas in Å.
        composition: float [21], share of each residue type, unknown last.
        profile: float32 [S, 21].
    """

    name: str
    lengths: np.ndarray
    missing: np.ndarray
    resolved: np.ndarray
    radii: np.ndarray
    composition: np.ndarray
    profile: np.ndarray


def draw_data(path: Path, splits: Sequence[Split], *, title: str, note: str) -> None:
    """Write a page of figures of the splits (one colour each, in this order) as a PNG.

    The two maps show chains of the first split on one scale in Å; grey is unresolved.

    Args:
        title: page title; it must say so if the proteins are synthetic.
        note: text at the foot of the page, after the note on sampling.
    """
    samples = [_sample(split) for split in splits]
    figure = Figure(figsize=(13, 11.5), layout="constrained")
    figure.suptitle(title, fontsize=13)
    grid = figure.subplots(3, 3)
    _histogram(grid[0, 0], [(s.name, s.lengths) for s in samples], "residues per chain", "Lengths")
    missing = [(s.name, 100 * s.missing) for s in samples]
    _histogram(grid[0, 1], missing, "residues without C-alpha (%)", "Missing residues", top=100)
    _radii(grid[0, 2], samples)
    _columns(grid[1, 0], [(s.name, 100 * s.composition) for s in samples], UNKNOWN, "share (%)", "Residues")
    means = [(s.name, s.profile.mean(axis=0)) for s in samples]
    _columns(grid[1, 1], means, "\ninfo", "mean", "Profile columns: mean")
    present = [(s.name, 100 * np.count_nonzero(s.profile, axis=0) / len(s.profile)) for s in samples]
    _columns(grid[1, 2], present, "\ninfo", "residues with nonzero value (%)", "Profile columns: share nonzero")
    information = [(s.name, s.profile[:, 20]) for s in samples]
    _histogram(grid[2, 0], information, "information content", "Profile information by residue", top=1)
    _maps(grid[2, 1:], splits[0])
    figure.supxlabel(f"At most {SAMPLED:,} proteins per split, evenly sampled; lengths use all. {note}", fontsize=9)
    figure.savefig(path, dpi=110, format="png")


def _sample(split: Split) -> _Sample:
    chosen = [split[int(i)] for i in np.linspace(0, len(split) - 1, min(len(split), SAMPLED)).round()]
    points = [protein.atom("ca") for protein in chosen]  # [L, 3] each
    resolved_points = [xyz[~np.isnan(xyz).any(axis=1)] for xyz in points]
    codes = np.concatenate([encode(protein.sequence) for protein in chosen])
    return _Sample(
        name=split.name,
        lengths=split.lengths,
        missing=np.array([1 - len(resolved) / len(xyz) for resolved, xyz in zip(resolved_points, points, strict=True)]),
        resolved=np.array([len(resolved) for resolved in resolved_points]),
        radii=np.array([radius_of_gyration(xyz) if len(xyz) else np.nan for xyz in resolved_points]),
        composition=np.bincount(codes, minlength=ALPHABET_SIZE) / len(codes),
        profile=np.concatenate([protein.profile for protein in chosen]),
    )


def _colour(position: int) -> str:
    return f"C{position % 10}"


def _histogram(
    axes: Axes, series: Sequence[tuple[str, np.ndarray]], label: str, title: str, top: float | None = None
) -> None:
    """Draw shares, not counts, so that splits of different sizes compare; no value is cut off."""
    highest = max(float(values.max()) for _, values in series)
    bins = np.linspace(0, max(top or 0, highest), 41)
    for position, (name, values) in enumerate(series):
        weights = np.full(len(values), 100 / len(values))
        axes.hist(
            values, bins.tolist(), weights=weights, histtype="step", linewidth=1.5, color=_colour(position), label=name
        )
    axes.set(xlabel=label, ylabel="share (%)", title=title)
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8)


def _radii(axes: Axes, samples: Sequence[_Sample]) -> None:
    for position, s in enumerate(samples):
        axes.plot(s.resolved, s.radii, ".", markersize=3, alpha=0.6, color=_colour(position), label=s.name)
    curve = np.linspace(10, max(10, *(s.resolved.max() for s in samples)), 200)
    axes.plot(curve, 2.2 * curve**0.38, color="0.2", linewidth=1, label="2.2 L$^{0.38}$ Å, globular chains")
    axes.set(xlabel="residues with C-alpha", ylabel="radius of gyration (Å)", title="Compactness")
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8)


def _maps(cells: Sequence[Axes], split: Split) -> None:
    """True maps of the chains at the median and 90th percentile of lengths up to 400, where residues are visible."""
    pool = np.flatnonzero(split.lengths <= 400) if (split.lengths <= 400).any() else np.arange(len(split))
    pool = pool[np.argsort(split.lengths[pool], kind="stable")]
    proteins = [split[int(pool[int(share * (len(pool) - 1))])] for share in (0.5, 0.9)]
    points = [protein.atom("ca") for protein in proteins]
    distances = [np.linalg.norm(xyz[:, None] - xyz[None], axis=-1) for xyz in points]  # [L, L] each
    farthest = max(float(np.nanmax(values, initial=1.0)) for values in distances)
    for axes, protein, values in zip(cells, proteins, distances, strict=True):
        image = axes.imshow(values, cmap="viridis_r", vmin=0, vmax=farthest, interpolation="nearest")
        axes.set_facecolor("0.75")
        axes.set(title=f"{protein.id}\n({split.name}), true C-alpha distances")
        axes.title.set_fontsize(9)
        axes.figure.colorbar(image, ax=axes, label="Å", shrink=0.85)


def _columns(axes: Axes, series: Sequence[tuple[str, np.ndarray]], last: str, label: str, title: str) -> None:
    """One value for each of the 21 columns; one marker per split, side by side."""
    for position, (name, values) in enumerate(series):
        shift = (position - (len(series) - 1) / 2) * min(0.8 / len(series), 0.2)
        axes.plot(np.arange(21) + shift, values, ".", color=_colour(position), label=name)
    axes.set_xticks(range(21), [*AMINO_ACIDS, last], fontsize=8)
    axes.set_ylim(bottom=0)
    axes.set(ylabel=label, title=title)
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8)
