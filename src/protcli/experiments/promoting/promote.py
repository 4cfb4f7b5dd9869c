"""Choose the best run by validation, register it, and make it champion if it beats the current champion.

The test split is not opened here: a model is promoted first and evaluated on the test set afterwards.
"""

import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from protcli.errors import ProtcliError
from protcli.experiments.measuring.evaluate import measure, validation_of
from protcli.experiments.measuring.measurement import Measurement
from protcli.experiments.promoting.candidates import (
    Candidate,
    chosen_from,
    finished_candidates,
    of_one_digest,
    on_validation_split,
    rank,
)
from protcli.experiments.promoting.model_card import model_card, verdict
from protcli.experiments.runs.configurations import by_configuration
from protcli.experiments.runs.restored import best_model, recorded_config
from protcli.experiments.statistics.intervals import Estimate, difference
from protcli.tracking.bundle import Bundle, write_bundle
from protcli.tracking.keys import Metric, Param, Tag
from protcli.tracking.registry import CHALLENGER, CHAMPION, Registry, Version
from protcli.tracking.runs import RecordedRun, find_run, project_run

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
        model_name: of the registered model.
        version: the best run's version; None if a dry run found none.
        is_new: whether the run was registered now (or, in a dry run, would be).
        champion: the previous champion, if there was one.
        difference: validation MSE of the best run minus the champion's, in A^2; None if they were not compared.
        is_champion: whether the best run is now champion (or, in a dry run, would be).
        reason: why, as a sentence.
        sepmean_mse: the baseline's MSE on the same validation proteins, in A^2.
        dry_run: whether nothing was written.
    """

    candidates: tuple[Candidate, ...]
    repeated: int
    model_name: str
    version: Version | None
    is_new: bool
    champion: Version | None
    difference: Estimate | None
    is_champion: bool
    reason: str
    sepmean_mse: float
    dry_run: bool

    @property
    def best(self) -> RecordedRun:
        """The chosen run."""
        return self.candidates[0].best

    @property
    def verdict(self) -> str:
        """A sentence that compares the chosen run with the trivial baseline."""
        return verdict(self.best, self.sepmean_mse)


@dataclass(frozen=True)
class _Decision:
    is_champion: bool
    reason: str
    difference: Estimate | None = None


def promote(
    *,
    experiment: str | None = None,
    suite: str | None = None,
    model_name: str = MODEL_NAME,
    digest: str | None = None,
    force: str | None = None,
    dry_run: bool = False,
) -> Promotion:
    """Register the best finished training run as challenger, and as champion if it beats the current champion.

    The best run is the best seed of the configuration with the lowest validation MSE, mean over its seeds. It beats the
    champion if the 95 % interval of their difference in validation MSE, by a bootstrap over the same proteins, lies
    below zero. A run that is already registered is not registered again. Runs that were validated on held-out families
    are left out: they chose settings, and others measure what these are worth.

    Args:
        experiment: the experiment to search; None searches all.
        suite: the suite to search instead.
        model_name: of the registered model.
        digest: of the data (or the beginning of it), if the runs use several data sets.
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
    if suite is not None:
        suite = Path(suite).stem  # a user's own suite is named after its file
    runs = finished_candidates(experiment, suite)
    if digest is not None:
        runs = of_one_digest(runs, digest)
    configurations = by_configuration(of_one_digest(on_validation_split(runs), None))
    repeated = sum(len(configuration.repeated) for configuration in configurations)
    candidates = rank(configurations)
    best = candidates[0].best
    measured = validation_of(best, keep=not dry_run)
    registry = Registry()
    with nullcontext() if dry_run else registry.locked():
        versions = registry.of_run(best.id, model_name)
        champion = registry.aliased(model_name, CHAMPION)
        decision = _decide(best, measured, champion, force, dry_run)
        version = versions[0] if versions else None
        if not dry_run:
            if version is None:
                version = _register(registry, model_name, candidates, measured)
            while (now := registry.aliased(model_name, CHAMPION)) is not None and now.uri != (
                champion and champion.uri
            ):
                champion, decision = (
                    now,
                    _decide(best, measured, now, force, dry_run),
                )  # a store without a lock: another process was faster
            _mark(registry, version, champion, decision, candidates, force)
            version = registry.find(version.uri)
            if project := project_run():
                project.name(f"promote {best.params[Param.MODEL]}")
                project.tags({Tag.VERSION: version.uri, Tag.REASON: decision.reason})
    return Promotion(
        candidates, repeated, model_name, version, not versions, champion,
        decision.difference, decision.is_champion, decision.reason, measured.sepmean_errors.mse, dry_run,
    )  # fmt: skip


def _decide(
    best: RecordedRun, measured: Measurement, champion: Version | None, force: str | None, dry_run: bool
) -> _Decision:
    if champion is None:
        return _Decision(True, "there was no champion" + (f" (forced: {force})" if force else ""))
    if champion.run_id == best.id:
        return _Decision(True, "it already was champion" + (", so --force changed nothing" if force else ""))
    try:
        gap = _compare(best, measured, champion, dry_run)
    except ProtcliError as error:
        if force is None:
            raise ProtcliError(f"{error}; --force 'REASON' makes it champion without a comparison") from error
        return _Decision(True, f"forced: {force} (no comparison: {error})")
    measured_gap = f"its validation MSE minus the champion's (version {champion.number}) is {_interval(gap)}"
    if force is not None:
        return _Decision(True, f"forced: {force} ({measured_gap})", gap)
    if gap.high < 0:
        return _Decision(True, f"{measured_gap}: these weights are better by more than chance", gap)
    if gap.low > 0:
        return _Decision(False, f"{measured_gap}: these weights are worse by more than chance", gap)
    return _Decision(False, f"{measured_gap}: no difference can be claimed", gap)


def _compare(best: RecordedRun, measured: Measurement, champion: Version, dry_run: bool) -> Estimate:
    """Validation MSE of the run minus the champion's on the run's validation proteins."""
    try:
        run = find_run(champion.run_id)
    except ProtcliError as error:
        raise ProtcliError(f"the champion, {champion.uri}, cannot be compared: {error}") from error
    for key, what in ((Param.ATOM, "atom"), (Param.EVALUATED_LENGTH, "evaluated length")):
        if run.params.get(key) != best.params[key]:
            raise ProtcliError(
                f"the champion, {champion.uri}, was trained with {what} {run.params.get(key)}, run {best.id} with "
                f"{best.params[key]}: they predict different pairs and cannot be compared"
            )
    if run.params[Param.VALID_DIGEST] == best.params[Param.VALID_DIGEST]:
        return difference([measured.errors], [validation_of(run, keep=not dry_run).errors])
    with tempfile.TemporaryDirectory(prefix="protcli-") as scratch:
        folder = Path(scratch)
        try:
            source = recorded_config(best, folder).data
            (champion_folder := folder / "champion").mkdir()
            remeasured = measure(run, recorded_config(run, champion_folder), champion_folder, "valid", data=source)
        except ProtcliError as error:
            raise ProtcliError(
                f"the champion, {champion.uri}, was measured on different validation proteins than run {best.id} and "
                f"cannot be measured on the same ones ({error})"
            ) from error
    if remeasured.split.digest != best.params[Param.VALID_DIGEST]:
        raise ProtcliError(
            f"the champion, {champion.uri}, was measured on different validation proteins than run {best.id}, and "
            f"{source} no longer holds the run's"
        )
    return difference([measured.errors], [remeasured.scores.maps.errors])


def _register(registry: Registry, model_name: str, candidates: Sequence[Candidate], measured: Measurement) -> Version:
    best = find_run(candidates[0].best.id)  # read again: it may have been measured in the meantime
    with tempfile.TemporaryDirectory(prefix="protcli-") as scratch:
        folder = Path(scratch)
        config = recorded_config(best, folder)
        bundle = write_bundle(folder, Bundle(best_model(best, config, folder), config.evaluated_length))
        tags = {key: best.params[key] for key in LINEAGE if key in best.params}
        tags |= {key: f"{best.metrics[key]:.6g}" for key in SCORES if key in best.metrics}
        tags[Metric.SEPMEAN_MSE] = f"{measured.sepmean_errors.mse:.6g}"
        return registry.register(
            model_name,
            best,
            bundle,
            longest_chain=config.evaluated_length,
            description=model_card(candidates, measured, config.spec.summary),
            tags=tags,
            step=int(best.metrics[Metric.BEST_EPOCH]),
        )


def _mark(
    registry: Registry,
    version: Version,
    champion: Version | None,
    decision: _Decision,
    candidates: Sequence[Candidate],
    force: str | None,
) -> None:
    """Set the aliases, and record the decision and its reason on the version and the run."""
    if champion is not None and champion.run_id == version.run_id:
        return  # as decided before
    if CHALLENGER not in version.aliases:
        registry.set_alias(version, CHALLENGER)
    decided_at = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"
    tags = {
        Tag.DECISION: CHAMPION if decision.is_champion else f"{CHALLENGER} only",
        Tag.REASON: decision.reason,
        Tag.CHOSEN_FROM: chosen_from(candidates),
        Tag.TIME: decided_at,
    }
    if champion is not None:
        tags[Tag.AGAINST] = champion.uri
    if decision.difference is not None:
        tags[Tag.DIFFERENCE] = _interval(decision.difference)
    if force is not None:
        tags[Tag.FORCED] = force
    if decision.is_champion:
        registry.set_alias(version, CHAMPION)
        if champion is not None:
            registry.tag(champion, {Tag.SUCCEEDED_BY: f"{version.uri}, {decided_at}: {decision.reason}"})
    registry.tag(version, tags)
    find_run(version.run_id).log().tags({Tag.VERSION: version.uri, **tags})


def _interval(gap: Estimate) -> str:
    return f"{gap.value:+.3f} Å², 95 % [{gap.low:+.3f}, {gap.high:+.3f}]"
