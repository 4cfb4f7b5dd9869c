"""Choose the best configuration by validation, register it, make it champion if it beats the current one.

The test split is not opened here: a model is promoted first and evaluated on the test set afterwards.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from protcli.errors import ProtcliError
from protcli.experiments.config import recorded_config
from protcli.experiments.promoting.candidates import (
    Candidate,
    chosen_from,
    found_candidates,
    of_one_digest,
    on_validation_split,
    rank,
)
from protcli.experiments.promoting.decision import Decision, OverSepmean, decide
from protcli.experiments.promoting.model_card import model_card
from protcli.experiments.promoting.served import Served
from protcli.experiments.promoting.validation import Validation
from protcli.experiments.runs.configurations import by_configuration
from protcli.tracking.bundle import Bundle
from protcli.tracking.keys import File, Metric, Param, Tag
from protcli.tracking.registry import CHALLENGER, CHAMPION, Registry, Version
from protcli.tracking.run import Run, find_run, project_run

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


@dataclass(frozen=True)
class Promotion:
    """A decision and its reason.

    Attributes:
        candidates: all configurations, best first.
        repeated: number of runs left out because a later run has the same configuration and seed.
        served: which of its weights are registered.
        model_name: of the registered model.
        version: the best run's version; None if a dry run found none.
        is_new: whether the run was registered now (or, in a dry run, would be).
        champion: the previous champion, if there was one.
        decision: whether the best run is now champion (or, in a dry run, would be), and why.
        over_sepmean: how the best configuration compares with the trivial baseline.
        sepmean_mse: the baseline's MSE on the same validation proteins, in A^2.
        dry_run: whether nothing was written.
    """

    candidates: tuple[Candidate, ...]
    repeated: int
    served: Served
    model_name: str
    version: Version | None
    is_new: bool
    champion: Version | None
    decision: Decision
    over_sepmean: OverSepmean
    sepmean_mse: float
    dry_run: bool

    @property
    def best(self) -> Run:
        """The chosen run."""
        return self.candidates[0].best


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

    The best configuration has the lowest validation MSE, mean over its seeds; runs that collapsed are left out. It
    beats the champion if the 95 % interval of the ratio of its MSE to that of the champion's configuration, over
    protein families and seeds, lies below 1. What is registered is its best seed, or the mean of its seeds as an
    ensemble. If the best configuration is the champion's own, or where either is an ensemble, what is served replaces
    the champion only if the interval of these very weights lies below 1. A run that
    is already registered is not registered again. Runs that were validated on held-out families are left out: they
    chose settings, and others measure what these are worth.

    Args:
        experiment: the experiment to search; None searches all.
        suite: the suite to search instead.
        model_name: of the registered model.
        digest: of the data (or the beginning of it), if the runs use several data sets.
        ensemble: whether the version predicts the mean of all seeds that did not collapse.
        must_beat: `sepmean`: it becomes champion only if it is shown to beat that, even where there is no champion.
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
    if suite is not None:
        suite = Path(suite).stem  # a user's own suite is named after its file
    runs = found_candidates(experiment, suite)
    if digest is not None:
        runs = of_one_digest(runs, digest)
    configurations = by_configuration(of_one_digest(on_validation_split(runs), None))
    repeated = sum(len(configuration.repeated) for configuration in configurations)
    candidates = rank(configurations)
    best = candidates[0]
    validation = Validation(keep=not dry_run)
    over_sepmean = OverSepmean.of(best, validation)
    served = Served.of(best, validation, ensemble=ensemble)
    decided = partial(decide, served, over_sepmean=over_sepmean, must_beat=must_beat, force=force)
    registry = Registry()
    with nullcontext() if dry_run else registry.locked():
        versions = registry.of_run(best.best.id, model_name, served.members_tag)
        champion = registry.aliased(model_name, CHAMPION)
        decision = decided(champion)
        version = versions[0] if versions else None
        if not dry_run:
            version = _register(registry, model_name, version, candidates, served, over_sepmean)
            while (now := registry.aliased(model_name, CHAMPION)) is not None and now.uri != (
                champion and champion.uri
            ):  # a store without a lock: another process was faster
                champion, decision = now, decided(now)
            _mark(registry, version, champion, decision, candidates, served, over_sepmean, force)
            version = registry.find(version.uri)
            if project := project_run():
                project.rename(f"promote {best.best.params[Param.MODEL]}")
                project.set_tags({Tag.VERSION: version.uri, Tag.REASON: decision.reason})
    return Promotion(
        candidates, repeated, served, model_name, version, not versions, champion, decision, over_sepmean,
        validation.of(best.best).sepmean_errors.mse, dry_run,
    )  # fmt: skip


def _register(
    registry: Registry,
    model_name: str,
    known: Version | None,
    candidates: Sequence[Candidate],
    served: Served,
    over_sepmean: OverSepmean,
) -> Version:
    """Register the best run, or give the version that it already has the model card of today."""
    best = find_run(candidates[0].best.id)  # read again: it may have been measured in the meantime
    sepmean = served.validation.of(best).sepmean_errors
    config = recorded_config(best)
    card = model_card(candidates, served, sepmean, over_sepmean, config.spec)
    if known is not None:
        registry.describe(known, card)
        return known
    tags = {key: best.params[key] for key in LINEAGE if key in best.params}
    metrics = served.metrics
    tags |= {key: f"{metrics[key]:.6g}" for key in SCORES if key in metrics}
    tags[Metric.SEPMEAN_MSE] = f"{sepmean.mse:.6g}"
    if served.members:
        tags[Tag.MEMBERS] = served.members_tag
    return registry.register(
        model_name,
        best,
        Bundle(served.model(config), config.evaluated_length, config.data.atom),
        description=card,
        tags=tags,
        step=int(best.metrics[Metric.BEST_EPOCH]),
    )


def _mark(
    registry: Registry,
    version: Version,
    champion: Version | None,
    decision: Decision,
    candidates: Sequence[Candidate],
    served: Served,
    over_sepmean: OverSepmean,
    force: str | None,
) -> None:
    """Set the aliases, and record the decision and its reason on the version and the run."""
    decided_at = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"
    tags = {Tag.VERSION: version.uri, Tag.BEATS_SEPMEAN: over_sepmean.beats}
    if not candidates[0].is_baseline:
        tags[Tag.OVER_SEPMEAN] = f"{over_sepmean.improvement.format(1)} %"
    if champion is None or champion.uri != version.uri:  # else the decision of then stands
        tags |= {
            Tag.DECISION: CHAMPION if decision.is_champion else f"{CHALLENGER} only",
            Tag.REASON: decision.reason,
            Tag.CHOSEN_FROM: chosen_from(candidates),
            Tag.WEIGHTS: served.sentence,
            Tag.TIME: decided_at,
        }
        if champion is not None:
            tags[Tag.AGAINST] = champion.uri
        if decision.improvement is not None:
            tags[Tag.IMPROVEMENT] = f"{decision.improvement.format(1)} %"
        if force is not None:
            tags[Tag.FORCED] = force
    registry.tag(version, tags)
    find_run(version.run_id).set_tags(tags)
    if Tag.DECISION in tags:  # last: a process that is killed before this decides again when it is repeated
        if CHALLENGER not in version.aliases:
            registry.set_alias(version, CHALLENGER)
        if decision.is_champion:
            if champion is not None:
                registry.tag(champion, {Tag.SUCCEEDED_BY: f"{version.uri}, {decided_at}: {decision.reason}"})
            registry.set_alias(version, CHAMPION)
