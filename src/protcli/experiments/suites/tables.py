"""Tables of a suite's report and plan: how well its models draw maps, and a study's own table."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import pandas as pd

from protcli.experiments.comparing.comparison import Comparison
from protcli.experiments.configuration import Configuration
from protcli.experiments.pages import Table
from protcli.experiments.statistics.contrasts import improvement_over_sepmean
from protcli.experiments.statistics.estimates import FEWEST_FAMILIES, over_families, over_seeds
from protcli.experiments.suites.suite import Published, Suite
from protcli.models.recipe import MEASURED_AT
from protcli.proteins.upsampling_patterns import PERIODS
from protcli.tracking.keys import File, Metric

SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")
REPORTED_PERIOD = 8  # residues: the stride of the studies' last upsampling
ERRORS = {"rmse": "RMSE (Å)", "mae": "MAE (Å)", "mae_8": "MAE@8 (Å)", "drmsd": "dRMSD (Å)"}
MAPS = {
    "lddt": "lDDT",
    "precision_long_L5": "long P@L/5",
    "precision_long_L": "long P@L",
    "precision_medium_L5": "medium P@L/5",
}
PLACES = dict.fromkeys(ERRORS, 2) | dict.fromkeys(MAPS, 3)
BY_CLASS = ("lddt", "precision_long_L5")
BASELINE = f"{File.SEPMEAN} (baseline)"
UNITS = {
    "mse": (1.0, "Å²"),
    "legacy_sse_pm2": (1e9, "10⁹ pm²: squared error summed over the full map, mean over proteins"),
}
LAST_EPOCHS = 5  # their mean validation MSE is tabulated, as in one of the studies
LOWEST = "epoch of lowest validation error"
TRACK = (
    "Means over the seeds that did not collapse, after those proteins and not at the best epoch, with intervals over "
    "seeds. The area is the mean lDDT over all proteins seen, by trapezoids from sepmean's lDDT at none. The order is "
    "one of means: the comparisons say what may be claimed."
)
NOTE = (
    "Every percentage is computed from the rows above it, from one source; it is a difference of means without an "
    "interval, so it claims nothing by itself."
)


def map_scores(comparison: Comparison) -> Table:
    """Standard scores of distance maps."""
    sources = {model.name: _means(model, PLACES) for model in comparison.models}
    sources[BASELINE] = comparison.models[0].scores[0].sepmean
    return Table(
        "Scores of maps, mean over seeds",
        ("model", *ERRORS.values(), *MAPS.values()),
        tuple((name, *_figures(source, PLACES)) for name, source in sources.items()),
        "RMSE and MAE are pooled over pairs, MAE@8 over pairs closer than 8 Å. lDDT, dRMSD and P@L/5 or P@L, the "
        "precision of the L/5 or L pairs predicted closest, or likeliest in contact where a distogram is predicted "
        "(|i-j| from 24: long, 12 to 23: medium; contact: below 8 Å), are means over proteins.",
    )


def upsampling_patterns(comparison: Comparison) -> Iterator[tuple[Table, str]]:
    """For each kind of pattern the figures of all models and of the true maps, and which model's is strongest.

    Short maps have no figure for long periods; the sentence, about the period of the studies, may be empty.
    """
    measured = comparison.models[0].scores[0]
    for kind, symbol, title, least, most, unit in (
        ("checkerboard", "A", "Checkerboard Aₛ (Å): pattern that repeats every s residues in the maps; 0 is none",
         "weakest", "strongest", " Å"),
        ("blockiness", "G", "Blockiness Gₛ: steps between blocks of s residues in the maps; 1 is none",
         "smoothest", "blockiest", ""),
    ):  # fmt: skip
        names = {f"{kind}_{s}": f"{symbol}{s}".translate(SUBSCRIPTS) for s in PERIODS}
        names = {name: heading for name, heading in names.items() if not np.isnan(measured.truth[name])}
        means = {model.name: _means(model, names) for model in comparison.models}
        sources = {"true maps": measured.truth, BASELINE: measured.sepmean, **means}
        rows = tuple((name, *_figures(source, dict.fromkeys(names, 2))) for name, source in sources.items())
        reported, sentence = f"{kind}_{REPORTED_PERIOD}", ""
        if reported in names and len(means) > 1:
            low, *_, high = sorted(means, key=lambda model: means[model][reported])
            sentence = (
                f"{kind.capitalize()} {names[reported]}: {most} in the maps of {high} "
                f"({means[high][reported]:.2f}{unit}), {least} in the maps of {low} "
                f"({means[low][reported]:.2f}{unit}); in the true maps it is {measured.truth[reported]:.2f}{unit}."
            )
        if names:
            yield Table(title, ("", *names.values()), rows), sentence


def _means(model: Configuration, names: Iterable[str]) -> dict[str, float]:
    """Metrics by name, means over seeds; NaN where no protein has one."""
    scores = model.scores
    return {name: float(np.mean([each.metrics[name] for each in scores])) for name in names}


def _figures(source: Mapping[str, float], places: Mapping[str, int]) -> list[str]:
    """Figures with so many decimals, nothing for NaN."""
    return ["" if np.isnan(source[name]) else f"{source[name]:.{count}f}" for name, count in places.items()]


def track_tables(comparison: Comparison, budget: int) -> tuple[tuple[Table, ...], str]:
    """Validation lDDT and MSE by the training proteins seen, and a sentence that ranks the models.

    They are ranked by the area under the curve of lDDT: its mean over the proteins seen, by trapezoids, from sepmean's
    lDDT at none of them. A model that is fitted in one pass has its figures all along.

    Args:
        comparison: of models that were trained on so many proteins.
        budget: how many.
    """
    seen = [budget * share // 100 for share in MEASURED_AT]
    start = comparison.models[0].scores[0].sepmean["lddt"]
    lddt, mse = ({model: _curves(model, score, seen) for model in comparison.models} for score in ("lddt", "mse"))
    areas = {}
    for model, curves in lddt.items():
        from_none = np.insert(curves, 0, start, axis=1)
        area = np.trapezoid(from_none, [0, *seen], axis=1) / budget
        areas[model] = over_seeds(area.tolist(), are_shares=True)
    ranked = sorted(areas, key=lambda model: -areas[model].value)
    tables = []
    for of, title, places in ((lddt, "lDDT", 3), (mse, "MSE (Å²)", 2)):
        rows = tuple(
            (
                *(model.name, str(len(model.kept)), areas[model].format(3)),
                *(over_seeds(seeds, are_shares=of is lddt).format(places) for seeds in of[model].T.tolist()),
            )
            for model in ranked
        )
        headings = ("model", "seeds", "area under lDDT", *(f"{point:,}" for point in seen))
        tables.append(Table(f"Validation {title} by training proteins seen [95 % interval]", headings, rows, TRACK))
    order = "; ".join(f"{rank} {model.name} {areas[model].format(3)}" for rank, model in enumerate(ranked, start=1))
    return tuple(tables), f"Ranked by the area under lDDT over {budget:,} training proteins: {order}."


def _curves(model: Configuration, score: str, seen: Sequence[int]) -> np.ndarray:
    """A validation score of each seed after so many training proteins: [seeds, points]."""
    if model.is_fitted:
        return np.array([[model.data.scores_of(run).metrics[score]] * len(seen) for run in model.kept])
    histories = [run.history(f"{Metric.BY_SAMPLES}{score}") for run in model.kept]
    return np.array([[history[point] for point in seen] for history in histories])


def class_table(models: Sequence[Configuration]) -> tuple[Table, ...]:
    """Scores by ProteinNet's class, with intervals; no table if the proteins have no classes."""
    first = models[0].scores[0]
    if not first.classes:
        return ()
    rows = []
    for name, members in {"all": np.ones(len(first.proteins), dtype=bool), **first.classes}.items():
        sepmean, families = first.sepmean_errors.select(members), first.families[members]
        for model in models:
            scores = [model.data.scores_of(run) for run in model.kept]
            errors = [each.errors.select(members) for each in scores]
            gain = improvement_over_sepmean(errors, sepmean, families).format(1)
            proteins = [each.proteins[members] for each in scores]
            rows.append((name, str(members.sum()), model.name, gain, *_by_family(proteins, "")))
        rows.append((name, str(members.sum()), BASELINE, "", *_by_family([first.proteins[members]], "sepmean_")))
    table = Table(
        "By class, at each run's best epoch [95 % interval]",
        ("class", "proteins", "model", "MSE lower than sepmean's by (%)", *(MAPS[score] for score in BY_CLASS)),
        tuple(rows),
        "The interval of the MSE is over families and seeds; those of lDDT and P@L/5 are over families alone, of the "
        f"mean over the seeds, and there are none below {FEWEST_FAMILIES} families. The epochs were chosen by the same "
        "proteins, which flatters the MSE.",
    )
    return (table,)


def _by_family(seeds: Sequence[pd.DataFrame], prefix: str) -> list[str]:
    """The scores of some proteins, means over the seeds, with intervals over families; nothing where none has one."""
    families = seeds[0]["family"].to_numpy()
    means = [over_families(np.mean([each[prefix + score] for each in seeds], axis=0), families) for score in BY_CLASS]
    return ["" if np.isnan(mean.value) else mean.format(3) for mean in means]


def study_table(suite: Suite, models: Sequence[Configuration]) -> Table:
    """Validation error at some epochs, its lowest epoch, the mean of the last five, and improvements over a reference.

    Args:
        suite: gives the epochs, the reference and, if it repeats a study, the study's figures.
        models: one column each.
    """
    published = suite.published or Published(unit="mse", validation={})
    scale, unit = UNITS[published.unit]
    names = [model.name for model in models]
    histories = {model.name: model.histories(f"{Metric.VALID}{published.unit}") for model in models}
    last = min(len(model.epochs[0]) for model in models)
    reached = {epoch for epoch in suite.at_epochs if epoch <= last} | {last}
    rows, improvements = [], []

    def add(label: str, source: str, errors: Mapping[str, Sequence[float]]) -> None:
        """Add the errors of some models' seeds, and the improvements that follow from them."""
        means = {name: over_seeds([error / scale for error in seeds]) for name, seeds in errors.items()}
        gains = {}
        if reference := means.get(suite.reference):
            gains = {name: 100 * (reference.value - mean.value) / reference.value for name, mean in means.items()}
        rows.append((label, source, *(means[name].format() if name in means else "" for name in names)))
        label = f"improvement over {suite.reference} (%), {label}"
        improvements.append((label, source, *(f"{gains[name]:.2f}" if name in gains else "" for name in names)))

    def one_run(errors: Mapping[str, float]) -> dict[str, list[float]]:
        return {name: [error] for name, error in errors.items()}

    for epoch in sorted(reached | set(published.validation)):
        label = f"epoch {epoch}" + (" (last)" if epoch == last else "")
        if epoch in reached:
            add(label, "here", {name: [seed[epoch] for seed in seeds] for name, seeds in histories.items()})
        add(label, "study", one_run(published.validation.get(epoch, {})))
    rows.append((LOWEST, "here", *(model.best_epochs for model in models)))
    rows.append((LOWEST, "study", *(str(published.best_epoch.get(name, "")) for name in names)))
    tails = {name: [list(seed.values())[-LAST_EPOCHS:] for seed in seeds] for name, seeds in histories.items()}
    count = " or ".join(map(str, sorted({len(seeds[0]) for seeds in tails.values()})))
    means = {name: [float(np.mean(tail)) for tail in seeds] for name, seeds in tails.items()}
    add(f"mean of the last {count} epochs", "here", means)
    add(f"mean of the last {LAST_EPOCHS} epochs", "study", one_run(published.last_five))
    rows = [row for row in (*rows, *improvements) if any(row[2:])]
    if suite.published is None:  # no column of sources
        return Table(f"Validation ({unit})", ("", *names), tuple((label, *row) for label, _, *row in rows), NOTE)
    note = (
        f"{NOTE} The study's figures are from one run each, on other data and other points: compare what they say "
        "about the models, not their level."
    )
    if unreached := [str(epoch) for epoch in sorted(published.validation) if epoch > last]:
        note += f" Training ended at epoch {last} here: only the study has epoch {' and '.join(unreached)}."
    return Table(f"The study's table: validation ({unit})", ("", "", *names), tuple(rows), note)
