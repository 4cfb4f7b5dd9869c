"""Whether the best configuration becomes champion, and why."""

from collections.abc import Sequence
from dataclasses import dataclass

from protcli.errors import ProtcliError
from protcli.experiments.config import recorded_config
from protcli.experiments.evaluate import measure
from protcli.experiments.promoting.candidates import Candidate, configuration_of, same_configuration
from protcli.experiments.promoting.served import Served
from protcli.experiments.promoting.validation import Validation
from protcli.experiments.runs.configurations import distinguish, settings_of
from protcli.experiments.statistics.contrasts import FEWEST_SEEDS, contrast, improvement_over_sepmean
from protcli.experiments.statistics.estimates import Estimate, per_cent_lower
from protcli.proteins.metrics import PairErrors
from protcli.tracking.keys import File, Param
from protcli.tracking.registry import Registry, Version
from protcli.tracking.run import Run, find_run
from protcli.training.predictor import SavedModel

OVER_FAMILIES = "95 % interval over protein families"


@dataclass(frozen=True)
class OverSepmean:
    """How much better a configuration is than the trivial baseline on the same validation proteins.

    Attributes:
        candidate: the configuration.
        improvement: by how many per cent its MSE is lower; NaN as interval if all proteins are of one family.
    """

    candidate: Candidate
    improvement: Estimate

    @classmethod
    def of(cls, candidate: Candidate, validation: Validation) -> "OverSepmean":
        """Raises ProtcliError as `validation_of` does."""
        measured = validation.of(candidate.best)
        errors, families = validation.errors(candidate.trained), measured.proteins["family"].to_numpy()
        return cls(candidate, improvement_over_sepmean(errors, measured.sepmean_errors, families))

    @property
    def beats(self) -> str:
        """`yes`, `no` (it is worse, or the baseline itself), or `not shown`."""
        if self.candidate.is_baseline or self.improvement.high < 0:
            return "no"
        return "yes" if self.improvement.low > 0 else "not shown"

    @property
    def sentence(self) -> str:
        """What may be said about it."""
        if self.candidate.is_baseline:
            return "The best of these runs is the trivial baseline itself: no network among them does better."
        verb = {"yes": "beats", "no": "does not beat", "not shown": "is not shown to beat"}[self.beats]
        seeds = len(self.candidate.trained)
        subject = "It" if seeds == 1 else f"The mean over its {seeds} seeds"
        over = OVER_FAMILIES + ("" if seeds == 1 else " and seeds")
        if self.candidate.has_few_seeds:
            runs = "this run" if seeds == 1 else "these runs"
            over += f", of {runs} alone: it has fewer than {FEWEST_SEEDS} seeds"
        return (
            f"{subject} {verb} sepmean, the trivial baseline: its validation MSE, at an epoch chosen on other "
            f"families, is {per_cent_lower(self.improvement)} ({over})."
        )


@dataclass(frozen=True)
class Decision:
    """Whether a candidate becomes champion.

    Attributes:
        is_champion: whether it does, or already was.
        reason: why, as a clause.
        improvement: by how many per cent its MSE is lower than the champion's; None if they were not compared.
    """

    is_champion: bool
    reason: str
    improvement: Estimate | None = None


def decide(
    served: Served,
    champion: Version | None,
    *,
    over_sepmean: OverSepmean,
    must_beat: str | None,
    force: str | None,
) -> Decision:
    """Decide whether the best configuration becomes champion.

    Args:
        served: the configuration, and which of its weights are registered.
        champion: the version that is champion now.
        over_sepmean: how the configuration compares with the baseline.
        must_beat: `sepmean` if it becomes champion only when it is shown to beat that.
        force: why it becomes champion whatever the comparison says.

    Raises:
        ProtcliError: the champion cannot be compared, and nothing is forced.
    """
    best = served.candidate
    if champion is not None and champion.run_id == best.best.id and ",".join(champion.members) == served.members_tag:
        seeds = f" and has the best of its configuration's {len(best.runs)} seeds" if len(best.runs) > 1 else ""
        seeds = f" and predicts the mean of its {len(served.members)} seeds" if served.members else seeds
        return Decision(True, f"it already was champion{seeds}" + (", so --force changed nothing" if force else ""))
    if must_beat is not None and over_sepmean.beats != "yes":
        shown = "" if best.is_baseline else f" (MSE {per_cent_lower(over_sepmean.improvement)})"
        return Decision(False, f"it must beat {File.SEPMEAN}, and that is not shown{shown}")
    if champion is None:
        return Decision(True, "there was no champion" + (f" (forced: {force})" if force else ""))
    try:
        found, comparison = _compare(served, champion)
    except ProtcliError as error:
        if force is None:
            raise ProtcliError(f"{error}; --force 'REASON' makes it champion without a comparison") from error
        return Decision(True, f"forced: {force} (no comparison: {error})")
    if force is not None:
        return Decision(True, f"forced: {force} ({comparison})", found)
    return Decision(found.low > 0, comparison, found)


def _compare(served: Served, champion: Version) -> tuple[Estimate, str]:
    """By how many per cent the MSE of the configuration is lower than the champion's, and a clause about it."""
    best, validation = served.candidate, served.validation
    try:
        run = find_run(champion.run_id)
    except ProtcliError as error:
        raise ProtcliError(f"the champion, {champion.uri}, cannot be compared: {error}") from error
    _refuse_other_pairs(best.best, champion, run)
    families = validation.of(best.best).proteins["family"].to_numpy()
    same = same_configuration(best.best, run)
    if same or served.members or champion.members:
        weights = [[served.errors], [_champion_errors(best.best, champion, run, validation)]]
        found = contrast(weights, (1, -1), families).improvement()
        why = "the best configuration is that of the champion" if same else "there is an ensemble, here or as champion"
        return found, (
            f"{why}, version {champion.number}, so only their weights are compared: the MSE of its "
            f"{_weights(len(served.members), best.best)} is {per_cent_lower(found)} than that of the champion's "
            f"{_weights(len(champion.members), run)} ({OVER_FAMILIES}): {_verdict(found, 'these weights are')}"
        )
    rival = configuration_of(run)
    errors = [validation.errors(best.trained), _errors_on_same(best.best, champion, rival.trained, validation)]
    found = contrast(errors, (1, -1), families).improvement()
    name = distinguish([settings_of(best.best), settings_of(run)])[1]
    few = best.has_few_seeds or rival.has_few_seeds
    many = max(len(best.trained), len(rival.trained)) > 1
    return found, (
        f"its validation MSE ({best.seeds}) is {per_cent_lower(found)} than that of the configuration of the champion, "
        f"version {champion.number} ({name}, {rival.seeds}; {OVER_FAMILIES}{' and seeds' if many else ''}): "
        + _verdict(found, "these weights are" if len(best.trained) == 1 else "it is")
        + (f"; with fewer than {FEWEST_SEEDS} seeds nothing is claimed about the architecture" if few else "")
    )


def _weights(members: int, run: Run) -> str:
    return f"mean of {members} seeds" if members else f"seed {run.params[Param.SEED]}"


def _champion_errors(best: Run, champion: Version, run: Run, validation: Validation) -> PairErrors:
    """The errors of the champion's own weights on the validation proteins of the best run; `run` is the champion's."""
    if not champion.members and run.params[Param.VALID_DIGEST] == best.params[Param.VALID_DIGEST]:
        return validation.of(run).errors
    return _measured(best, champion, run, Registry().load(champion).saved)


def _refuse_other_pairs(best: Run, champion: Version, run: Run) -> None:
    for key, what in ((Param.ATOM, "atom"), (Param.EVALUATED_LENGTH, "evaluated length")):
        if run.params.get(key) != best.params[key]:
            raise ProtcliError(
                f"the champion, {champion.uri}, was trained with {what} {run.params.get(key)}, run {best.id} with "
                f"{best.params[key]}: they predict different pairs and cannot be compared"
            )


def _errors_on_same(best: Run, champion: Version, runs: Sequence[Run], validation: Validation) -> list[PairErrors]:
    """The errors of the champion's runs on the validation proteins of the best run, measured on them if need be."""
    if runs[0].params[Param.VALID_DIGEST] == best.params[Param.VALID_DIGEST]:
        return validation.errors(runs)
    remeasured = []
    for run in runs:
        remeasured.append(_measured(best, champion, run))
    return remeasured


def _measured(best: Run, champion: Version, run: Run, saved: SavedModel | None = None) -> PairErrors:
    """The errors of a run's best weights, or of others, on the validation proteins of the best run."""
    try:
        source = recorded_config(best).data.source
        same = run.params[Param.VALID_DIGEST] == best.params[Param.VALID_DIGEST]
        result = measure(run, recorded_config(run), "valid", saved=saved, data=None if same else source)
    except ProtcliError as error:
        raise ProtcliError(
            f"the champion, {champion.uri}, was not measured on the validation proteins of run {best.id} and cannot be "
            f"measured on them ({error})"
        ) from error
    if result.digest != best.params[Param.VALID_DIGEST]:
        raise ProtcliError(
            f"the champion, {champion.uri}, was measured on different validation proteins than run {best.id}, and "
            f"{source} no longer holds the run's"
        )
    return result.errors


def _verdict(found: Estimate, what: str) -> str:
    if found.low > 0:
        return f"{what} better by more than chance"
    if found.high < 0:
        return f"{what} worse by more than chance"
    return "no difference can be claimed"
