"""Figures of distance maps: true, predicted and their difference; of one model, and of several."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from torch import nn

from protcli.figures.curves import save
from protcli.proteins.batches import collate
from protcli.proteins.maps import distances, pair_mask
from protcli.proteins.metrics import PairErrors
from protcli.proteins.protein import Protein

MAPS_DPI = 85
MAPS_ABREAST = 6  # beside the true map


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


def show_map(
    axes: Axes, values: np.ndarray, highest: float, lowest: float = 0.0, colours: str = "viridis_r"
) -> AxesImage:
    """Draw values [L, L] in colours from the lowest to the highest; NaN, where something is unresolved, is grey."""
    axes.set_facecolor("0.75")
    return axes.imshow(values, cmap=colours, vmin=lowest, vmax=highest, interpolation="nearest")


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
    bars = grid[:, 3].subgridspec(2, 1, hspace=0.15)
    farthest = max(float(np.nanmax(pair.true, initial=1.0)) for pair in maps)
    widest = max(float(np.nanmax(np.abs(pair.predicted - pair.true), initial=1.0)) for pair in maps)
    for row, pair in enumerate(maps):
        panels = (
            ("true", pair.true), ("predicted", pair.predicted), ("predicted minus true", pair.predicted - pair.true),
        )  # fmt: skip
        for column, (name, values) in enumerate(panels):
            axes = figure.add_subplot(grid[row, column])
            if column < 2:
                image = show_map(axes, values, farthest)
            else:
                image = show_map(axes, values, widest, -widest, "RdBu_r")
            axes.set_title(name, fontsize=8, loc="left")
            axes.tick_params(labelsize=7)
            if row == 0 and column > 0:
                label = "distance (Å)" if column == 1 else f"{name} (Å)"
                figure.colorbar(image, cax=figure.add_subplot(bars[column - 1]), label=label)
        figure.add_subplot(grid[row, :3], frameon=False, xticks=[], yticks=[]).set_title(pair.title, fontsize=9, pad=16)
    figure.savefig(path, dpi=100, format="png")


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
    farthest = max(float(np.nanmax(pair.true, initial=1.0)) for pair in maps[0])
    for row, protein in enumerate(titles):
        shown = [(f"true: {protein}", maps[0][row].true)]
        for name, predicted, errors in zip(names, maps, rmse, strict=True):
            label = "\n".join(textwrap.wrap(name, 25)) + f"\nRMSE {errors[row]:.1f} Å"
            shown.append((label, predicted[row].predicted))
        for index, (title_of_map, values) in enumerate(shown):
            block, column = (0, 0) if index == 0 else divmod(index - 1, wide)
            axes = figure.add_subplot(grid[row * blocks + block, column + (index > 0)])
            image = show_map(axes, values, farthest)
            axes.set(xticks=[], yticks=[])
            axes.set_title(title_of_map, fontsize=7.5, pad=3)
    figure.colorbar(image, cax=figure.add_subplot(grid[:blocks, -1]), label="distance (Å)")
    save(figure, path, MAPS_DPI)


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
