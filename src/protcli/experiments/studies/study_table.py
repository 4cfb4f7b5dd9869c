"""A study's own table: its rows in its unit, filled from a suite's runs, each followed by the study's own figures."""

from collections.abc import Mapping, Sequence

import numpy as np

from protcli.experiments.comparing.trained_runs import LAST_EPOCHS, ModelRuns
from protcli.experiments.pages import Table, interval
from protcli.experiments.statistics.estimates import Estimate, over_seeds
from protcli.experiments.studies.suite import Published, Suite

NOTHING = Published(unit="mse", validation={})
UNITS = {
    "mse": (1.0, "Å²"),
    "legacy_sse_pm2": (1e9, "10⁹ pm²: squared error summed over the full map, mean over proteins"),
}
NOTE = (
    "Every percentage is computed from the rows above it, from one source; it is a difference of means without an "
    "interval, so it claims nothing by itself."
)


def study_table(suite: Suite, models: Sequence[ModelRuns]) -> Table:
    """Validation error at some epochs, its lowest epoch, the mean of the last five, and improvements over a reference.

    Args:
        suite: gives the epochs, the reference and, if it repeats a study, the study's figures.
        models: one column each.
    """
    published = suite.published or NOTHING
    scale, shown = UNITS[published.unit]
    here = {model.name: _at_epochs(model, published.unit, scale) for model in models}
    last = min(model.epochs for model in models)
    rows: list[tuple[str, ...]] = []
    improvements: list[tuple[str, ...]] = []

    def add(label: str, ours: Mapping[str, Estimate], printed: Mapping[str, float]) -> None:
        theirs = {name: Estimate(value / scale, np.nan, np.nan) for name, value in printed.items()}
        for source, values in (("here", ours), ("study", theirs)):
            if values:
                rows.append((label, source, *(interval(values[m.name]) if m.name in values else "" for m in models)))
                gain = f"improvement over {suite.reference} (%), {label}"
                improvements.append((gain, source, *_percent(values, suite.reference, models)))

    own_epochs = {epoch for epoch in suite.at_epochs if epoch <= last} | {last}
    for epoch in sorted(own_epochs | set(published.validation)):
        add(
            f"epoch {epoch}" + (" (last)" if epoch == last else ""),
            {name: values[epoch] for name, values in here.items()} if epoch in own_epochs else {},
            published.validation.get(epoch, {}),
        )
    rows.append(("epoch of lowest validation error", "here", *(model.best_epochs for model in models)))
    if published.best_epoch:
        printed = (str(published.best_epoch.get(model.name, "")) for model in models)
        rows.append(("epoch of lowest validation error", "study", *printed))
    last_count = " or ".join(map(str, sorted({len(model.runs[0].last_epochs) for model in models})))
    add(f"mean of the last {last_count} epochs", {m.name: _last_five(m, published.unit, scale) for m in models}, {})
    add(f"mean of the last {LAST_EPOCHS} epochs", {}, published.last_five)
    names = [model.name for model in models]
    if suite.published is None:  # no study, so no column of sources
        unlabelled = tuple((label, *figures) for label, _, *figures in (*rows, *improvements))
        return Table(f"Validation ({shown})", ("", *names), unlabelled, NOTE)
    note = (
        f"{NOTE} The study's figures are from one run each, on other data and other points: compare what they say "
        "about the models, not their level."
    )
    if unreached := [str(epoch) for epoch in sorted(published.validation) if epoch > last]:
        note += f" Training ended at epoch {last} here: only the study has epoch {' and '.join(unreached)}."
    return Table(f"The study's table: validation ({shown})", ("", "", *names), (*rows, *improvements), note)


def percent_improvement(reference: float, value: float) -> float:
    """By how many per cent a value is lower than the reference."""
    return 100 * (reference - value) / reference


def _percent(values: Mapping[str, Estimate], reference: str, models: Sequence[ModelRuns]) -> list[str]:
    base = values.get(reference)
    if base is None:
        return ["" for _ in models]
    return [
        f"{percent_improvement(base.value, values[model.name].value):.2f}" if model.name in values else ""
        for model in models
    ]


def _histories(model: ModelRuns, unit: str) -> list[dict[int, float]]:
    if unit == "mse":
        return [run.valid_mse for run in model.runs]
    return [run.run.history(f"valid/{unit}") for run in model.runs]


def _at_epochs(model: ModelRuns, unit: str, scale: float) -> dict[int, Estimate]:
    """Validation error at each epoch that all seeds have: mean over seeds."""
    histories = _histories(model, unit)
    return {
        epoch: over_seeds([history[epoch] / scale for history in histories])
        for epoch in histories[0]
        if all(epoch in history for history in histories)
    }


def _last_five(model: ModelRuns, unit: str, scale: float) -> Estimate:
    return over_seeds(
        [float(np.mean(list(history.values())[-LAST_EPOCHS:])) / scale for history in _histories(model, unit)]
    )
