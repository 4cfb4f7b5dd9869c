"""The figures of a comparison."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from protcli.errors import ProtcliError
from protcli.experiments.comparing.comparison import Comparison
from protcli.experiments.config import best_model, recorded_config
from protcli.experiments.configuration import Configuration
from protcli.experiments.pages import Picture
from protcli.figures.curves import draw_epochs, draw_lines, draw_spreads
from protcli.figures.maps import MAPS_ABREAST, MapPair, draw_maps
from protcli.models.external import as_user_error
from protcli.proteins.dataset import find_store, find_validation
from protcli.tracking.keys import File, Metric, Param
from protcli.tracking.run import Run
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
    draw = dict(zip(FIGURES, (_spreads, _epochs, _maps, _by_separation, _by_length), strict=True))
    drawn = [Picture(path := folder / f"{name}.png", draw[name](comparison, path)) for name in figures]
    return [picture for picture in drawn if picture.caption]


def _title(comparison: Comparison, what: str) -> str:
    seeds = sorted({len(model.runs) for model in comparison.models if not model.is_fitted})
    count = " to ".join(map(str, dict.fromkeys((seeds[0], seeds[-1])))) if seeds else "no"
    return f"{what}\n{comparison.data.short}, {count} seed{'' if seeds == [1] else 's'}"


def _spreads(comparison: Comparison, path: Path) -> str:
    models = comparison.models
    draw_spreads(
        path,
        [model.name for model in models],
        np.array([(model.mse.value, model.mse.low, model.mse.high) for model in models]),
        [[errors.mse for errors in model.all_errors] for model in models],
        title=_title(comparison, "Validation MSE, the epoch chosen on other families"),
        xlabel="MSE over residue pairs (Å²)",
        sepmean=comparison.sepmean.mse,
    )
    return (
        "Validation MSE: mean and 95 % interval over the seeds that did not collapse (blue; an arrow marks an interval "
        "that is cut off, a ring a figure without interval), each run (grey), sepmean (dashed)."
    )


def _epochs(comparison: Comparison, path: Path) -> str:
    """No caption, and no figure, if no model was trained."""
    models = [model for model in comparison.models if not model.is_fitted]
    if not models:
        return ""
    names = [model.name for model in models]
    reference = comparison.reference if comparison.reference in names else names[0] if len(names) == 2 else None
    crossings = draw_epochs(
        path,
        names,
        [model.colour_group or model.name for model in models],
        train=[_by_epoch(model, Metric.TRAIN_MSE) for model in models],
        valid=[_by_epoch(model, Metric.VALID_MSE) for model in models],
        title=_title(comparison, "MSE per epoch"),
        sepmean_mse=comparison.sepmean.mse,
        reference=reference,
    )
    caption = "MSE per epoch: mean over seeds; bands span the lowest to the highest seed."
    if reference is None:
        return caption
    if crossings:
        listed = ", ".join(f"{name} at {epoch}" for name, epoch in crossings.items())
        return f"{caption} Rings: the epoch from which a curve stays above or below {reference} ({listed})."
    return f"{caption} No curve crosses {reference} before the last epoch and stays on the other side."


def _by_epoch(model: Configuration, metric: str) -> np.ndarray:
    """[seeds, epochs], up to the last epoch that all seeds reached."""
    histories = model.histories(metric)
    epochs = min(map(len, histories))
    return np.array([list(history.values())[:epochs] for history in histories])


def _maps(comparison: Comparison, path: Path) -> str:
    proteins = typical_proteins(comparison)
    best = [model.best_run for model in comparison.models]
    scores = [comparison.data.scores_of(run) for run in best]
    table = scores[0].proteins
    draw_maps(
        path,
        [model.name for model in comparison.models],
        [f"{table['id'][index]}\n{table['length'][index]} residues" for index in proteins],
        [_predicted(run, proteins) for run in best],
        [each.errors.protein_mse[proteins] ** 0.5 for each in scores],
        title=_title(comparison, "True and predicted distance maps"),
    )
    return (
        f"True and predicted maps of {len(proteins)} validation proteins, ordered from easy to hard by the mean error "
        "of all models. Each model is shown by its seed with the lowest validation MSE."
    )


def typical_proteins(comparison: Comparison) -> list[int]:
    """Validation proteins from easy to hard by their MSE, mean over all models, so that no model picks its own."""
    means = np.mean([np.mean([e.protein_mse for e in model.errors], axis=0) for model in comparison.models], axis=0)
    order = np.argsort(means)[: int(np.isfinite(means).sum())]  # NaN, a protein without a pair, comes last
    shown = PROTEINS if len(comparison.models) <= MAPS_ABREAST else PROTEINS_OF_MANY
    places = np.linspace(0.1, 0.9, shown) * (len(order) - 1)
    return [int(order[place]) for place in dict.fromkeys(np.round(places).astype(int).tolist())]


def _predicted(run: Run, indices: Sequence[int]) -> list[MapPair]:
    """Maps of some validation proteins, predicted by a run's best weights."""
    config = recorded_config(run)
    proteins = find_validation(find_store(config.data.source), config.data.train_split, config.data.held_out)
    if proteins.digest != run.params[Param.VALID_DIGEST]:
        raise ProtcliError(f"{config.data.source} is no longer the data that run {run.id} was trained on")
    fabric = start_engine(find_device("auto"), config.run.precision)
    atom, length = config.data.atom, config.evaluated_length
    with as_user_error(config.spec):
        network = best_model(config, run).network(fabric)
        return [MapPair.of(network, proteins[i], atom=atom, length=length, device=fabric.device) for i in indices]


def _lines(
    comparison: Comparison, path: Path, x: np.ndarray, rmse: Sequence[np.ndarray], sepmean: np.ndarray, **labels: str
) -> None:
    """Draw a line for each model, and one for sepmean if it is none of them."""
    names = [model.name for model in comparison.models]
    groups = [None if model.is_fitted else model.colour_group or model.name for model in comparison.models]
    y = list(rmse)
    if not any(model.is_baseline for model in comparison.models):
        names, groups, y = [*names, File.SEPMEAN], [*groups, None], [*y, sepmean]
    draw_lines(path, names, groups, x, y, ylabel="RMSE over residue pairs (Å)", **labels)


def _by_separation(comparison: Comparison, path: Path) -> str:
    table = comparison.models[0].scores[0].separations
    _lines(
        comparison,
        path,
        table["separation"].to_numpy(),
        [np.mean([scores.separations["mse"] for scores in model.scores], axis=0) ** 0.5 for model in comparison.models],
        table["sepmean_mse"].to_numpy() ** 0.5,
        title=_title(comparison, "Error against separation along the chain"),
        xlabel="separation |i-j| (residues)",
    )
    return (
        "RMSE of the pairs at each separation |i-j|, pooled over proteins; MSE averaged over seeds. The largest "
        "separations have few pairs."
    )


def _by_length(comparison: Comparison, path: Path) -> str:
    length = comparison.models[0].scores[0].proteins["length"].to_numpy()
    bins, evaluated = length_bins(length), comparison.data.run.params[Param.EVALUATED_LENGTH]
    _lines(
        comparison,
        path,
        np.array([np.median(length[members]) for members in bins]),
        [
            np.array([np.mean([errors.select(members).mse for errors in model.errors]) ** 0.5 for members in bins])
            for model in comparison.models
        ],
        np.array([comparison.sepmean.select(members).rmse for members in bins]),
        title=_title(comparison, "Error against length"),
        xlabel=f"residues in the chain (median of the bin); the first {evaluated} are predicted",
    )
    size = " or ".join(map(str, sorted({len(members) for members in bins})))
    return f"RMSE pooled over the pairs of {size} proteins of similar length; MSE averaged over seeds."


def length_bins(lengths: np.ndarray) -> list[np.ndarray]:
    """Indices of proteins [N] in bins of similar length and nearly equal size."""
    count = int(np.clip(len(lengths) // FEWEST_IN_BIN, 1, MOST_BINS))
    return np.array_split(np.argsort(lengths, kind="stable"), count)
