"""What may be claimed about a difference, in sentences."""

from collections.abc import Sequence
from dataclasses import dataclass

from protcli.experiments.pages.page import interval
from protcli.experiments.statistics.intervals import Estimate

BASELINE = "sepmean, the mean distance at each separation"
MEANING = (
    "Validation MSE is pooled over resolved pairs i < j, at each run's best epoch. That epoch was chosen on validation "
    "itself, so the MSE is slightly optimistic, for all models alike. A mean is followed by its 95 % interval over "
    "seeds (Student's t). A difference is followed by a 95 % interval that accounts for the validation proteins (a "
    "bootstrap that draws the same proteins for both models) and for the seeds; where the proteins dominate, it can be "
    "narrower than the interval of a mean over few seeds. The interval in per cent is the interval of the difference "
    "divided by the mean of the model compared with. If the interval of an MSE reaches below zero, where no MSE can "
    "be, the seeds are too few and too far apart to determine the mean: train more. No interval accounts for a failure "
    "that none of a model's seeds has shown."
)


@dataclass(frozen=True)
class Difference:
    """How much better one model is than another.

    Attributes:
        model, other: their names.
        improvement: the other's MSE minus the model's, in A^2.
        percent: the same, in per cent of the other's mean MSE.
        one_seed: which of the two were trained with a single seed.
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
        sign = 1 if better else -1
        size, percent = self.improvement.scaled(sign), self.percent.scaled(sign)
        if not self.improvement.excludes_zero:
            sentence = (
                f"No difference between {self.model} and {self.other} can be claimed: "
                f"{self.model if better else self.other} is ahead by {interval(size)} Å²"
            )
        else:
            sentence = (
                f"{self.model} is {'better' if better else 'worse'} than {self.other} by {interval(size)} Å² "
                f"({interval(percent, 1)} %)"
            )
        if self.one_seed:
            sentence += (
                f"; with one seed of {' and '.join(self.one_seed)}, this holds for these weights, not the architecture"
            )
        return sentence + "."


def against(differences: Sequence[Difference], what: str) -> str:
    """Which models beat the one that all are compared with, in one sentence."""
    verdicts: dict[str, list[str]] = {"better": [], "no difference can be claimed for": [], "worse": []}
    better, unclear, worse = verdicts
    for gain in differences:
        claimed = gain.improvement.excludes_zero
        verdicts[unclear if not claimed else better if gain.improvement.value > 0 else worse].append(gain.model)
    clauses = [f"{verdict}: {' / '.join(models)}" for verdict, models in verdicts.items() if models]
    if not verdicts[better]:
        clauses.insert(0, "no model is better")
    return f"Compared with {what}: {'; '.join(clauses)}{of_weights(differences)}."


def of_weights(differences: Sequence[Difference]) -> str:
    """The limit of a sentence about several differences if some models were trained with one seed, else empty."""
    if not any(gain.one_seed for gain in differences):
        return ""
    return " (for a model with one seed, this holds for its weights, not the architecture)"


def how_sure(comparisons: int) -> str:
    """How many intervals were computed, and how many of them may be wrong."""
    if comparisons == 0:
        return "There is no other model to compare with."
    if comparisons == 1:
        return "One comparison was made, with a 95 % interval: one in twenty such intervals misses the true value."
    expected = f", so expect about {round(comparisons / 20)} to be wrong here" if comparisons >= 20 else ""
    return (
        f"{comparisons} comparisons were made, each with its own 95 % interval: one in twenty such intervals misses "
        f"the true value{expected}."
    )
