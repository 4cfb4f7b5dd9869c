"""How much better one model is than another, and what may be claimed about it, in sentences."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter, itemgetter

from protcli.experiments.configuration import Configuration, grouped
from protcli.experiments.pages import Table
from protcli.experiments.statistics.contrasts import ALPHA, FEWEST_SEEDS, Contrast, contrast, holm
from protcli.experiments.statistics.epochs import RULE
from protcli.experiments.statistics.estimates import LEVEL, Estimate

BASELINE = "sepmean, the mean distance at each separation"
VERDICTS = {  # what a summary says of each, in its order
    "better": "better", "none": "no difference can be claimed for", "worse": "worse",
    "too few seeds": "too few seeds to say",
}  # fmt: skip
Sides = frozenset[tuple[str, ...]]  # names of configurations
DOMINANT = 0.25  # share of the variance over families from which on a family is named
MEANING = (
    "MSE is pooled over resolved pairs i < j of the validation proteins. The epoch of each run is chosen on one half "
    "of the protein families and measured on the other, both halves in turn, because an epoch measured on the proteins "
    "that chose it looks better than it is; the last epoch, which nothing chose, is given beside it. A mean is "
    "followed by its 95 % interval over seeds (Student's t, of its logarithm). Models are compared by the ratio of "
    "their MSE: a difference in per cent is followed by a 95 % interval that accounts for the protein families and for "
    "the seeds of both models, and Å² are the differences of MSE that go with it. p is the chance of such a difference "
    "between equal models; p (Holm) is adjusted for all comparisons on the page but the primary one, and a difference "
    f"is claimed where it is at most {ALPHA:g}. Nothing is claimed about a model with fewer than {FEWEST_SEEDS} seeds. "
    f"{RULE} Such runs are counted, and left out of means and comparisons unless stated otherwise. A12 is the share of "
    "pairs of runs, one of each model, in which the first has the lower MSE."
)


@dataclass(frozen=True, eq=False)
class Difference:
    """How much better one model is than another.

    Attributes:
        model, other: their names, or the levels of a factor.
        contrast: of `model` and `other`, without collapsed runs.
        at_last: the same at the last epoch of each run.
        with_collapsed: the same as `contrast` with the collapsed runs; None if there are none.
        scale: MSE of `other` in Å².
        a12: probability that a run of `model` has the lower MSE; None for the effect of a factor.
        few_seeds: the models with too few seeds to claim anything about.
        context: what else distinguishes the comparison, such as the levels of other factors.
        sides: the configurations on either side, which tell one comparison from another: the other way round, or as
            the effect of a factor, it is the same.
        alpha: p-value up to which a difference is claimed.
        adjusted_p: p-value adjusted for the other comparisons; None for a comparison that is the only or primary one.
        equal_within: per cent of MSE within which the models may be called equal; None claims no equality.
        adjusted_p_outside: p-value of "they differ by that much or more", adjusted as `adjusted_p`.
    """

    model: str
    other: str
    contrast: Contrast
    at_last: Contrast
    with_collapsed: Contrast | None
    scale: float
    a12: float | None = None
    few_seeds: tuple[str, ...] = ()
    context: str = ""
    sides: Sides = frozenset()
    alpha: float = ALPHA
    adjusted_p: float | None = None
    equal_within: float | None = None
    adjusted_p_outside: float | None = None

    def percent_of(self, contrast: Contrast) -> Estimate:
        """By how many per cent the MSE is lower, with an interval of 1 - alpha: 95 % where not stated otherwise."""
        return contrast.improvement(1 - self.alpha)

    @property
    def percent(self) -> Estimate:
        """By how many per cent the model's MSE is lower."""
        return self.percent_of(self.contrast)

    @property
    def improvement(self) -> Estimate:
        """By how much the model's MSE is lower, in Å²; the interval is that of the ratio.

        With c the logarithm of the ratio and g the geometric mean of both MSE, which is held, it is -2 g sinh(c / 2):
        the other way round, only its sign changes.
        """
        mean = self.scale * math.exp(self.contrast.value / 2)
        ratio = self.contrast.interval(1 - self.alpha)
        value, high, low = (-2 * mean * math.sinh(log / 2) for log in (ratio.value, ratio.low, ratio.high))
        return Estimate(value, low, high)

    @property
    def is_better(self) -> bool:
        """Whether the model is ahead."""
        return self.contrast.value < 0

    @property
    def is_claimed(self) -> bool:
        """Whether a difference may be claimed."""
        p = self.contrast.p if self.adjusted_p is None else self.adjusted_p
        return p <= self.alpha and not self.few_seeds

    @property
    def is_equal(self) -> bool:
        """Whether equality within the stated margin may be claimed."""
        return self.p_outside is not None and not self.few_seeds and self.p_outside <= self.alpha

    @property
    def p_outside(self) -> float | None:
        """The p-value that decides about equality, adjusted if it can be; None without a margin."""
        if self.equal_within is None or self.adjusted_p_outside is not None:
            return self.adjusted_p_outside
        return self.contrast.p_outside(self.equal_within / 100)

    @property
    def verdict(self) -> str:
        """What is claimed about the model: one of VERDICTS."""
        if self.few_seeds:
            return "too few seeds"
        return ("better" if self.is_better else "worse") if self.is_claimed else "none"

    @property
    def reversed(self) -> "Difference":
        """The same comparison the other way round."""
        return replace(
            self, model=self.other, other=self.model, contrast=self.contrast.reversed, at_last=self.at_last.reversed,
            with_collapsed=self.with_collapsed and self.with_collapsed.reversed,
            scale=self.scale * math.exp(self.contrast.value), a12=None if self.a12 is None else 1 - self.a12,
        )  # fmt: skip

    @property
    def sentence(self) -> str:
        """What may be claimed; the model that is ahead comes first, so that no percentage is above 100."""
        if not self.is_better and self.contrast.value:
            return self.reversed.sentence
        p = f"p {p_value(self.contrast.p)}"
        if self.adjusted_p not in (None, self.contrast.p):
            p += f", adjusted {p_value(self.adjusted_p)}"
        level = "" if self.alpha == ALPHA else f", {100 * (1 - self.alpha):.1f} % intervals"
        size = f"{self.percent.format(1)} % ({self.improvement.format()} Å²; {p}{level})"
        ahead = f"{self.model} is ahead by" if self.contrast.value else "their MSE is the same, a difference of"
        if self.few_seeds:
            few = f"{' and '.join(self.few_seeds)} {'has' if len(self.few_seeds) == 1 else 'have'}"
            sentence = (
                f"Nothing is claimed about {self.model} and {self.other}, since {few} fewer than {FEWEST_SEEDS} seeds "
                f"that did not collapse; {ahead} {size}"
            )
        elif self.is_claimed:
            sentence = f"{self.model} is better than {self.other} by {size}"
        else:
            sentence = f"No difference between {self.model} and {self.other} can be claimed: {ahead} {size}"
        if self.is_equal:
            sentence += f"; they are equal within {self.equal_within:g} %"
        elif self.p_outside is not None and self.verdict == "none":
            sentence += f"; nor can they be called equal within {self.equal_within:g} % (p {p_value(self.p_outside)})"
        sentence += f"; at the last epoch {self.percent_of(self.at_last).format(1)} %"
        if self.with_collapsed is not None:
            counted = self.percent_of(self.with_collapsed).format(1)
            sentence += f"; with the collapsed runs {counted} %, from which nothing is claimed"
        return sentence + "."


def compare_means(
    model: str, other: str, pairs: Sequence[tuple[Configuration, Configuration]], context: str = ""
) -> Difference:
    """How much better the first of each pair of models is, as the geometric mean over the pairs.

    Args:
        model, other: names for what the first and the second of each pair share.
        pairs: models that differ in nothing else, all measured on the same proteins.
        context: see `Difference`.

    Raises:
        ProtcliError: there are too few families for an interval.
    """
    firsts, seconds = zip(*pairs, strict=True)
    models = (*firsts, *seconds)
    weights = [1 / len(pairs)] * len(pairs) + [-1 / len(pairs)] * len(pairs)
    families, has_collapsed = models[0].data.families, any(each.collapsed for each in models)
    return Difference(
        model,
        other,
        contrast=contrast([each.errors for each in models], weights, families),
        at_last=contrast([each.last_errors for each in models], weights, families),
        with_collapsed=contrast([each.all_errors for each in models], weights, families) if has_collapsed else None,
        scale=sum(each.mse.value for each in seconds) / len(seconds),
        few_seeds=tuple(each.name for each in models if each.has_few_seeds),
        context=context,
        sides=frozenset(tuple(sorted(each.name for each in side)) for side in (firsts, seconds)),
    )


def adjusted(groups: Sequence[Sequence[Difference]], primary: Sides | None = None) -> list[list[Difference]]:
    """The same groups of differences, with p-values adjusted for all of them together (Holm) but the primary one; one
    that is given twice, or the other way round, counts once. Claims of a difference and of equality are adjusted apart.
    """
    differences = {each.sides: each for group in groups for each in group if each.sides != primary}
    with_margin = {key: each.p_outside for key, each in differences.items() if each.p_outside is not None}
    p_values = dict(zip(differences, holm([each.contrast.p for each in differences.values()]), strict=True))
    p_outside = dict(zip(with_margin, holm(list(with_margin.values())), strict=True))
    return [
        [
            replace(each, adjusted_p=p_values.get(each.sides), adjusted_p_outside=p_outside.get(each.sides))
            for each in group
        ]
        for group in groups
    ]


def comparison_summary(differences: Sequence[Difference], what: str) -> str:
    """Which models beat the one that all are compared with, in one sentence."""
    models = grouped(differences, attrgetter("verdict"))
    clauses = [
        f"{title}: {' / '.join(each.model for each in models[verdict])}"
        for verdict, title in VERDICTS.items()
        if verdict in models
    ]
    if "better" not in models:
        clauses.insert(0, "no model is shown to be better")
    return f"Compared with {what}: {'; '.join(clauses)}."


def multiplicity_note(comparisons: int) -> str:
    """For how many comparisons the p-values are adjusted."""
    if comparisons == 0:
        return "There is no other model to compare with."
    if comparisons == 1:
        return "One comparison was made, with a 95 % interval: one in twenty such intervals misses the true value."
    return (
        f"{comparisons} comparisons are adjusted for each other: the chance of claiming even one difference among them "
        f"that does not exist is at most {100 * ALPHA:g} %. The intervals are not adjusted: each misses its true value "
        "in one of twenty cases."
    )


def dominated(differences: Sequence[Difference], chains: Sequence[str], families: Iterable[str]) -> list[str]:
    """A sentence about each family of proteins that dominates the interval of a comparison.

    Args:
        differences: the comparisons.
        chains, families: id and family of each protein.
    """
    cases = [
        (family, share, each)
        for each in differences
        for family, share in each.contrast.shares.items()
        if share > DOMINANT
    ]
    sentences = []
    for family, of_family in grouped(cases, itemgetter(0)).items():
        members = [chain for chain, other in zip(chains, families, strict=True) if other == family]
        _, share, largest = max(of_family, key=itemgetter(1))
        verb = "carries" if len(members) == 1 else "carry, as one family,"
        also = f", and more than {100 * DOMINANT:.0f} % in {len(of_family)} comparisons" if len(of_family) > 1 else ""
        sentences.append(
            f"{' / '.join(members)} {verb} {100 * share:.0f} % of the variance over proteins of {largest.model} "
            f"against {largest.other}{also}."
        )
    return sentences


def difference_table(title: str, differences: Sequence[Difference]) -> Table:
    """One row per comparison."""
    rows, notes = [], []
    for each in differences:
        equal = f"equal within {each.equal_within:g} %" if each.is_equal else ""
        claim = each.verdict if not equal else equal if each.verdict == "none" else f"{each.verdict}, {equal}"
        rows.append(
            (
                each.model,
                each.other,
                each.percent.format(1),
                each.improvement.format(),
                p_value(each.contrast.p),
                "primary" if each.adjusted_p is None else p_value(each.adjusted_p),
                each.percent_of(each.at_last).format(1),
                "" if each.a12 is None else f"{each.a12:.2f}",
                claim,
            )
        )
        if each.alpha != ALPHA:
            notes.append(
                f"The intervals of {each.model} over {each.other} are {100 * (1 - each.alpha):.1f} % intervals, "
                "because it may be decided at several looks."
            )
    headings = ("model", "over", "%", "Å²", "p", "p (Holm)", "% at the last epoch", "A12", "claim")
    title = f"{title}: improvement [{100 * LEVEL:g} % interval]; negative is worse"
    return Table(title, headings, tuple(rows), " ".join(notes))


def collapsed_table(differences: Sequence[Difference]) -> list[Table]:
    """The comparisons in which runs have collapsed, without and with these; no table if none has."""
    rows = [
        (each.model, each.other, each.percent.format(1), each.percent_of(each.with_collapsed).format(1))
        for each in differences
        if each.with_collapsed is not None
    ]
    table = Table(
        f"Improvement (%) without and with the collapsed runs [{100 * LEVEL:g} % interval]",
        ("model", "over", "without", "with"),
        tuple(rows),
        "Nothing is claimed with them: a few runs far from the others have no trustworthy interval.",
    )
    return [table] if rows else []


def p_value(p: float) -> str:
    """`0.012`, or `< 0.001`."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
