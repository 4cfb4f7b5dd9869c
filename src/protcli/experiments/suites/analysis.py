"""A suite's runs analysed: the comparisons that it asks for, and what may be concluded from them."""

from dataclasses import replace

import numpy as np

from protcli.experiments.comparing.comparison import Comparison
from protcli.experiments.comparing.differences import (
    BASELINE,
    Difference,
    adjusted,
    comparison_summary,
    multiplicity_note,
)
from protcli.experiments.configuration import Configuration, grouped
from protcli.experiments.statistics.multiplicity import ALPHA, level_of_looks
from protcli.experiments.suites.factorial import Factorial
from protcli.experiments.suites.learning_curve import LearningCurve, proteins_of
from protcli.experiments.suites.suite import SuiteRuns
from protcli.experiments.suites.tables import pattern_sentences
from protcli.tracking.keys import File, Param

MOST_LISTED = 4  # differences from the reference that the conclusions list one by one


class Analysis:
    """What a suite's runs say.

    Args:
        suite_runs: the suite's runs, whose scores are read now, unless they have been.

    Attributes:
        suite, missing: as in `SuiteRuns`.
        diverged: as in `SuiteRuns`, for every cell.
        comparison: of the cells that were measured on the reference's data, or on the first cell's.
        others: of the cells that were measured on other data.
        factorial: None if the suite has no factors.
        primary: the primary comparison; None if the suite names none, or if it cannot be made.
        over_reference, pairs, effects, simple_effects, over_sepmean: all others, with p-values adjusted for each other;
            what two of them ask for is in the first only.
        secondary: these together.
        learning_curve: None if the suite has none, or fewer than two of its cells have runs.
    """

    def __init__(self, suite_runs: SuiteRuns) -> None:
        self.suite, self.missing = suite_runs.suite, suite_runs.missing
        self.diverged = {cell.name: suite_runs.diverged.get(cell.name, ()) for cell in self.suite.cells}
        levels = self.suite.levels
        by_data = grouped(suite_runs.configurations, lambda model: model.data)
        self.others = [self._comparison(members) for members in by_data.values()]
        first = next((other for other in self.others if other.reference != File.SEPMEAN), self.others[0])
        self.others.remove(first)
        self.comparison = first
        self.factorial: Factorial | None = None
        if members := [(model, levels[model.name]) for model in first.models if levels[model.name]]:
            self.factorial = Factorial(self.suite.factors, members)
        self._compare()
        self.learning_curve: LearningCurve | None = None
        if asked := self.suite.learning_curve:
            on_shares = [model for model in first.models if model.name in asked.cells]
            if len(on_shares) > 1:
                ordered = sorted(on_shares, key=lambda model: proteins_of(model.runs[0]))
                families = first.data.families
                everything = np.ones(len(families), dtype=bool)
                self.learning_curve = LearningCurve(tuple(ordered), families, asked.target, everything)

    def _comparison(self, models: list[Configuration]) -> Comparison:
        names = {model.name for model in models}
        data = models[0].data
        all_diverged = [
            Configuration(cell, (), data, len(runs))
            for cell, runs in self.diverged.items()
            if runs and cell not in names and runs[0].params[Param.DIGEST] == data.digest
        ]
        reference = self.suite.reference if self.suite.reference in names else File.SEPMEAN
        return Comparison(tuple(models), reference, tuple(all_diverged))

    def _compare(self) -> None:
        """The comparisons on the page: the primary one, and all others with p-values adjusted for each other."""
        comparison, suite = self.comparison, self.suite
        trained = {model.name for model in comparison.models}
        self.primary = None
        if suite.primary and set(suite.primary) <= trained:
            self.primary = replace(
                self._improvement(*suite.primary), alpha=level_of_looks(suite.looks) if suite.looks else ALPHA
            )
        pairs = [self._improvement(model, other) for model, other in suite.pairs if {model, other} <= trained]
        effects, simple = (self.factorial.effects, self.factorial.simple_effects) if self.factorial else ([], [])
        known: set[tuple[str, str, str]] = {self.primary.key} if self.primary else set()
        groups = []
        for gains in (comparison.over_reference, pairs, effects, simple, comparison.over_sepmean):
            # a comparison that two parts of the page ask for is made once
            groups.append([replace(gain, equal_within=suite.equal_within) for gain in gains if gain.key not in known])
            known |= {gain.key for gain in gains}
        everything = adjusted(groups)
        self.over_reference, self.pairs, self.effects, self.simple_effects, self.over_sepmean = everything
        self.secondary = [gain for gains in everything for gain in gains]

    def _improvement(self, model: str, other: str) -> Difference:
        gain = self.comparison.improvement(self.comparison.find(model), other)
        return replace(gain, equal_within=self.suite.equal_within)

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
        seeds = len(best.kept)
        of = f" ({seeds} seed{'s' * (seeds > 1)} that did not collapse)" if best.has_few_seeds else ""
        sentences.append(
            f"Lowest validation MSE of the trained models: {best.name}{of}, {best.mse.format()} Å², "
            f"{best.mse.value / comparison.sepmean.mse:.3f} of sepmean's {comparison.sepmean.mse:.2f} Å²."
        )
        if len(self.over_reference) <= MOST_LISTED:
            sentences += [gain.sentence for gain in self.over_reference]
        else:
            sentences.append(comparison_summary(self.over_reference, f"the reference {comparison.reference}"))
        sentences += [gain.sentence for gain in self.pairs]
        if self.factorial:
            sentences += self.factorial.conclusions(self.effects)
        if self.learning_curve:
            sentences += self.learning_curve.sentences
        sentences.append(comparison_summary(self.over_sepmean, BASELINE))
        sentences += pattern_sentences(comparison)
        sentences += comparison.domination([*([self.primary] if self.primary else []), *self.secondary])
        sentences += comparison.reservations
        sentences.append(multiplicity_note(len(self.secondary)))
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
            f"{n} of {n} run{'s' * (n > 1)} of {cell} diverged" if n else f"no run of {cell} has finished"
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
        where = "one of the declared looks" if len(self.suite.looks) > 1 else "the declared look"
        each = ", each" if len(self.suite.looks) > 1 else ""
        sentence = f"It may be decided at {where} ({looks} seeds){each} at p {self.primary.alpha:.4f}"
        if seeds not in self.suite.looks:
            return [f"{sentence}; now there {'are' if seeds > 1 else 'is'} {seeds}: this is no decision."]
        is_decided = self.primary.is_claimed or self.primary.is_equal
        return [f"{sentence}; at {seeds} seeds it is {'decided' if is_decided else 'not decided'}."]
