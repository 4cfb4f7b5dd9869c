"""The description of a registered model version, in Markdown, and what may be said of the choice that led to it."""

from collections.abc import Sequence

from protcli.experiments.configuration import Configuration
from protcli.experiments.promoting.decision import BaselineComparison, Served, count, seeds_of
from protcli.models.spec import ModelSpec
from protcli.tracking.keys import Param
from protcli.tracking.registry import DESCRIPTION_LENGTH

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


def model_card(
    configurations: Sequence[Configuration], served: Served, over_sepmean: BaselineComparison, spec: ModelSpec
) -> str:
    """The description of a version, in Markdown.

    Args:
        configurations: those it was chosen from, the best first.
        served: which weights of the best one the version predicts with.
        over_sepmean: how the best one compares with the baseline.
        spec: the model.
    """
    run = served.best.best_run
    params, errors, sepmean = run.params, served.errors, served.best.data.scores_of(run).sepmean_errors
    synthetic = " (**synthetic** proteins: no claim about real ones)" if served.best.data.is_synthetic else ""
    rows = (
        ("MSE, Å²", f"{errors.mse:.3f}", f"{sepmean.mse:.3f}"),
        ("RMSE, Å", f"{errors.rmse:.3f}", f"{sepmean.rmse:.3f}"),
        ("MAE, Å", f"{errors.mae:.3f}", f"{sepmean.mae:.3f}"),
    )
    ranked = [
        f"{place}. {each.name}: {each.mse.value:.3f} Å² ({seeds_of(each)})"
        for place, each in enumerate(configurations[:RANKED], start=1)
    ]
    if len(configurations) > RANKED:
        ranked.append(f"and {len(configurations) - RANKED} more")
    atom, trained = params[Param.ATOM].upper(), params.get(Param.SHARE_PROTEINS, params[Param.TRAIN_PROTEINS])
    length = params[Param.EVALUATED_LENGTH]
    lengths = f"For maps of single chains of up to {length} residues; longer ones are refused, not cropped."
    if spec.takes_any_length:
        lengths = f"For maps of single chains of any length; it was measured on the first {length} residues."
    repeated = f"runs {', '.join(f'`{each.id}`' for each in served.members)}" if served.members else f"run `{run.id}`"
    sections = (
        f"# {params[Param.MODEL]}, {served.name}",
        f"{spec.summary}. From a protein chain's sequence and, if available, its evolutionary profile, it predicts the "
        f"distance between the {atom} atoms of every pair of residues, in Å. {int(params[Param.PARAMETERS]):,} "
        f"parameters; precision {params[Param.PRECISION]}.",
        "## Data",
        f"`{params[Param.DATA_NAME]}`{synthetic}: "
        f"trained on {trained} proteins of `{params[Param.TRAIN_SPLIT]}`, chosen on "
        f"{params[Param.VALID_PROTEINS]} of `{params[Param.VALID_SPLIT]}`; trained with crop {params[Param.CROP]}; "
        f"the first {params[Param.EVALUATED_LENGTH]} residues of each chain are evaluated. Digest "
        f"`{params[Param.DIGEST]}`.",
        "Recipe: "
        + ", ".join(f"{key.removeprefix(Param.RECIPE_SECTION)} {params[key]}" for key in RECIPE if key in params)
        + ".",
        "## Validation",
        "\n".join(["| | these weights | sepmean |", "|---|---:|---:|", *(f"| {' | '.join(row)} |" for row in rows)]),
        "Pooled over resolved pairs i < j; `sepmean` is the mean distance at each separation along the chain, from the "
        "same training split.",
        over_sepmean.sentence,
        "## How it was chosen",
        f"By {chosen_from(configurations)}. {served.sentence} The validation MSE of a model chosen by it is "
        "optimistic; the MSE on the test split, read after promotion, is not: once read, it is among the tags of this "
        "version.",
        "\n".join(ranked),
        *filter(None, [caution(configurations)]),
        "## Use",
        f"{lengths} Without a profile it uses the one-hot sequence with information content 1 instead, as training "
        "did for proteins without one; a model trained with profiles then predicts worse.",
        "## Limits",
        "Single chains only: no complexes, ligands or alternative states. A predicted map need not match points in "
        "space. Proteins unlike those it was trained on are predicted worse.",
        "## How to repeat it",
        f"`protcli train --config config.yaml`, with the file from the artifacts of {repeated}, at commit "
        f"`{params.get(Param.COMMIT) or 'unknown'}`.",
    )
    return "\n\n".join(sections)[:DESCRIPTION_LENGTH]
