"""Whether the best configuration becomes champion, and why."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from protcli.errors import ProtcliError
from protcli.experiments.config import RunConfig, best_model, recorded_config
from protcli.experiments.configuration import (
    Configuration,
    best_mse_of,
    by_configuration,
    distinguish,
    finished_runs,
    has_diverged,
    settings_of,
)
from protcli.experiments.evaluate import measure
from protcli.experiments.scores import Scores
from protcli.experiments.statistics.contrasts import FEWEST_SEEDS, contrast, improvement_over_sepmean
from protcli.experiments.statistics.estimates import Estimate, per_cent_lower
from protcli.proteins.confidence import Calibration
from protcli.proteins.metrics import PairErrors
from protcli.tracking.keys import File, Param
from protcli.tracking.registry import Registry, Version
from protcli.tracking.run import Run, find_run, find_runs
from protcli.training.predictor import SavedModel

OVER_FAMILIES = "95 % interval over protein families"


@dataclass(frozen=True, eq=False)
class Candidate:
    """The best configuration as it may be promoted, and the weights that a version of it predicts with.

    Attributes:
        best: the configuration.
        members: the runs whose mean a version predicts, the best first; none if it has the weights of the best seed.
    """

    best: Configuration
    members: tuple[Run, ...]

    @classmethod
    def of(cls, best: Configuration, *, ensemble: bool) -> "Candidate":
        """Raises ProtcliError if an ensemble is asked for and fewer than two seeds did not collapse."""
        if ensemble and len(best.kept) < 2:
            raise ProtcliError(
                f"--ensemble needs two seeds or more, but the best configuration, {best.name}, has {seeds_of(best)}: "
                "train more seeds, or leave it out"
            )
        return cls(best, tuple(sorted(best.kept, key=best_mse_of)) if ensemble else ())

    @cached_property
    def improvement(self) -> Estimate:
        """By how many per cent the configuration's MSE is lower than that of the trivial baseline, `sepmean`.

        The interval is NaN if all proteins are of one family. Raises ProtcliError as `validation_of` does.
        """
        sepmean = self.best.data.scores_of(self.best.best_run).sepmean_errors
        return improvement_over_sepmean(self.best.errors, sepmean, self.best.data.families)

    @property
    def beats_sepmean(self) -> str:
        """`yes`, `no` (it is worse, or the baseline itself), or `not shown`."""
        if self.best.is_baseline or self.improvement.high < 0:
            return "no"
        return "yes" if self.improvement.low > 0 else "not shown"

    @property
    def over_sepmean(self) -> str:
        """What may be said about it and the baseline."""
        if self.best.is_baseline:
            return "The best of these runs is the trivial baseline itself: no network among them does better."
        verb = {"yes": "beats", "no": "does not beat", "not shown": "is not shown to beat"}[self.beats_sepmean]
        seeds = len(self.best.kept)
        subject, over, runs = f"The mean over its {seeds} seeds", f"{OVER_FAMILIES} and seeds", "these runs"
        if seeds == 1:
            subject, over, runs = "It", OVER_FAMILIES, "this run"
        if self.best.has_few_seeds:
            over += f", of {runs} alone: it has fewer than {FEWEST_SEEDS} seeds"
        return (
            f"{subject} {verb} sepmean, the trivial baseline: its validation MSE, at an epoch chosen on other "
            f"families, is {per_cent_lower(self.improvement)} ({over})."
        )

    @property
    def members_tag(self) -> str:
        """The ids of the members with commas between."""
        return ",".join(run.id for run in self.members)

    @property
    def weights(self) -> str:
        """`seed 3`, or `mean of 5 seeds`."""
        return _weights(len(self.members), self.best.best_run)

    @cached_property
    def _ensemble(self) -> Scores:
        """What the ensemble scores on validation."""
        run = self.best.best_run
        config = recorded_config(run)
        return measure(run, config, "valid", saved=best_model(config, *self.members))

    @property
    def errors(self) -> PairErrors:
        """Errors of these very weights on the validation proteins. Raises ProtcliError as `measure` does."""
        if self.members:
            return self._ensemble.errors
        return self.best.data.scores_of(self.best.best_run).errors

    @property
    def metrics(self) -> Mapping[str, float]:
        """Metrics of these weights on validation, by name."""
        return self._ensemble.logged if self.members else find_run(self.best.best_run.id).metrics  # read again

    def model(self, config: RunConfig) -> SavedModel:
        """The weights, with the calibration of their confidence."""
        if not self.members:
            return best_model(config, self.best.best_run)
        groups = self._ensemble.reliability  # of an ensemble, so it is not calibrated
        calibration = None if groups is None else Calibration.fit(groups)
        return replace(best_model(config, *self.members), calibration=calibration)

    @property
    def served(self) -> str:
        """Which weights are served, and why."""
        if self.best.is_fitted:
            return "Its weights are the mean distances themselves, which have no seed."
        if self.members:
            seeds = ", ".join(run.params[Param.SEED] for run in self.members)
            return (
                f"It predicts the mean of its seeds {seeds}, with a validation MSE of {self.errors.mse:.3f} Å²: the "
                "mean of predictions never has a larger MSE than they have on average."
            )
        seed, mse = self.best.best_run.params[Param.SEED], f"{best_mse_of(self.best.best_run):.3f} Å²"
        if len(self.best.runs) == 1:
            return f"Its weights are those of its only seed, {seed}, with a validation MSE of {mse} at its best epoch."
        return (
            f"Its weights are those of seed {seed}, whose validation MSE, {mse} at its best epoch, is the lowest of "
            f"its {len(self.best.runs)} seeds; --ensemble would serve the mean of all."
        )


@dataclass(frozen=True)
class Decision:
    """Whether a configuration becomes champion.

    Attributes:
        is_champion: whether it does, or already was.
        reason: why, as a clause.
        improvement: by how many per cent its MSE is lower than the champion's; None if they were not compared.
    """

    is_champion: bool
    reason: str
    improvement: Estimate | None = None


def decide(candidate: Candidate, champion: Version | None, *, must_beat: str | None, force: str | None) -> Decision:
    """Decide whether the best configuration becomes champion.

    Args:
        candidate: the configuration, and which of its weights are registered.
        champion: the version that is champion now.
        must_beat: `sepmean` if it becomes champion only when it is shown to beat that.
        force: why it becomes champion whatever the comparison says.

    Raises:
        ProtcliError: the champion cannot be compared, and nothing is forced.
    """
    best, weights = candidate.best, (candidate.best.best_run.id, candidate.members_tag)
    if champion is not None and (champion.run_id, ",".join(champion.members)) == weights:
        seeds = f" and has the best of its configuration's {len(best.runs)} seeds" if len(best.runs) > 1 else ""
        seeds = f" and predicts the mean of its {len(candidate.members)} seeds" if candidate.members else seeds
        return Decision(True, f"it already was champion{seeds}" + (", so --force changed nothing" if force else ""))
    if must_beat is not None and candidate.beats_sepmean != "yes":
        shown = "" if best.is_baseline else f" (MSE {per_cent_lower(candidate.improvement)})"
        return Decision(False, f"it must beat {File.SEPMEAN}, and that is not shown{shown}")
    if champion is None:
        return Decision(True, "there was no champion" + (f" (forced: {force})" if force else ""))
    try:
        found, comparison = _compare(candidate, champion)
    except ProtcliError as error:
        if force is None:
            raise ProtcliError(f"{error}; --force 'REASON' makes it champion without a comparison") from error
        return Decision(True, f"forced: {force} (no comparison: {error})")
    if force is not None:
        return Decision(True, f"forced: {force} ({comparison})", found)
    return Decision(found.low > 0, comparison, found)


def _compare(candidate: Candidate, champion: Version) -> tuple[Estimate, str]:
    """By how many per cent the MSE of the configuration is lower than the champion's, and a clause about it."""
    best = candidate.best
    try:
        run = find_run(champion.run_id)
    except ProtcliError as error:
        raise ProtcliError(f"the champion, {champion.uri}, cannot be compared: {error}") from error
    for key, what in ((Param.ATOM, "atom"), (Param.EVALUATED_LENGTH, "evaluated length")):
        if run.params.get(key) != best.params[key]:
            raise ProtcliError(
                f"the champion, {champion.uri}, was trained with {what} {run.params.get(key)}, run {best.best_run.id} "
                f"with {best.params[key]}: they predict different pairs and cannot be compared"
            )
    on_same = run.params[Param.VALID_DIGEST] == best.params[Param.VALID_DIGEST]
    is_own = run.params[Param.DIGEST] == best.data.digest and settings_of(run) == settings_of(best.best_run)
    if is_own or candidate.members or champion.members:
        if on_same and not champion.members:
            theirs = best.data.scores_of(run).errors
        else:
            theirs = _measured(best, champion, run, Registry().load(champion))
        found = contrast([[candidate.errors], [theirs]], (1, -1), best.data.families).improvement()
        why = "there is an ensemble, here or as champion"
        if is_own:
            why = "the best configuration is that of the champion"
        return found, (
            f"{why}, version {champion.number}, so only their weights are compared: the MSE of its {candidate.weights} "
            f"is {per_cent_lower(found)} than that of the champion's {_weights(len(champion.members), run)} "
            f"({OVER_FAMILIES}): {_verdict(found, 'these weights are')}"
        )
    rival = configuration_of(run, keep=best.data.keep)
    if on_same:
        rival = replace(rival, data=best.data)
    of_rival = rival.errors if on_same else [_measured(best, champion, each) for each in rival.kept]
    found = contrast([best.errors, of_rival], (1, -1), best.data.families).improvement()
    name = distinguish([settings_of(best.best_run), settings_of(run)])[1]
    seeds = " and seeds" if max(len(best.kept), len(rival.kept)) > 1 else ""
    few = best.has_few_seeds or rival.has_few_seeds
    return found, (
        f"its validation MSE ({seeds_of(best)}) is {per_cent_lower(found)} than that of the configuration of the "
        f"champion, version {champion.number} ({name}, {seeds_of(rival)}; {OVER_FAMILIES}{seeds}): "
        + _verdict(found, "these weights are" if len(best.kept) == 1 else "it is")
        + (f"; with fewer than {FEWEST_SEEDS} seeds nothing is claimed about the architecture" if few else "")
    )


def configuration_of(run: Run, *, keep: bool = True) -> Configuration:
    """The configuration of a run: it and every finished run in the store that differs in the seed alone."""
    on_its_data = [each for each in find_runs() if each.params.get(Param.DIGEST) == run.params[Param.DIGEST]]
    finished, unfinished = finished_runs(each for each in on_its_data if each.id != run.id)
    others: Sequence[Run] = [*finished, *filter(has_diverged, unfinished)]
    settings = settings_of(run)
    (found,) = by_configuration([run, *(each for each in others if settings_of(each) == settings)], keep=keep)
    return found


def _measured(best: Configuration, champion: Version, run: Run, saved: SavedModel | None = None) -> PairErrors:
    """The errors of a run's best weights, or of others, on the validation proteins of the best configuration."""
    try:
        source = recorded_config(best.best_run).data.source
        same = run.params[Param.VALID_DIGEST] == best.params[Param.VALID_DIGEST]
        result = measure(run, recorded_config(run), "valid", saved=saved, data=None if same else source)
    except ProtcliError as error:
        raise ProtcliError(
            f"the champion, {champion.uri}, was not measured on the validation proteins of run {best.best_run.id} and "
            f"cannot be measured on them ({error})"
        ) from error
    if result.digest != best.params[Param.VALID_DIGEST]:
        raise ProtcliError(
            f"the champion, {champion.uri}, was measured on different validation proteins than run "
            f"{best.best_run.id}, and {source} no longer holds the run's"
        )
    return result.errors


def _weights(members: int, run: Run) -> str:
    return f"mean of {members} seeds" if members else f"seed {run.params[Param.SEED]}"


def _verdict(found: Estimate, what: str) -> str:
    if found.low <= 0 <= found.high:
        return "no difference can be claimed"
    return f"{what} {'better' if found.low > 0 else 'worse'} by more than chance"


def seeds_of(configuration: Configuration) -> str:
    """`3 seeds`, `4 seeds, 1 of them collapsed or diverged`, or `fitted`."""
    if configuration.is_fitted:
        return "fitted"
    failed = f", {configuration.failed} of them collapsed or diverged" if configuration.failed else ""
    return count(configuration.seeds, "seed") + failed


def count(number: int, what: str) -> str:
    """`1 run`, `2 runs`."""
    return f"{number} {what}{'' if number == 1 else 's'}"
