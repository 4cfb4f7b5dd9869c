"""A suite's report: one page of tables, figures and computed sentences, stored with the suite's run."""

import shlex
from pathlib import Path

import numpy as np

from protcli.atomic import atomic_write
from protcli.errors import ProtcliError
from protcli.experiments.comparing.differences import MEANING, Difference, collapsed_table, difference_table
from protcli.experiments.comparing.figures import draw_comparison
from protcli.experiments.configuration import best_epoch_of, commit_of, seed_of
from protcli.experiments.pages import Page, Section, Table
from protcli.experiments.statistics.contrasts import MOST_SEEDS, POWER, power, seeds_needed
from protcli.experiments.statistics.estimates import std
from protcli.experiments.suites.analysis import Analysis
from protcli.experiments.suites.tables import class_table, map_scores, pattern_tables, study_table
from protcli.process import scratch_folder
from protcli.tracking.keys import File, Param, Tag
from protcli.tracking.run import Run

HTML, MARKDOWN = "report.html", "report.md"


class Report:
    """The report of a suite: its page and the short note for MLflow.

    Args:
        analysis: of the suite's runs.
        parent: the run that holds them.
    """

    def __init__(self, analysis: Analysis, parent: Run) -> None:
        self.analysis, self.parent = analysis, parent
        self.suite, self.comparison = analysis.suite, analysis.comparison

    @property
    def comparisons(self) -> list[Table]:
        """The primary comparison, those with the reference, the suite's pairs, and those with sepmean."""
        first = [self.analysis.primary] if self.analysis.primary else []
        gains = [*first, *self.analysis.over_reference, *self.analysis.pairs, *self.analysis.over_sepmean]
        return [difference_table("Comparisons", gains), *collapsed_table([*first, *self.analysis.secondary])]

    @property
    def data(self) -> tuple[str, ...]:
        """What the models were trained and measured on."""
        params = self.comparison.data.run.params
        return (
            f"Name: {params[Param.DATA_NAME]}"
            + (" (SYNTHETIC proteins, made by protcli)" if self.comparison.data.is_synthetic else ""),
            f"Training split: {params[Param.TRAIN_SPLIT]}, {params[Param.TRAIN_PROTEINS]} proteins, "
            f"{params[Param.TRAIN_DIGEST]}",
            f"Validation split: {params[Param.VALID_SPLIT]}, {params[Param.VALID_PROTEINS]} proteins, "
            f"{params[Param.VALID_DIGEST]}",
            f"Atom {params[Param.ATOM].upper()}, the first {params[Param.EVALUATED_LENGTH]} residues of each chain",
            f"Digest of the above: {params[Param.DIGEST]}",
            "The test split was not opened.",
        )

    @property
    def study(self) -> Table:
        """Validation by epoch, in the layout of the study if there is one; cells outside the factorial only, if any."""
        outside = {name for name, levels in self.suite.levels.items() if not levels}
        models = [model for model in self.comparison.models if model.name in outside]
        return study_table(self.suite, models or self.comparison.models)

    @property
    def run_table(self) -> Table:
        """One row per run."""
        models = [model for comparison in (self.comparison, *self.analysis.others) for model in comparison.models]
        rows = [
            (
                model.name,
                str(seed_of(run)),
                str(best_epoch_of(run)),
                f"{model.data.scores_of(run).errors.mse:.3f}",
                commit_of(run),
                run.id,
            )
            for model in models
            for run in model.runs
        ] + [
            (cell, str(seed_of(run)), "", "diverged", run.params.get(Param.COMMIT, "")[:12], run.id)
            for cell, runs in self.analysis.diverged.items()
            for run in runs
        ]
        return Table("Runs", ("model", "seed", "best epoch", "MSE (Å²)", "commit", "run"), tuple(rows))

    def page(self, folder: Path) -> Page:
        """The whole report; the figures are drawn into the folder.

        Raises:
            ProtcliError: see `draw_comparison`.
        """
        comparison, suite = self.comparison, self.suite
        results = (comparison.results, *self.comparisons)
        sections = [
            Section("Conclusions", points=self.analysis.conclusions),
            Section("Data", points=self.data),
            Section(
                "Results",
                paragraphs=(self._recipes,),
                tables=(*results, map_scores(comparison), *self._by_class, comparison.costs),
            ),
        ]
        if suite.published or suite.at_epochs:
            title = "In the layout of the study" if suite.published else "By epoch"
            sections.append(Section(title, tables=(self.study,)))
        if self.analysis.factorial:
            sections.append(self.analysis.factorial.section(self.analysis.effects, self.analysis.simple_effects))
        about = (
            "Computed over all validation maps together, at least 16 residues from both ends of a chain. True maps "
            "have such patterns too: compare the figures with theirs."
        )
        if self.analysis.learning_curve:
            sections.append(self.analysis.learning_curve.section(folder))
        if tables := pattern_tables(comparison):
            sections.append(Section("Patterns that upsampling leaves", paragraphs=(about,), tables=tables))
        sections += (other.section for other in self.analysis.others)
        sections.append(Section("Figures", pictures=tuple(draw_comparison(comparison, folder, suite.figures))))
        if self.analysis.missing:
            sections.append(Section("Missing runs", points=self.analysis.missing))
        sections.append(self._repeat)
        sections.append(Section("How to read the figures", paragraphs=(MEANING,)))
        return Page(f"Suite {suite.name}", suite.question, self._warning, tuple(sections))

    @property
    def _by_class(self) -> tuple[Table, ...]:
        """Scores by class of the models of the primary comparison, or else of all."""
        named = self.suite.primary or [model.name for model in self.comparison.models]
        models = [model for model in self.comparison.models if model.name in named]
        table = class_table(models) if models else None
        return (table,) if table else ()

    @property
    def _warning(self) -> str:
        synthetic = self.comparison.data.is_synthetic
        return "SYNTHETIC proteins, made by protcli: nothing here is a result." if synthetic else ""

    @property
    def _recipes(self) -> str:
        settings = []
        for key, name in (
            (Param.STEPS, "steps"), (Param.EPOCHS, "epochs"), (Param.BATCH_SIZE, "batch"), (Param.LR, "learning rate"),
            (Param.OPTIMIZER, "optimiser"), (Param.LOSS, "loss"), (Param.CROP, "crop"),
            (Param.PRECISION, "precision"), (Param.DEVICE_NAME, "device"),
        ):  # fmt: skip
            values: dict[str, list[str]] = {}
            for model in self.comparison.models:
                # an earlier protcli did not record the steps; a share of the proteins has its own for each seed
                found = list(dict.fromkeys(run.params[key] for run in model.runs if key in run.params))
                if found:
                    shown = " / ".join(f"{float(value):.3g}" if key == Param.LR else value for value in found)
                    values.setdefault(shown, []).append(model.name)
            if not values:
                continue
            settings.append(
                f"{name} {next(iter(values))}"
                if len(values) == 1
                else f"{name} " + ", ".join(f"{value} ({'; '.join(names)})" for value, names in values.items())
            )
        sentences = [f"Trained with: {'; '.join(settings)}."]
        if self.suite.steps:
            sentences.append(
                f"The suite asks for {self.suite.steps} optimiser steps of every model: each was trained for the "
                "fewest whole epochs that hold them with the first seed's proteins."
            )
        if trials := self.parent.tags.get(Tag.TUNED_TRIALS):
            share = float(self.parent.tags[Tag.TUNED_HELD_OUT])
            tuned = "Learning rate and batch size" if self.suite.steps else "Learning rate, batch size and steps"
            sentences.append(
                f"{tuned} were tuned in {trials} trials of each model, on families held out of the training split "
                f"({share:g} of it)."
            )
        return " ".join([*sentences, f"The reference is {self.suite.reference}."])

    @property
    def _repeat(self) -> Section:
        comparisons = self.comparison, *self.analysis.others
        commits = sorted(set().union(*(model.commits for each in comparisons for model in each.models)))
        command = self.parent.tags.get(Tag.COMMAND) or f"protcli suite run {self.suite.name}"
        return Section(
            "How to repeat it",
            paragraphs=(
                f"Commit{'s' if len(commits) > 1 else ''} {', '.join(commits)}; the suite's own run is "
                f"{self.parent.id}, in the MLflow experiment suite-{self.suite.name}. To repeat a single run: protcli "
                "train --config, with the config.yaml among its artifacts.",
            ),
            tables=(self.run_table,),
            commands=(command, f"protcli suite report {self._named(command)}"),
        )

    def _named(self, command: str) -> str:
        """The name under which the suite was run: its file, for a user's own suite."""
        words = (word for word in shlex.split(command) if Path(word).stem == self.suite.name)
        return shlex.quote(next(words, self.suite.name))

    @property
    def note(self) -> str:
        """The short version, for the MLflow page of the suite's run."""
        parts = [f"# Suite {self.suite.name}", self.suite.question]
        if self._warning:
            parts.append(f"**{self._warning}**")
        parts += [
            self.comparison.data.sentence,
            "\n".join(f"- {sentence}" for sentence in self.analysis.conclusions),
            self.comparison.results.to_markdown(),
            f"The full report is the artifact `{File.REPORT}/{HTML}`; the suite's runs are nested under this one.",
        ]
        return "\n\n".join(parts)


def publish(report: Report, out: Path | None = None) -> Path | None:
    """Store the report with the suite's run and, if a folder is given, write it there: HTML, Markdown and pictures.

    Returns:
        the HTML file in that folder.

    Raises:
        ProtcliError: the folder cannot be written to, or see `Report.page`.
    """
    with scratch_folder() as folder:
        page = report.page(folder)
        (folder / HTML).write_text(page.to_html(), encoding="utf-8")
        (folder / MARKDOWN).write_text(page.to_markdown(), encoding="utf-8")
        report.parent.log_artifact(folder / HTML, File.REPORT)
        report.parent.set_note(report.note)
        if out is None:
            return None
        try:
            out.mkdir(parents=True, exist_ok=True)
            for path in sorted(folder.iterdir()):
                with atomic_write(out / path.name) as partial:
                    partial.write_bytes(path.read_bytes())
        except OSError as error:
            raise ProtcliError(f"{out} cannot be written to: {error.strerror}") from error
        return out / HTML


def plan_table(analysis: Analysis, improvement: float) -> Table:
    """The seeds that each comparison of trained models needs to show an improvement.

    Args:
        analysis: of a suite that has been run with two seeds or more.
        improvement: in per cent of MSE.

    Raises:
        ProtcliError: no comparison has two seeds of both models.
    """
    gains = [*([analysis.primary] if analysis.primary else []), *analysis.over_reference, *analysis.pairs]
    known = [gain for gain in gains if not np.isnan(gain.found.seed_variances).any()]
    if not known:
        raise ProtcliError(
            "there are no two models with two seeds each that finished and did not collapse: how much seeds differ is "
            "not known yet"
        )
    unknown = [f"{gain.model} over {gain.other}" for gain in gains if gain not in known]
    left_out = (
        f" Left out, since one of the models has fewer than two seeds that did not collapse: {', '.join(unknown)}."
        if unknown
        else ""
    )
    return Table(
        f"Seeds of each model that show an improvement of {improvement:g} % with {100 * POWER:.0f} % power",
        (
            "model",
            "over",
            "seeds now",
            "scatter of seeds (%) [95 % interval]",
            "of families (%)",
            "power now",
            "seeds needed",
        ),
        tuple(_row(gain, improvement) for gain in known),
        "Scatter is a standard deviation, from the runs there are; the seeds needed follow from its middle value, and "
        "are as uncertain as it is. p is 0.05, or that of the declared looks, and not adjusted for other comparisons. "
        f"More seeds do not make the part of the families smaller: more validation proteins do.{left_out}"
        + "".join(f" {sentence}" for sentence in analysis.not_compared),
    )


def _row(gain: Difference, improvement: float) -> tuple[str, ...]:
    needed = seeds_needed(gain.found, improvement, gain.alpha)
    return (
        gain.model + (" (primary)" if gain.adjusted_p is None else ""),
        gain.other,
        " and ".join(map(str, gain.found.seeds)),
        " and ".join(
            std(100 * variance**0.5, seeds).format(1)
            for variance, seeds in zip(gain.found.seed_variances, gain.found.seeds, strict=True)
        ),
        f"{100 * gain.found.family_variance**0.5:.1f}",
        f"{100 * power(gain.found, min(gain.found.seeds), improvement, gain.alpha):.0f} %",
        f"more than {MOST_SEEDS}: the families decide" if needed is None else str(needed),
    )
