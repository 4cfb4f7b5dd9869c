"""The learning curve: what more training proteins bring, from models trained on shares of them."""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from protcli.experiments.configuration import Configuration
from protcli.experiments.pages import Picture, Section, Table
from protcli.experiments.statistics.contrasts import contrast, improvement_over_sepmean
from protcli.experiments.statistics.estimates import Estimate
from protcli.figures.curves import draw_learning_curve
from protcli.proteins.metrics import PairErrors
from protcli.tracking.keys import Param
from protcli.tracking.run import Run

FIGURE = "learning.png"
MOST_DOUBLINGS = 20  # that a line is followed beyond the proteins that there are


@dataclass(frozen=True, eq=False)
class LearningCurve:
    """Models that differ in their training proteins.

    Attributes:
        models: the fewest proteins first.
        families: of the validation proteins.
        target: ratio to sepmean's MSE for which the number of proteins is asked; None asks for none.
        chosen: which validation proteins it is about: bool [N].
    """

    models: tuple[Configuration, ...]
    families: np.ndarray
    target: float | None
    chosen: np.ndarray

    @cached_property
    def proteins(self) -> np.ndarray:
        """Training proteins of each model, mean over its seeds: float [models]."""
        return np.array([np.mean([proteins_of(run) for run in model.kept]) for model in self.models])

    @cached_property
    def ratios(self) -> list[Estimate]:
        """MSE of each model over sepmean's, at epochs that other families chose."""
        sepmean = self.models[0].scores[0].sepmean_errors.select(self.chosen)
        families = self.families[self.chosen]
        return [_ratio(improvement_over_sepmean(errors, sepmean, families)) for errors in self._errors]

    @cached_property
    def per_doubling(self) -> Estimate:
        """By how many per cent the MSE falls when the proteins double: the slope of its logarithm, least squares."""
        doublings = np.log2(self.proteins)
        centred = doublings - doublings.mean()
        weights = centred / np.sum(centred**2)
        return contrast(self._errors, weights.tolist(), self.families[self.chosen]).improvement()

    @cached_property
    def _errors(self) -> list[list[PairErrors]]:
        return [[errors.select(self.chosen) for errors in model.errors] for model in self.models]

    def needed(self, lower: float) -> float:
        """The proteins at which the line through the curve's end reaches the target, if a doubling brings `lower` %."""
        assert self.target is not None
        still = np.log(self.ratios[-1].value / self.target)
        slope = -np.log1p(-lower / 100)
        doublings = still / slope if slope > 0 else np.inf
        return float(self.proteins[-1] * 2**doublings) if doublings < MOST_DOUBLINGS else np.inf

    @property
    def sentences(self) -> list[str]:
        """What it says."""
        found = self.per_doubling
        said = [
            f"Learning curve: twice as many training proteins lower the MSE by {found.format(1)} %, from "
            f"{self.proteins[0]:.0f} to {self.proteins[-1]:.0f} proteins."
        ]
        if self.target is None:
            return said
        if reached := self._reached:
            count, ratio = reached
            surely = "." if ratio.high <= self.target else ", but not its whole interval."
            said.append(
                f"With {count:.0f} it is {ratio.format(3)} of sepmean's, below the target of {self.target:g}{surely}"
            )
        else:
            said.append(
                f"If that went on beyond them, {self.target:g} of sepmean's MSE would take {self._needed}; "
                "nothing here says that it would."
            )
        return said

    def _class_table(self) -> tuple[Table, ...]:
        """A table, or none where the proteins have no classes."""
        rows = []
        for name, chosen in self.models[0].scores[0].classes.items():
            if len(set(self.families[chosen])) > 1:  # else there is no interval
                curve = replace(self, chosen=chosen)
                ratios = (ratio.format(3) for ratio in curve.ratios)
                target = () if self.target is None else ("fewer or as many" if curve._reached else curve._needed,)
                rows.append((name, str(chosen.sum()), *ratios, curve.per_doubling.format(1), *target))
        if not rows:
            return ()
        headings = (
            *("class", "proteins"),
            *(f"MSE / sepmean, {count:.0f}" for count in self.proteins),
            "lower with twice as many (%)",
            *(() if self.target is None else (f"{self.target:g} would take",)),
        )
        return (Table("By class and training proteins [95 %]", headings, tuple(rows)),)

    @property
    def _reached(self) -> tuple[float, Estimate] | None:
        """The fewest proteins that reach the target, and the ratio to sepmean's MSE with them."""
        curve = zip(self.proteins, self.ratios, strict=True)
        return next((each for each in curve if self.target is not None and each[1].value <= self.target), None)

    @property
    def _needed(self) -> str:
        """The number of proteins for the target, with an interval, if the curve went on."""
        found = self.per_doubling
        most, usual, least = (_many(self.needed(each)) for each in (found.low, found.value, found.high))
        return f"{usual} proteins [{least}, {most}]"

    def section(self, folder: Path) -> Section:
        """Its part of a report; the figure is drawn into the folder."""
        ratios = self.ratios
        rows = tuple(
            (model.name, f"{count:.0f}", str(len(model.kept)), ratio.format(3))
            for model, count, ratio in zip(self.models, self.proteins, ratios, strict=True)
        )
        figures = np.array([(ratio.value, ratio.low, ratio.high) for ratio in ratios])
        draw_learning_curve(folder / FIGURE, proteins=self.proteins, ratios=figures)
        return Section(
            "Learning curve",
            paragraphs=(" ".join(self.sentences),),
            tables=(
                Table("By training proteins", ("model", "proteins", "seeds", "MSE / sepmean [95 %]"), rows),
                *self._class_table(),
            ),
            pictures=(Picture(folder / FIGURE, "MSE over sepmean's by the number of training proteins"),),
        )


def proteins_of(run: Run) -> int:
    """How many proteins a run was trained on."""
    return int(run.params.get(Param.SHARE_PROTEINS, run.params[Param.TRAIN_PROTEINS]))


def _ratio(improvement: Estimate) -> Estimate:
    return Estimate(*(1 - each / 100 for each in (improvement.value, improvement.high, improvement.low)))


def _many(proteins: float) -> str:
    """A number in two figures."""
    if not np.isfinite(proteins):
        return "endlessly many"
    digits = max(int(np.floor(np.log10(proteins))) - 1, 0)
    return f"{round(proteins, -digits):,.0f}"
