"""Compare finished runs: which model is better, by how much, and whether that may be chance."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace
from functools import cached_property
from operator import attrgetter

import numpy as np
import pandas as pd

from protcli.errors import ProtcliError
from protcli.experiments.comparing.differences import (
    BASELINE,
    MEANING,
    Difference,
    adjusted,
    collapsed_table,
    compare_means,
    comparison_summary,
    difference_table,
    dominated,
    multiplicity_note,
)
from protcli.experiments.configuration import (
    Configuration,
    TrainingData,
    best_epoch_of,
    finished_runs,
    grouped,
    has_diverged,
    seed_of,
    why_not_finished,
)
from protcli.experiments.pages import Section, Table
from protcli.experiments.statistics.contrasts import probability_of_improvement
from protcli.experiments.statistics.estimates import Estimate
from protcli.proteins.metrics import PairErrors
from protcli.tracking.keys import File, Param
from protcli.tracking.run import Run, find_run, find_runs


@dataclass(frozen=True, eq=False)
class Comparison:
    """Models that were trained and measured on the same data.

    Attributes:
        configurations: in the order of the tables; those without figures, because all of their runs diverged, come
            last in these.
        reference: name of the model that the others are compared with; may be `sepmean`, which is always available.
    """

    configurations: tuple[Configuration, ...]
    reference: str

    @cached_property
    def models(self) -> tuple[Configuration, ...]:
        """Those that have figures."""
        return tuple(model for model in self.configurations if model.runs)

    @property
    def data(self) -> TrainingData:
        """The data they share."""
        return self.models[0].data

    @property
    def sepmean(self) -> PairErrors:
        """The baseline's errors on the same pairs."""
        return self.models[0].scores[0].sepmean_errors

    def find(self, name: str) -> Configuration:
        """The model with this name, or the baseline `sepmean` where it is none of the models."""
        baseline = Configuration(File.SEPMEAN, (), self.data)
        baseline.epochs = [[self.sepmean]]
        return next((model for model in self.models if model.name == name), baseline)

    def improvement(self, model: str, other: str) -> Difference:
        """The improvement of a model over another, or over `sepmean`; its p-value is not adjusted.

        Raises:
            ProtcliError: there are too few families for an interval.
        """
        first, second = pair = self.find(model), self.find(other)
        a12 = probability_of_improvement(*([errors.mse for errors in each.errors] for each in pair))
        return replace(compare_means(first.name, second.name, [pair]), a12=a12)

    @property
    def over_reference(self) -> list[Difference]:
        """Each trained model's improvement over the reference, p-values not adjusted; none if that is `sepmean`."""
        if self.reference == File.SEPMEAN:
            return []
        others = [model.name for model in self.models if model.name != self.reference and not model.is_fitted]
        return [self.improvement(name, self.reference) for name in others]

    @property
    def over_sepmean(self) -> list[Difference]:
        """Each model's improvement over the baseline, p-values not adjusted."""
        return [self.improvement(model.name, File.SEPMEAN) for model in self.models if not model.is_baseline]

    @cached_property
    def _adjusted(self) -> list[list[Difference]]:
        """Over the reference, and over sepmean if that is another, p-values adjusted."""
        groups = [self.over_reference, self.over_sepmean]
        return adjusted(groups[::-1] if self.reference == File.SEPMEAN else groups)

    @property
    def results(self) -> Table:
        """Each model's score, and sepmean's for comparison."""
        rows, sepmean = [], self.sepmean.mse
        for model in self.models:
            of_seeds = ("",) * 4
            if not model.is_fitted:
                median = f"{model.median:.2f}" if np.isfinite(model.median) else "diverged"
                of_seeds = median, model.failures, model.best_epochs, model.last_mse.format()
            seeds = "fitted" if model.is_fitted else str(model.seeds)
            rows.append((model.name, seeds, model.mse.format(), f"{model.mse.value / sepmean:.3f}", *of_seeds))
        for model in self.configurations:
            if not model.runs:
                rows.append((model.name, str(model.seeds), "diverged", "", "", model.failures, "", ""))
        if not any(model.is_baseline for model in self.models):
            rows.append((f"{File.SEPMEAN} (baseline)", "fitted", f"{sepmean:.2f}", "1.000", "", "", "", ""))
        return Table(
            "Validation MSE, mean over the seeds that did not collapse [95 % interval]; median over all seeds",
            ("model", "seeds", "MSE (Å²)", "MSE / sepmean", "median", "collapsed", "best epoch", "last epoch (Å²)"),
            tuple(rows),
        )

    @property
    def costs(self) -> Table:
        """The cost of each model."""
        rows = [
            (
                model.name,
                f"{int(model.params[Param.PARAMETERS]):,}",
                f"{float(model.params[Param.GMAC]):.3g}",
                f"{model.seconds:.{1 if model.seconds < 100 else 0}f}",
                "" if np.isnan(model.peak_memory) else f"{model.peak_memory:.2f}",
                model.params[Param.PRECISION],
                str(len(model.epochs[0])),
            )
            for model in self.models
        ]
        headings = ("model", "parameters", "GMAC", "s / epoch", "peak memory (GB)", "precision", "epochs")
        return Table("Cost, on these runs' machines and with whatever else was running there", headings, tuple(rows))

    @property
    def reservations(self) -> list[str]:
        """What besides the models may explain a difference, and what the differences leave out."""
        sentences = [
            f"{model.name}: {model.failures.replace(' (up', ' runs collapsed or diverged (a rate of up')}."
            for model in sorted(self.configurations, key=lambda each: not each.runs)
            if model.failed
        ]
        if improving := [model for model in self.models if model.is_improving]:
            epochs = " or ".join(map(str, sorted({len(model.epochs[0]) for model in improving})))
            names = " / ".join(model.name for model in improving)
            sentences.append(
                f"Still improving when training ended, at epoch {epochs}: {names}. Their figures hold for that many "
                "epochs, not for what the models can reach."
            )
        if len(commits := sorted(set().union(*(model.commits for model in self.models)))) > 1:
            sentences.append(
                f"The runs were made by several commits of protcli ({', '.join(commits)}): a difference may come from "
                "the commits."
            )
        return sentences

    @property
    def claims(self) -> tuple[str, ...]:
        """What may be claimed about the models, in sentences."""
        first, second = self._adjusted
        summary = [comparison_summary(second, BASELINE)] if second else []
        return (*(gain.sentence for gain in first), *summary, *self.caveats([*first, *second]))

    def caveats(self, differences: Sequence[Difference]) -> list[str]:
        """What limits the claims about all differences of a page: proteins that dominate an interval, reservations,
        the adjustment of the p-values."""
        chains = self.models[0].scores[0].proteins["id"].tolist()
        count = sum(each.adjusted_p is not None for each in differences)
        return [
            *dominated(differences, chains, self.data.families),
            *self.reservations,
            multiplicity_note(count),
        ]

    @property
    def section(self) -> Section:
        """The whole comparison as a section of a page."""
        gains = [gain for group in self._adjusted for gain in group]
        improvements = [difference_table("Comparisons", gains), *collapsed_table(gains)] if gains else []
        return Section(
            self.data.short,
            paragraphs=(self.data.sentence,),
            points=self.claims,
            tables=(self.results, *improvements, self.costs),
        )

    @property
    def frame(self) -> pd.DataFrame:
        """One row per model, with everything as numbers."""
        data, gains = self.data.run.params, {gain.model: gain for gain in self._adjusted[0]}
        rows = []
        for model in self.models:
            gain = gains.get(model.name)
            row = {
                "data": data[Param.DATA_NAME],
                "digest": self.data.digest,
                "synthetic": self.data.is_synthetic,
                "train_split": data[Param.TRAIN_SPLIT],
                "valid_split": data[Param.VALID_SPLIT],
                "atom": data[Param.ATOM],
                "evaluated_length": data[Param.EVALUATED_LENGTH],
                "model": model.name,
                "seeds": len(model.runs),
                **_columns("valid_mse", model.mse),
                "sepmean_mse": self.sepmean.mse,
                "mse_over_sepmean": model.mse.value / self.sepmean.mse,
                "median_mse": model.median,
                "collapsed": model.collapsed,
                "best_epochs": " ".join(str(best_epoch_of(run)) for run in model.runs),
                **_columns("last_epoch_mse", model.last_mse),
                "epochs": len(model.epochs[0]),
                "parameters": int(model.params[Param.PARAMETERS]),
                "gmac": float(model.params[Param.GMAC]),
                "seconds_per_epoch": model.seconds,
                "peak_memory_gb": model.peak_memory,
                "precision": model.params[Param.PRECISION],
                "reference": self.reference,
                **_columns("improvement", gain.improvement if gain else None),
                **_columns("improvement_percent", gain.percent if gain else None),
                "p": gain.contrast.p if gain else None,
                "p_holm": gain.adjusted_p if gain else None,
                "a12": gain.a12 if gain else None,
                "run_ids": " ".join(run.id for run in model.runs),
            }
            rows.append(row)
        return pd.DataFrame(rows)


def _columns(name: str, estimate: Estimate | None) -> dict[str, float | None]:
    names = (name, f"{name}_low", f"{name}_high")
    return dict.fromkeys(names) if estimate is None else dict(zip(names, astuple(estimate), strict=True))


def training_runs(run_ids: Sequence[str], experiment: str | None) -> tuple[list[Run], list[str]]:
    """The finished training runs with these ids, or all in an experiment with those there that diverged; and a sentence
    about each run that is skipped, or named more than once.

    Raises:
        ProtcliError: no such run or experiment, an id that is not of a finished training run, or no such run at all.
    """
    if experiment is None:
        runs = list(map(find_run, dict.fromkeys(run_ids)))
        for run in runs:
            if reason := why_not_finished(run):
                raise ProtcliError(f"run {run.id} cannot be compared: {reason}")
        repeated = [run_id for run_id, times in Counter(run_ids).items() if times > 1]
        return runs, [f"run {run_id} is named several times: it counts once" for run_id in repeated]
    runs, others = finished_runs(find_runs(experiment))
    reasons = {run: f"{run.name} ({run.id}): {reason}" for run, reason in others.items()}
    if not runs:
        raise ProtcliError(
            f"experiment {experiment!r} has no finished training run"
            + (f", only others ({len(reasons)}): {next(iter(reasons.values()))}" if reasons else "")
        )
    skipped = [f"skipped {reason}" for run, reason in reasons.items() if not has_diverged(run)]
    return [*runs, *filter(has_diverged, others)], skipped


def compare_configurations(configurations: Sequence[Configuration], reference: str | None = None) -> list[Comparison]:
    """One comparison for each data set, its models sorted by mean validation MSE, the best first.

    Args:
        configurations: any, such as those of `by_configuration`.
        reference: a model's name, alone or as a table shows it, or `sepmean`. None takes the first model if there are
            exactly two trained ones, else `sepmean`.

    Raises:
        ProtcliError: there is no such reference, or several.
    """
    comparisons = []
    for members in grouped(configurations, attrgetter("data")).values():
        if any(model.runs for model in members):  # else all have diverged, and are skipped with their data
            models = sorted(members, key=lambda model: model.mse.value if model.runs else np.inf)
            comparisons.append(Comparison(tuple(models), _reference(reference, members)))
    if reference is not None and all(each.reference == File.SEPMEAN != reference for each in comparisons):
        names = ", ".join(dict.fromkeys(model.name for model in configurations if model.runs))
        raise ProtcliError(f"--reference {reference}: no such model among these runs: {names}")
    return comparisons


def _reference(asked: str | None, models: Sequence[Configuration]) -> str:
    """The name, as a table shows it, of the model that the others on this data are compared with."""
    if asked is None:
        trained = [model.name for model in models if model.runs and not model.is_fitted]
        return trained[0] if len(trained) == 2 else File.SEPMEAN
    matching = [model.name for model in models if model.runs and asked in (model.name, model.params[Param.MODEL])]
    if asked in (File.SEPMEAN, *matching):
        return asked
    if len(matching) > 1:
        names = "; ".join(map(repr, matching))
        raise ProtcliError(f"--reference {asked} names several models here: give one of {names}")
    return matching[0] if matching else File.SEPMEAN


def repeated_seeds(configurations: Sequence[Configuration]) -> list[str]:
    """A sentence about each run that is left out since a later one has its seed."""
    return [
        f"skipped {run.name} ({run.id}): a later run of {model.name} has the same seed {seed_of(run)}"
        for model in configurations
        for run in model.repeated
    ]


def to_csv(comparisons: Sequence[Comparison]) -> str:
    """One row per model and data set, as numbers."""
    return pd.concat([comparison.frame for comparison in comparisons]).to_csv(index=False)


def to_markdown(comparisons: Sequence[Comparison]) -> str:
    """All tables and claims."""
    return "\n\n".join([*(comparison.section.to_markdown() for comparison in comparisons), MEANING]) + "\n"
