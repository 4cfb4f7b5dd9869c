"""Cells that differ in the levels of several factors: the effect of each factor, separated from the others."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from typing import Any

from protcli.experiments.comparing.differences import Difference, compare_means, difference_table
from protcli.experiments.configuration import Configuration
from protcli.experiments.pages import Section, Table
from protcli.experiments.suites.suite import level_name


@dataclass(frozen=True, eq=False)
class Factorial:
    """Attributes:
    factors: levels by factor, in order.
    models: the trained cells, each with its levels by factor; none in a suite without factors.
    """

    factors: Mapping[str, Sequence[Any]]
    models: Sequence[tuple[Configuration, Mapping[str, Any]]]

    @cached_property
    def effects(self) -> list[Difference]:
        """Main effects: for each factor every pair of its levels, the later against the earlier, as the mean over the
        other factors' levels at which both were trained; their context is the factor. P-values are not adjusted."""
        return [
            self._effect(factor, first, second, pairs, f"effect of {factor}")
            for factor, levels in self.factors.items()
            for first, second in combinations(levels, 2)
            if (pairs := [models for models in self._by_level(factor).values() if {first, second} <= models.keys()])
        ]

    @cached_property
    def simple_effects(self) -> list[Difference]:
        """The last factor's effect at each combination of the others, which is their context; none for one factor.
        P-values are not adjusted."""
        if len(self.factors) < 2:
            return []
        factor = list(self.factors)[-1]
        first, *later = self.factors[factor]
        return [
            self._effect(factor, first, level, [models], rest)
            for rest, models in self._by_level(factor).items()
            for level in later
            if {first, level} <= models.keys()
        ]

    def _effect(
        self, factor: str, first: Any, second: Any, cells: Sequence[Mapping[Any, Configuration]], context: str
    ) -> Difference:
        pairs = [(models[second], models[first]) for models in cells]
        names = level_name(factor, second), level_name(factor, first)
        return compare_means(*names, pairs, context)

    def _by_level(self, factor: str) -> dict[str, dict[Any, Configuration]]:
        """Models by the other factors' levels (as text), then by this factor's level."""
        by_level: dict[str, dict[Any, Configuration]] = {}
        for model, levels in self.models:
            rest = ", ".join(level_name(other, level) for other, level in levels.items() if other != factor)
            by_level.setdefault(rest, {})[levels[factor]] = model
        return by_level

    def conclusions(self, effects: Sequence[Difference]) -> list[str]:
        """What may be claimed about each factor, one sentence per factor, from `effects` with adjusted p-values."""
        return [
            self._sentence(factor, gains)
            for factor in self.factors
            if (gains := [gain for gain in effects if gain.context == f"effect of {factor}"])
        ]

    def _sentence(self, factor: str, gains: Sequence[Difference]) -> str:
        clauses, unclaimed, unsaid = [], [], []
        for gain in gains:
            pair = f"{gain.model} against {gain.other}"
            if gain.few_seeds:
                unsaid.append(pair)
            elif gain.is_claimed:
                ahead = gain if gain.is_better else gain.reversed
                clauses.append(f"{ahead.model} beats {ahead.other} by {ahead.percent.format(1)} %")
            else:
                equal = f", equal within {gain.equal_within:g} %" if gain.is_equal else ""
                unclaimed.append(f"{pair} ({gain.percent.format(1)} %{equal})")
        for intro, pairs in (("no difference can be claimed", unclaimed), ("too few seeds to say", unsaid)):
            if pairs:
                clauses.append(f"{intro} for {', '.join(pairs)}")
        others = " and ".join(other for other in self.factors if other != factor)
        return f"Effect of {factor}{others and f', averaged over {others}'}: {'; '.join(clauses)}."

    @property
    def grid(self) -> Table:
        """Validation MSE of the cells: one row per combination of all factors but the last."""
        factor = list(self.factors)[-1]
        levels = self.factors[factor]
        rows = tuple(
            (rest or "MSE (Å²)", *(models[level].mse.format() if level in models else "missing" for level in levels))
            for rest, models in self._by_level(factor).items()
        )
        headings = ("", *(level_name(factor, level) for level in levels))
        return Table("Validation MSE of the cells (Å²), mean over seeds [95 % interval]", headings, rows)

    def section(self, effects: Sequence[Difference], simple_effects: Sequence[Difference]) -> Section:
        """The whole analysis as a section of a page, from its effects with adjusted p-values."""
        tables = [self.grid, difference_table("Main effects, mean over the other factors", effects)]
        if simple_effects:
            named = [replace(gain, model=f"{gain.model} ({gain.context})") for gain in simple_effects]
            sizes = [(gain.percent.value, gain.context) for gain in simple_effects]
            (low, where_low), (high, where_high) = min(sizes), max(sizes)
            note = (
                f"It ranges from {low:.1f} % ({where_low}) to {high:.1f} % ({where_high}); the further apart these "
                "are, the less a main effect says about any one cell."
            )
            title = f"Effect of {list(self.factors)[-1]} at each level of the other factors"
            tables.append(replace(difference_table(title, named), note=note))
        return Section("Factor by factor", tables=tuple(tables))
