"""What a registered version says of itself, in Markdown."""

from collections.abc import Sequence

from protcli.experiments.measuring.measurement import Measurement
from protcli.experiments.promoting.candidates import Candidate, best_mse, caution, chosen_from, count
from protcli.tracking.keys import File, Param
from protcli.tracking.registry import DESCRIPTION_LENGTH
from protcli.tracking.runs import RecordedRun

RANKED = 5  # configurations that a model card names


def model_card(candidates: Sequence[Candidate], measured: Measurement, summary: str) -> str:
    """The description of a version, in Markdown.

    Args:
        candidates: what was chosen from, the best first.
        measured: what its best seed scores on validation.
        summary: of the model, a line.
    """
    run = candidates[0].best
    params, errors, sepmean = run.params, measured.errors, measured.sepmean_errors
    synthetic = params[Param.SYNTHETIC] == "True"
    rows = (
        ("MSE, Å²", f"{errors.mse:.3f}", f"{sepmean.mse:.3f}"),
        ("RMSE, Å", f"{errors.rmse:.3f}", f"{sepmean.rmse:.3f}"),
        ("MAE, Å", f"{errors.mae:.3f}", f"{sepmean.mae:.3f}"),
    )
    ranked = [
        f"{place}. {candidate.label}: {candidate.mse:.3f} Å² over {count(len(candidate.runs), 'seed')}"
        for place, candidate in enumerate(candidates[:RANKED], start=1)
    ]
    if len(candidates) > RANKED:
        ranked.append(f"and {len(candidates) - RANKED} more")
    atom = params[Param.ATOM].upper()
    sections = (
        f"# {params[Param.MODEL]}, seed {params[Param.SEED]}",
        f"{summary}. Given a protein chain's sequence and, where there is one, its evolutionary profile, it says the "
        f"distance between the {atom} atoms of every two residues, in Å. {int(params[Param.PARAMETERS]):,} "
        f"parameters; precision {params[Param.PRECISION]}.",
        "## Data",
        f"`{params[Param.DATA_NAME]}`{' (**synthetic** proteins: no claim about real ones)' if synthetic else ''}: "
        f"trained on {params[Param.TRAIN_PROTEINS]} proteins of `{params[Param.TRAIN_SPLIT]}`, chosen by "
        f"{params[Param.VALID_PROTEINS]} of `{params[Param.VALID_SPLIT]}`; trained with crop {params[Param.CROP]}; "
        f"the first {params[Param.EVALUATED_LENGTH]} residues of each chain are evaluated. Digest "
        f"`{params[Param.DIGEST]}`.",
        "## Validation",
        "\n".join(["| | this model | sepmean |", "|---|---:|---:|", *(f"| {' | '.join(row)} |" for row in rows)]),
        f"{verdict(run, sepmean.mse)} Pooled over resolved pairs i < j; `sepmean` is the mean distance at each "
        "separation along the chain, from the same training split.",
        "## How it was chosen",
        f"By {chosen_from(candidates)}. The figure of a model that was chosen by it flatters: the test split, read "
        "after promotion, does not.",
        "\n".join(ranked),
        *filter(None, [caution(candidates)]),
        "## Use",
        f"For maps of single chains of up to {params[Param.EVALUATED_LENGTH]} residues; longer ones are refused, "
        "not cut. Without a profile it takes the sequence's one-hot with information content 1 in its place, as "
        "training did for proteins without one: a model trained with profiles is worse so.",
        "## Limits",
        "A chain alone: no complexes, ligands or alternative states. The maps need not be those of points in space. "
        "Proteins unlike those it was trained on are predicted worse.",
        "## Again",
        f"`protcli train --config config.yaml`, from the artifacts of run `{run.id}`, at commit "
        f"`{params.get(Param.COMMIT) or 'unknown'}`.",
    )
    return "\n\n".join(sections)[:DESCRIPTION_LENGTH]


def verdict(run: RecordedRun, sepmean: float) -> str:
    """What a run is worth beside the baseline's MSE on the same proteins, in A^2; a sentence."""
    if run.params[Param.MODEL] == File.SEPMEAN:
        return "The best of these runs is the trivial baseline itself: no net among them does better."
    ratio = best_mse(run) / sepmean
    if ratio < 1:
        return f"Its MSE is {ratio:.3f} of sepmean's."
    return f"It does not beat the trivial baseline: its MSE is {ratio:.3f} of sepmean's."
