"""A suite's runs, found by its name: the comparisons that it asks for, and what may be concluded from them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain, starmap
from pathlib import Path

import numpy as np

from protcli.errors import ProtcliError
from protcli.experiments.comparing.comparison import Comparison
from protcli.experiments.comparing.differences import BASELINE, Difference, Sides, adjusted, comparison_summary
from protcli.experiments.configuration import Configuration, data_of, grouped, why_not_finished
from protcli.experiments.pages import Table
from protcli.experiments.statistics.contrasts import ALPHA, level_of_looks
from protcli.experiments.suites.factorial import Factorial
from protcli.experiments.suites.learning_curve import LearningCurve, proteins_of
from protcli.experiments.suites.suite import Suite, find_suite, is_suite_name, level_name, read_suite
from protcli.experiments.suites.tables import track_tables, upsampling_patterns
from protcli.tracking.keys import File, Param, Tag
from protcli.tracking.run import Run, find_run, find_runs

MOST_LISTED = 4  # differences from the reference that the conclusions list one by one


@dataclass(frozen=True, eq=False)
class SuiteReport:
    """What a suite's runs say, as far as it ran; their scores are read when they are needed.

    Attributes:
        suite: as it was run.
        parent: the run that holds the others.
        configurations: the cells with runs that finished or diverged; one that diverged would diverge again.
        missing: what else is not finished and why, in sentences.
        others: parent runs of suites with the same name but other settings or data.
    """

    suite: Suite
    parent: Run
    configurations: tuple[Configuration, ...]
    missing: tuple[str, ...] = ()
    others: tuple[Run, ...] = ()

    @property
    def runs(self) -> list[Run]:
        """All finished runs, cell by cell."""
        return [run for cell in self.configurations for run in cell.runs]

    @cached_property
    def comparisons(self) -> list[Comparison]:
        """Of the cells on each data set; that of the reference, or else of the first cell, comes first."""
        comparisons = []
        for cells in grouped(self.configurations, lambda cell: cell.data).values():
            if names := {cell.name for cell in cells if cell.runs}:
                reference = self.suite.reference if self.suite.reference in names else File.SEPMEAN
                comparisons.append(Comparison(tuple(cells), reference))
        return sorted(comparisons, key=lambda comparison: comparison.reference == File.SEPMEAN)

    @property
    def comparison(self) -> Comparison:
        """The first of them, which the conclusions are about."""
        return self.comparisons[0]

    @cached_property
    def factorial(self) -> Factorial:
        """The cells of the suite's factors; none if it has no factors."""
        levels = self.suite.levels
        cells = [(model, levels[model.name]) for model in self.comparison.models if levels[model.name]]
        return Factorial(self.suite.factors, cells)

    @cached_property
    def learning_curve(self) -> LearningCurve | None:
        """None if the suite has none, or fewer than two of its cells have runs."""
        asked = self.suite.learning_curve
        models = [model for model in self.comparison.models if asked and model.name in asked.cells]
        if asked is None or len(models) < 2:
            return None
        by_proteins = sorted(models, key=lambda model: proteins_of(model.runs[0]))
        return LearningCurve(tuple(by_proteins), asked.target, np.ones(len(models[0].data.families), dtype=bool))

    @cached_property
    def track(self) -> tuple[tuple[Table, ...], str]:
        """Tables by the training proteins seen, and the models' ranking; nothing unless the suite counts them."""
        return track_tables(self.comparison, self.suite.samples) if self.suite.samples else ((), "")

    def _improvements(self, *pairs: tuple[str, str]) -> list[Difference]:
        """The comparisons of pairs of cells that both have figures."""
        trained = {model.name for model in self.comparison.models}
        return [self.comparison.improvement(*pair) for pair in pairs if trained.issuperset(pair)]

    @property
    def _primary_sides(self) -> Sides:
        return frozenset((name,) for name in self.suite.primary or ())

    def _as_asked(self, gains: Iterable[Difference]) -> list[Difference]:
        """The comparisons with the suite's margin of equality; the primary one with the level of its looks."""
        alphas = {self._primary_sides: level_of_looks(self.suite.looks or (self.suite.seeds,))}
        equal = self.suite.equal_within
        return [replace(gain, equal_within=equal, alpha=alphas.get(gain.sides, ALPHA)) for gain in gains]

    @cached_property
    def primary(self) -> Difference | None:
        """The primary comparison; None if the suite names none, or if it cannot be made."""
        gains = self._improvements(*filter(None, [self.suite.primary]))
        return next(iter(self._as_asked(gains)), None)

    @property
    def is_decided(self) -> bool:
        """Whether a difference, or equality within the margin, may be claimed of the primary comparison."""
        return self.primary is not None and (self.primary.is_claimed or self.primary.is_equal)

    @cached_property
    def groups(self) -> list[list[Difference]]:
        """All other comparisons, with p-values adjusted for each other: those with the reference, the suite's pairs,
        main effects, simple effects, those with sepmean. What two groups ask for is in the first only, but an effect
        of a factor is in their tables always."""
        comparison, factorial, pairs = self.comparison, self.factorial, self._improvements(*self.suite.pairs)
        known, groups = {self._primary_sides}, []
        for gains in (comparison.over_reference, pairs, comparison.over_sepmean):
            once = {gain.sides: gain for gain in self._as_asked(gains) if gain.sides not in known}
            known |= once.keys()
            groups.append(list(once.values()))
        groups[2:2] = map(self._as_asked, (factorial.effects, factorial.simple_effects))
        return adjusted(groups, self._primary_sides)

    @property
    def differences(self) -> list[Difference]:
        """All comparisons, each once: the effects of factors first, since others name their cells."""
        return list({gain.sides: gain for gain in chain(*self.groups[2:], self.asked)}.values())

    @property
    def asked(self) -> list[Difference]:
        """The primary comparison, those with the reference, and the suite's pairs."""
        return [*filter(None, [self.primary]), *chain(*self.groups[:2])]

    @property
    def conclusions(self) -> tuple[str, ...]:
        """Conclusions, in sentences computed from the figures."""
        comparison, (over_reference, pairs, effects, _, over_sepmean) = self.comparison, self.groups
        trained = [model for model in comparison.models if not model.is_fitted] or comparison.models
        best = min(trained, key=lambda model: model.mse.value)
        seeds = len(best.kept)
        of = f" ({seeds} seed{'s' * (seeds > 1)} that did not collapse)" if best.has_few_seeds else ""
        one_by_one = [gain.sentence for gain in over_reference]
        if len(over_reference) > MOST_LISTED:
            one_by_one = [comparison_summary(over_reference, f"the reference {comparison.reference}")]
        return (
            *self._about_the_primary,
            *self.not_compared,
            f"Lowest validation MSE of the trained models: {best.name}{of}, {best.mse.format()} Å², "
            f"{best.mse.value / comparison.sepmean.mse:.3f} of sepmean's {comparison.sepmean.mse:.2f} Å².",
            *filter(None, [self.track[1]]),
            *one_by_one,
            *(gain.sentence for gain in pairs),
            *self.factorial.conclusions(effects),
            *(self.learning_curve.sentences if self.learning_curve else ()),
            comparison_summary(over_sepmean, BASELINE),
            *(sentence for _, sentence in upsampling_patterns(comparison) if sentence),
            *comparison.caveats(self.differences),
            *(["The suite is not complete: the report lists the missing runs."] if self.missing else []),
        )

    @property
    def not_compared(self) -> list[str]:
        """Which of the comparisons that the suite asks for are not made, because a cell has no figures, and why."""
        suite, begun = self.suite, {cell.name: cell for cell in self.configurations}
        trained = [cell.name for cell in suite.cells if not cell.spec.is_fitted]
        over_reference = [(name, suite.reference) for name in trained if suite.reference in trained]
        without = [cell.name for cell in suite.cells if not (cell.name in begun and begun[cell.name].runs)]
        wanted = {frozenset(pair): pair for pair in filter(None, [suite.primary, *suite.pairs, *over_reference])}
        pairs = [f"{a} with {b}" for a, b in wanted.values() if a != b and {a, b} & set(without)]
        reasons = [
            f"{n} of {n} run{'s' * (n > 1)} of {name} diverged"
            if (n := begun[name].seeds if name in begun else 0)
            else f"no run of {name} has finished"
            for name in without
        ]
        return [f"Not compared: {', '.join(pairs)} ({'; '.join(reasons)})."] if pairs else []

    @property
    def _about_the_primary(self) -> list[str]:
        """What the primary comparison says, and whether this is one of the declared looks at it."""
        looks = self.suite.looks
        if self.primary is None:
            return ["The primary comparison cannot be made."] if self.suite.primary else []
        sentence = f"The primary comparison: {self.primary.sentence}"
        if not looks:
            return [sentence]
        seeds = min(len(self.comparison.find(name).runs) for name in (self.primary.model, self.primary.other))
        where, each = ("one of the declared looks", ", each") if len(looks) > 1 else ("the declared look", "")
        state = f"at {seeds} seeds it is {'' if self.is_decided else 'not '}decided"
        if seeds not in looks:
            state = f"now there {'are' if seeds > 1 else 'is'} {seeds}: this is no decision"
        when = f"It may be decided at {where} ({', '.join(map(str, looks))} seeds){each} at p {self.primary.alpha:.4f}"
        return [sentence, f"{when}; {state}."]


def configurations_of(suite: Suite, runs: Sequence[Run]) -> tuple[Configuration, ...]:
    """The cells with runs that finished or diverged. Those that differ in the last factor alone have one colour."""
    by_cell = grouped(runs, lambda run: run.tags[Tag.CELL])
    # a run that diverged may have no digest
    data = {digest: data_of(members) for digest, members in grouped(runs, _digest).items()}
    configurations = []
    for name, levels in suite.levels.items():
        if name in by_cell:
            finished = tuple(run for run in by_cell[name] if not _is_lost(run))
            diverged = tuple(filter(_is_lost, by_cell[name]))
            colour = ", ".join(starmap(level_name, list(levels.items())[:-1]))
            on = data[_digest((*finished, *diverged)[0])]
            configurations.append(Configuration(name, finished, on, diverged, colour_group=colour))
    return tuple(configurations)


def _digest(run: Run) -> str:
    return run.params.get(Param.DIGEST, "")


def _is_lost(run: Run) -> bool:
    return bool(run.tags.get(Tag.DIVERGED))


def find_suite_report(name: str, run_id: str | None = None) -> SuiteReport:
    """What the runs of a suite say that has been run, or is being run.

    Args:
        name: of the suite, or its YAML file. A file decides what is reported, if its cells are those that were run.
        run_id: the run that holds the others; None takes the latest of that suite.

    Raises:
        ProtcliError: there is no such run, it holds no suite with that name and those cells, or none of its runs has
            finished yet.
    """
    suite, parent, others = _find_parent(name, run_id)
    latest = latest_runs(parent)
    begun = [int(seed) + 1 for _, seed in latest if seed.isdigit()]
    seeds = list(map(str, range(max([int(parent.tags.get(Tag.SEEDS, suite.seeds)), *begun]))))
    runs, missing = [], []
    for cell in suite.cells:
        reasons = {seed: _why_missing(latest.get((cell.name, seed))) for seed in seeds}
        by_reason = grouped(seeds, reasons.__getitem__)
        runs += [latest[cell.name, seed] for seed in by_reason.pop("", ())]
        missing += [
            f"{cell.name}, seed{'s' * (len(lacking) > 1)} {', '.join(lacking)}: {reason}"
            for reason, lacking in by_reason.items()
        ]
    report = SuiteReport(suite, parent, configurations_of(suite, runs), tuple(missing), others)
    if not report.runs:
        lost = [f"{cell.name}: {len(cell.diverged)} runs diverged" for cell in report.configurations]
        raise ProtcliError(
            f"no run of suite {suite.name} has finished (run {parent.id}): {'; '.join([*missing, *lost])}"
        )
    return report


def latest_runs(parent: Run) -> dict[tuple[str, str], Run]:
    """The run of each training of a suite, by cell and seed: of several the latest, but one that has finished first."""
    children = sorted(find_runs(tags={Tag.PARENT: parent.id}), key=lambda run: run.status == "FINISHED")
    return {(run.tags.get(Tag.CELL, ""), run.tags.get(Tag.SUITE_SEED, "")): run for run in children}


def _find_parent(name: str, run_id: str | None) -> tuple[Suite, Run, tuple[Run, ...]]:
    """The requested suite, the parent of its runs, and the other parents of suites with its name."""
    path = Path(name)
    asked = find_suite(name) if path.suffix in (".yaml", ".yml") else None
    title, folder = (asked.name, path.parent) if asked else (name, Path())
    parents = []
    if is_suite_name(title):
        parents = [run for run in find_runs(tags={Tag.SUITE: title}) if Tag.PARENT not in run.tags]
    if not parents:
        find_suite(name)  # is there such a suite?
        raise ProtcliError(f"suite {title} has not been run here: run it with `protcli suite run {name}`")
    candidates = [run for run in parents if run_id in (None, run.id)]
    if not candidates:
        find_run(str(run_id))  # is there such a run?
        raise ProtcliError(f"run {run_id} does not hold the runs of suite {title}: name the suite's own run")
    for run in reversed(candidates):
        text = run.path(File.SUITE).read_text("utf-8")
        kept = read_suite(title, text, f"{File.SUITE} of run {run.id}", folder)  # as it was last started or continued
        if asked is None or asked.makeup == kept.makeup:
            return asked or kept, run, tuple(other for other in parents if other.id != run.id)
    ids = f"run{'s' * (len(candidates) > 1)} {', '.join(run.id for run in candidates)}"
    raise ProtcliError(
        f"{name} has other cells than what was run as suite {title} ({ids}): run it with `protcli suite run {name}`, "
        f"or report what was run with `protcli suite report {title}`"
    )


def _why_missing(run: Run | None) -> str:
    """Why a training of a suite cannot be reported; empty where it can, or has diverged."""
    if run is None:
        return "not started"
    if _is_lost(run):
        return ""
    if run.status == "FINISHED":
        return (reason := why_not_finished(run)) and f"run {run.id}: {reason}"
    error = run.tags.get(Tag.ERROR, "")
    return f"{run.status} (run {run.id})" + (f": {error}" if error else "")
