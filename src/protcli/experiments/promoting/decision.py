"""Whether the best configuration becomes champion, and why."""

from collections.abc import Sequence
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
from protcli.experiments.statistics.contrasts import (
    ALPHA,
    FEWEST_SEEDS,
    contrast,
    improvement_over_sepmean,
    level_of_promotion,
)
from protcli.experiments.statistics.estimates import Estimate, per_cent_lower
from protcli.proteins.metrics import PairErrors
from protcli.tracking.bundle import shipped_model
from protcli.tracking.keys import File, Param
from protcli.tracking.registry import Registry, Version
from protcli.tracking.run import Run, find_run, find_runs
from protcli.training.predictor import SavedModel

OWN = "protcli"  # names the model that comes with it


@dataclass(frozen=True, eq=False)
class Candidate:
    """The best of some configurations, and the weights that a version of it predicts with.

    Attributes:
        configurations: those it was chosen from, the best first.
        members: the runs whose mean a version predicts, the best first; none if it has the weights of the best seed.
    """

    configurations: Sequence[Configuration]
    members: tuple[Run, ...] = ()

    @property
    def best(self) -> Configuration:
        """The best configuration."""
        return self.configurations[0]

    @property
    def run(self) -> Run:
        """The run of its best seed."""
        return self.best.best_run

    @cached_property
    def config(self) -> RunConfig:
        """What this run was trained with."""
        return recorded_config(self.run)

    @property
    def member_ids(self) -> tuple[str, ...]:
        """The ids of the members."""
        return tuple(run.id for run in self.members)

    @cached_property
    def scores(self) -> Scores:
        """What these very weights score on validation. Raises ProtcliError as `measure` does."""
        if not self.members:
            return self.best.data.scores_of(self.run)
        return measure(self.run, self.config, "valid", saved=best_model(self.config, *self.members))

    @property
    def sepmean(self) -> PairErrors:
        """The errors of the trivial baseline on the same proteins."""
        return self.best.data.scores_of(self.run).sepmean_errors

    @property
    def trained(self) -> int:
        """How many configurations besides sepmean the best was chosen from: their claims share one chance of error."""
        return max(1, sum(not each.is_baseline for each in self.configurations))

    @property
    def level(self) -> float:
        """Of the interval that says whether the best of them beats sepmean."""
        return 1 - ALPHA / self.trained

    @cached_property
    def improvement(self) -> Estimate:
        """By how many per cent the configuration's MSE is lower than sepmean's; see `improvement_over_sepmean`."""
        return improvement_over_sepmean(self.best.errors, self.sepmean, self.best.data.families, level=self.level)

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
        subject, over, runs = "It", over_families(self.level), "this run"
        if (seeds := len(self.best.kept)) > 1:
            subject, over, runs = f"The mean over its {seeds} seeds", f"{over} and seeds", "these runs"
        if self.best.has_few_seeds:
            over += f", of {runs} alone: it has fewer than {FEWEST_SEEDS} seeds"
        if self.trained > 1:
            over += f"; the best of {self.trained}"
        return (
            f"{subject} {verb} sepmean, the trivial baseline: its validation MSE, at an epoch chosen on other "
            f"families, is {per_cent_lower(self.improvement)} ({over})."
        )

    @property
    def served(self) -> str:
        """Which weights are served, and why."""
        if self.best.is_fitted:
            return "Its weights are the mean distances themselves, which have no seed."
        if self.members:
            seeds = ", ".join(run.params[Param.SEED] for run in self.members)
            return (
                f"It predicts the mean of its seeds {seeds}, with a validation MSE of {self.scores.errors.mse:.3f} Å²: "
                "the mean of predictions never has a larger MSE than they have on average."
            )
        seed, mse = self.run.params[Param.SEED], f"{best_mse_of(self.run):.3f} Å²"
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
        must_beat: `sepmean` or OWN if it becomes champion only when it is shown to beat that.
        force: why it becomes champion whatever the comparison says.

    Raises:
        ProtcliError: the champion cannot be compared, and nothing is forced.
    """
    if champion and (champion.run_id, champion.members) == (candidate.run.id, candidate.member_ids):
        return Decision(True, "it already was champion" + (", so --force changed nothing" if force else ""))
    if must_beat == File.SEPMEAN and candidate.beats_sepmean != "yes":
        shown = "" if candidate.best.is_baseline else f" (MSE {per_cent_lower(candidate.improvement)})"
        return Decision(False, f"it must beat {File.SEPMEAN}, and that is not shown{shown}")
    if must_beat == OWN:
        over = _over_shipped(candidate)
        if over.low <= 0:
            return Decision(
                False, f"it must beat the model of protcli, and that is not shown (MSE {per_cent_lower(over)})"
            )
    if champion is None:
        return Decision(True, "there was no champion" + (f" (forced: {force})" if force else ""))
    try:
        improvement, comparison = _compare(candidate, champion)
    except ProtcliError as error:
        fault = f"the champion, {champion.uri}, cannot be compared: {error}"
        if force is None:
            raise ProtcliError(f"{fault}; --force 'REASON' makes it champion without a comparison") from error
        return Decision(True, f"forced: {force} ({fault})")
    if force is not None:
        return Decision(True, f"forced: {force} ({comparison})", improvement)
    return Decision(improvement.low > 0, comparison, improvement)


def _over_shipped(candidate: Candidate) -> Estimate:
    """By how many per cent the MSE of the candidate is lower than that of the model which comes with protcli."""
    best, shipped = candidate.best, shipped_model()
    if shipped.atom != best.params[Param.ATOM]:
        raise ProtcliError(f"--must-beat {OWN}: it predicts distances between {shipped.atom.upper()} atoms")
    theirs = measure(candidate.run, candidate.config, "valid", saved=shipped).errors
    return contrast([best.errors, [theirs]], (1, -1), best.data.families).improvement(candidate.level)


def _compare(candidate: Candidate, champion: Version) -> tuple[Estimate, str]:
    """By how many per cent the MSE of the candidate is lower than the champion's, and a clause about it."""
    best, run, registry = candidate.best, find_run(champion.run_id), Registry()
    for key, what in ((Param.ATOM, "atom"), (Param.EVALUATED_LENGTH, "evaluated length")):
        if run.params.get(key) != best.params[key]:
            raise ProtcliError(
                f"it was trained with {what} {run.params.get(key)}, run {candidate.run.id} with {best.params[key]}: "
                "they predict different pairs"
            )
    number = 1 + registry.compared(
        champion.name, best.params[Param.VALID_DIGEST], candidate.run.id, candidate.member_ids
    )
    level = 1 - level_of_promotion(number) / candidate.trained
    over = over_families(level)
    is_own = run.params[Param.DIGEST] == best.data.digest and settings_of(run) == settings_of(candidate.run)
    if is_own or candidate.members or champion.members:
        saved = registry.load(champion) if champion.members else None
        ours, theirs = [candidate.scores.errors], [_errors_of(run, best, saved)]
        why = "there is an ensemble, here or as champion"
        if is_own:
            why = "the best configuration is that of the champion"
        ours_is = (
            f"{why}, version {champion.number}, so only their weights are compared: the MSE of its "
            f"{weights_of(candidate.run, candidate.members)}"
        )
        that_of = f"the champion's {weights_of(run, champion.members)} ({over})"
        subject, few = "these weights are", False
    else:
        rival = configuration_of(run, keep=best.data.keep)
        if run.params[Param.VALID_DIGEST] == best.params[Param.VALID_DIGEST]:
            rival = replace(rival, data=best.data)
            ours, theirs = best.errors, rival.errors  # each at an epoch chosen on other families
        else:
            ours, theirs = best.errors, [_errors_of(each, best) for each in rival.kept]
        ours_is = f"its validation MSE ({seeds_of(best)})"
        that_of = (
            f"the configuration of the champion, version {champion.number} "
            f"({distinguish([settings_of(candidate.run), settings_of(run)])[1]}, {seeds_of(rival)}; {over}"
            f"{' and seeds' if max(len(ours), len(theirs)) > 1 else ''})"
        )
        subject = "these weights are" if len(ours) == 1 else "it is"
        few = best.has_few_seeds or rival.has_few_seeds
    found = contrast([ours, theirs], (1, -1), best.data.families).improvement(level)
    verdict = f"{subject} {'better' if found.low > 0 else 'worse'} by more than chance"
    if found.low <= 0 <= found.high:
        verdict = "no difference can be claimed"
    if few:
        verdict += f"; with fewer than {FEWEST_SEEDS} seeds nothing is claimed about the architecture"
    if number > 1 or candidate.trained > 1:
        verdict += (
            f"; 5 % for false claims are shared by all comparisons with a champion on these proteins: this is number "
            f"{number}, of the best of {candidate.trained}"
        )
    return found, f"{ours_is} is {per_cent_lower(found)} than that of {that_of}: {verdict}"


def configuration_of(run: Run, *, keep: bool = True) -> Configuration:
    """The configuration of a run: it and every finished run in the store that differs in the seed alone."""
    digest, settings = run.params[Param.DIGEST], settings_of(run)
    finished, unfinished = finished_runs(
        each for each in find_runs() if each.id != run.id and each.params.get(Param.DIGEST) == digest
    )
    others = [each for each in (*finished, *filter(has_diverged, unfinished)) if settings_of(each) == settings]
    (found,) = by_configuration([run, *others], keep=keep)
    return found


def _errors_of(run: Run, best: Configuration, saved: SavedModel | None = None) -> PairErrors:
    """The errors of a run's best weights, or of others, on the validation proteins of the best configuration."""
    is_same = run.params[Param.VALID_DIGEST] == best.params[Param.VALID_DIGEST]
    if is_same and saved is None:
        return best.data.scores_of(run).errors
    source = None if is_same else recorded_config(best.best_run).data.source
    scores = measure(run, recorded_config(run), "valid", saved=saved, data=source)
    if scores.digest != best.params[Param.VALID_DIGEST]:
        raise ProtcliError(f"{source} no longer holds the validation proteins of run {best.best_run.id}")
    return scores.errors


def over_families(level: float) -> str:
    """`95 % interval over protein families`, with this level."""
    return f"{100 * level:.5g} % interval over protein families"


def weights_of(run: Run, members: Sequence[object]) -> str:
    """`seed 3`, or `mean of 5 seeds` where there are members."""
    return f"mean of {len(members)} seeds" if members else f"seed {run.params[Param.SEED]}"


def seeds_of(configuration: Configuration) -> str:
    """`3 seeds`, `4 seeds, 1 of them collapsed or diverged`, or `fitted`."""
    if configuration.is_fitted:
        return "fitted"
    failed = f", {configuration.failed} of them collapsed or diverged" if configuration.failed else ""
    return count(configuration.seeds, "seed") + failed


def count(number: int, what: str) -> str:
    """`1 run`, `2 runs`."""
    return f"{number} {what}{'' if number == 1 else 's'}"
