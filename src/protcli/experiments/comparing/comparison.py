"""Compare finished runs: which model is better, by how much, and whether that may be chance."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from protcli.errors import ProtcliError
from protcli.experiments.comparing.differences import (
    BASELINE,
    MEANING,
    Difference,
    adjusted,
    against,
    collapsed_table,
    compare_models,
    difference_table,
    dominated,
    how_sure,
)
from protcli.experiments.comparing.trained_runs import Baseline, ModelRuns, TrainedRun, TrainingData
from protcli.experiments.pages import Section, Table
from protcli.experiments.runs.configurations import by_configuration, seed_of
from protcli.experiments.runs.finished import finished_runs, has_diverged, why_not_finished
from protcli.experiments.statistics.estimates import Estimate
from protcli.experiments.statistics.failures import failures
from protcli.proteins.metrics import PairErrors
from protcli.tracking.keys import File, Param
from protcli.tracking.run import Run, find_run, find_runs


@dataclass(frozen=True, eq=False)
class Comparison:
    """Models that were trained and measured on the same data.

    Attributes:
        data: the data they share.
        models: in the order of the tables.
        reference: name of the model that the others are compared with; may be `sepmean`, which is always available.
        all_diverged: models without figures, because all of their runs diverged, and how many these are.
    """

    data: TrainingData
    models: tuple[ModelRuns, ...]
    reference: str
    all_diverged: tuple[tuple[str, int], ...] = ()

    @property
    def sepmean(self) -> PairErrors:
        """The baseline's errors on the same pairs."""
        return self.models[0].runs[0].measurement.sepmean_errors

    def find(self, name: str) -> ModelRuns:
        """The model with this name."""
        return next(model for model in self.models if model.name == name)

    @property
    def families(self) -> list[str]:
        """The family of each validation protein."""
        return self.models[0].runs[0].measurement.proteins["family"].tolist()

    def improvement(self, model: ModelRuns, other: str) -> Difference:
        """The improvement of a model over another, or over `sepmean`; its p-value is not adjusted.

        Raises:
            ProtcliError: there are too few families for an interval.
        """
        rivals = [rival for rival in self.models if rival.name == other]
        return compare_models(model, rivals[0] if rivals else Baseline(self.sepmean), self.families)

    @property
    def over_reference(self) -> list[Difference]:
        """Each trained model's improvement over the reference, p-values not adjusted."""
        return [
            self.improvement(model, self.reference)
            for model in self.models
            if model.name != self.reference and not model.is_fitted
        ]

    @property
    def over_sepmean(self) -> list[Difference]:
        """Each model's improvement over the baseline, p-values not adjusted."""
        return [self.improvement(model, File.SEPMEAN) for model in self.models if not model.is_baseline]

    @cached_property
    def _adjusted(self) -> tuple[list[Difference], list[Difference]]:
        """Over the reference and over sepmean, p-values adjusted."""
        if self.reference == File.SEPMEAN:
            return adjusted([self.over_sepmean])[0], []
        over_reference, over_sepmean = adjusted([self.over_reference, self.over_sepmean])
        return over_reference, over_sepmean

    @property
    def results(self) -> Table:
        """Each model's score, and sepmean's for comparison."""
        rows = [
            (
                model.name,
                "fitted" if model.is_fitted else str(len(model.runs) + model.diverged),
                model.mse.format(),
                f"{model.mse.value / self.sepmean.mse:.3f}",
                "" if model.is_fitted else "diverged" if np.isinf(model.median_mse) else f"{model.median_mse:.2f}",
                "" if model.is_fitted else model.failures,
                "" if model.is_fitted else model.best_epochs,
                "" if model.is_fitted else model.last_mse.format(),
            )
            for model in self.models
        ]
        rows += [
            (name, str(runs), "diverged", "", "", failures(runs, runs), "", "") for name, runs in self.all_diverged
        ]
        if not any(model.is_baseline for model in self.models):
            rows.append((f"{File.SEPMEAN} (baseline)", "fitted", f"{self.sepmean.mse:.2f}", "1.000", "", "", "", ""))
        headings = (
            "model",
            "seeds",
            "MSE (Å²)",
            "MSE / sepmean",
            "median",
            "collapsed",
            "best epoch",
            "last epoch (Å²)",
        )
        return Table(
            "Validation MSE, mean over the seeds that did not collapse [95 % interval]; median over all seeds",
            headings,
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
                f"{model.seconds:.1f}" if model.seconds < 100 else f"{model.seconds:.0f}",
                "" if np.isnan(model.peak_memory) else f"{model.peak_memory:.2f}",
                model.params[Param.PRECISION],
                str(model.epochs),
            )
            for model in self.models
        ]
        headings = ("model", "parameters", "GMAC", "s / epoch", "peak memory (GB)", "precision", "epochs")
        return Table("Cost, on these runs' machines and with whatever else was running there", headings, tuple(rows))

    @property
    def improvements(self) -> Table:
        """Each model against the reference and against sepmean."""
        over_reference, over_sepmean = self._adjusted
        return difference_table("Comparisons", [*over_reference, *over_sepmean])

    @property
    def reservations(self) -> list[str]:
        """What besides the models may explain a difference, and what the differences leave out."""
        failed = [(model.name, model.failures) for model in self.models if model.collapsed or model.diverged]
        failed += [(name, failures(runs, runs)) for name, runs in self.all_diverged]
        sentences = [
            f"{name}: {text.replace(' (up to ', ' runs collapsed or diverged (a rate of up to ')}."
            for name, text in failed
        ]
        if improving := [model for model in self.models if model.is_improving]:
            epochs = " or ".join(map(str, sorted({model.epochs for model in improving})))
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
        over_reference, over_sepmean = self._adjusted
        sentences = [gain.sentence for gain in over_reference]
        if over_sepmean:
            sentences.append(against(over_sepmean, BASELINE))
        gains = [*over_reference, *over_sepmean]
        return (*sentences, *self.domination(gains), *self.reservations, how_sure(len(gains)))

    def domination(self, differences: Sequence[Difference]) -> list[str]:
        """A sentence about each family of proteins that dominates the interval of one of the comparisons."""
        proteins = self.models[0].runs[0].measurement.proteins
        return dominated(differences, proteins["id"].tolist(), self.families)

    @property
    def section(self) -> Section:
        """The whole comparison as a section of a page."""
        tables = [self.results]
        if gains := [gain for group in self._adjusted for gain in group]:
            tables.append(self.improvements)
            tables += filter(None, [collapsed_table(gains)])
        return Section(
            self.data.short, paragraphs=(self.data.sentence,), points=self.claims, tables=(*tables, self.costs)
        )

    @property
    def frame(self) -> pd.DataFrame:
        """One row per model, with everything as numbers."""
        return pd.DataFrame([self._record(model) for model in self.models])

    def _record(self, model: ModelRuns) -> dict[str, object]:
        gain = next((gain for gain in self._adjusted[0] if gain.model == model.name), None)
        undefined = Estimate(np.nan, np.nan, np.nan)
        improvement, percent = (gain.improvement, gain.percent) if gain else (undefined, undefined)
        return {
            "data": self.data.name,
            "digest": self.data.digest,
            "synthetic": self.data.synthetic,
            "train_split": self.data.train_split,
            "valid_split": self.data.valid_split,
            "atom": self.data.atom,
            "evaluated_length": self.data.evaluated_length,
            "model": model.name,
            "seeds": len(model.runs),
            **_columns("valid_mse", model.mse),
            "sepmean_mse": self.sepmean.mse,
            "mse_over_sepmean": model.mse.value / self.sepmean.mse,
            "median_mse": model.median_mse,
            "collapsed": model.collapsed,
            "best_epochs": " ".join(str(run.best_epoch) for run in model.runs),
            **_columns("last_epoch_mse", model.last_mse),
            "epochs": model.epochs,
            "parameters": int(model.params[Param.PARAMETERS]),
            "gmac": float(model.params[Param.GMAC]),
            "seconds_per_epoch": model.seconds,
            "peak_memory_gb": model.peak_memory,
            "precision": model.params[Param.PRECISION],
            "reference": self.reference,
            **_columns("improvement", improvement),
            **_columns("improvement_percent", percent),
            "p": gain.found.p if gain else np.nan,
            "p_holm": gain.adjusted_p if gain else np.nan,
            "a12": gain.a12 if gain else np.nan,
            "run_ids": " ".join(run.run.id for run in model.runs),
        }


def _columns(name: str, estimate: Estimate) -> dict[str, float]:
    return {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}


def training_runs(run_ids: Sequence[str], experiment: str | None) -> tuple[list[Run], list[Run], list[str]]:
    """The finished training runs with these ids, or all in an experiment; those there that diverged; and a sentence
    about each run skipped.

    Raises:
        ProtcliError: no such run or experiment, an id that is not of a finished training run, or no such run at all.
    """
    if experiment is None:
        runs = [find_run(run_id) for run_id in dict.fromkeys(run_ids)]
        for run in runs:
            if reason := why_not_finished(run):
                raise ProtcliError(f"run {run.id} cannot be compared: {reason}")
        return runs, [], []
    runs, others = finished_runs(find_runs(experiment))
    reasons = {run: f"{run.name} ({run.id}): {reason}" for run, reason in others.items()}
    if not runs:
        raise ProtcliError(
            f"experiment {experiment!r} has no finished training run"
            + (f", only others ({len(reasons)}): {next(iter(reasons.values()))}" if reasons else "")
        )
    diverged = [run for run in others if has_diverged(run)]
    return runs, diverged, [f"skipped {reason}" for run, reason in reasons.items() if run not in diverged]


def compare_runs(
    runs: Sequence[TrainedRun], reference: str | None = None, diverged: Sequence[Run] = ()
) -> tuple[list[Comparison], list[str]]:
    """One comparison per data set, and a sentence about each run skipped.

    Runs that differ only in the seed are one model; models are sorted by mean validation MSE, the best first.

    Args:
        runs: any finished ones.
        reference: a model's name, alone or as a table shows it, or `sepmean`. None takes the first run's model if there
            are exactly two trained models, else `sepmean`.
        diverged: runs without figures, which are counted.

    Raises:
        ProtcliError: there is no such reference, or several.
    """
    runs_by_data: dict[str, list[TrainedRun]] = {}
    for run in runs:
        runs_by_data.setdefault(run.run.params[Param.DIGEST], []).append(run)
    grouped = {
        digest: _models(members, [run for run in diverged if run.params[Param.DIGEST] == digest])
        for digest, members in runs_by_data.items()
    }
    models_by_data = [models for models, _, _ in grouped.values()]
    if reference not in (None, File.SEPMEAN) and not any(_full_name(reference, models) for models in models_by_data):
        names = ", ".join(dict.fromkeys(model.name for models in models_by_data for model in models))
        raise ProtcliError(f"--reference {reference}: no such model among these runs: {names}")
    comparisons, skipped = [], []
    for models, all_diverged, repeated in grouped.values():
        chosen = File.SEPMEAN
        trained = [model for model in models if not model.is_fitted]
        if reference is None and len(trained) == 2:
            chosen = trained[0].name
        elif reference not in (None, File.SEPMEAN):
            chosen = _full_name(reference, models) or File.SEPMEAN
        ordered = tuple(sorted(models, key=lambda model: model.mse.value))
        comparisons.append(Comparison(TrainingData.of(models[0].runs[0].run), ordered, chosen, all_diverged))
        skipped += repeated
    return comparisons, skipped


def _full_name(reference: str, models: Sequence[ModelRuns]) -> str | None:
    """The name, as a table shows it, of the model that is meant; None if there is none on this data."""
    matching = [model.name for model in models if reference in (model.name, model.params[Param.MODEL])]
    if len(matching) > 1 and reference not in matching:
        names = "; ".join(map(repr, matching))
        raise ProtcliError(f"--reference {reference} names several models here: give one of {names}")
    return reference if reference in matching else matching[0] if matching else None


def _models(
    runs: Sequence[TrainedRun], diverged: Sequence[Run]
) -> tuple[list[ModelRuns], tuple[tuple[str, int], ...], list[str]]:
    """Runs on one data set by configuration, in order of first appearance; configurations whose runs all diverged, with
    their number; and a sentence about each run skipped."""
    trained = {run.run.id: run for run in runs}
    models, all_diverged, skipped = [], [], []
    for configuration in by_configuration([*(run.run for run in runs), *diverged]):
        kept = tuple(trained[run.id] for run in configuration.runs if run.id in trained)
        lost = len(configuration.runs) - len(kept)
        if kept:
            models.append(ModelRuns(configuration.name, kept, diverged=lost))
        else:
            all_diverged.append((configuration.name, lost))
        skipped += [
            f"skipped {run.name} ({run.id}): a later run of {configuration.name} has the same seed {seed_of(run)}"
            for run in configuration.repeated
        ]
    return models, tuple(all_diverged), skipped


def to_csv(comparisons: Sequence[Comparison]) -> str:
    """One row per model and data set, as numbers."""
    return pd.concat([comparison.frame for comparison in comparisons]).to_csv(index=False)


def to_markdown(comparisons: Sequence[Comparison]) -> str:
    """All tables and claims."""
    return "\n\n".join([*(comparison.section.to_markdown() for comparison in comparisons), MEANING]) + "\n"
