"""Tables of a suite's report and plan: how well its models draw maps, a study's own table, how many seeds it needs."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from protcli.experiments.comparing.comparison import Comparison
from protcli.experiments.configuration import Configuration
from protcli.experiments.pages import Table
from protcli.experiments.statistics.contrasts import improvement_over_sepmean
from protcli.experiments.statistics.estimates import Estimate, over_families, over_seeds
from protcli.experiments.suites.suite import Published, Suite
from protcli.proteins.upsampling_patterns import PERIODS
from protcli.tracking.keys import File, Metric

SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")
REPORTED_PERIOD = 8  # residues: the stride of the studies' last upsampling
MAPS = {
    "lddt": "lDDT",
    "precision_long_L5": "long P@L/5",
    "precision_long_L": "long P@L",
    "precision_medium_L5": "medium P@L/5",
}
BY_CLASS = {"lddt": MAPS["lddt"], "precision_long_L5": MAPS["precision_long_L5"]}
ERRORS = {"rmse": "RMSE (Å)", "mae": "MAE (Å)", "mae_8": "MAE@8 (Å)", "drmsd": "dRMSD (Å)"}
UNITS = {
    "mse": (1.0, "Å²"),
    "legacy_sse_pm2": (1e9, "10⁹ pm²: squared error summed over the full map, mean over proteins"),
}
LAST_EPOCHS = 5  # their mean validation MSE is tabulated, as in one of the studies
LOWEST = "epoch of lowest validation error"
NOTE = (
    "Every percentage is computed from the rows above it, from one source; it is a difference of means without an "
    "interval, so it claims nothing by itself."
)


def map_scores(comparison: Comparison) -> Table:
    """Standard scores of distance maps."""
    rows = [
        (
            model.name,
            *(_or_none(_mean(model, name)) for name in ERRORS),
            *(_or_none(_mean(model, name), 3) for name in MAPS),
        )
        for model in comparison.models
    ]
    sepmean = comparison.models[0].scores[0].sepmean
    baseline = [_or_none(sepmean[name]) for name in ERRORS] + [_or_none(sepmean[name], 3) for name in MAPS]
    return Table(
        "Scores of maps, mean over seeds",
        ("model", *ERRORS.values(), *MAPS.values()),
        (*rows, (f"{File.SEPMEAN} (baseline)", *baseline)),
        "RMSE and MAE are pooled over pairs, MAE@8 over pairs closer than 8 Å. lDDT, dRMSD and P@L/5 or P@L, the "
        "precision of the L/5 or L pairs predicted closest, or likeliest in contact where a distogram is predicted "
        "(|i-j| from 24: long, 12 to 23: medium; contact: below 8 Å), are means over proteins.",
    )


def class_table(models: Sequence[Configuration]) -> tuple[Table, ...]:
    """Scores by ProteinNet's class, with intervals; no table if the proteins have no classes."""
    first = models[0].scores[0]
    proteins, classes = first.proteins, first.classes
    if not classes:
        return ()
    families, rows = proteins["family"].to_numpy(), []
    for name, chosen in {"all": np.ones(len(proteins), dtype=bool), **classes}.items():
        for model in models:
            measured = [model.data.scores_of(run) for run in model.kept]
            improvement = improvement_over_sepmean(
                [each.errors.select(chosen) for each in measured],
                measured[0].sepmean_errors.select(chosen),
                families[chosen],
            )
            tables = [each.proteins for each in measured]
            scores = [_over_families([table[score] for table in tables], chosen, families) for score in BY_CLASS]
            rows.append((name, str(chosen.sum()), model.name, improvement.format(1), *scores))
        scores = [_over_families([proteins[f"sepmean_{score}"]], chosen, families) for score in BY_CLASS]
        rows.append((name, str(chosen.sum()), f"{File.SEPMEAN} (baseline)", "", *scores))
    table = Table(
        "By class, at each run's best epoch [95 % interval]",
        ("class", "proteins", "model", "MSE lower than sepmean's by (%)", *BY_CLASS.values()),
        tuple(rows),
        "The interval of the MSE is over families and seeds; those of lDDT and P@L/5 are over families alone, of the "
        "mean over the seeds. The epochs were chosen by the same proteins, which flatters the MSE.",
    )
    return (table,)


def _over_families(seeds: Sequence[pd.Series], chosen: np.ndarray, families: np.ndarray) -> str:
    values = np.mean([seed.to_numpy() for seed in seeds], axis=0)
    estimate = over_families(values[chosen], families[chosen])
    return "" if np.isnan(estimate.value) else estimate.format(3)


def pattern_tables(comparison: Comparison) -> tuple[Table, ...]:
    """Upsampling patterns in predicted maps, and in the true maps for comparison."""
    measured = comparison.models[0].scores[0]
    tables = []
    for kind, title in (
        ("checkerboard", "Checkerboard Aₛ (Å): pattern that repeats every s residues in the maps; 0 is none"),
        ("blockiness", "Blockiness Gₛ: steps between blocks of s residues in the maps; 1 is none"),
    ):
        # short maps have no figure for long periods
        periods = [s for s in PERIODS if not np.isnan(measured.truth[f"{kind}_{s}"])]
        names = [f"{kind}_{s}" for s in periods]
        rows = [
            (label, *(_or_none(source[name]) for name in names))
            for label, source in (
                ("true maps", measured.truth),
                (f"{File.SEPMEAN} (baseline)", measured.sepmean),
            )
        ]
        rows += [(model.name, *(_or_none(_mean(model, name)) for name in names)) for model in comparison.models]
        if periods:
            tables.append(Table(title, ("", *(_symbol(kind, s) for s in periods)), tuple(rows)))
    return tuple(tables)


def pattern_sentences(comparison: Comparison) -> list[str]:
    sentences = []
    for kind, least, most, unit in (
        ("checkerboard", "weakest", "strongest", " Å"),
        ("blockiness", "smoothest", "blockiest", ""),
    ):
        name = f"{kind}_{REPORTED_PERIOD}"
        values = {model.name: _mean(model, name) for model in comparison.models}
        values = {model: value for model, value in values.items() if not np.isnan(value)}
        if len(values) > 1:
            low, high = min(values, key=lambda model: values[model]), max(values, key=lambda model: values[model])
            truth = comparison.models[0].scores[0].truth[name]
            sentences.append(
                f"{kind.capitalize()} {_symbol(kind, REPORTED_PERIOD)}: {most} in the maps of {high} "
                f"({values[high]:.2f}{unit}), {least} in the maps of {low} ({values[low]:.2f}{unit}); in the true "
                f"maps it is {truth:.2f}{unit}."
            )
    return sentences


def _mean(model: Configuration, name: str) -> float:
    """A metric's mean over seeds; NaN if no protein has it."""
    return float(np.mean([scores.metrics[name] for scores in model.scores]))


def _symbol(kind: str, period: int) -> str:
    """`A₈` of a checkerboard, `G₃₂` of blockiness."""
    return ("A" if kind == "checkerboard" else "G") + str(period).translate(SUBSCRIPTS)


def _or_none(value: float, places: int = 2) -> str:
    return "" if np.isnan(value) else f"{value:.{places}f}"


def study_table(suite: Suite, models: Sequence[Configuration]) -> Table:
    """Validation error at some epochs, its lowest epoch, the mean of the last five, and improvements over a reference.

    Args:
        suite: gives the epochs, the reference and, if it repeats a study, the study's figures.
        models: one column each.
    """
    published = suite.published or Published(unit="mse", validation={})
    scale, unit = UNITS[published.unit]
    names = [model.name for model in models]
    histories = {model.name: _histories(model, published.unit, scale) for model in models}
    last = min(len(model.epochs[0]) for model in models)
    rows: list[tuple[str, ...]] = []
    improvements: list[tuple[str, ...]] = []

    def add(label: str, source: str, values: Mapping[str, Estimate]) -> None:
        if not values:
            return
        rows.append((label, source, *(values[name].format() if name in values else "" for name in names)))
        gains = [
            f"{percent_improvement(values[suite.reference].value, values[name].value):.2f}"
            if {name, suite.reference} <= values.keys()
            else ""
            for name in names
        ]
        improvements.append((f"improvement over {suite.reference} (%), {label}", source, *gains))

    own_epochs = {epoch for epoch in suite.at_epochs if epoch <= last} | {last}
    for epoch in sorted(own_epochs | set(published.validation)):
        label = f"epoch {epoch}" + (" (last)" if epoch == last else "")
        if epoch in own_epochs:
            add(label, "here", {name: over_seeds([seed[epoch] for seed in seeds]) for name, seeds in histories.items()})
        add(label, "study", _printed(published.validation.get(epoch, {}), scale))
    rows.append((LOWEST, "here", *(model.best_epochs for model in models)))
    if published.best_epoch:
        rows.append((LOWEST, "study", *(str(published.best_epoch.get(name, "")) for name in names)))
    tails = {name: [list(seed.values())[-LAST_EPOCHS:] for seed in seeds] for name, seeds in histories.items()}
    count = " or ".join(map(str, sorted({len(seeds[0]) for seeds in tails.values()})))
    means = {name: over_seeds([float(np.mean(tail)) for tail in seeds]) for name, seeds in tails.items()}
    add(f"mean of the last {count} epochs", "here", means)
    add(f"mean of the last {LAST_EPOCHS} epochs", "study", _printed(published.last_five, scale))
    if suite.published is None:  # no study, so no column of sources
        unlabelled = tuple((label, *figures) for label, _, *figures in (*rows, *improvements))
        return Table(f"Validation ({unit})", ("", *names), unlabelled, NOTE)
    note = (
        f"{NOTE} The study's figures are from one run each, on other data and other points: compare what they say "
        "about the models, not their level."
    )
    if unreached := [str(epoch) for epoch in sorted(published.validation) if epoch > last]:
        note += f" Training ended at epoch {last} here: only the study has epoch {' and '.join(unreached)}."
    return Table(f"The study's table: validation ({unit})", ("", "", *names), (*rows, *improvements), note)


def percent_improvement(reference: float, value: float) -> float:
    """By how many per cent a value is lower than the reference."""
    return 100 * (reference - value) / reference


def _printed(figures: Mapping[str, float], scale: float) -> dict[str, Estimate]:
    return {name: Estimate(value / scale, np.nan, np.nan) for name, value in figures.items()}


def _histories(model: Configuration, unit: str, scale: float) -> list[dict[int, float]]:
    """Validation error by epoch, of each seed."""
    histories = model.histories(f"{Metric.VALID}{unit}")
    return [{epoch: value / scale for epoch, value in history.items()} for history in histories]
