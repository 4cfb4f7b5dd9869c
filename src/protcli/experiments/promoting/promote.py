"""Choose the best configuration by validation, register it, make it champion if it beats the current one.

The test split is not opened here: a model is promoted first and evaluated on the test set afterwards.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from protcli.errors import ProtcliError
from protcli.experiments.config import recorded_config
from protcli.experiments.configuration import (
    Configuration,
    best_mse_of,
    by_configuration,
    finished_runs,
    grouped,
    has_diverged,
)
from protcli.experiments.pages import Table
from protcli.experiments.promoting.decision import Candidate, Decision, count, decide
from protcli.experiments.promoting.model_card import chosen_from, model_card
from protcli.tracking.keys import File, Metric, Param, Tag
from protcli.tracking.registry import CHALLENGER, CHAMPION, Registry, Version
from protcli.tracking.run import Run, find_run, find_runs, project_run

MODEL_NAME = "protein-distance"
LINEAGE = (
    *(Param.MODEL, Param.DATA_NAME, Param.SYNTHETIC, Param.DIGEST, Param.ATOM, Param.TRAIN_SPLIT, Param.TRAIN_DIGEST),
    *(Param.VALID_SPLIT, Param.VALID_DIGEST, Param.CROP, Param.EVALUATED_LENGTH, Param.SEED, Param.PRECISION),
    *(Param.COMMIT, Param.PROTCLI),
)  # parameters of the run that are copied to tags of the version
SCORES = (
    *(Metric.BEST_EPOCH, Metric.BEST_MSE, Metric.BEST_RATIO),
    *(
        f"{Metric.BEST}{score}"
        for score in ("rmse", "mae", "legacy_sse_pm2", "drmsd", "mae_8", "lddt", "precision_long_L5")
    ),
    *(f"{Metric.BEST}{score}" for score in ("checkerboard_8", "blockiness_8")),
)  # metrics of the best epoch that are copied too; all others are in the run


@dataclass(frozen=True, eq=False)
class Promotion:
    """A decision and its reason.

    Attributes:
        configurations: all of them, the best first.
        candidate: the best one, and which of its weights are registered.
        model_name: of the registered model.
        champion: the previous champion, if there was one.
        decision: whether what is served is now champion (or, in a dry run, would be), and why.
        version: what is registered; None if a dry run found none.
        is_new: whether it was registered now (or, in a dry run, would be).
        dry_run: whether nothing was written.
    """

    configurations: Sequence[Configuration]
    candidate: Candidate
    model_name: str
    champion: Version | None
    decision: Decision
    version: Version | None
    is_new: bool
    dry_run: bool

    @property
    def best(self) -> Run:
        """The run of the best configuration's best seed."""
        return self.candidate.best.best_run

    @property
    def sepmean_mse(self) -> float:
        """The baseline's MSE on the same validation proteins, in Å²."""
        return self.candidate.best.data.scores_of(self.best).sepmean_errors.mse

    @property
    def repeated(self) -> int:
        """How many runs are left out because a later run has the same configuration and seed."""
        return sum(len(configuration.repeated) for configuration in self.configurations)

    @property
    def table(self) -> Table:
        """What the configurations were ranked by."""
        rows = [
            (
                each.name,
                str(each.seeds),
                str(each.failed),
                f"{each.mse.value:.3f}",
                f"{each.mse.value / self.sepmean_mse:.4f}",
                f"{best_mse_of(each.best_run):.3f}",
                each.best_run.id[:8],
            )
            for each in self.configurations
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
    families chose, mean over its seeds, without runs that collapsed. It beats the champion if the 95 % interval of the
    ratio of its MSE to that of the champion's configuration, over protein families and seeds, lies below 1. What is
    registered are the best weights of its best seed, or the mean of its seeds as an ensemble. If the best configuration
    is the champion's own, or where either is an ensemble, what is served replaces the champion only if the interval of
    these very weights lies below 1. A run that is already registered is not registered again. Runs that were validated
    on held-out families are left out: they chose settings, and others measure what these are worth.

    Args:
        experiment: the experiment to search; None searches all.
        suite: the suite to search instead.
        model_name: of the registered model.
        digest: of the data (or the beginning of it), if the runs use several data sets.
        must_beat: `sepmean`: it becomes champion only if it is shown to beat that, even where there is no champion.
        ensemble: whether the version predicts the mean of all seeds that did not collapse.
        force: why the best run becomes champion whatever the comparison says.
        dry_run: decide, but write nothing.

    Raises:
        ProtcliError: no finished run on a validation split, runs on several data sets, or a champion that cannot be
            compared.
    """
    if experiment is not None and suite is not None:
        raise ProtcliError("give --experiment or --suite, not both")
    if force is not None and not force.strip():
        raise ProtcliError("--force needs a reason, which is stored with the version")
    if must_beat not in (None, File.SEPMEAN):
        raise ProtcliError(f"--must-beat {must_beat}: the one model that can be named here is {File.SEPMEAN}")
    if must_beat is not None and force is not None:
        raise ProtcliError("give --must-beat or --force, not both: one sets a condition, the other none")
    runs = find_training_runs(experiment, suite and Path(suite).stem)  # a user's own suite is named after its file
    if digest is not None:
        runs = on_dataset(runs, digest)
    found = by_configuration(on_dataset(on_validation_split(runs)), keep=not dry_run)
    configurations = sorted((each for each in found if each.runs), key=lambda each: each.mse.value)
    candidate = Candidate.of(configurations[0], ensemble=ensemble)
    decided = partial(decide, candidate, must_beat=must_beat, force=force)
    registry = Registry()
    with nullcontext() if dry_run else registry.locked():
        versions = registry.of_run(candidate.best.best_run.id, model_name, candidate.members_tag)
        champion = registry.aliased(model_name, CHAMPION)
        version = versions[0] if versions else None
        known = model_name, champion, decided(champion), version, version is None
        promotion = Promotion(configurations, candidate, *known, dry_run)
        if not dry_run:
            version = _register(registry, promotion)
            while (now := registry.aliased(model_name, CHAMPION)) is not None and now.uri != (
                champion and champion.uri
            ):  # a store without a lock: another process was faster
                champion = now
                promotion = replace(promotion, champion=now, decision=decided(now))
            _mark(registry, version, promotion, force)
            promotion = replace(promotion, version=registry.find(version.uri))
            if project := project_run():
                project.rename(f"promote {candidate.best.params[Param.MODEL]}")
                project.set_tags({Tag.VERSION: version.uri, Tag.REASON: promotion.decision.reason})
    return promotion


def find_training_runs(experiment: str | None, suite: str | None) -> list[Run]:
    """The training runs of an experiment, of a suite, or of the whole store that finished or diverged.

    Raises:
        ProtcliError: none has finished; the message says where else to look.
    """
    runs, others = finished_runs(find_runs(experiment, tags={Tag.SUITE: suite} if suite else None))
    if runs:
        return [*runs, *filter(has_diverged, others)]
    if suite:
        known = sorted({run.tags[Tag.SUITE] for run in find_runs() if Tag.SUITE in run.tags})
        raise ProtcliError(
            f"suite {suite} has no finished training run: run it with `protcli suite run`; suites that have been run "
            f"here: {', '.join(known) or 'none'}"
        )
    where = f"experiment {experiment}" if experiment else "any experiment"
    raise ProtcliError(f"there is no finished training run in {where}: train one with `protcli train`")


def on_dataset(runs: Sequence[Run], digest: str | None = None) -> list[Run]:
    """The runs on one data set: the only one, or the one whose digest begins with `digest`.

    Raises:
        ProtcliError: there are several, or none with that digest; the message lists them.
    """
    by_digest = grouped(runs, lambda run: run.params[Param.DIGEST])
    matching = [members for known, members in by_digest.items() if known.startswith(digest or "")]
    if len(matching) == 1:
        return matching[0]
    listed = "; ".join(
        f"{params[Param.DIGEST]} ({params[Param.DATA_NAME]}, {params[Param.TRAIN_SPLIT]}, {params[Param.ATOM]}, first "
        f"{params[Param.EVALUATED_LENGTH]} residues): {count(len(members), 'run')}"
        for members in sorted(by_digest.values(), key=len, reverse=True)
        if (params := members[0].params)
    )
    fault = "the runs use several data sets" if matching else f"no run has data digest {digest}"
    raise ProtcliError(f"{fault}: choose one with --digest: {listed}")


def on_validation_split(runs: Sequence[Run]) -> list[Run]:
    """The runs that were validated on a validation split, and not on families held out of the training split.

    Raises:
        ProtcliError: there is none.
    """
    validated = [run for run in runs if not float(run.params.get(Param.HELD_OUT, 0))]
    if not validated:
        raise ProtcliError(
            f"no run here was validated on a validation split, only on families held out of "
            f"{runs[0].params[Param.TRAIN_SPLIT]} (run {runs[0].id}): train the settings that they chose without "
            "--held-out, and promote that run"
        )
    return validated


def _register(registry: Registry, promotion: Promotion) -> Version:
    """Register what is served, or give the version that it already has the model card of today."""
    best = find_run(promotion.best.id)  # read again: it may have been measured in the meantime
    candidate = promotion.candidate
    config = recorded_config(best)
    card = model_card(promotion.configurations, candidate, config.spec)
    if promotion.version is not None:
        registry.describe(promotion.version, card)
        return promotion.version
    metrics = candidate.metrics
    tags = {key: best.params[key] for key in LINEAGE if key in best.params}
    tags |= {key: f"{metrics[key]:.6g}" for key in SCORES if key in metrics}
    tags[Metric.SEPMEAN_MSE] = f"{promotion.sepmean_mse:.6g}"
    if candidate.members:
        tags[Tag.MEMBERS] = candidate.members_tag
    return registry.register(
        promotion.model_name,
        best,
        candidate.model(config),
        description=card,
        tags=tags,
        step=int(best.metrics[Metric.BEST_EPOCH]),
    )


def _mark(registry: Registry, version: Version, promotion: Promotion, force: str | None) -> None:
    """Set the aliases, and record the decision and its reason on the version and the run."""
    champion, decision, candidate = promotion.champion, promotion.decision, promotion.candidate
    decided_at = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"
    tags = {Tag.VERSION: version.uri, Tag.BEATS_SEPMEAN: candidate.beats_sepmean}
    if not promotion.candidate.best.is_baseline:
        tags[Tag.OVER_SEPMEAN] = f"{candidate.improvement.format(1)} %"
    if champion is None or champion.uri != version.uri:  # else the decision of then stands
        decided = {
            Tag.DECISION: CHAMPION if decision.is_champion else f"{CHALLENGER} only",
            Tag.REASON: decision.reason,
            Tag.CHOSEN_FROM: chosen_from(promotion.configurations),
            Tag.WEIGHTS: promotion.candidate.served,
            Tag.TIME: decided_at,
            Tag.AGAINST: champion.uri if champion else None,
            Tag.IMPROVEMENT: f"{decision.improvement.format(1)} %" if decision.improvement else None,
            Tag.FORCED: force,
        }
        tags |= {tag: value for tag, value in decided.items() if value is not None}
    registry.tag(version, tags)
    find_run(version.run_id).set_tags(tags)
    if Tag.DECISION in tags:  # last: a process that is killed before this decides again when it is repeated
        if CHALLENGER not in version.aliases:
            registry.set_alias(version, CHALLENGER)
        if decision.is_champion:
            if champion is not None:
                registry.tag(champion, {Tag.SUCCEEDED_BY: f"{version.uri}, {decided_at}: {decision.reason}"})
            registry.set_alias(version, CHAMPION)
