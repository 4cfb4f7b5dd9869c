"""Cells that differ in the levels of several factors: the effect of each factor, separated from the others."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from protcli.experiments.comparing.sentences import Difference, of_weights
from protcli.experiments.comparing.trained_runs import ModelRuns
from protcli.experiments.pages.page import Section, Table, interval
from protcli.experiments.statistics.intervals import contrast
from protcli.experiments.studies.suite import level_name


@dataclass(frozen=True, eq=False)
class Factorial:
    """Attributes:
    factors: levels by factor, in order.
    models: the trained cells, each with its levels by factor.
    """

    factors: Mapping[str, Sequence[Any]]
    models: Sequence[tuple[ModelRuns, Mapping[str, Any]]]

    @property
    def effects(self) -> dict[str, list[Difference]]:
        """Main effects: for each factor every pair of its levels, the later against the earlier."""
        return {
            factor: [
                gain
                for first, second in combinations(levels, 2)
                if (gain := self._effect(factor, first, second)) is not None
            ]
            for factor, levels in self.factors.items()
        }

    def _effect(self, factor: str, first: Any, second: Any) -> Difference | None:
        """How much better the second level is, mean over the other factors' levels at which both were trained."""
        pairs = [
            (by_level[first], by_level[second])
            for by_level in self._by_level(factor).values()
            if first in by_level and second in by_level
        ]
        return _mean_difference(level_name(factor, second), level_name(factor, first), pairs) if pairs else None

    def _by_level(self, factor: str) -> dict[str, dict[Any, ModelRuns]]:
        """Models by the other factors' levels (as text), then by this factor's level."""
        by_level: dict[str, dict[Any, ModelRuns]] = {}
        for model, levels in self.models:
            rest = ", ".join(level_name(other, level) for other, level in levels.items() if other != factor)
            by_level.setdefault(rest, {})[levels[factor]] = model
        return by_level

    @property
    def conclusions(self) -> list[str]:
        """What may be claimed about each factor, one sentence per factor."""
        return [self._sentence(factor, gains) for factor, gains in self.effects.items() if gains]

    def _sentence(self, factor: str, gains: Sequence[Difference]) -> str:
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
        others = [other for other in self.factors if other != factor]
        averaged = f", averaged over {' and '.join(others)}" if others else ""
        return f"Effect of {factor}{averaged}: {'; '.join(claimed)}{of_weights(gains)}."

    @property
    def grid(self) -> Table:
        """Validation MSE of the cells: one row per combination of all factors but the last."""
        *_, last = self.factors
        levels = self.factors[last]
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
            ("factor", "levels", "Å²", "%", "claim"),
            tuple(rows),
        )

    @property
    def simple_effects(self) -> Table | None:
        """The last factor's effect at each combination of the others; None if there is only one factor."""
        if len(self.factors) < 2:
            return None
        *_, last = self.factors
        first, *others = self.factors[last]
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
            f"Effect of {last} at each level of the other factors: improvement (Å²) [95 % interval]",
            ("", "levels", "Å²"),
            tuple(rows),
            f"It ranges from {low:.2f} Å² ({where_low}) to {high:.2f} Å² ({where_high}); the further apart these are, "
            "the less a main effect says about any one cell.",
        )

    @property
    def section(self) -> Section:
        """The whole analysis as a section of a page."""
        simple = self.simple_effects
        return Section("Factor by factor", tables=(self.grid, self.effect_table, *((simple,) if simple else ())))


def _mean_difference(model: str, other: str, pairs: Sequence[tuple[ModelRuns, ModelRuns]]) -> Difference:
    """How much better the second model of each pair is, mean over pairs."""
    firsts, seconds = zip(*pairs, strict=True)
    share = 1 / len(pairs)
    gain = contrast([runs.errors for runs in (*firsts, *seconds)], [share] * len(pairs) + [-share] * len(pairs))
    mean = float(np.mean([runs.mse.value for runs in firsts]))
    one_seed = tuple(runs.name for runs in (*firsts, *seconds) if runs.is_one_seed)
    return Difference(model, other, gain, gain.scaled(100 / mean), one_seed)


def _verdict(gain: Difference) -> str:
    if not gain.improvement.excludes_zero:
        return "none"
    limit = " (these weights)" if gain.one_seed else ""
    return f"{gain.model if gain.improvement.value > 0 else gain.other} is better{limit}"
