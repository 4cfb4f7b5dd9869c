"""The description of a registered model version, in Markdown."""

from collections.abc import Sequence

from protcli.experiments.promoting.candidates import Candidate, caution, chosen_from
from protcli.experiments.promoting.decision import OverSepmean
from protcli.experiments.promoting.served import Served
from protcli.models.spec import ModelSpec
from protcli.proteins.metrics import PairErrors
from protcli.tracking.keys import Param
from protcli.tracking.registry import DESCRIPTION_LENGTH

RECIPE = (Param.EPOCHS, Param.BATCH_SIZE, Param.LR, Param.OPTIMIZER, Param.LOSS)  # what a model card says of it
RANKED = 5  # configurations that a model card names


def model_card(
    candidates: Sequence[Candidate], served: Served, sepmean: PairErrors, over_sepmean: OverSepmean, spec: ModelSpec
) -> str:
    """The description of a version, in Markdown.

    Args:
        candidates: the configurations it was chosen from, the best first.
        served: which weights of the best one the version predicts with.
        sepmean: errors of the baseline on validation.
        over_sepmean: how the best configuration compares with the baseline.
        spec: the model.
    """
    run = candidates[0].best
    params, errors = run.params, served.errors
    seeds = f"mean of {len(served.members)} seeds" if served.members else f"seed {params[Param.SEED]}"
    synthetic = params[Param.SYNTHETIC] == "True"
    rows = (
        ("MSE, Å²", f"{errors.mse:.3f}", f"{sepmean.mse:.3f}"),
        ("RMSE, Å", f"{errors.rmse:.3f}", f"{sepmean.rmse:.3f}"),
        ("MAE, Å", f"{errors.mae:.3f}", f"{sepmean.mae:.3f}"),
    )
    ranked = [
        f"{place}. {candidate.label}: {candidate.mse:.3f} Å² ({candidate.seeds})"
        for place, candidate in enumerate(candidates[:RANKED], start=1)
    ]
    if len(candidates) > RANKED:
        ranked.append(f"and {len(candidates) - RANKED} more")
    atom, trained = params[Param.ATOM].upper(), params.get(Param.SHARE_PROTEINS, params[Param.TRAIN_PROTEINS])
    length = params[Param.EVALUATED_LENGTH]
    lengths = f"For maps of single chains of up to {length} residues; longer ones are refused, not cropped."
    if spec.takes_any_length:
        lengths = f"For maps of single chains of any length; it was measured on the first {length} residues."
    repeated = (
        f"run `{run.id}`" if not served.members else f"runs {', '.join(f'`{each.id}`' for each in served.members)}"
    )
    sections = (
        f"# {params[Param.MODEL]}, {seeds}",
        f"{spec.summary}. From a protein chain's sequence and, if available, its evolutionary profile, it predicts the "
        f"distance between the {atom} atoms of every pair of residues, in Å. {int(params[Param.PARAMETERS]):,} "
        f"parameters; precision {params[Param.PRECISION]}.",
        "## Data",
        f"`{params[Param.DATA_NAME]}`{' (**synthetic** proteins: no claim about real ones)' if synthetic else ''}: "
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
        f"By {chosen_from(candidates)}. {served.sentence} The validation MSE of a model chosen by it is "
        "optimistic; the MSE on the test split, read after promotion, is not: once read, it is among the tags of this "
        "version.",
        "\n".join(ranked),
        *filter(None, [caution(candidates)]),
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
