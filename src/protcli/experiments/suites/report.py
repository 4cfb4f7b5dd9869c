"""A suite's runs, found by its name: the comparisons that it asks for, and what may be concluded from them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import starmap
from pathlib import Path

import numpy as np

from protcli.errors import ProtcliError, quote
from protcli.experiments.comparing.comparison import Comparison
from protcli.experiments.comparing.differences import BASELINE, Difference, adjusted, comparison_summary
from protcli.experiments.configuration import Configuration, data_of, grouped, why_not_finished
from protcli.experiments.statistics.multiplicity import ALPHA, level_of_looks
from protcli.experiments.suites.factorial import Factorial
from protcli.experiments.suites.learning_curve import LearningCurve, proteins_of
from protcli.experiments.suites.suite import Suite, find_suite, level_name, read_suite, suite_names
from protcli.experiments.suites.tables import pattern_sentences
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
        found = []
        for cells in grouped(self.configurations, lambda cell: cell.data).values():
            if names := {cell.name for cell in cells if cell.runs}:
                found.append(
                    Comparison(tuple(cells), self.suite.reference if self.suite.reference in names else File.SEPMEAN)
                )
        return sorted(found, key=lambda each: each.reference == File.SEPMEAN)

    @property
    def comparison(self) -> Comparison:
        """The first of them, which the conclusions are about."""
        return self.comparisons[0]

    @cached_property
    def factorial(self) -> Factorial:
        """The cells of the suite's factors; none if it has no factors."""
        levels = self.suite.levels
        members = [(model, levels[model.name]) for model in self.comparison.models if levels[model.name]]
        return Factorial(self.suite.factors, members)

    @cached_property
    def learning_curve(self) -> LearningCurve | None:
        """None if the suite has none, or fewer than two of its cells have runs."""
        asked = self.suite.learning_curve
        models = [model for model in self.comparison.models if asked and model.name in asked.cells]
        if asked is None or len(models) < 2:
            return None
        families = self.comparison.data.families
        ordered = sorted(models, key=lambda model: proteins_of(model.runs[0]))
        return LearningCurve(tuple(ordered), families, asked.target, np.ones(len(families), dtype=bool))

    @cached_property
    def primary(self) -> Difference | None:
        """The primary comparison; None if the suite names none, or if it cannot be made."""
        alpha = level_of_looks(self.suite.looks) if self.suite.looks else ALPHA
        return next((replace(gain, alpha=alpha) for gain in self._gains([self.suite.primary])), None)

    def _gains(self, pairs: Iterable[tuple[str, str] | None]) -> list[Difference]:
        """The comparisons of pairs of cells that both have figures."""
        trained = {model.name for model in self.comparison.models}
        gains = [self.comparison.improvement(*pair) for pair in pairs if pair and trained.issuperset(pair)]
        return self._with_margin(gains)

    def _with_margin(self, gains: Iterable[Difference]) -> list[Difference]:
        return [replace(gain, equal_within=self.suite.equal_within) for gain in gains]

    @cached_property
    def groups(self) -> list[list[Difference]]:
        """All other comparisons, with p-values adjusted for each other: those with the reference, the suite's pairs,
        main effects, simple effects, those with sepmean. What two groups ask for is in the first only."""
        comparison, factorial, pairs = self.comparison, self.factorial, self._gains(self.suite.pairs)
        known = {self.primary.key} if self.primary else set()
        groups = []
        effects = factorial.effects, factorial.simple_effects
        for gains in (comparison.over_reference, pairs, *effects, comparison.over_sepmean):
            groups.append([gain for gain in self._with_margin(gains) if gain.key not in known])
            known |= {gain.key for gain in gains}
        return adjusted(groups)

    @property
    def differences(self) -> list[Difference]:
        """All comparisons, the primary one first."""
        return [*([self.primary] if self.primary else []), *(gain for gains in self.groups for gain in gains)]

    @property
    def asked(self) -> list[Difference]:
        """The primary comparison, those with the reference, and the suite's pairs."""
        over_reference, pairs, *_ = self.groups
        return [*([self.primary] if self.primary else []), *over_reference, *pairs]

    @property
    def conclusions(self) -> tuple[str, ...]:
        """Conclusions, in sentences computed from the figures."""
        comparison, (over_reference, pairs, effects, _, over_sepmean) = self.comparison, self.groups
        trained = [model for model in comparison.models if not model.is_fitted] or comparison.models
        best = min(trained, key=lambda model: model.mse.value)
        sentences = []
        if self.primary:
            sentences += [f"The primary comparison: {self.primary.sentence}", *self._looks]
        elif self.suite.primary:
            sentences.append("The primary comparison cannot be made.")
        sentences += self.not_compared
        seeds = len(best.kept)
        of = f" ({seeds} seed{'s' * (seeds > 1)} that did not collapse)" if best.has_few_seeds else ""
        sentences.append(
            f"Lowest validation MSE of the trained models: {best.name}{of}, {best.mse.format()} Å², "
            f"{best.mse.value / comparison.sepmean.mse:.3f} of sepmean's {comparison.sepmean.mse:.2f} Å²."
        )
        if len(over_reference) <= MOST_LISTED:
            sentences += [gain.sentence for gain in over_reference]
        else:
            sentences.append(comparison_summary(over_reference, f"the reference {comparison.reference}"))
        sentences += [gain.sentence for gain in pairs]
        sentences += self.factorial.conclusions(effects)
        if self.learning_curve:
            sentences += self.learning_curve.sentences
        sentences.append(comparison_summary(over_sepmean, BASELINE))
        sentences += pattern_sentences(comparison)
        sentences += comparison.caveats(self.differences)
        if self.missing:
            sentences.append("The suite is not complete: the report lists the missing runs.")
        return tuple(sentences)

    @property
    def not_compared(self) -> list[str]:
        """Which of the comparisons that the suite asks for are not made, because a cell has no figures, and why."""
        suite, fitted = self.suite, {cell.name for cell in self.suite.cells if cell.spec.is_fitted}
        names = [cell.name for cell in suite.cells]
        without = [name for name in names if name not in {cell.name for cell in self.configurations if cell.runs}]
        over_reference = [(name, suite.reference) for name in names if not {name, suite.reference} & fitted]
        wanted = dict.fromkeys([*([suite.primary] if suite.primary else []), *suite.pairs, *over_reference])
        pairs = [f"{a} with {b}" for a, b in wanted if a != b and {a, b} & set(without)]
        if not pairs:
            return []
        diverged = {cell.name: len(cell.diverged) for cell in self.configurations}
        reasons = [
            f"{n} of {n} run{'s' * (n > 1)} of {name} diverged"
            if (n := diverged.get(name))
            else f"no run of {name} has finished"
            for name in without
        ]
        return [f"Not compared: {', '.join(pairs)} ({'; '.join(reasons)})."]

    @property
    def _looks(self) -> list[str]:
        """How often the primary comparison may be looked at, and whether this is one of those times."""
        if not self.suite.looks or self.primary is None:
            return []
        looks = ", ".join(map(str, self.suite.looks))
        seeds = min(len(self.comparison.find(name).runs) for name in (self.primary.model, self.primary.other))
        where = "one of the declared looks" if len(self.suite.looks) > 1 else "the declared look"
        each = ", each" if len(self.suite.looks) > 1 else ""
        sentence = f"It may be decided at {where} ({looks} seeds){each} at p {self.primary.alpha:.4f}"
        if seeds not in self.suite.looks:
            return [f"{sentence}; now there {'are' if seeds > 1 else 'is'} {seeds}: this is no decision."]
        is_decided = self.primary.is_claimed or self.primary.is_equal
        return [f"{sentence}; at {seeds} seeds it is {'decided' if is_decided else 'not decided'}."]


def configurations_of(suite: Suite, runs: Sequence[Run]) -> tuple[Configuration, ...]:
    """The cells with runs that finished or diverged. Those that differ in the last factor alone have one colour."""
    by_cell = grouped(runs, lambda run: run.tags[Tag.CELL])
    data = {digest: data_of(members) for digest, members in grouped(runs, _digest).items()}
    found = []
    for name, levels in suite.levels.items():
        if members := sorted(by_cell.get(name, ()), key=_is_lost):
            finished = tuple(run for run in members if not _is_lost(run))
            colour = ", ".join(starmap(level_name, list(levels.items())[:-1]))
            lost = tuple(filter(_is_lost, members))
            found.append(Configuration(name, finished, data[_digest(members[0])], lost, colour_group=colour))
    return tuple(found)


def _digest(run: Run) -> str:
    return run.params.get(Param.DIGEST, "")  # a run that diverged may have none


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
    latest: dict[tuple[str, str], Run] = {}
    for child in find_runs(tags={Tag.PARENT: parent.id}):
        key = child.tags.get(Tag.CELL, ""), child.tags.get(Tag.SUITE_SEED, "")
        if key not in latest or child.status == "FINISHED" or latest[key].status != "FINISHED":
            latest[key] = child
    begun = [int(seed) + 1 for _, seed in latest if seed.isdigit()]
    runs, missing = [], []
    for cell in suite.cells:
        seeds_by_reason: dict[str, list[str]] = {}
        for seed in map(str, range(max([int(parent.tags.get(Tag.SEEDS, suite.seeds)), *begun]))):
            run = latest.get((cell.name, seed))
            if run is None or (reason := "" if _is_lost(run) else _why_missing(run)):
                seeds_by_reason.setdefault("not started" if run is None else reason, []).append(seed)
            else:
                runs.append(run)
        for reason, seeds in seeds_by_reason.items():
            missing.append(f"{cell.name}, seed{'s' * (len(seeds) > 1)} {', '.join(seeds)}: {reason}")
    report = SuiteReport(suite, parent, configurations_of(suite, runs), tuple(missing), others)
    if not report.runs:
        lost = [f"{cell.name}: {len(cell.diverged)} runs diverged" for cell in report.configurations]
        reasons = "; ".join([*missing, *lost])
        raise ProtcliError(f"no run of suite {suite.name} has finished (run {parent.id}): {reasons}")
    return report


def _find_parent(name: str, run_id: str | None) -> tuple[Suite, Run, tuple[Run, ...]]:
    """The requested suite, the parent of its runs, and the other parents of suites with its name."""
    path = Path(name)
    own = find_suite(name) if path.suffix in (".yaml", ".yml") else None
    title, folder = (own.name, path.parent) if own else (name, Path())
    if not title.replace("-", "").replace("_", "").isalnum():
        raise ProtcliError(f"there is no suite {quote(name)}: choose {', '.join(suite_names())}, or name a .yaml file")
    parents = [run for run in find_runs(tags={Tag.SUITE: title}) if Tag.PARENT not in run.tags]
    if not parents:
        find_suite(name)  # is there such a suite?
        raise ProtcliError(f"suite {title} has not been run here: run it with `protcli suite run {name}`")
    candidates = parents
    if run_id is not None:
        candidates = [find_run(run_id)]
        if candidates[0].id not in {run.id for run in parents}:
            raise ProtcliError(f"run {run_id} does not hold the runs of suite {title}: name the suite's own run")
    for run in reversed(candidates):
        text = run.path(File.SUITE).read_text(encoding="utf-8")
        kept = read_suite(title, text, f"{File.SUITE} of run {run.id}", folder)  # as it was last started or continued
        if own is None or own.makeup == kept.makeup:
            return own or kept, run, tuple(other for other in parents if other.id != run.id)
    ids = f"run{'s' * (len(candidates) > 1)} {', '.join(run.id for run in candidates)}"
    raise ProtcliError(
        f"{name} has other cells than what was run as suite {title} ({ids}): run it with `protcli suite run {name}`, "
        f"or report what was run with `protcli suite report {title}`"
    )


def _why_missing(run: Run) -> str:
    """Why a training of a suite cannot be reported; empty where it can."""
    if run.status == "FINISHED":
        return (reason := why_not_finished(run)) and f"run {run.id}: {reason}"
    error = run.tags.get(Tag.ERROR, "")
    return f"{run.status} (run {run.id})" + (f": {error}" if error else "")
