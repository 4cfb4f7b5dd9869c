"""The description of a registered model version, in Markdown, and what may be said of the choice that led to it."""

from collections.abc import Sequence
from importlib.resources import files

from jinja2 import Environment, StrictUndefined

from protcli.experiments.configuration import Configuration
from protcli.experiments.promoting.decision import Candidate, count, seeds_of
from protcli.models.spec import ModelSpec
from protcli.tracking.keys import Param
from protcli.tracking.registry import DESCRIPTION_LENGTH

TEMPLATE = files("protcli.experiments.promoting") / "model_card.md"
RECIPE = (Param.EPOCHS, Param.BATCH_SIZE, Param.LR, Param.OPTIMIZER, Param.LOSS)  # what a model card says of it
RANKED = 5  # configurations that a model card names


def caution(configurations: Sequence[Configuration]) -> str:
    """A warning if runs of the best configuration collapsed, or if it has fewer seeds than others; empty otherwise."""
    best, sentences = configurations[0], []
    if best.is_fitted:
        return ""
    if best.failed:
        sentences.append(f"{best.failed} of its {best.seeds} runs collapsed or diverged, left out of its mean.")
    if best.seeds < max(each.seeds for each in configurations):
        most = max(len(each.kept) for each in configurations)
        sentences.append(
            f"It was chosen by the mean over {count(len(best.kept), 'seed')}, but others have up to {most}: train as "
            "many before you rely on the ranking."
        )
    return " ".join(sentences)


def chosen_from(configurations: Sequence[Configuration]) -> str:
    """How the best configuration was chosen, and from what, as a clause."""
    best = configurations[0]
    failed = f" ({best.failed} more collapsed or diverged)" if best.failed else ""
    return (
        f"the lowest validation MSE, {best.mse.value:.3f} Å² as the mean over {count(len(best.kept), 'seed')}{failed}, "
        f"each at an epoch chosen on other families, of {count(len(configurations), 'configuration')} "
        f"({count(sum(len(each.runs) for each in configurations), 'run')}) on data {best.data.digest}"
    )


def model_card(configurations: Sequence[Configuration], candidate: Candidate, spec: ModelSpec) -> str:
    """The description of a version, in Markdown.

    Args:
        configurations: those it was chosen from, the best first.
        candidate: the best one, and which of its weights the version predicts with.
        spec: the model.
    """
    run = candidate.best.best_run
    template = Environment(undefined=StrictUndefined, trim_blocks=True).from_string(TEMPLATE.read_text("utf-8"))
    text = template.render(
        Param=Param,
        params=run.params,
        spec=spec,
        candidate=candidate,
        configurations=configurations,
        recipe=[f"{key.removeprefix(Param.RECIPE_SECTION)} {run.params[key]}" for key in RECIPE if key in run.params],
        errors=candidate.errors,
        sepmean=candidate.best.data.scores_of(run).sepmean_errors,
        chosen_from=chosen_from(configurations),
        caution=caution(configurations),
        seeds_of=seeds_of,
        RANKED=RANKED,
    )
    return text[:DESCRIPTION_LENGTH]
