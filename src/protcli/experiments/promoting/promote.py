"""Choose the best of many runs by validation, register it, and make it champion if it beats the present one.

The test split is not opened here: a model is promoted first, and read against the test set afterwards.
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
)  # parameters of the run that a version repeats as tags
SCORES = (
    *(Metric.BEST_EPOCH, Metric.BEST_MSE, Metric.BEST_RATIO),
    *(
        f"{Metric.BEST}{score}"
        for score in ("rmse", "mae", "legacy_sse_pm2", "drmsd", "mae_8", "lddt", "precision_long_L5")
    ),
    *(f"{Metric.BEST}{score}" for score in ("checkerboard_8", "blockiness_8")),
)  # of the best epoch, that it repeats too; all the others are a click away, in its run


@dataclass(frozen=True)
class Promotion:
    """What was decided, and why.

    Attributes:
        candidates: all configurations, the best first.
        repeated: runs left out because a later one has the same configuration and seed.
        model_name: of the registered model.
        version: of the best run, None where a dry run has found none.
        is_new: whether the run has been registered now (would have been, in a dry run).
        champion: the version that was champion before, if there was one.
        difference: validation MSE of the best run minus the champion's, in A^2; None where they were not compared.
        is_champion: whether the best run is champion now (would be, in a dry run).
        reason: why, as a sentence.
        sepmean_mse: of the baseline on the same validation proteins, in A^2.
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
        """The run that was chosen."""
        return self.candidates[0].best

    @property
    def verdict(self) -> str:
        """What the choice is worth beside the trivial baseline, as a sentence."""
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
    """Register the best of the finished training runs as challenger, and as champion if it beats the present one.

    The best is the configuration of the lowest validation MSE, mean over its seeds, and of that the best seed. It
    beats the champion where the 95 % interval of their difference in validation MSE, by a bootstrap over the same
    proteins, lies below zero. A run that is registered already is not registered again.

    Args:
        experiment: to look in; None for all.
        suite: to look in, instead.
        model_name: of the registered model.
        digest: of the data (its beginning will do) where the runs have several.
        force: why the best shall be champion whatever the comparison says.
        dry_run: decide, write nothing.

    Raises:
        ProtcliError: no finished run, runs on several data sets, or a champion that cannot be compared with.
    """
    if experiment is not None and suite is not None:
        raise ProtcliError("give --experiment or --suite, not both")
    if force is not None and not force.strip():
        raise ProtcliError("--force needs a reason: it is kept with the version")
    if suite is not None:
        suite = Path(suite).stem  # one's own is named by its file
    configurations = by_configuration(of_one_digest(finished_candidates(experiment, suite), digest))
    repeated = sum(len(found.repeated) for found in configurations)
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
                )  # a store without a lock: somebody was faster
            _mark(registry, version, champion, decision, candidates, force)
            version = registry.find(version.uri)
            if begun := project_run():
                begun.name(f"promote {best.params[Param.MODEL]}")
                begun.tags({Tag.VERSION: version.uri, Tag.REASON: decision.reason})
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
        return _Decision(True, "it was that before" + (", so that --force changed nothing" if force else ""))
    try:
        apart = _compare(best, measured, champion, dry_run)
    except ProtcliError as error:
        if force is None:
            raise ProtcliError(f"{error}; --force 'REASON' makes it champion without a comparison") from error
        return _Decision(True, f"forced: {force} (no comparison: {error})")
    said = f"its validation MSE minus that of the champion, version {champion.number}, is {_interval(apart)}"
    if force is not None:
        return _Decision(True, f"forced: {force} ({said})", apart)
    if apart.high < 0:
        return _Decision(True, f"{said}: these weights are better by more than chance", apart)
    if apart.low > 0:
        return _Decision(False, f"{said}: these weights are worse by more than chance", apart)
    return _Decision(False, f"{said}: no difference can be claimed", apart)


def _compare(best: RecordedRun, measured: Measurement, champion: Version, dry_run: bool) -> Estimate:
    """Validation MSE of the run minus the champion's on the run's validation proteins."""
    try:
        run = find_run(champion.run_id)
    except ProtcliError as error:
        raise ProtcliError(f"the champion, {champion.uri}, cannot be compared with: {error}") from error
    for key, what in ((Param.ATOM, "atom"), (Param.EVALUATED_LENGTH, "evaluated length")):
        if run.params.get(key) != best.params[key]:
            raise ProtcliError(
                f"the champion, {champion.uri}, was trained with {what} {run.params.get(key)}, run {best.id} with "
                f"{best.params[key]}: they predict different pairs and are not compared"
            )
    if run.params[Param.VALID_DIGEST] == best.params[Param.VALID_DIGEST]:
        return difference([measured.errors], [validation_of(run, keep=not dry_run).errors])
    with tempfile.TemporaryDirectory(prefix="protcli-") as scratch:
        folder = Path(scratch)
        try:
            source = recorded_config(best, folder).data
            (apart := folder / "champion").mkdir()
            champions = measure(run, recorded_config(run, apart), apart, "valid", data=source)
        except ProtcliError as error:
            raise ProtcliError(
                f"the champion, {champion.uri}, was measured on other validation proteins than run {best.id} and "
                f"cannot be measured on these ({error})"
            ) from error
    if champions.split.digest != best.params[Param.VALID_DIGEST]:
        raise ProtcliError(
            f"the champion, {champion.uri}, was measured on other validation proteins than run {best.id}, and "
            f"those are not in {source} any more"
        )
    return difference([measured.errors], [champions.scores.maps.errors])


def _register(registry: Registry, model_name: str, candidates: Sequence[Candidate], measured: Measurement) -> Version:
    best = find_run(candidates[0].best.id)  # again: what was measured by now is among its metrics
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
    """Set the aliases, and leave on version and run what was decided and why."""
    if champion is not None and champion.run_id == version.run_id:
        return  # as it was decided before
    if CHALLENGER not in version.aliases:
        registry.set_alias(version, CHALLENGER)
    now = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"
    tags = {
        Tag.DECISION: CHAMPION if decision.is_champion else f"{CHALLENGER} only",
        Tag.REASON: decision.reason,
        Tag.CHOSEN_FROM: chosen_from(candidates),
        Tag.TIME: now,
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
            registry.tag(champion, {Tag.SUCCEEDED_BY: f"{version.uri}, {now}: {decision.reason}"})
    registry.tag(version, tags)
    find_run(version.run_id).log().tags({Tag.VERSION: version.uri, **tags})


def _interval(apart: Estimate) -> str:
    return f"{apart.value:+.3f} Å², 95 % [{apart.low:+.3f}, {apart.high:+.3f}]"
