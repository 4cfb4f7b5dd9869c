"""The figures of a comparison."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from protcli.errors import ProtcliError
from protcli.experiments.comparing.comparison import Comparison
from protcli.experiments.comparing.trained_runs import ModelRuns, TrainedRun
from protcli.experiments.config import best_model, recorded_config
from protcli.experiments.pages import Picture
from protcli.figures.comparison import (
    MAPS_ABREAST,
    EpochCurve,
    Line,
    ProteinMaps,
    Spread,
    crossing_epoch,
    draw_epochs,
    draw_lines,
    draw_maps,
    draw_spreads,
)
from protcli.figures.maps import MapPair
from protcli.models.external import as_user_error
from protcli.proteins.dataset import find_store, find_validation
from protcli.tracking.keys import File, Param
from protcli.training.engine import find_device, start_engine

FIGURES = ("mse", "epochs", "maps", "separation", "length")  # names, in the order of a report
PROTEINS, PROTEINS_OF_MANY = 4, 3  # shown in the map figure; fewer if there are more models than fit in a row
FEWEST_IN_BIN = 8  # proteins per bin, in the figure of error against length
MOST_BINS = 10


def draw_comparison(comparison: Comparison, folder: Path, figures: Sequence[str] = FIGURES) -> list[Picture]:
    """Draw a comparison into a folder, which is created; a figure is left out if no model has its data.

    Args:
        comparison: the comparison.
        folder: each figure is written there as `NAME.png`.
        figures: names, in the order of the pictures.

    Raises:
        ProtcliError: a run's weights, or the proteins it was measured on, no longer exist.
    """
    folder.mkdir(parents=True, exist_ok=True)
    draw = {
        "mse": _spreads,
        "epochs": _epochs,
        "maps": _maps,
        "separation": _by_separation,
        "length": _by_length,
    }
    pictures = (draw[name](comparison, folder / f"{name}.png") for name in figures)
    return [picture for picture in pictures if picture]


def _title(comparison: Comparison, what: str) -> str:
    seeds = sorted({len(model.runs) for model in comparison.models if not model.is_fitted})
    seed_count = " to ".join(map(str, dict.fromkeys((seeds[0], seeds[-1])))) if seeds else "no"
    return f"{what}\n{comparison.data.short}, {seed_count} seed{'' if seeds == [1] else 's'}"


def _spreads(comparison: Comparison, path: Path) -> Picture:
    spreads = [
        Spread(
            model.name,
            model.mse.value,
            model.mse.low,
            model.mse.high,
            tuple(errors.mse for errors in model.all_errors),
        )
        for model in comparison.models
    ]
    draw_spreads(
        path,
        spreads,
        title=_title(comparison, "Validation MSE, the epoch chosen on other families"),
        xlabel="MSE over residue pairs (Å²)",
        sepmean=comparison.sepmean.mse,
    )
    return Picture(
        path,
        "Validation MSE: mean and 95 % interval over the seeds that did not collapse (blue; an arrow marks an interval "
        "that is cut off, a ring a figure without interval), each run (grey), sepmean (dashed).",
    )


def _epochs(comparison: Comparison, path: Path) -> Picture | None:
    trained = [model for model in comparison.models if not model.is_fitted]
    if not trained:
        return None
    reference = next((model for model in trained if model.name == comparison.reference), None)
    if reference is None and len(trained) == 2:
        reference = trained[0]
    curves = []
    for model in trained:
        train, valid = (_curves([getattr(run, name) for run in model.runs]) for name in ("train_mse", "valid_mse"))
        crossing = None
        if reference is not None and model is not reference:
            other = _curves([run.valid_mse for run in reference.runs])
            crossing = crossing_epoch(valid.mean(axis=0), other.mean(axis=0))
        curves.append(EpochCurve(model.name, train, valid, crossing, model.colour_group))
    draw_epochs(
        path,
        curves,
        title=_title(comparison, "MSE per epoch"),
        sepmean_mse=comparison.sepmean.mse,
        reference=reference.name if reference else None,
    )
    caption = "MSE per epoch: mean over seeds; bands span the lowest to the highest seed."
    if reference:
        crossings = [f"{curve.name} at {curve.crossing}" for curve in curves if curve.crossing]
        caption += (
            f" Rings: the epoch from which a curve stays above or below {reference.name} ({', '.join(crossings)})."
            if crossings
            else f" No curve crosses {reference.name} before the last epoch and stays on the other side."
        )
    return Picture(path, caption)


def _curves(histories: Sequence[dict[int, float]]) -> np.ndarray:
    """[seeds, epochs], up to the last epoch that all seeds reached."""
    epochs = min(map(len, histories))
    return np.array([list(history.values())[:epochs] for history in histories])


def _maps(comparison: Comparison, path: Path) -> Picture:
    chosen = typical_proteins(comparison)
    table = comparison.models[0].runs[0].measurement.proteins
    predictions = [_predicted(model.best_run, chosen) for model in comparison.models]
    rmse = [model.best_run.measurement.errors.protein_mse**0.5 for model in comparison.models]
    proteins = [
        ProteinMaps(
            f"{table['id'][index]}\n{table['length'][index]} residues",
            predictions[0][row].true,
            tuple(maps[row].predicted for maps in predictions),
            tuple(float(by_protein[index]) for by_protein in rmse),
        )
        for row, index in enumerate(chosen)
    ]
    draw_maps(
        path,
        [model.name for model in comparison.models],
        proteins,
        title=_title(comparison, "True and predicted distance maps"),
    )
    return Picture(
        path,
        f"True and predicted maps of {len(chosen)} validation proteins, ordered from easy to hard by the mean error of "
        "all models. Each model is shown by its seed with the lowest validation MSE.",
    )


def typical_proteins(comparison: Comparison) -> list[int]:
    """Validation proteins from easy to hard by their MSE, mean over all models, so that no model picks its own."""
    means = np.mean([np.mean([e.protein_mse for e in model.errors], axis=0) for model in comparison.models], axis=0)
    order = np.argsort(means)[: int(np.isfinite(means).sum())]  # NaN, a protein without a pair, comes last
    shown = PROTEINS if len(comparison.models) <= MAPS_ABREAST else PROTEINS_OF_MANY
    places = np.linspace(0.1, 0.9, shown) * (len(order) - 1)
    return [int(order[place]) for place in dict.fromkeys(np.round(places).astype(int).tolist())]


def _predicted(trained: TrainedRun, chosen: Sequence[int]) -> list[MapPair]:
    """Maps of some validation proteins, predicted by a run's best weights."""
    config = recorded_config(trained.run)
    proteins = find_validation(find_store(config.data.source), config.data.train_split, config.data.held_out)
    if proteins.digest != trained.run.params[Param.VALID_DIGEST]:
        raise ProtcliError(f"{config.data.source} is no longer the data that run {trained.run.id} was trained on")
    fabric = start_engine(find_device("auto"), config.run.precision)
    with as_user_error(config.spec):
        network = best_model(trained.run, config).network(fabric)
        return [
            MapPair.of(
                network, proteins[i], atom=config.data.atom, length=config.evaluated_length, device=fabric.device
            )
            for i in chosen
        ]


def _by_separation(comparison: Comparison, path: Path) -> Picture:
    def line(model: ModelRuns) -> Line:
        tables = [run.measurement.separations for run in model.runs]
        mse = np.mean([table["mse"] for table in tables], axis=0)
        return Line(model.name, tables[0]["separation"].to_numpy(), mse**0.5, model.is_fitted, model.colour_group)

    lines = [line(model) for model in comparison.models]
    if not any(model.is_baseline for model in comparison.models):
        table = comparison.models[0].runs[0].measurement.separations
        lines.append(Line(File.SEPMEAN, table["separation"].to_numpy(), table["sepmean_mse"].to_numpy() ** 0.5, True))
    draw_lines(
        path,
        lines,
        title=_title(comparison, "Error against separation along the chain"),
        xlabel="separation |i-j| (residues)",
        ylabel="RMSE over residue pairs (Å)",
    )
    return Picture(
        path,
        "RMSE of the pairs at each separation |i-j|, pooled over proteins; MSE averaged over seeds. The largest "
        "separations have few pairs.",
    )


def _by_length(comparison: Comparison, path: Path) -> Picture:
    table = comparison.models[0].runs[0].measurement.proteins
    bins = length_bins(table["length"].to_numpy())
    middle = np.array([np.median(table["length"].to_numpy()[members]) for members in bins])
    lines = [
        Line(
            model.name,
            middle,
            np.array([np.mean([e.select(members).mse for e in model.errors]) ** 0.5 for members in bins]),
            model.is_fitted,
            model.colour_group,
        )
        for model in comparison.models
    ]
    if not any(model.is_baseline for model in comparison.models):
        pooled = np.array([comparison.sepmean.select(members).rmse for members in bins])
        lines.append(Line(File.SEPMEAN, middle, pooled, True))
    draw_lines(
        path,
        lines,
        title=_title(comparison, "Error against length"),
        xlabel=f"residues in the chain (median of the bin); the first {comparison.data.evaluated_length} are predicted",
        ylabel="RMSE over residue pairs (Å)",
    )
    sizes = sorted({len(members) for members in bins})
    bin_size = " or ".join(map(str, sizes))
    return Picture(
        path, f"RMSE pooled over the pairs of {bin_size} proteins of similar length; MSE averaged over seeds."
    )


def length_bins(lengths: np.ndarray) -> list[np.ndarray]:
    """Indices of proteins [N] in bins of similar length and nearly equal size."""
    count = int(np.clip(len(lengths) // FEWEST_IN_BIN, 1, MOST_BINS))
    return np.array_split(np.argsort(lengths, kind="stable"), count)
