"""How many seeds a suite's comparisons need, from the runs there are."""

import numpy as np

from protcli.errors import ProtcliError
from protcli.experiments.comparing.differences import Difference
from protcli.experiments.pages import Table
from protcli.experiments.statistics.contrasts import MOST_SEEDS, POWER, power, seeds_needed
from protcli.experiments.statistics.estimates import std
from protcli.experiments.suites.analysis import Analysis


def plan_table(analysis: Analysis, improvement: float) -> Table:
    """The seeds that each comparison of trained models needs to show an improvement.

    Args:
        analysis: of a suite that has been run with two seeds or more.
        improvement: in per cent of MSE.

    Raises:
        ProtcliError: no comparison has two seeds of both models.
    """
    gains = [*([analysis.primary] if analysis.primary else []), *analysis.over_reference, *analysis.pairs]
    known = [gain for gain in gains if not np.isnan(gain.found.seed_variances).any()]
    if not known:
        raise ProtcliError(
            "there are no two models with two seeds each that finished and did not collapse: how much seeds differ is "
            "not known yet"
        )
    unknown = [f"{gain.model} over {gain.other}" for gain in gains if gain not in known]
    left_out = (
        f" Left out, since one of the models has fewer than two seeds that did not collapse: {', '.join(unknown)}."
        if unknown
        else ""
    )
    return Table(
        f"Seeds of each model that show an improvement of {improvement:g} % with {100 * POWER:.0f} % power",
        (
            "model",
            "over",
            "seeds now",
            "scatter of seeds (%) [95 % interval]",
            "of families (%)",
            "power now",
            "seeds needed",
        ),
        tuple(_row(gain, improvement) for gain in known),
        "Scatter is a standard deviation, from the runs there are; the seeds needed follow from its middle value, and "
        "are as uncertain as it is. p is 0.05, or that of the declared looks, and not adjusted for other comparisons. "
        f"More seeds do not make the part of the families smaller: more validation proteins do.{left_out}"
        + "".join(f" {sentence}" for sentence in analysis.not_compared),
    )


def _row(gain: Difference, improvement: float) -> tuple[str, ...]:
    needed = seeds_needed(gain.found, improvement, gain.alpha)
    return (
        gain.model + (" (primary)" if gain.adjusted_p is None else ""),
        gain.other,
        " and ".join(map(str, gain.found.seeds)),
        " and ".join(
            std(100 * variance**0.5, seeds).format(1)
            for variance, seeds in zip(gain.found.seed_variances, gain.found.seeds, strict=True)
        ),
        f"{100 * gain.found.family_variance**0.5:.1f}",
        f"{100 * power(gain.found, min(gain.found.seeds), improvement, gain.alpha):.0f} %",
        f"more than {MOST_SEEDS}: the families decide" if needed is None else str(needed),
    )
