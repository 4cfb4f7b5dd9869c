"""Cells that differ in the levels of several factors: the effect of each factor, separated from the others."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from typing import Any

from protcli.experiments.comparing.differences import Difference, compare_means, difference_table
from protcli.experiments.comparing.trained_runs import ModelRuns
from protcli.experiments.pages import Section, Table, interval
from protcli.experiments.studies.suite import level_name


@dataclass(frozen=True, eq=False)
class Factorial:
    """Attributes:
    factors: levels by factor, in order.
    models: the trained cells, each with its levels by factor.
    families: of the proteins that they were measured on.
    """

    factors: Mapping[str, Sequence[Any]]
    models: Sequence[tuple[ModelRuns, Mapping[str, Any]]]
    families: Sequence[str]

    @cached_property
    def effects(self) -> list[Difference]:
        """Main effects: for each factor every pair of its levels, the later against the earlier; their context is the
        factor. P-values are not adjusted."""
        return [
            gain
            for factor, levels in self.factors.items()
            for first, second in combinations(levels, 2)
            if (gain := self._effect(factor, first, second)) is not None
        ]

    def _effect(self, factor: str, first: Any, second: Any) -> Difference | None:
        """How much better the second level is, mean over the other factors' levels at which both were trained."""
        pairs = [
            (by_level[second], by_level[first])
            for by_level in self._by_level(factor).values()
            if first in by_level and second in by_level
        ]
        if not pairs:
            return None
        return compare_means(
            level_name(factor, second), level_name(factor, first), pairs, self.families, context=f"effect of {factor}"
        )

    @cached_property
    def simple_effects(self) -> list[Difference]:
        """The last factor's effect at each combination of the others, which is their context; none for one factor.
        P-values are not adjusted."""
        if len(self.factors) < 2:
            return []
        *_, last = self.factors
        first, *others = self.factors[last]
        return [
            compare_means(
                level_name(last, level), level_name(last, first), [(by_level[level], by_level[first])], self.families,
                context=rest,
            )
            for rest, by_level in self._by_level(last).items()
            for level in others
            if first in by_level and level in by_level
        ]  # fmt: skip

    def _by_level(self, factor: str) -> dict[str, dict[Any, ModelRuns]]:
        """Models by the other factors' levels (as text), then by this factor's level."""
        by_level: dict[str, dict[Any, ModelRuns]] = {}
        for model, levels in self.models:
            rest = ", ".join(level_name(other, level) for other, level in levels.items() if other != factor)
            by_level.setdefault(rest, {})[levels[factor]] = model
        return by_level

    def conclusions(self, effects: Sequence[Difference]) -> list[str]:
        """What may be claimed about each factor, one sentence per factor.

        Args:
            effects: `effects` with adjusted p-values.
        """
        sentences = []
        for factor in self.factors:
            if gains := [gain for gain in effects if gain.context == f"effect of {factor}"]:
                sentences.append(self._sentence(factor, gains))
        return sentences

    def _sentence(self, factor: str, gains: Sequence[Difference]) -> str:
        claimed, unclaimed = [], []
        unsaid = [f"{gain.model} against {gain.other}" for gain in gains if gain.few_seeds]
        for gain in gains:
            if gain.few_seeds:
                continue
            if gain.is_claimed:
                ahead = gain if gain.is_better else gain.reversed
                claimed.append(f"{ahead.model} beats {ahead.other} by {interval(ahead.percent, 1)} %")
            else:
                equal = f", equal within {gain.equal_within:g} %" if gain.is_equal else ""
                unclaimed.append(f"{gain.model} against {gain.other} ({interval(gain.percent, 1)} %{equal})")
        if unclaimed:
            claimed.append(f"no difference can be claimed for {', '.join(unclaimed)}")
        if unsaid:
            claimed.append(f"too few seeds to say for {', '.join(unsaid)}")
        others = [other for other in self.factors if other != factor]
        averaged = f", averaged over {' and '.join(others)}" if others else ""
        return f"Effect of {factor}{averaged}: {'; '.join(claimed)}."

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

    def section(self, effects: Sequence[Difference], simple_effects: Sequence[Difference]) -> Section:
        """The whole analysis as a section of a page.

        Args:
            effects, simple_effects: those of this factorial with adjusted p-values.
        """
        *_, last = self.factors
        tables = [self.grid, difference_table("Main effects, mean over the other factors", effects)]
        if simple_effects:
            named = [replace(gain, model=f"{gain.model} ({gain.context})") for gain in simple_effects]
            sizes = [(gain.percent.value, gain.context) for gain in simple_effects]
            (low, where_low), (high, where_high) = min(sizes), max(sizes)
            note = (
                f"It ranges from {low:.1f} % ({where_low}) to {high:.1f} % ({where_high}); the further apart these "
                "are, the less a main effect says about any one cell."
            )
            table = difference_table(f"Effect of {last} at each level of the other factors", named)
            tables.append(replace(table, note=note))
        return Section("Factor by factor", tables=tuple(tables))
