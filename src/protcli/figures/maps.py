"""Figures of distance maps: true, predicted and their difference."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import nn

from protcli.proteins.batches import collate
from protcli.proteins.maps import distances, pair_mask
from protcli.proteins.metrics import PairErrors
from protcli.proteins.protein import Protein


@dataclass(frozen=True, eq=False)
class MapPair:
    """One protein's maps, cropped to its length.

    Attributes:
        title: title above the row.
        true: float [L, L] in Å, NaN where a residue is unresolved.
        predicted: float [L, L] in Å.
    """

    title: str
    true: np.ndarray
    predicted: np.ndarray

    @classmethod
    @torch.inference_mode()
    def of(cls, network: nn.Module, protein: Protein, *, atom: str, length: int, device: torch.device) -> "MapPair":
        """The maps of a protein's first `length` residues.

        The network is used as it is: if Fabric has set it up, it predicts at the precision of its run.
        """
        network.eval()
        batch = collate([protein], atom=atom, crop=length).to(device)
        shown = min(len(protein), length)
        true = distances(batch.coords).masked_fill(~pair_mask(batch.mask), torch.nan)[0, :shown, :shown]
        predicted = network(batch.residues).distance.float()
        errors = PairErrors.of(predicted, batch.coords, batch.mask)
        title = f"{protein.id}, {len(protein)} residues, RMSE {errors.rmse:.1f} Å"
        return cls(title, true.cpu().numpy(), predicted[0, :shown, :shown].cpu().numpy())


def draw_gallery(path: Path, maps: Sequence[MapPair], *, title: str) -> None:
    """Write a PNG with one row per protein: true map, predicted map, predicted minus true.

    All distances share one colour scale in Å, and so do all differences; grey is unresolved.
    """
    figure = Figure(figsize=(9.6, 0.7 + 2.9 * len(maps)))
    figure.suptitle(title)
    # manual layout: automatic layout draws the whole page several times
    grid = figure.add_gridspec(
        len(maps), 4, width_ratios=(1, 1, 1, 0.07), left=0.06, right=0.93, hspace=0.32, wspace=0.2,
        bottom=0.3 / (0.7 + 2.9 * len(maps)), top=1 - 0.95 / (0.7 + 2.9 * len(maps)),
    )  # fmt: skip
    farthest = max(float(np.nanmax(pair.true, initial=1.0)) for pair in maps)
    widest = max(float(np.nanmax(np.abs(pair.predicted - pair.true), initial=1.0)) for pair in maps)
    images = {}
    for row, pair in enumerate(maps):
        panels = (
            ("true", pair.true, "viridis_r", 0.0, farthest),
            ("predicted", pair.predicted, "viridis_r", 0.0, farthest),
            ("predicted minus true", pair.predicted - pair.true, "RdBu_r", -widest, widest),
        )
        for column, (name, values, colours, low, high) in enumerate(panels):
            axes = figure.add_subplot(grid[row, column])
            images[name] = axes.imshow(values, cmap=colours, vmin=low, vmax=high, interpolation="nearest")
            axes.set_facecolor("0.75")
            axes.set_title(name, fontsize=8, loc="left")
            axes.tick_params(labelsize=7)
        figure.add_subplot(grid[row, :3], frameon=False, xticks=[], yticks=[]).set_title(pair.title, fontsize=9, pad=16)
    bars = grid[:, 3].subgridspec(2, 1, hspace=0.15)
    for place, name, label in (
        (0, "predicted", "distance (Å)"),
        (1, "predicted minus true", "predicted minus true (Å)"),
    ):
        figure.colorbar(images[name], cax=figure.add_subplot(bars[place]), label=label)
    figure.savefig(path, dpi=100, format="png")


def draw_map(path: Path, distance: np.ndarray, *, title: str) -> None:
    """Write a PNG of one map [L, L] in Å, with residues numbered from 1."""
    figure = Figure(figsize=(6.4, 5.4), layout="constrained")
    axes = figure.add_subplot()
    end = len(distance) + 0.5
    image = axes.imshow(distance, cmap="viridis_r", vmin=0, interpolation="nearest", extent=(0.5, end, end, 0.5))
    axes.set_title(title, fontsize=9)
    axes.set(xlabel="residue", ylabel="residue")
    figure.colorbar(image, ax=axes, label="distance (Å)")
    figure.savefig(path, dpi=100, format="png")
