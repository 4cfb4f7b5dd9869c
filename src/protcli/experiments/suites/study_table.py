"""A study's own table: its rows in its unit, filled from a suite's runs, each followed by the study's own figures."""

from collections.abc import Mapping, Sequence

import numpy as np

from protcli.experiments.configuration import Configuration
from protcli.experiments.pages import Table
from protcli.experiments.statistics.estimates import Estimate, over_seeds
from protcli.experiments.suites.suite import Published, Suite
from protcli.tracking.keys import Metric

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
