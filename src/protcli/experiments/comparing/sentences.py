"""What may be claimed of a difference, in sentences."""

from collections.abc import Sequence
from dataclasses import dataclass

from protcli.experiments.pages.page import interval
from protcli.experiments.statistics.intervals import Estimate

BASELINE = "sepmean, the mean distance at each separation"
MEANING = (
    "Validation MSE is pooled over resolved pairs i < j and is that of each run's best epoch, which validation itself "
    "chose: a little too good, for all models alike. Behind a mean stands its 95 % interval over seeds (Student's). "
    "Behind a difference stands a 95 % interval that allows for the validation proteins (a bootstrap that draws the "
    "same proteins for both models) and for the seeds; where the proteins decide it can be narrower than that of a "
    "mean of few seeds. The interval in per cent is that of the difference divided by the mean of the model compared "
    "with. An interval that reaches below zero, where no error lies, says that so few seeds, so far apart, do not tell "
    "the mean: train more. Of a failure that none of a model's seeds has shown an interval knows nothing."
)


@dataclass(frozen=True)
class Difference:
    """By how much one model is better than another.

    Attributes:
        model, other: their names.
        improvement: MSE of the other minus the model's, in A^2.
        percent: the same in per cent of the other's mean MSE.
        one_seed: those of the two that were trained with a single seed.
    """

    model: str
    other: str
    improvement: Estimate
    percent: Estimate
    one_seed: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """What may be claimed."""
        better = self.improvement.value > 0
        size, percent = (of.scaled(1 if better else -1) for of in (self.improvement, self.percent))
        if not self.improvement.excludes_zero:
            said = (
                f"No difference between {self.model} and {self.other} can be claimed: "
                f"{self.model if better else self.other} is ahead by {interval(size)} Å²"
            )
        else:
            said = (
                f"{self.model} is {'better' if better else 'worse'} than {self.other} by {interval(size)} Å² "
                f"({interval(percent, 1)} %)"
            )
        if self.one_seed:
            said += (
                f"; with one seed of {' and '.join(self.one_seed)}, this is of these weights, not of the architecture"
            )
        return said + "."


def against(differences: Sequence[Difference], what: str) -> str:
    """Which models beat one that they are all compared with, in one sentence."""
    kinds: dict[str, list[str]] = {"better": [], "no difference can be claimed for": [], "worse": []}
    better, unclear, worse = kinds
    for gain in differences:
        sure = gain.improvement.excludes_zero
        kinds[unclear if not sure else better if gain.improvement.value > 0 else worse].append(gain.model)
    said = [f"{kind}: {' / '.join(models)}" for kind, models in kinds.items() if models]
    if not kinds[better]:
        said.insert(0, "nothing is better")
    return f"Against {what}: {'; '.join(said)}{of_weights(differences)}."


def of_weights(differences: Sequence[Difference]) -> str:
    """What limits a sentence on several differences, where some of the models were trained with one seed."""
    if not any(gain.one_seed for gain in differences):
        return ""
    return " (where a model has one seed, this is of its weights, not of the architecture)"


def how_sure(comparisons: int) -> str:
    """How many intervals were looked at, and how many of them may be wrong."""
    if comparisons == 0:
        return "There is nothing to compare it with."
    if comparisons == 1:
        return "One comparison was made, with a 95 % interval: one such interval in twenty misses the truth."
    expected = f", so expect about {round(comparisons / 20)} to be wrong here" if comparisons >= 20 else ""
    return (
        f"{comparisons} comparisons were made, each with a 95 % interval of its own: one such interval in twenty "
        f"misses the truth{expected}."
    )
