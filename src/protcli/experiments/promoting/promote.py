"""Choose the best of many runs by validation, register it, and make it champion if it beats the present one.

The test split is not opened here: a model is promoted first, and read against the test set afterwards.
"""

import csv
import tempfile
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean

import numpy as np

from protcli.errors import ProtcliError
from protcli.experiments.measuring.evaluate import measure, recorded_config
from protcli.experiments.running.train import BEST, CHECKPOINTS, SEPMEAN
from protcli.experiments.runs.configurations import Configuration, by_configuration
from protcli.experiments.statistics.intervals import Estimate, difference
from protcli.proteins.metrics import PairErrors
from protcli.tracking.bundle import write_bundle
from protcli.tracking.registry import CHALLENGER, CHAMPION, DESCRIPTION_LENGTH, Registry, Version
from protcli.tracking.runs import RecordedRun, find_run, find_runs, project_run

MODEL_NAME = "protein-distance"
PROTEIN_TABLE = "validation_proteins.csv"
LINEAGE = (
    *("model", "data.name", "data.synthetic", "data.digest", "data.atom", "data.train_split", "data.train_digest"),
    *("data.valid_split", "data.valid_digest", "recipe.crop", "run.seed", "run.precision", "run.git_commit"),
    "version.protcli",
)  # parameters of the run that a version repeats as tags
SCORES = (
    *("epoch", "valid_mse", "valid_mse_over_sepmean", "valid_rmse", "valid_mae", "valid_legacy_sse_pm2", "valid_drmsd"),
    *("valid_mae_8", "valid_lddt", "valid_precision_long_L5", "valid_checkerboard_8", "valid_blockiness_8"),
)  # of the best epoch, that it repeats too; all the others are a click away, in its run
RANKED = 5  # configurations that a model card names


@dataclass(frozen=True)
class Candidate:
    """One configuration that may be promoted.

    Attributes:
        label: the model's name, and what tells it from others of that name among the candidates.
        runs: one a seed, the lowest validation MSE first.
    """

    label: str
    runs: tuple[RecordedRun, ...]

    @property
    def mse(self) -> float:
        """Validation MSE in A^2: each seed's best epoch, mean over seeds."""
        return fmean(map(best_mse, self.runs))

    @property
    def best(self) -> RecordedRun:
        """The run of its best seed."""
        return self.runs[0]


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
        return _verdict(self.best, self.sepmean_mse)


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
    runs = _finished(find_runs(experiment, tags={"suite": suite} if suite else None), experiment, suite)
    configurations = by_configuration(_of_one_digest(runs, digest))
    repeated = sum(len(found.repeated) for found in configurations)
    candidates = _rank(configurations)
    best = candidates[0].best
    registry = Registry()
    with nullcontext() if dry_run else registry.locked():
        versions = registry.of_run(best.id, model_name)
        champion = registry.aliased(model_name, CHAMPION)
        decision = _decide(best, champion, force)
        version = versions[0] if versions else None
        if not dry_run:
            if version is None:
                version = _register(registry, model_name, candidates)
            while (now := registry.aliased(model_name, CHAMPION)) is not None and now.uri != (
                champion and champion.uri
            ):
                champion, decision = now, _decide(best, now, force)  # a store without a lock: somebody was faster
            _mark(registry, version, champion, decision, candidates, force)
            version = registry.find(version.uri)
            if begun := project_run():
                begun.name(f"promote {best.params['model']}")
                begun.tags({"promotion.version": version.uri, "promotion.reason": decision.reason})
    return Promotion(
        candidates, repeated, model_name, version, not versions, champion,
        decision.difference, decision.is_champion, decision.reason, sepmean_errors(best).mse, dry_run,
    )  # fmt: skip


def best_mse(run: RecordedRun) -> float:
    """Validation MSE of a run's best epoch, in A^2."""
    return run.metrics["best/valid_mse"]


def validation_errors(run: RecordedRun) -> PairErrors:
    """Errors of a run's best weights on its validation proteins, as it recorded them; else measured now, not logged."""
    return _recorded_errors(run, "")


def sepmean_errors(run: RecordedRun) -> PairErrors:
    """Errors of the baseline on the same proteins."""
    return _recorded_errors(run, "sepmean_")


def _recorded_errors(run: RecordedRun, predictor: str) -> PairErrors:
    columns = ["pairs", f"{predictor}squared", f"{predictor}absolute"]
    with tempfile.TemporaryDirectory(prefix="protcli-") as scratch:
        folder = Path(scratch)
        with run.download(PROTEIN_TABLE, folder).open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        if all(column in row for row in rows for column in columns):
            count, squared, absolute = (np.array([float(row[column]) for row in rows]) for column in columns)
            return PairErrors(count.astype(np.int64), squared, absolute)
        result = measure(run, folder, "valid")  # trained by a protcli before 0.2, whose table lacks the sums
    return (result.sepmean if predictor else result.scores).maps.errors


def _finished(runs: Sequence[RecordedRun], experiment: str | None, suite: str | None) -> list[RecordedRun]:
    """Complete training runs: parents of suites, and runs that `mlflow run -e` made to evaluate, are none."""
    found = [
        run
        for run in runs
        if run.status == "FINISHED" and "best/valid_mse" in run.metrics and "data.digest" in run.params
    ]
    if not found:
        if suite:
            known = sorted({run.tags["suite"] for run in find_runs() if "suite" in run.tags})
            raise ProtcliError(
                f"there is no finished training run in suite {suite}: `protcli suite run` first; suites that have been "
                f"run here: {', '.join(known) or 'none'}"
            )
        where = f"experiment {experiment}" if experiment else "any experiment"
        raise ProtcliError(f"there is no finished training run in {where}: train one with protcli train")
    return found


def _of_one_digest(runs: Sequence[RecordedRun], digest: str | None) -> list[RecordedRun]:
    counts = Counter(run.params["data.digest"] for run in runs)
    if digest is not None:
        counts = Counter({found: count for found, count in counts.items() if found.startswith(digest)})
    if len(counts) != 1:
        every = Counter(run.params["data.digest"] for run in runs)
        listed = "; ".join(f"{found} ({_data_of(runs, found)}): {_count(n, 'run')}" for found, n in every.most_common())
        fault = f"no run has data digest {digest}" if not counts else "the runs have several data sets"
        raise ProtcliError(f"{fault}: name one of them with --digest: {listed}")
    (chosen,) = counts
    return [run for run in runs if run.params["data.digest"] == chosen]


def _data_of(runs: Sequence[RecordedRun], digest: str) -> str:
    params = next(run.params for run in runs if run.params["data.digest"] == digest)
    return f"{params['data.name']}, {params['data.train_split']}, {params['data.atom']}, crop {params['recipe.crop']}"


def _rank(configurations: Sequence[Configuration]) -> tuple[Candidate, ...]:
    """The lowest mean MSE first."""
    candidates = [Candidate(found.name, tuple(sorted(found.runs, key=best_mse))) for found in configurations]
    return tuple(sorted(candidates, key=lambda candidate: candidate.mse))


def _decide(best: RecordedRun, champion: Version | None, force: str | None) -> _Decision:
    if champion is None:
        return _Decision(True, "there was no champion" + (f" (forced: {force})" if force else ""))
    if champion.run_id == best.id:
        return _Decision(True, "it was that before" + (", so that --force changed nothing" if force else ""))
    try:
        apart = _compare(best, champion)
    except ProtcliError as error:
        if force is None:
            raise ProtcliError(f"{error}; --force 'REASON' makes it champion without a comparison") from error
        return _Decision(True, f"forced: {force} (no comparison: {error})")
    measured = f"its validation MSE minus that of the champion, version {champion.number}, is {_interval(apart)}"
    if force is not None:
        return _Decision(True, f"forced: {force} ({measured})", apart)
    if apart.high < 0:
        return _Decision(True, f"{measured}: these weights are better by more than chance", apart)
    if apart.low > 0:
        return _Decision(False, f"{measured}: these weights are worse by more than chance", apart)
    return _Decision(False, f"{measured}: no difference can be claimed", apart)


def _compare(best: RecordedRun, champion: Version) -> Estimate:
    """Validation MSE of the run minus the champion's on the run's validation proteins."""
    try:
        run = find_run(champion.run_id)
    except ProtcliError as error:
        raise ProtcliError(f"the champion, {champion.uri}, cannot be compared with: {error}") from error
    for key, what in (("data.atom", "atom"), ("recipe.crop", "crop")):
        if run.params.get(key) != best.params[key]:
            raise ProtcliError(
                f"the champion, {champion.uri}, was trained with {what} {run.params.get(key)}, run {best.id} with "
                f"{best.params[key]}: they predict different pairs and are not compared"
            )
    if run.params["data.valid_digest"] == best.params["data.valid_digest"]:
        return difference([validation_errors(best)], [validation_errors(run)])
    with tempfile.TemporaryDirectory(prefix="protcli-") as scratch:
        folder = Path(scratch)
        try:
            source = recorded_config(best, folder).data
            (apart := folder / "champion").mkdir()
            champions = measure(run, apart, "valid", data=source)
        except ProtcliError as error:
            raise ProtcliError(
                f"the champion, {champion.uri}, was measured on other validation proteins than run {best.id} and "
                f"cannot be measured on these ({error})"
            ) from error
    if champions.split.digest != best.params["data.valid_digest"]:
        raise ProtcliError(
            f"the champion, {champion.uri}, was measured on other validation proteins than run {best.id}, and "
            f"those are not in {source} any more"
        )
    return difference([validation_errors(best)], [champions.scores.maps.errors])


def _register(registry: Registry, model_name: str, candidates: Sequence[Candidate]) -> Version:
    best = candidates[0].best
    with tempfile.TemporaryDirectory(prefix="protcli-") as scratch:
        folder = Path(scratch)
        config = recorded_config(best, folder)
        weights = best.download(f"{CHECKPOINTS}/{BEST}.safetensors", folder)
        bundle = write_bundle(folder, config.spec, weights, precision=config.precision)
        tags = {key: best.params[key] for key in LINEAGE if key in best.params}
        tags |= {key: f"{best.metrics[key]:.6g}" for name in SCORES if (key := f"best/{name}") in best.metrics}
        tags["sepmean/valid_mse"] = f"{sepmean_errors(best).mse:.6g}"
        return registry.register(
            model_name,
            best,
            bundle,
            longest=config.spec.recipe.crop,
            description=model_card(candidates, config.spec.summary),
            tags=tags,
            step=int(best.metrics["best/epoch"]),
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
        "promotion.decision": CHAMPION if decision.is_champion else f"{CHALLENGER} only",
        "promotion.reason": decision.reason,
        "promotion.chosen_from": chosen_from(candidates),
        "promotion.time": now,
    }
    if champion is not None:
        tags["promotion.against"] = champion.uri
    if decision.difference is not None:
        tags["promotion.difference"] = _interval(decision.difference)
    if force is not None:
        tags["promotion.forced"] = force
    if decision.is_champion:
        registry.set_alias(version, CHAMPION)
        if champion is not None:
            registry.tag(champion, {"promotion.succeeded_by": f"{version.uri}, {now}: {decision.reason}"})
    registry.tag(version, tags)
    find_run(version.run_id).log().tags({"promotion.version": version.uri, **tags})


def caution(candidates: Sequence[Candidate]) -> str:
    """What is to be said where the best was tried less often than others; nothing where it was not."""
    seeds, most = len(candidates[0].runs), max(len(candidate.runs) for candidate in candidates)
    if seeds == most or candidates[0].best.params["model"] == SEPMEAN:  # which has no seed
        return ""
    return (
        f"It was chosen by the mean over {_count(seeds, 'seed')}, where others have up to {most}: train as many "
        "before you rely on the order."
    )


def chosen_from(candidates: Sequence[Candidate]) -> str:
    """Among what the best was chosen, and how, as a sentence."""
    best = candidates[0]
    runs = sum(len(candidate.runs) for candidate in candidates)
    return (
        f"the lowest validation MSE, {best.mse:.3f} Å² as the mean over {_count(len(best.runs), 'seed')}, of "
        f"{_count(len(candidates), 'configuration')} ({_count(runs, 'run')}) on data "
        f"{best.best.params['data.digest']}; of its seeds the best, {best.best.params['run.seed']}, with "
        f"{best_mse(best.best):.3f} Å²"
    )


def model_card(candidates: Sequence[Candidate], summary: str) -> str:
    """The description of a version, in Markdown."""
    run = candidates[0].best
    params, errors, sepmean = run.params, validation_errors(run), sepmean_errors(run)
    synthetic = params.get("data.synthetic") == "True"
    rows = (
        ("MSE, Å²", f"{errors.mse:.3f}", f"{sepmean.mse:.3f}"),
        ("RMSE, Å", f"{errors.rmse:.3f}", f"{sepmean.rmse:.3f}"),
        ("MAE, Å", f"{errors.mae:.3f}", f"{sepmean.mae:.3f}"),
    )
    ranked = [
        f"{place}. {candidate.label}: {candidate.mse:.3f} Å² over {_count(len(candidate.runs), 'seed')}"
        for place, candidate in enumerate(candidates[:RANKED], start=1)
    ]
    if len(candidates) > RANKED:
        ranked.append(f"and {len(candidates) - RANKED} more")
    atom = params["data.atom"].upper()
    sections = (
        f"# {params['model']}, seed {params['run.seed']}",
        f"{summary}. Given a protein chain's sequence and, where there is one, its evolutionary profile, it says the "
        f"distance between the {atom} atoms of every two residues, in Å. {int(params['model.parameters']):,} "
        f"parameters; precision {params['run.precision']}.",
        "## Data",
        f"`{params['data.name']}`{' (**synthetic** proteins: no claim about real ones)' if synthetic else ''}: trained "
        f"on {params['data.train_proteins']} proteins of `{params['data.train_split']}`, chosen by "
        f"{params['data.valid_proteins']} of `{params['data.valid_split']}`; crop {params['recipe.crop']} residues. "
        f"Digest `{params['data.digest']}`.",
        "## Validation",
        "\n".join(["| | this model | sepmean |", "|---|---:|---:|", *(f"| {' | '.join(row)} |" for row in rows)]),
        f"{_verdict(run, sepmean.mse)} Pooled over resolved pairs i < j; `sepmean` is the mean distance at each "
        "separation along the chain, from the same training split.",
        "## How it was chosen",
        f"By {chosen_from(candidates)}. The figure of a model that was chosen by it flatters: the test split, read "
        "after promotion, does not.",
        "\n".join(ranked),
        *filter(None, [caution(candidates)]),
        "## Use",
        f"For maps of single chains of up to {params['recipe.crop']} residues; longer ones are refused, not cut. "
        "Without a profile it takes the sequence's one-hot with information content 1 in its place, as training did "
        "for proteins without one: a model trained with profiles is worse so.",
        "## Limits",
        "A chain alone: no complexes, ligands or alternative states. The maps need not be those of points in space. "
        "Proteins unlike those it was trained on are predicted worse.",
        "## Again",
        f"`protcli train --config config.yaml`, from the artifacts of run `{run.id}`, at commit "
        f"`{params.get('run.git_commit') or 'unknown'}`.",
    )
    return "\n\n".join(sections)[:DESCRIPTION_LENGTH]


def _verdict(run: RecordedRun, sepmean: float) -> str:
    if run.params["model"] == SEPMEAN:
        return "The best of these runs is the trivial baseline itself: no net among them does better."
    ratio = best_mse(run) / sepmean
    if ratio < 1:
        return f"Its MSE is {ratio:.3f} of sepmean's."
    return f"It does not beat the trivial baseline: its MSE is {ratio:.3f} of sepmean's."


def _interval(apart: Estimate) -> str:
    return f"{apart.value:+.3f} Å², 95 % [{apart.low:+.3f}, {apart.high:+.3f}]"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
