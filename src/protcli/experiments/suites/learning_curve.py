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
        target: ratio to sepmean's MSE for which the number of proteins is asked; None asks for none.
        members: which validation proteins it is about: bool [N].
    """

    models: tuple[Configuration, ...]
    target: float | None
    members: np.ndarray

    @cached_property
    def proteins(self) -> list[float]:
        """Training proteins of each model, mean over its seeds."""
        return [float(np.mean([proteins_of(run) for run in model.kept])) for model in self.models]

    @cached_property
    def ratios(self) -> list[Estimate]:
        """MSE of each model over sepmean's, at epochs that other families chose."""
        sepmean = self.models[0].scores[0].sepmean_errors.select(self.members)
        gains = [improvement_over_sepmean(errors, sepmean, self._families) for errors in self._errors]
        return [Estimate(*(1 - each / 100 for each in (gain.value, gain.high, gain.low))) for gain in gains]

    @cached_property
    def per_doubling(self) -> Estimate:
        """By how many per cent the MSE falls when the proteins double: the slope of its logarithm, least squares."""
        doublings = np.log2(self.proteins)
        centred = doublings - doublings.mean()
        return contrast(self._errors, (centred / np.sum(centred**2)).tolist(), self._families).improvement()

    @cached_property
    def _errors(self) -> list[list[PairErrors]]:
        return [[errors.select(self.members) for errors in model.errors] for model in self.models]

    @property
    def _families(self) -> np.ndarray:
        return self.models[0].data.families[self.members]

    @property
    def reached(self) -> tuple[float, Estimate] | None:
        """The fewest proteins that reach the target, and the ratio to sepmean's MSE with them."""
        curve = zip(self.proteins, self.ratios, strict=True)
        return next((point for point in curve if self.target is not None and point[1].value <= self.target), None)

    @property
    def needed(self) -> str:
        """The proteins at which the line through the curve's end reaches the target, with an interval."""
        gain = self.per_doubling
        most, usual, least = map(self._at_target, (gain.low, gain.value, gain.high))
        return f"{usual} proteins [{least}, {most}]"

    def _at_target(self, lower: float) -> str:
        """Those proteins if a doubling lowers the MSE by so many per cent, in two figures."""
        assert self.target is not None
        slope = -np.log1p(-lower / 100)
        doublings = np.log(self.ratios[-1].value / self.target) / slope if slope > 0 else np.inf
        if doublings >= MOST_DOUBLINGS:
            return "endlessly many"
        return f"{float(f'{self.proteins[-1] * 2**doublings:.1e}'):,.0f}"

    @property
    def sentences(self) -> list[str]:
        """What it says."""
        sentences = [
            f"Learning curve: twice as many training proteins lower the MSE by {self.per_doubling.format(1)} %, from "
            f"{self.proteins[0]:.0f} to {self.proteins[-1]:.0f} proteins."
        ]
        if self.target is None:
            return sentences
        if self.reached:
            count, ratio = self.reached
            surely = "." if ratio.high <= self.target else ", but not its whole interval."
            sentences.append(
                f"With {count:.0f} it is {ratio.format(3)} of sepmean's, below the target of {self.target:g}{surely}"
            )
        else:
            sentences.append(
                f"If that went on beyond them, {self.target:g} of sepmean's MSE would take {self.needed}; "
                "nothing here says that it would."
            )
        return sentences

    def _class_table(self) -> tuple[Table, ...]:
        """A table, or none where the proteins have no classes."""
        rows = []
        for name, members in self.models[0].scores[0].classes.items():
            curve = replace(self, members=members)
            if len(set(curve._families)) > 1:  # else there is no interval
                figures = [*(ratio.format(3) for ratio in curve.ratios), curve.per_doubling.format(1)]
                if self.target is not None:
                    figures.append("fewer or as many" if curve.reached else curve.needed)
                rows.append((name, str(members.sum()), *figures))
        headings = (
            *("class", "proteins"),
            *(f"MSE / sepmean, {count:.0f}" for count in self.proteins),
            "lower with twice as many (%)",
            *(() if self.target is None else (f"{self.target:g} would take",)),
        )
        return (Table("By class and training proteins [95 %]", headings, tuple(rows)),) if rows else ()

    def section(self, folder: Path) -> Section:
        """Its part of a report; the figure is drawn into the folder."""
        rows = tuple(
            (model.name, f"{count:.0f}", str(len(model.kept)), ratio.format(3))
            for model, count, ratio in zip(self.models, self.proteins, self.ratios, strict=True)
        )
        ratios = np.array([(ratio.value, ratio.low, ratio.high) for ratio in self.ratios])
        draw_learning_curve(folder / FIGURE, proteins=np.array(self.proteins), ratios=ratios)
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
