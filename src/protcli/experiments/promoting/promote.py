"""Choose the best configuration by validation, register it, make it champion if it beats the current one.

The test split is not opened here: a model is promoted first and evaluated on the test set afterwards.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from protcli.errors import ProtcliError, check_name
from protcli.experiments.config import best_model
from protcli.experiments.configuration import (
    TrainingData,
    best_epoch_of,
    best_mse_of,
    by_configuration,
    finished_runs,
    grouped,
    has_diverged,
)
from protcli.experiments.pages import Table
from protcli.experiments.promoting.decision import OWN, Candidate, Decision, count, decide, seeds_of
from protcli.experiments.promoting.model_card import chosen_from, model_card
from protcli.proteins.confidence import Calibration
from protcli.tracking.keys import File, Param, Tag
from protcli.tracking.registry import CHALLENGER, CHAMPION, UNFIT, Registry, Version
from protcli.tracking.run import Run, find_runs, project_run

MODEL_NAME = "protein-distance"


@dataclass(frozen=True, eq=False)
class Promotion:
    """A decision and what it is about.

    Attributes:
        candidate: the best configuration, and which of its weights are registered.
        champion: the previous champion, if there was one.
        decision: whether what is served is now champion (or, in a dry run, would be), and why.
        version: what is registered; None if a dry run found none.
        is_new: whether it was registered now (or, in a dry run, would be).
    """

    candidate: Candidate
    champion: Version | None
    decision: Decision
    version: Version | None
    is_new: bool

    @property
    def table(self) -> Table:
        """What the configurations were ranked by."""
        rows = [
            (
                each.name,
                str(each.seeds),
                str(each.failed),
                f"{each.mse.value:.3f}",
                f"{each.mse.value / self.candidate.sepmean.mse:.4f}",
                f"{best_mse_of(each.best_run):.3f}",
                each.best_run.id[:8],
            )
            for each in self.candidate.configurations
        ]
        return Table(
            "Validation MSE: mean over seeds, at epochs chosen on other families; the best seed's at its best epoch",
            ("configuration", "seeds", "collapsed or diverged", "mean", "of sepmean", "best seed", "run"),
            tuple(rows),
        )


def promote(
    *,
    experiment: str | None = None,
    suite: str | None = None,
    model_name: str = MODEL_NAME,
    digest: str | None = None,
    must_beat: str | None = None,
    ensemble: bool = False,
    force: str | None = None,
    dry_run: bool = False,
) -> Promotion:
    """Register the best finished configuration as challenger, and as champion if it beats the current champion.

    The best configuration has the lowest validation MSE as `compare` shows it: each run at an epoch that other protein
    families chose, mean over its seeds, without runs that collapsed. It beats the champion if the interval of the ratio
    of its MSE to that of the champion's configuration, over protein families and seeds, lies below 1; all comparisons
    with a champion on the same proteins share 5 % for false claims, see `level_of_promotion`. What is registered are
    the best weights of its best seed, or the mean of its seeds as an ensemble. If the best configuration is the
    champion's own, or where either is an ensemble, what is served replaces the champion only if the interval of these
    very weights lies below 1. A run that is already registered is not registered again. Runs that were validated on
    held-out families are left out: they chose settings, and others measure what these are worth.

    Args:
        experiment: the experiment to search; None searches all.
        suite: the suite to search instead.
        model_name: of the registered model.
        digest: of the data (or the beginning of it), if the runs use several data sets.
        must_beat: `sepmean`, or `protcli` for the model that comes with it: it becomes champion only if it is shown to
            beat that, even where there is no champion.
        ensemble: whether the version predicts the mean of all seeds that did not collapse.
        force: why the best run becomes champion whatever the comparison says.
        dry_run: decide, but write nothing.

    Raises:
        ProtcliError: no finished run on a validation split, runs on several data sets, a single seed as an ensemble, or
            a champion that cannot be compared.
    """
    if experiment is not None and suite is not None:
        raise ProtcliError("give --experiment or --suite, not both")
    if force is not None and not force.strip():
        raise ProtcliError("--force needs a reason, which is stored with the version")
    if must_beat not in (None, File.SEPMEAN, OWN):
        raise ProtcliError(f"--must-beat {must_beat}: give {File.SEPMEAN}, or {OWN} for the model that comes with it")
    if must_beat is not None and force is not None:
        raise ProtcliError("give --must-beat or --force, not both: one sets a condition, the other none")
    check_name("--model-name", model_name, UNFIT)
    runs = find_training_runs(experiment, suite and Path(suite).stem, digest)  # a user's suite is named after its file
    found = [each for each in by_configuration(runs, keep=not dry_run) if each.runs]
    configurations = sorted(found, key=lambda each: each.mse.value)
    best = configurations[0]
    if ensemble and len(best.kept) < 2:
        raise ProtcliError(
            f"--ensemble needs two seeds or more, but the best configuration, {best.name}, has {seeds_of(best)}: "
            "train more seeds, or leave it out"
        )
    candidate = Candidate(configurations, tuple(sorted(best.kept, key=best_mse_of)) if ensemble else ())
    decision_over = partial(decide, candidate, must_beat=must_beat, force=force)
    registry = Registry()
    with nullcontext() if dry_run else registry.locked():
        version = registry.of_run(candidate.run.id, model_name, candidate.member_ids)
        champion, is_new = registry.aliased(model_name, CHAMPION), version is None
        decision = decision_over(champion)
        if not dry_run:
            version = _register(registry, candidate, model_name)
            if (now := registry.aliased(model_name, CHAMPION)) != champion:  # a store without a lock
                champion, decision = now, decision_over(now)
            _mark(registry, version, candidate, champion, decision, force)
            if project := project_run():
                project.rename(f"promote {best.params[Param.MODEL]}")
                project.set_tags({Tag.VERSION: version.uri, Tag.REASON: decision.reason})
    return Promotion(candidate, champion, decision, version, is_new)


def find_training_runs(experiment: str | None, suite: str | None, digest: str | None) -> list[Run]:
    """The training runs of an experiment, a suite or the whole store that finished or diverged, on one data set.

    Those validated on families held out of the training split are left out.

    Raises:
        ProtcliError: there is none, or they are on several data sets; the message says where else to look.
    """
    stored = find_runs(experiment)
    runs, others = finished_runs(run for run in stored if suite in (None, run.tags.get(Tag.SUITE)))
    if suite and not runs:
        known = sorted({run.tags[Tag.SUITE] for run in stored if Tag.SUITE in run.tags})
        raise ProtcliError(
            f"suite {suite} has no finished training run: run it with `protcli suite run`; suites that have been run "
            f"here: {', '.join(known) or 'none'}"
        )
    if not runs:
        where = f"experiment {experiment}" if experiment else "any experiment"
        raise ProtcliError(f"there is no finished training run in {where}: train one with `protcli train`")
    if digest is not None:
        runs = on_dataset(runs, digest)
    validated = [run for run in runs if not float(run.params.get(Param.HELD_OUT, 0))]
    if not validated:
        raise ProtcliError(
            f"no run here was validated on a validation split, only on families held out of "
            f"{runs[0].params[Param.TRAIN_SPLIT]} (run {runs[0].id}): train the settings that they chose without "
            "--held-out, and promote that run"
        )
    chosen = on_dataset(validated)
    own = chosen[0].params[Param.DIGEST]
    return [*chosen, *(run for run in others if has_diverged(run) and run.params[Param.DIGEST] == own)]


def on_dataset(runs: Sequence[Run], digest: str = "") -> list[Run]:
    """The runs on one data set: the only one whose digest begins with `digest`.

    Raises:
        ProtcliError: there are several, or none; the message lists them.
    """
    by_digest = grouped(runs, lambda run: run.params[Param.DIGEST])
    matching = [known for known in by_digest if known.startswith(digest)]
    if len(matching) == 1:
        return by_digest[matching[0]]
    listed = "; ".join(
        f"{known} ({TrainingData(members[0]).short}): {count(len(members), 'run')}"
        for known, members in sorted(by_digest.items(), key=lambda item: len(item[1]), reverse=True)
    )
    fault = "the runs use several data sets" if matching else f"no run has data digest {digest}"
    raise ProtcliError(f"{fault}: choose one with --digest: {listed}")


def _register(registry: Registry, candidate: Candidate, model_name: str) -> Version:
    """Register what is served, or give the version that it already has the model card of today."""
    run, scores = candidate.run, candidate.scores
    saved = best_model(candidate.config, *(candidate.members or [run]))
    if candidate.members and scores.reliability is not None:  # that of a seed is not the mean's
        saved = replace(saved, calibration=Calibration.fit(scores.reliability, len(scores.proteins)))
    return registry.register(
        model_name,
        run,
        saved,
        members=candidate.member_ids,
        description=model_card(candidate, saved.calibration),
        tags=run.params | {name: f"{value:.6g}" for name, value in scores.logged.items()},
        step=best_epoch_of(run),
    )


def _mark(
    registry: Registry,
    version: Version,
    candidate: Candidate,
    champion: Version | None,
    decision: Decision,
    force: str | None,
) -> None:
    """Set the aliases, and record the decision and its reason on the version and the run."""
    time = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"
    tags = {Tag.VERSION: version.uri, Tag.BEATS_SEPMEAN: candidate.beats_sepmean}
    if not candidate.best.is_baseline:
        tags[Tag.OVER_SEPMEAN] = f"{candidate.improvement.format(1)} %"
    is_decided = champion is None or champion.uri != version.uri  # else the decision of then stands
    if is_decided:
        tags |= {
            Tag.DECISION: CHAMPION if decision.is_champion else f"{CHALLENGER} only",
            Tag.REASON: decision.reason,
            Tag.CHOSEN_FROM: chosen_from(candidate),
            Tag.WEIGHTS: candidate.served,
            Tag.TIME: time,
        }
        if champion is not None:
            tags[Tag.AGAINST] = champion.uri
        if decision.improvement is not None:
            tags[Tag.IMPROVEMENT] = f"{decision.improvement.format(1)} %"
        if force is not None:
            tags[Tag.FORCED] = force
    registry.tag(version, tags)
    candidate.run.set_tags(tags)
    if is_decided:  # last: a process that is killed before this decides again when it is repeated
        registry.set_alias(version, CHALLENGER)
        if decision.is_champion:
            if champion is not None:
                registry.tag(champion, {Tag.SUCCEEDED_BY: f"{version.uri}, {time}: {decision.reason}"})
            registry.set_alias(version, CHAMPION)
