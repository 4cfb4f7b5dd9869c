"""A suite's report: one page of tables, figures and computed sentences, stored with the suite's run."""

import shlex
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from protcli.atomic import atomic_write
from protcli.errors import ProtcliError
from protcli.experiments.comparing.comparison import Comparison
from protcli.experiments.comparing.differences import (
    BASELINE,
    MEANING,
    Difference,
    adjusted,
    against,
    collapsed_table,
    difference_table,
    how_sure,
)
from protcli.experiments.comparing.figures import draw_comparison
from protcli.experiments.comparing.trained_runs import ModelRuns, TrainedRun, TrainingData
from protcli.experiments.pages.page import Page, Section, Table, interval
from protcli.experiments.runs.configurations import latest_of_seeds, seed_of
from protcli.experiments.statistics.multiplicity import ALPHA, level_of_looks
from protcli.experiments.studies.factorial import Factorial
from protcli.experiments.studies.map_quality import map_scores, pattern_sentences, pattern_tables
from protcli.experiments.studies.study_table import study_table
from protcli.experiments.studies.suite import Cell, level_name
from protcli.experiments.studies.suite_runs import SuiteRuns
from protcli.tracking.keys import File, Param, Tag

HTML, MARKDOWN = "report.html", "report.md"
MOST_LISTED = 4  # differences from the reference that the conclusions list one by one


def _latest(runs: Sequence[TrainedRun]) -> tuple[TrainedRun, ...]:
    """One run per seed, sorted by seed."""
    trained = {run.run.id: run for run in runs}
    kept, _ = latest_of_seeds([run.run for run in runs])
    return tuple(trained[run.id] for run in kept)


class Report:
    """The report of a suite: its page and the short note for MLflow.

    Args:
        suite_runs: the suite's runs.
        runs: the finished ones, with their scores.
    """

    def __init__(self, suite_runs: SuiteRuns, runs: Iterable[TrainedRun]) -> None:
        self.suite, self.parent = suite_runs.suite, suite_runs.parent
        self.missing = suite_runs.missing
        self.diverged = {cell.name: suite_runs.diverged.get(cell.name, ()) for cell in self.suite.cells}
        runs_by_cell: dict[str, list[TrainedRun]] = {}
        for run in runs:
            runs_by_cell.setdefault(run.run.tags[Tag.CELL], []).append(run)
        models = [
            ModelRuns(cell.name, _latest(runs_by_cell[cell.name]), _colour_group(cell), len(self.diverged[cell.name]))
            for cell in self.suite.cells
            if cell.name in runs_by_cell
        ]
        models_by_data: dict[str, list[ModelRuns]] = {}
        for model in models:
            models_by_data.setdefault(model.params[Param.DIGEST], []).append(model)
        self.others = [self._comparison(members) for members in models_by_data.values()]
        # the report covers the reference's data, or the first cell's; cells with another crop are reported separately
        first = next((other for other in self.others if other.reference != File.SEPMEAN), self.others[0])
        self.others.remove(first)
        self.comparison = first
        levels = {cell.name: cell.levels for cell in self.suite.cells}
        self.factorial: Factorial | None = None
        if members := [(model, levels[model.name]) for model in first.models if levels[model.name]]:
            self.factorial = Factorial(self.suite.factors, members, first.families)
        self._compare()

    def _comparison(self, models: list[ModelRuns]) -> Comparison:
        names = {model.name for model in models}
        data = TrainingData.of(models[0].runs[0].run)
        all_diverged = [
            (cell, len(runs))
            for cell, runs in self.diverged.items()
            if runs and cell not in names and runs[0].params[Param.DIGEST] == data.digest
        ]
        reference = self.suite.reference if self.suite.reference in names else File.SEPMEAN
        return Comparison(data, tuple(models), reference, tuple(all_diverged))

    def _compare(self) -> None:
        """The comparisons on the page: the primary one, and all others with p-values adjusted for each other."""
        comparison, suite = self.comparison, self.suite
        trained = {model.name for model in comparison.models}
        self.primary = None
        if suite.primary and set(suite.primary) <= trained:
            self.primary = replace(
                self._improvement(*suite.primary), alpha=level_of_looks(suite.looks) if suite.looks else ALPHA
            )
        over_reference = [] if comparison.reference == File.SEPMEAN else comparison.over_reference
        pairs = [self._improvement(model, other) for model, other in suite.pairs if {model, other} <= trained]
        effects, simple = (self.factorial.effects, self.factorial.simple_effects) if self.factorial else ([], [])
        known: set[tuple[str, str, str]] = {self.primary.key} if self.primary else set()
        groups = []
        for gains in (over_reference, pairs, effects, simple, comparison.over_sepmean):
            # a comparison that two parts of the page ask for is made once
            groups.append([replace(gain, equal_within=suite.equal_within) for gain in gains if gain.key not in known])
            known |= {gain.key for gain in gains}
        everything = adjusted(groups)
        self.over_reference, self.pairs, self.effects, self.simple_effects, self.over_sepmean = everything
        self.secondary = [gain for gains in everything for gain in gains]

    def _improvement(self, model: str, other: str) -> Difference:
        gain = self.comparison.improvement(self.comparison.find(model), other)
        return replace(gain, equal_within=self.suite.equal_within)

    # --- conclusions ---

    @property
    def conclusions(self) -> tuple[str, ...]:
        """Conclusions, in sentences computed from the figures."""
        comparison = self.comparison
        trained = [model for model in comparison.models if not model.is_fitted] or comparison.models
        best = min(trained, key=lambda model: model.mse.value)
        sentences = []
        if self.primary:
            sentences += [f"The primary comparison: {self.primary.sentence}", *self._looks]
        elif self.suite.primary:
            sentences.append("The primary comparison cannot be made.")
        sentences += self.not_compared
        seeds = len(best.trained)
        of = f" ({seeds} seed{'s' * (seeds > 1)} that did not collapse)" if best.has_few_seeds else ""
        sentences.append(
            f"Lowest validation MSE of the trained models: {best.name}{of}, {interval(best.mse)} Å², "
            f"{best.mse.value / comparison.sepmean.mse:.3f} of sepmean's {comparison.sepmean.mse:.2f} Å²."
        )
        if len(self.over_reference) <= MOST_LISTED:
            sentences += [gain.sentence for gain in self.over_reference]
        else:
            sentences.append(against(self.over_reference, f"the reference {comparison.reference}"))
        sentences += [gain.sentence for gain in self.pairs]
        if self.factorial:
            sentences += self.factorial.conclusions(self.effects)
        sentences.append(against(self.over_sepmean, BASELINE))
        sentences += pattern_sentences(comparison)
        sentences += comparison.domination([*([self.primary] if self.primary else []), *self.secondary])
        sentences += comparison.reservations
        sentences.append(how_sure(len(self.secondary)))
        if self.missing:
            sentences.append("The suite is not complete: the report lists the missing runs.")
        return tuple(sentences)

    @property
    def not_compared(self) -> list[str]:
        """Which of the comparisons that the suite asks for are not made, because a cell has no figures, and why."""
        suite, fitted = self.suite, {cell.name for cell in self.suite.cells if cell.spec.is_fitted}
        trained = {model.name for comparison in (self.comparison, *self.others) for model in comparison.models}
        without = [cell.name for cell in suite.cells if cell.name not in trained]
        over_reference = [(name, suite.reference) for name in self.diverged if not {name, suite.reference} & fitted]
        wanted = dict.fromkeys([*([suite.primary] if suite.primary else []), *suite.pairs, *over_reference])
        pairs = [f"{a} with {b}" for a, b in wanted if a != b and {a, b} & set(without)]
        if not pairs:
            return []
        diverged = {cell: len(self.diverged[cell]) for cell in without}
        reasons = [
            f"all {n} runs of {cell} diverged" if n else f"no run of {cell} has finished"
            for cell, n in diverged.items()
        ]
        return [f"Not compared: {', '.join(pairs)} ({'; '.join(reasons)})."]

    @property
    def _looks(self) -> list[str]:
        """How often the primary comparison may be looked at, and whether this is one of those times."""
        if not self.suite.looks or self.primary is None:
            return []
        looks = ", ".join(map(str, self.suite.looks))
        seeds = min(len(self.comparison.find(name).runs) for name in (self.primary.model, self.primary.other))
        sentence = f"It may be decided at one of the declared looks ({looks} seeds), each at p {self.primary.alpha:.4f}"
        if seeds not in self.suite.looks:
            return [f"{sentence}; now there are {seeds} seeds, which is none of them: this is no decision."]
        is_decided = self.primary.is_claimed or self.primary.is_equal
        return [f"{sentence}; at {seeds} seeds it is {'decided' if is_decided else 'not decided'}."]

    # --- tables ---

    @property
    def comparisons(self) -> list[Table]:
        """The primary comparison, those with the reference, the suite's pairs, and those with sepmean."""
        first = [self.primary] if self.primary else []
        gains = [*first, *self.over_reference, *self.pairs, *self.over_sepmean]
        everything = [*gains, *self.effects, *self.simple_effects]
        table = collapsed_table(everything)
        return [difference_table("Comparisons", gains), *([table] if table else [])]

    @property
    def data(self) -> tuple[str, ...]:
        """What the models were trained and measured on."""
        about, params = self.comparison.data, self.comparison.models[0].params
        return (
            f"Name: {about.name}" + (" (SYNTHETIC proteins, made by protcli)" if about.synthetic else ""),
            f"Training split: {about.train_split}, {about.train_proteins} proteins, {params[Param.TRAIN_DIGEST]}",
            f"Validation split: {about.valid_split}, {about.valid_proteins} proteins, {params[Param.VALID_DIGEST]}",
            f"Atom {about.atom.upper()}, the first {about.evaluated_length} residues of each chain",
            f"Digest of the above: {about.digest}",
            "The test split was not opened.",
        )

    @property
    def study(self) -> Table:
        """Validation by epoch, in the layout of the study if there is one; cells outside the factorial only, if any."""
        outside = {cell.name for cell in self.suite.cells if not cell.levels}
        models = [model for model in self.comparison.models if model.name in outside]
        return study_table(self.suite, models or self.comparison.models)

    @property
    def run_table(self) -> Table:
        """One row per run."""
        models = [model for comparison in (self.comparison, *self.others) for model in comparison.models]
        rows = [
            (
                model.name,
                str(run.seed),
                str(run.best_epoch),
                f"{run.measurement.errors.mse:.3f}",
                run.commit,
                run.run.id,
            )
            for model in models
            for run in model.runs
        ] + [
            (cell, str(seed_of(run)), "", "diverged", run.params.get(Param.COMMIT, "")[:12], run.id)
            for cell, runs in self.diverged.items()
            for run in runs
        ]
        return Table("Runs", ("model", "seed", "best epoch", "MSE (Å²)", "commit", "run"), tuple(rows))

    # --- the page ---

    def page(self, folder: Path) -> Page:
        """The whole report; the figures are drawn into the folder.

        Raises:
            ProtcliError: see `draw_comparison`.
        """
        comparison, suite = self.comparison, self.suite
        results = (comparison.results, *self.comparisons)
        sections = [
            Section("Conclusions", points=self.conclusions),
            Section("Data", points=self.data),
            Section(
                "Results", paragraphs=(self._recipes,), tables=(*results, map_scores(comparison), comparison.costs)
            ),
        ]
        if suite.published or suite.at_epochs:
            title = "In the layout of the study" if suite.published else "By epoch"
            sections.append(Section(title, tables=(self.study,)))
        if self.factorial:
            sections.append(self.factorial.section(self.effects, self.simple_effects))
        about = (
            "Computed over all validation maps together, at least 16 residues from both ends of a chain. True maps "
            "have such patterns too: compare the figures with theirs."
        )
        if tables := pattern_tables(comparison):
            sections.append(Section("Patterns that upsampling leaves", paragraphs=(about,), tables=tables))
        sections += (other.section for other in self.others)
        sections.append(Section("Figures", pictures=tuple(draw_comparison(comparison, folder, suite.figures))))
        if self.missing:
            sections.append(Section("Missing runs", points=self.missing))
        sections.append(self._repeat)
        sections.append(Section("How to read the figures", paragraphs=(MEANING,)))
        return Page(f"Suite {suite.name}", suite.question, self._warning, tuple(sections))

    @property
    def _warning(self) -> str:
        return (
            "SYNTHETIC proteins, made by protcli: nothing here is a result." if self.comparison.data.synthetic else ""
        )

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
                if key in model.params:  # an earlier protcli did not record the steps
                    values.setdefault(model.params[key], []).append(model.name)
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
                "fewest whole epochs that hold them."
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
        commits = sorted(
            {run.commit for c in (self.comparison, *self.others) for model in c.models for run in model.runs}
        )
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
            "\n".join(f"- {sentence}" for sentence in self.conclusions),
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
    with tempfile.TemporaryDirectory(prefix="protcli-") as scratch:
        folder = Path(scratch)
        page = report.page(folder)
        (folder / HTML).write_text(page.to_html(), encoding="utf-8")
        (folder / MARKDOWN).write_text(page.to_markdown(), encoding="utf-8")
        log = report.parent.log()
        log.artifact(folder / HTML, File.REPORT)
        log.note(report.note)
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


def _colour_group(cell: Cell) -> str:
    """A cell's levels but the last factor's: cells that share them are drawn in one colour."""
    return ", ".join(level_name(factor, level) for factor, level in list(cell.levels.items())[:-1])
