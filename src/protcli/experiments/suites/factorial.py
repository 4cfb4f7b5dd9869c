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
    cells: the trained ones, each with its levels by factor; none in a suite without factors.
    """

    factors: Mapping[str, Sequence[Any]]
    cells: Sequence[tuple[Configuration, Mapping[str, Any]]]

    @cached_property
    def effects(self) -> list[Difference]:
        """Main effects: for each factor every pair of its levels, the later against the earlier, as the mean over the
        other factors' levels at which both were trained; their context is the factor. P-values are not adjusted."""
        return [
            _effect(factor, earlier, later, rows, f"effect of {factor}")
            for factor, levels in self.factors.items()
            for earlier, later in combinations(levels, 2)
            if (rows := [row for row in self._rows(factor).values() if {earlier, later} <= row.keys()])
        ]

    @cached_property
    def simple_effects(self) -> list[Difference]:
        """The last factor's effect at each combination of the others, which is their context; none for one factor.
        P-values are not adjusted."""
        if len(self.factors) < 2:
            return []
        *_, (factor, (first, *later)) = self.factors.items()
        return [
            _effect(factor, first, level, [row], others)
            for others, row in self._rows(factor).items()
            for level in later
            if {first, level} <= row.keys()
        ]

    def _rows(self, factor: str) -> dict[str, dict[Any, Configuration]]:
        """The cells by the other factors' levels (as text), then by this factor's level."""
        rows: dict[str, dict[Any, Configuration]] = {}
        for cell, levels in self.cells:
            others = ", ".join(level_name(other, level) for other, level in levels.items() if other != factor)
            rows.setdefault(others, {})[levels[factor]] = cell
        return rows

    def conclusions(self, effects: Sequence[Difference]) -> list[str]:
        """What may be claimed about each factor, one sentence per factor, from `effects` with adjusted p-values."""
        sentences = []
        for factor in self.factors:
            claimed, unclaimed, unsaid = [], [], []
            for gain in effects:
                pair = f"{gain.model} against {gain.other}"
                if gain.context != f"effect of {factor}":
                    continue
                if gain.few_seeds:
                    unsaid.append(pair)
                elif gain.is_claimed:
                    ahead = gain if gain.is_better else gain.reversed
                    claimed.append(f"{ahead.model} beats {ahead.other} by {ahead.percent.format(1)} %")
                else:
                    equal = f", equal within {gain.equal_within:g} %" if gain.is_equal else ""
                    unclaimed.append(f"{pair} ({gain.percent.format(1)} %{equal})")
            if unclaimed:
                claimed.append(f"no difference can be claimed for {', '.join(unclaimed)}")
            if unsaid:
                claimed.append(f"too few seeds to say for {', '.join(unsaid)}")
            if claimed:
                others = " and ".join(other for other in self.factors if other != factor)
                average = f", averaged over {others}" if others else ""
                sentences.append(f"Effect of {factor}{average}: {'; '.join(claimed)}.")
        return sentences

    @property
    def grid(self) -> Table:
        """Validation MSE of the cells: one row per combination of all factors but the last."""
        *_, (factor, levels) = self.factors.items()
        rows = tuple(
            (others or "MSE (Å²)", *(row[level].mse.format() if level in row else "missing" for level in levels))
            for others, row in self._rows(factor).items()
        )
        headings = ("", *(level_name(factor, level) for level in levels))
        return Table("Validation MSE of the cells (Å²), mean over seeds [95 % interval]", headings, rows)

    def section(self, effects: Sequence[Difference], simple_effects: Sequence[Difference]) -> Section:
        """The whole analysis as a section of a page, from its effects with adjusted p-values."""
        tables = [self.grid, difference_table("Main effects, mean over the other factors", effects)]
        if simple_effects:
            sizes = [(gain.percent.value, gain.context) for gain in simple_effects]
            (low, at_low), (high, at_high) = min(sizes), max(sizes)
            title = f"Effect of {list(self.factors)[-1]} at each level of the other factors"
            note = (
                f"It ranges from {low:.1f} % ({at_low}) to {high:.1f} % ({at_high}); the further apart these "
                "are, the less a main effect says about any one cell."
            )
            named = [replace(gain, model=f"{gain.model} ({gain.context})") for gain in simple_effects]
            tables.append(replace(difference_table(title, named), note=note))
        return Section("Factor by factor", tables=tuple(tables))


def _effect(
    factor: str, first: Any, second: Any, rows: Sequence[Mapping[Any, Configuration]], context: str
) -> Difference:
    pairs = [(row[second], row[first]) for row in rows]
    return compare_means(level_name(factor, second), level_name(factor, first), pairs, context)
