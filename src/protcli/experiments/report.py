"""A suite's answer to its question: one page of tables, figures and computed sentences, kept with the suite's run."""

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from protcli.errors import ProtcliError
from protcli.experiments.compare import (
    BASELINE,
    LAST_EPOCHS,
    MEANING,
    Comparison,
    Difference,
    ModelRuns,
    TrainedRun,
    TrainingData,
    against,
    how_sure,
    of_weights,
)
from protcli.experiments.compare_figures import draw_comparison
from protcli.experiments.configurations import latest_of_seeds
from protcli.experiments.intervals import Estimate, contrast, over_seeds
from protcli.experiments.page import Page, Section, Table, interval
from protcli.experiments.run_suite import CELL, COMMAND, SEED, SUITE, SUITE_FILE
from protcli.experiments.suite import Cell, Suite, read_suite, suite_names
from protcli.experiments.train import SEPMEAN
from protcli.proteins.artefacts import PERIODS
from protcli.tracking.runs import PARENT, RecordedRun, find_run, find_runs

FOLDER, HTML, MARKDOWN = "report", "report.html", "report.md"
SEEDS = "suite.seeds"
SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")
TOLD_PERIOD = 8  # residues: the stride of the studies' last upsampling
FEW = 4  # differences from the reference that are told one by one in the conclusions
MAPS = {
    "lddt": "lDDT",
    "precision_long_L5": "long P@L/5",
    "precision_long_L": "long P@L",
    "precision_medium_L5": "medium P@L/5",
}
ERRORS = {"rmse": "RMSE (Å)", "mae": "MAE (Å)", "mae_8": "MAE@8 (Å)", "drmsd": "dRMSD (Å)"}


@dataclass(frozen=True, eq=False)
class SuiteRuns:
    """What has been trained of a suite.

    Attributes:
        suite: as it was run.
        parent: the run that holds the others.
        finished: by cell, one run a seed.
        missing: what is not finished and why, in sentences.
    """

    suite: Suite
    parent: RecordedRun
    finished: dict[str, tuple[RecordedRun, ...]]
    missing: tuple[str, ...]

    @property
    def runs(self) -> list[RecordedRun]:
        """All finished ones, cell by cell."""
        return [run for runs in self.finished.values() for run in runs]


def find_suite_runs(name: str, run_id: str | None = None) -> SuiteRuns:
    """The runs of a suite that has been run, or is being run.

    Args:
        name: of the suite, or its YAML file.
        run_id: of the run that holds the others; None takes the latest of that suite.

    Raises:
        ProtcliError: there is no such run, it holds no suite of that name, or nothing of it has finished yet.
    """
    path = Path(name)
    if not path.stem.replace("-", "").replace("_", "").isalnum():
        raise ProtcliError(f"there is no suite {name!r}: choose {', '.join(suite_names())}, or name a .yaml file")
    title, folder = (path.stem, path.parent) if path.suffix in (".yaml", ".yml") else (name, Path())
    if run_id is not None:
        parent = find_run(run_id)
        if parent.tags.get(SUITE) != title or PARENT in parent.tags:
            raise ProtcliError(f"run {run_id} does not hold the runs of suite {title}: name the suite's own run")
    else:
        parents = [run for run in find_runs(tags={SUITE: title}) if PARENT not in run.tags]
        if not parents:
            raise ProtcliError(f"suite {title} has not been run here: `protcli suite run {name}` first")
        parent = parents[-1]
    with tempfile.TemporaryDirectory(prefix="protcli-") as scratch:
        text = parent.download(SUITE_FILE, Path(scratch)).read_text(encoding="utf-8")
    suite = read_suite(title, text, f"{SUITE_FILE} of run {parent.id}", folder)
    latest: dict[tuple[str, str], RecordedRun] = {}
    for child in find_runs(tags={PARENT: parent.id}):
        key = child.tags.get(CELL, ""), child.tags.get(SEED, "")
        if key not in latest or child.status == "FINISHED" or latest[key].status != "FINISHED":
            latest[key] = child
    seeds = max([int(parent.tags.get(SEEDS, suite.seeds)), *(int(seed) + 1 for _, seed in latest if seed.isdigit())])
    finished: dict[str, tuple[RecordedRun, ...]] = {}
    missing = []
    for cell in suite.cells:
        runs = {seed: latest.get((cell.name, str(seed))) for seed in range(seeds)}
        finished[cell.name] = tuple(run for run in runs.values() if run is not None and run.status == "FINISHED")
        lacking: dict[str, list[int]] = {}
        for seed, run in runs.items():
            if run is None or run.status != "FINISHED":
                lacking.setdefault(_why(run), []).append(seed)
        for reason, of in lacking.items():
            missing.append(f"{cell.name}, seed{'s' * (len(of) > 1)} {', '.join(map(str, of))}: {reason}")
    if not any(finished.values()):
        raise ProtcliError(f"nothing of suite {title} has finished yet (run {parent.id}): {missing[0]}")
    return SuiteRuns(suite, parent, finished, tuple(missing))


def _why(run: RecordedRun | None) -> str:
    if run is None:
        return "not begun"
    error = run.tags.get("error", "")
    return f"{run.status} (run {run.id})" + (f": {error}" if error else "")


def _latest(runs: Sequence[TrainedRun]) -> tuple[TrainedRun, ...]:
    """One a seed, by seed."""
    trained = {run.run.id: run for run in runs}
    kept, _ = latest_of_seeds([run.run for run in runs])
    return tuple(trained[run.id] for run in kept)


class Report:
    """The page, and what else is to be kept of it.

    Args:
        found: the suite's runs.
        runs: the finished ones, read.
    """

    def __init__(self, found: SuiteRuns, runs: Iterable[TrainedRun]) -> None:
        self.suite, self.parent, self.missing = found.suite, found.parent, found.missing
        of_cell: dict[str, list[TrainedRun]] = {}
        for run in runs:
            of_cell.setdefault(run.run.tags[CELL], []).append(run)
        models = [
            ModelRuns(cell.name, _latest(of_cell[cell.name]), _family(cell))
            for cell in self.suite.cells
            if cell.name in of_cell
        ]
        of_data: dict[str, list[ModelRuns]] = {}
        for model in models:
            of_data.setdefault(model.params["data.digest"], []).append(model)
        self.others = [self._comparison(members) for members in of_data.values()]
        # everything is said of the reference's data, or the first cell's; a cell of another crop stands apart
        first = next((each for each in self.others if each.reference != SEPMEAN), self.others[0])
        self.others.remove(first)
        self.comparison = first
        self.cells = {cell.name: cell for cell in self.suite.cells}

    def _comparison(self, models: list[ModelRuns]) -> Comparison:
        has_reference = any(model.name == self.suite.reference for model in models)
        data = TrainingData.of(models[0].runs[0].run)
        return Comparison(data, tuple(models), self.suite.reference if has_reference else SEPMEAN)

    # --- what is said ---

    @property
    def effects(self) -> dict[str, list[Difference]]:
        """Main effects: by factor, every pair of its levels, the later against the earlier."""
        return {
            factor: [
                gain
                for first, second in combinations(levels, 2)
                if (gain := self._effect(factor, first, second)) is not None
            ]
            for factor, levels in self.suite.factors.items()
        }

    def _effect(self, factor: str, first: Any, second: Any) -> Difference | None:
        """How much better the second level is, mean over the levels of the other factors that both were trained at."""
        pairs = [
            (by_level[first], by_level[second])
            for by_level in self._by_level(factor).values()
            if first in by_level and second in by_level
        ]
        return _mean_difference(level_name(factor, second), level_name(factor, first), pairs) if pairs else None

    def _by_level(self, factor: str) -> dict[str, dict[Any, ModelRuns]]:
        """Models of the factorial by the other factors' levels (as text), then by this factor's level."""
        found: dict[str, dict[Any, ModelRuns]] = {}
        for model in self.comparison.models:
            if levels := self.cells[model.name].levels:
                rest = ", ".join(level_name(other, level) for other, level in levels.items() if other != factor)
                found.setdefault(rest, {})[levels[factor]] = model
        return found

    @property
    def conclusions(self) -> tuple[str, ...]:
        """What the figures say, in sentences that are computed from them."""
        comparison = self.comparison
        best = min(comparison.models, key=lambda model: model.mse.value)
        said = [
            f"Lowest validation MSE: {best.name}, {interval(best.mse)} Å²{' (one seed)' if best.is_one_seed else ''}, "
            f"{best.mse.value / comparison.sepmean.mse:.3f} of sepmean's {comparison.sepmean.mse:.2f} Å²."
        ]
        made = 0
        if comparison.reference != SEPMEAN:
            gains = comparison.differences
            made += len(gains)
            if len(gains) <= FEW:
                said += [gain.sentence for gain in gains]
            elif gains:
                said.append(against(gains, f"the reference {comparison.reference}"))
        for factor, gains in self.effects.items():
            made += len(gains)
            if gains:
                said.append(
                    _effects_sentence(factor, [other for other in self.suite.factors if other != factor], gains)
                )
        over_sepmean = comparison.over_sepmean
        said.append(against(over_sepmean, BASELINE))
        said += self._artefact_sentences()
        said.append(how_sure(made + len(over_sepmean)))
        if self.missing:
            said.append("The suite is not complete: what is missing is listed below.")
        return tuple(said)

    def _artefact_sentences(self) -> list[str]:
        said = []
        for kind, least, most, unit in (
            ("checkerboard", "weakest", "strongest", " Å"),
            ("blockiness", "smoothest", "blockiest", ""),
        ):
            name = f"{kind}_{TOLD_PERIOD}"
            values = {model.name: _mean(model, name) for model in self.comparison.models}
            values = {model: value for model, value in values.items() if not np.isnan(value)}
            if len(values) > 1:
                low, high = min(values, key=lambda model: values[model]), max(values, key=lambda model: values[model])
                truth = self.comparison.models[0].runs[0].measurement.truth[name]
                said.append(
                    f"{kind.capitalize()} {_symbol(kind, TOLD_PERIOD)}: {most} in the maps of {high} "
                    f"({values[high]:.2f}{unit}), {least} in those of {low} ({values[low]:.2f}{unit}); the true maps' "
                    f"own is {truth:.2f}{unit}."
                )
        return said

    # --- tables ---

    @property
    def data(self) -> tuple[str, ...]:
        """What the models were trained and measured on."""
        about, params = self.comparison.data, self.comparison.models[0].params
        return (
            f"Name: {about.name}" + (" (SYNTHETIC proteins, made by protcli)" if about.synthetic else ""),
            f"Training split: {about.train_split}, {about.train_proteins} proteins, {params['data.train_digest']}",
            f"Validation split: {about.valid_split}, {about.valid_proteins} proteins, {params['data.valid_digest']}",
            f"Atom {about.atom.upper()}, crop {about.crop} residues",
            f"Digest of all this: {about.digest}",
            "The test split was not opened.",
        )

    @property
    def map_scores(self) -> Table:
        """The field's scores of maps."""
        rows = [
            (
                model.name,
                *(_or_none(_mean(model, name)) for name in ERRORS),
                *(_or_none(_mean(model, name), 3) for name in MAPS),
            )
            for model in self.comparison.models
        ]
        sepmean = self.comparison.models[0].runs[0].measurement.sepmean
        baseline = [_or_none(sepmean[name]) for name in ERRORS] + [_or_none(sepmean[name], 3) for name in MAPS]
        return Table(
            "Scores of maps, mean over seeds",
            ("model", *ERRORS.values(), *MAPS.values()),
            (*rows, (f"{SEPMEAN} (baseline)", *baseline)),
            "RMSE and MAE pooled over pairs, MAE@8 over those closer than 8 Å; lDDT, dRMSD and the precision of the "
            "L/5 or L closest predicted pairs (|i-j| from 24: long, 12 to 23: medium; contact: below 8 Å) are means "
            "over proteins.",
        )

    @property
    def study(self) -> Table:
        """The study's own table: its rows and its unit, its figures under ours."""
        published = self.suite.published
        models = [model for model in self.comparison.models if not self.cells[model.name].levels]
        models = models or list(self.comparison.models)
        unit = published.unit if published else "mse"
        scale, shown = 1.0, "Å²"
        if unit != "mse":
            scale, shown = 1e9, "10⁹ pm²: squared error summed over the full map, mean over proteins"
        here = {model.name: _at_epochs(model, unit, scale) for model in models}
        last = min(model.epochs for model in models)
        rows: list[tuple[str, ...]] = []
        improvements: list[tuple[str, ...]] = []

        def add(label: str, ours: Mapping[str, Estimate], printed: Mapping[str, float]) -> None:
            theirs = {name: Estimate(value / scale, np.nan, np.nan) for name, value in printed.items()}
            for source, of in (("here", ours), ("study", theirs)):
                if of:
                    rows.append((label, source, *(interval(of[m.name]) if m.name in of else "" for m in models)))
                    gain = f"improvement over {self.suite.reference} (%), {label}"
                    improvements.append((gain, source, *self._percent(of, models)))

        ours = {epoch for epoch in self.suite.at_epochs if epoch <= last} | {last}
        theirs = set(published.validation) if published else set()
        for epoch in sorted(ours | theirs):
            add(
                f"epoch {epoch}" + (" (last)" if epoch == last else ""),
                {name: values[epoch] for name, values in here.items()} if epoch in ours else {},
                published.validation.get(epoch, {}) if published else {},
            )
        count = {len(model.runs[0].last_epochs) for model in models}
        many = " or ".join(map(str, sorted(count)))
        rows.append(("epoch of lowest validation", "here", *(model.best_epochs for model in models)))
        if published and published.best_epoch:
            rows.append(
                ("epoch of lowest validation", "study", *(str(published.best_epoch.get(m.name, "")) for m in models))
            )
        tail = {model.name: _last_five(model, unit, scale) for model in models}
        add(f"mean of the last {many} epochs", tail, {})
        add(f"mean of the last {LAST_EPOCHS} epochs", {}, published.last_five if published else {})
        note = "Every percentage is computed from the rows above it, of one source."
        if published:
            note += (
                " The study's figures are of one run each, of other data and other points: compare what they say of "
                "the models, not their level."
            )
            if unreached := [str(epoch) for epoch in sorted(theirs) if epoch > last]:
                note += f" Training ended at epoch {last} here: epoch {' and '.join(unreached)} is the study's alone."
        return Table(
            f"The study's table: validation ({shown})",
            ("", "", *(model.name for model in models)),
            (*rows, *improvements),
            note,
        )

    def _percent(self, values: Mapping[str, Estimate], models: Sequence[ModelRuns]) -> list[str]:
        base = values.get(self.suite.reference)
        if base is None:
            return ["" for _ in models]
        return [
            f"{percent_improvement(base.value, values[model.name].value):.2f}" if model.name in values else ""
            for model in models
        ]

    @property
    def grid(self) -> Table:
        """Validation MSE of the factorial's cells: a row for each combination of all factors but the last."""
        *_, last = self.suite.factors
        levels = self.suite.factors[last]
        rows = [
            (
                rest or "MSE (Å²)",
                *(interval(by_level[level].mse) if level in by_level else "missing" for level in levels),
            )
            for rest, by_level in self._by_level(last).items()
        ]
        return Table(
            "Validation MSE of the cells (Å²), mean over seeds [95 % interval]",
            ("", *(level_name(last, level) for level in levels)),
            tuple(rows),
        )

    @property
    def effect_table(self) -> Table:
        """Main effects."""
        rows = [
            (factor, f"{gain.model} against {gain.other}", interval(gain.improvement), interval(gain.percent, 1),
             _verdict(gain))
            for factor, gains in self.effects.items()
            for gain in gains
        ]  # fmt: skip
        return Table(
            "Main effects: improvement, mean over the levels of the other factors [95 % interval]",
            ("factor", "levels", "Å²", "%", "may be claimed"),
            tuple(rows),
        )

    @property
    def simple_effects(self) -> Table | None:
        """The last factor's effect at each combination of the others, where there are several factors."""
        if len(self.suite.factors) < 2:
            return None
        *_, last = self.suite.factors
        first, *others = self.suite.factors[last]
        rows, sizes = [], []
        for rest, by_level in self._by_level(last).items():
            for level in others:
                if first in by_level and level in by_level:
                    gain = _mean_difference(
                        level_name(last, level), level_name(last, first), [(by_level[first], by_level[level])]
                    )
                    sizes.append((gain.improvement.value, rest))
                    rows.append((rest, f"{gain.model} against {gain.other}", interval(gain.improvement)))
        if not rows:
            return None
        (low, where_low), (high, where_high) = min(sizes), max(sizes)
        return Table(
            f"Effect of {last} at each level of the rest: improvement (Å²) [95 % interval]",
            ("", "levels", "Å²"),
            tuple(rows),
            f"It goes from {low:.2f} Å² ({where_low}) to {high:.2f} Å² ({where_high}); the further these are apart, "
            "the less a main effect says of any one cell.",
        )

    @property
    def artefacts(self) -> tuple[Table, ...]:
        """Patterns of upsampling in predicted maps, those of the true maps beside them."""
        measured = self.comparison.models[0].runs[0].measurement
        tables = []
        for kind, title in (
            ("checkerboard", "Checkerboard Aₛ (Å): what repeats every s residues in predicted maps; 0 is none"),
            ("blockiness", "Blockiness Gₛ: steps between blocks of s residues in predicted maps; 1 is none"),
        ):
            names = [f"{kind}_{s}" for s in PERIODS]
            rows = [
                (title_of, *(_or_none(source[name]) for name in names))
                for title_of, source in (("true maps", measured.truth), (f"{SEPMEAN} (baseline)", measured.sepmean))
            ]
            rows += [
                (model.name, *(_or_none(_mean(model, name)) for name in names)) for model in self.comparison.models
            ]
            tables.append(Table(title, ("", *(_symbol(kind, s) for s in PERIODS)), tuple(rows)))
        return tuple(tables)

    @property
    def run_table(self) -> Table:
        """Every run."""
        models = [model for each in (self.comparison, *self.others) for model in each.models]
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
        ]
        return Table("Runs", ("model", "seed", "best epoch", "MSE (Å²)", "commit", "run"), tuple(rows))

    # --- the page ---

    def page(self, folder: Path) -> Page:
        """All of it; the figures are drawn into the folder.

        Raises:
            ProtcliError: see `draw_comparison`.
        """
        comparison, suite = self.comparison, self.suite
        results = [comparison.results]
        if comparison.differences:
            results.append(comparison.improvements)
        sections = [
            Section("What it says", points=self.conclusions),
            Section("Data", points=self.data),
            Section("Results", paragraphs=(self._recipes,), tables=(*results, self.map_scores, comparison.costs)),
        ]
        if suite.published or suite.at_epochs:
            sections.append(
                Section("In the shape of the study" if suite.published else "By epoch", tables=(self.study,))
            )
        if suite.factors and self._by_level(next(iter(suite.factors))):
            simple = self.simple_effects
            tables = (self.grid, self.effect_table, *((simple,) if simple else ()))
            sections.append(Section("Factor by factor", tables=tables))
        sections.append(
            Section(
                "Patterns that upsampling leaves",
                paragraphs=(
                    "Over all validation maps together, at least 16 residues from both ends of a chain. A true map has "
                    "patterns of its own: figures are to be read beside its.",
                ),
                tables=self.artefacts,
            )
        )
        sections += (each.section for each in self.others)
        sections.append(Section("Figures", pictures=tuple(draw_comparison(comparison, folder))))
        if self.missing:
            sections.append(Section("What is missing", points=self.missing))
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
        told = []
        for key, name in (
            ("recipe.epochs", "epochs"), ("recipe.batch_size", "batch"), ("recipe.lr", "learning rate"),
            ("recipe.optimizer", "optimiser"), ("recipe.loss", "loss"), ("recipe.crop", "crop"),
            ("run.precision", "precision"), ("run.device_name", "device"),
        ):  # fmt: skip
            values: dict[str, list[str]] = {}
            for model in self.comparison.models:
                values.setdefault(model.params.get(key, ""), []).append(model.name)
            told.append(
                f"{name} {next(iter(values))}"
                if len(values) == 1
                else f"{name} " + ", ".join(f"{value} ({'; '.join(names)})" for value, names in values.items())
            )
        return f"Trained with: {'; '.join(told)}. The reference is {self.suite.reference}."

    @property
    def _repeat(self) -> Section:
        commits = sorted(
            {run.commit for each in (self.comparison, *self.others) for m in each.models for run in m.runs}
        )
        command = self.parent.tags.get(COMMAND) or f"protcli suite run {self.suite.name}"
        return Section(
            "How to repeat it",
            paragraphs=(
                f"Commit{'s' if len(commits) > 1 else ''} {', '.join(commits)}; the suite's own run is "
                f"{self.parent.id}, in MLflow's experiment suite-{self.suite.name}. A single run: protcli train "
                "--config with the config.yaml among its artifacts.",
            ),
            tables=(self.run_table,),
            commands=(command, f"protcli suite report {self.suite.name}"),
        )

    @property
    def note(self) -> str:
        """The short version, for the page of the suite's run in MLflow."""
        parts = [f"# Suite {self.suite.name}", self.suite.question]
        if self._warning:
            parts.append(f"**{self._warning}**")
        parts += [
            self.comparison.data.sentence,
            "\n".join(f"- {sentence}" for sentence in self.conclusions),
            self.comparison.results.to_markdown(),
            f"The whole report is the artifact `{FOLDER}/{HTML}`; the suite's runs are folded under this one.",
        ]
        return "\n\n".join(parts)


def publish(report: Report, out: Path | None = None) -> Path | None:
    """Keep the report with the suite's run and, where a folder is given, there: HTML, Markdown and its pictures.

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
        log.artifact(folder / HTML, FOLDER)
        log.note(report.note)
        if out is None:
            return None
        try:
            out.mkdir(parents=True, exist_ok=True)
            for path in sorted(folder.iterdir()):
                partial = out / f"{path.name}.partial"
                partial.write_bytes(path.read_bytes())
                partial.replace(out / path.name)
        except OSError as error:
            raise ProtcliError(f"{out} cannot be written to: {error.strerror}") from error
        return out / HTML


def percent_improvement(reference: float, value: float) -> float:
    """By how many per cent of the reference a value is lower."""
    return 100 * (reference - value) / reference


def level_name(factor: str, level: Any) -> str:
    """`bilinear`, `dropout 0.3`: a word says what it is a level of, a number does not."""
    return level if isinstance(level, str) else f"{factor} {level}"


def _family(cell: Cell) -> str:
    """Its levels but that of the last factor: what is drawn in one colour."""
    return ", ".join(level_name(*each) for each in list(cell.levels.items())[:-1])


def _mean_difference(model: str, other: str, pairs: Sequence[tuple[ModelRuns, ModelRuns]]) -> Difference:
    """How much better the second of each pair is, mean over pairs."""
    firsts, seconds = zip(*pairs, strict=True)
    share = 1 / len(pairs)
    gain = contrast([each.errors for each in (*firsts, *seconds)], [share] * len(pairs) + [-share] * len(pairs))
    mean = float(np.mean([each.mse.value for each in firsts]))
    alone = tuple(each.name for each in (*firsts, *seconds) if each.is_one_seed)
    return Difference(model, other, gain, gain.scaled(100 / mean), alone)


def _effects_sentence(factor: str, others: Sequence[str], gains: Sequence[Difference]) -> str:
    claimed, unclaimed = [], []
    for gain in gains:
        if gain.improvement.excludes_zero:
            better = gain.improvement.value > 0
            winner, loser = (gain.model, gain.other) if better else (gain.other, gain.model)
            claimed.append(f"{winner} beats {loser} by {interval(gain.improvement.scaled(1 if better else -1))} Å²")
        else:
            unclaimed.append(f"{gain.model} against {gain.other} ({interval(gain.improvement)} Å²)")
    if unclaimed:
        claimed.append(f"no difference can be claimed for {', '.join(unclaimed)}")
    averaged = f", averaged over {' and '.join(others)}" if others else ""
    return f"Of {factor}{averaged}: {'; '.join(claimed)}{of_weights(gains)}."


def _verdict(gain: Difference) -> str:
    if not gain.improvement.excludes_zero:
        return "no"
    limit = " (these weights)" if gain.one_seed else ""
    return f"{gain.model if gain.improvement.value > 0 else gain.other} is better{limit}"


def _mean(model: ModelRuns, name: str) -> float:
    """A figure's mean over seeds; NaN for one that no protein has."""
    return float(np.mean([run.measurement.metrics[name] for run in model.runs]))


def _symbol(kind: str, period: int) -> str:
    """`A₈` of a checkerboard, `G₃₂` of blockiness."""
    return ("A" if kind == "checkerboard" else "G") + str(period).translate(SUBSCRIPTS)


def _or_none(value: float, places: int = 2) -> str:
    return "" if np.isnan(value) else f"{value:.{places}f}"


def _histories(model: ModelRuns, unit: str) -> list[dict[int, float]]:
    if unit == "mse":
        return [run.valid_mse for run in model.runs]
    return [run.run.history(f"valid/{unit}") for run in model.runs]


def _at_epochs(model: ModelRuns, unit: str, scale: float) -> dict[int, Estimate]:
    """Validation at each epoch that all seeds have: mean over seeds."""
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
