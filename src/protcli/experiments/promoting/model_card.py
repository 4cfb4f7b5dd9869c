"""The description of a registered model version, in Markdown, and what may be said of the choice that led to it."""

from importlib.resources import files

from jinja2 import Environment, StrictUndefined

from protcli.experiments.promoting.decision import Candidate, count, seeds_of, weights_of
from protcli.proteins.confidence import Calibration
from protcli.tracking.keys import Param

TEMPLATE = files("protcli.experiments.promoting") / "model_card.md"


def caution(candidate: Candidate) -> str:
    """A warning if the best configuration has fewer seeds than others; empty otherwise."""
    seeds, most = (max(len(each.kept) for each in group) for group in ([candidate.best], candidate.configurations))
    if seeds == most or candidate.best.is_fitted:
        return ""
    return (
        f"It was chosen by the mean over {count(seeds, 'seed')}, but others have up to {most}: train as many before "
        "you rely on the ranking."
    )


def chosen_from(candidate: Candidate) -> str:
    """How the best configuration was chosen, and from what, as a clause."""
    best, configurations = candidate.best, candidate.configurations
    failed = f" ({best.failed} more collapsed or diverged)" if best.failed else ""
    return (
        f"the lowest validation MSE, {best.mse.value:.3f} Å² as the mean over {count(len(best.kept), 'seed')}{failed}, "
        f"each at an epoch chosen on other families, of {count(len(configurations), 'configuration')} "
        f"({count(sum(len(each.runs) for each in configurations), 'run')}) on data {best.data.digest}"
    )


def model_card(candidate: Candidate, calibration: Calibration | None) -> str:
    """The description of a version with a candidate's weights and confidence, in Markdown."""
    template = Environment(undefined=StrictUndefined, trim_blocks=True).from_string(TEMPLATE.read_text("utf-8"))
    return template.render(
        Param=Param,
        params=candidate.run.params,
        spec=candidate.config.spec,
        candidate=candidate,
        calibration=calibration,
        weights=weights_of(candidate.run, candidate.members),
        chosen_from=chosen_from(candidate),
        caution=caution(candidate),
        seeds_of=seeds_of,
    )
