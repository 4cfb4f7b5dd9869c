"""Measure a trained run on validation or, only on request and with a record, on the test split."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from protcli.errors import ProtcliError
from protcli.experiments.config import RunConfig, baseline_model, best_model, recorded_config
from protcli.experiments.scores import Scores
from protcli.experiments.statistics.estimates import Estimate
from protcli.models.external import as_user_error, memory_as_user_error
from protcli.process import scratch_folder
from protcli.proteins.dataset import find_store, find_validation, require_atom
from protcli.proteins.store import TESTING, VALIDATION, Store
from protcli.proteins.subset import Proteins
from protcli.tracking.keys import SPLITS, File, Metric, Param, Tag, proteins_name, weights_path
from protcli.tracking.registry import Readings, Registry, record_reading
from protcli.tracking.run import Run, find_run, project_run
from protcli.training.engine import find_device, start_engine
from protcli.training.predictor import SavedModel


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Scores that were logged, and what a reader must know beside them.

    Attributes:
        scores: of the weights.
        is_fitted: whether the model is a baseline, fitted in one pass.
        logged_to: the run, or the version that has the figures of an ensemble.
        validation: `Scores.improvement` of the same weights on the proteins that the run was validated on, beside a
            test split of the same store; None elsewhere.
        readings: of the test set so far, including this one; None for another split.
        other_tests: other test sets that the run was measured on before, by name with their numbers of proteins.
    """

    scores: Scores
    is_fitted: bool
    logged_to: str
    validation: Estimate | None = None
    readings: Readings | None = None
    other_tests: tuple[tuple[str, int], ...] = ()


def evaluate(
    *,
    run_id: str | None = None,
    model: str | None = None,
    split: str = "valid",
    data: str | None = None,
    atom: str | None = None,
    crop: int | None = None,
    structures: bool = False,
    device: str = "auto",
) -> Evaluation:
    """Measure the best weights of a run, or the weights of a registered model, and log the figures to the run.

    Figures on the run's own validation split are logged as `best/...` (the curves over epochs stay unchanged), all
    others as `<split>-<digest>/...`, so that two test sets never mix. They are also logged to the run that
    `mlflow run -e evaluate` started and, as tags, to the versions registered from the run. Those of an ensemble are
    tags of its version alone, and its tables are among the artifacts of its first run.

    Args:
        run_id: a run in MLflow; or
        model: a registered model, `models:/NAME@ALIAS` or `models:/NAME/NUMBER`, whose own weights are measured.
        split: `valid` or `test`. Each reading of `test` is recorded on the run and counted across the store.
        data: `sample` or the folder of another store, whose validation split is meant by `valid`; None takes the run's
            own data, and the proteins it was validated on.
        atom, crop: refused if the run was trained with others; None takes the run's own.
        structures: whether to make coordinates of the predicted distances and score them too.
        device: see `training.engine.find_device`.

    Raises:
        ProtcliError: no such run or model, structures of a run that was not trained on C-alpha atoms, no weights in it,
            data that is damaged or does not fit it, a user's own model that fails, or too little memory.
    """
    if (run_id is None) == (model is None):
        raise ProtcliError("name a run with --run-id, or a registered model with --model")
    if split not in SPLITS:
        raise ProtcliError(f"unknown split {split!r}: give --split valid or --split test")
    registry, saved, version = Registry(), None, None
    with scratch_folder() as folder:
        if model is not None:
            version = registry.find(model)
            if not version.run_id:
                raise ProtcliError(
                    f"{version.uri} does not name the run that trained it: `protcli promote` registers versions that do"
                )
            saved = registry.load(version).saved
        run = find_run(version.run_id if version else str(run_id))
        config = recorded_config(run)
        for option, asked, trained in (("atom", atom, config.data.atom), ("crop", crop, config.spec.recipe.crop)):
            if asked not in (None, trained):
                raise ProtcliError(
                    f"run {run.id} was trained with --{option} {trained}: it cannot be measured with {asked}"
                )
        if structures and config.data.atom != "ca":
            atoms = f"{config.data.atom.upper()} atoms"
            raise ProtcliError(f"run {run.id} predicts distances between {atoms}: --structures needs CA")
        validation = readings = None
        other_tests: tuple[tuple[str, int], ...] = ()
        if split == "test":  # validation first: nothing may fail between reading the test set and recording that
            validation = _improvement_on_validation(run, config, saved=saved, data=data, device=device)
        scores = measure(run, config, split, saved=saved, data=data, structures=structures, device=device)
        members = version.members if version else ()
        if split == "test":
            readings = record_reading(run, scores.digest, ",".join(members))
            other_tests = _other_tests(run, scores.name)
        tables = folder / _path(split, scores.digest)
        scores.save(tables)
        tags, source = _tags(scores, config, readings), data or config.data.source
        versions, logged_to = registry.of_run(run.id), f"run {run.id}"
        if version and members:  # an ensemble's figures are not those of the run
            versions, logged_to = [version], version.uri
            run.log_artifact(tables, f"{File.EVALUATION}/{tables.name}-{version.name}-{version.number}")
        else:
            _log(run, scores, tables, tags, source)
        for each in versions:
            registry.tag(each, {name: f"{value:.6g}" for name, value in scores.logged.items()} | tags)
        if (project := project_run()) and project.id != run.id:
            project.rename(f"evaluate {scores.model} on {scores.split}")
            project.set_tags({Tag.EVALUATED_RUN: run.id})
            _log(project, scores, tables, tags, source)
    return Evaluation(scores, config.spec.is_fitted, logged_to, validation, readings, other_tests)


def validation_of(run: Run, *, keep: bool = True) -> Scores:
    """Scores of a run's best weights on its own validation proteins, measured now if they have not been yet.

    The test split is not opened. New scores are stored with the run, unless `keep` is False.

    Raises:
        ProtcliError: as `evaluate` does, if it has to be measured.
    """
    digest = run.params.get(Param.VALID_DIGEST)
    if digest and run.tags.get(Tag.VALID_MEASURED) == digest:
        return Scores.load(run.path(_path("valid", digest)))
    config = recorded_config(run)
    scores = measure(run, config, "valid")
    if keep:
        with scratch_folder() as folder:
            scores.save(tables := folder / _path("valid", scores.digest))
            _log(run, scores, tables, _tags(scores, config), config.data.source)
    return scores


def measure(
    run: Run,
    config: RunConfig,
    split: str,
    *,
    saved: SavedModel | None = None,
    data: str | None = None,
    structures: bool = False,
    device: str = "auto",
) -> Scores:
    """Measure a run as `evaluate` does, but log nothing.

    Args:
        run, config: the run and its configuration.
        split: `valid` or `test`.
        saved: weights to measure instead of the run's best.
        data, structures, device: see `evaluate`.
    """
    store = find_store(data or config.data.source)
    valid = _own_validation(run, config, store, data)
    if data is None and valid is None:
        raise ProtcliError(
            f"{config.data.source} is no longer the data that run {run.id} was trained on (its validation "
            "proteins have changed or are gone): choose the data to measure it on with --data"
        )
    proteins = store.split(TESTING) if split == "test" else valid or store.split(VALIDATION)
    proteins.verify()
    require_atom(proteins, config.data.atom, store)
    fabric = start_engine(find_device(device), config.run.precision)
    with memory_as_user_error(config.spec, "free some, or choose another --device"), as_user_error(config.spec):
        saved = saved or best_model(run, config)
        models = [saved, baseline_model(run, config)]
        if weights_path(File.SEPMEAN_LENGTH) in run.files(File.CHECKPOINTS):  # an earlier protcli fitted none
            models.append(baseline_model(run, config, File.SEPMEAN_LENGTH))
        return Scores.measure(
            [each.network(fabric) for each in models],
            proteins,
            atom=config.data.atom,
            length=config.evaluated_length,
            batch_size=config.spec.recipe.batch_size,
            device=fabric.device,
            calibration=saved.calibration,
            structures=structures,
            run_id=run.id,
            model=config.spec.name,
            data=store.name,
            synthetic=store.synthetic,
            prefix=Metric.BEST if proteins is valid else f"{proteins_name(split, proteins.digest)}/",
        )


def _own_validation(run: Run, config: RunConfig, store: Store, data: str | None) -> Proteins | None:
    """The proteins that a run was validated on; None if the store has others, or none.

    `data` is as for `evaluate`: other data than the run's own have a validation split.
    """
    held_out = config.data.held_out if data is None else 0.0
    if not held_out and VALIDATION not in store.splits:
        return None
    proteins = find_validation(store, config.data.train_split, held_out)
    return proteins if proteins.digest == run.params.get(Param.VALID_DIGEST) else None


def _improvement_on_validation(
    run: Run, config: RunConfig, *, saved: SavedModel | None, data: str | None, device: str
) -> Estimate | None:
    """The improvement over sepmean on what the run was validated on; None if the data measured now does not hold it."""
    valid = _own_validation(run, config, find_store(data or config.data.source), data)
    if valid is None:
        return None
    if saved is None and run.tags.get(Tag.VALID_MEASURED) == valid.digest:
        return validation_of(run).improvement
    return measure(run, config, "valid", saved=saved, data=data, device=device).improvement


def _other_tests(run: Run, name: str) -> tuple[tuple[str, int], ...]:
    """The test sets that a run was measured on, but the one with this name: names and numbers of proteins."""
    pattern = rf"{re.escape(Tag.EVALUATED)}\.(test-.+)\.proteins"
    measured = ((match[1], int(value)) for key, value in run.tags.items() if (match := re.fullmatch(pattern, key)))
    return tuple(sorted(each for each in measured if each[0] != name))


def _path(split: str, digest: str) -> str:
    """Artifact path of the scores on a split, `valid` or `test`."""
    return f"{File.EVALUATION}/{proteins_name(split, digest)}"


def _log(log: Run, scores: Scores, tables: Path, tags: dict[str, Any], source: str) -> None:
    """Log scores, and the folder of their tables, to a run."""
    log.log_metrics(scores.logged)
    log.log_artifact(tables, f"{File.EVALUATION}/{tables.name}")
    log.set_tags(tags)
    log.log_dataset(
        f"{scores.data}/{scores.split}",
        digest=scores.digest,
        source=source,
        context=scores.split if scores.name == "valid" else scores.name,
        profile={"proteins": len(scores.proteins), "residues": int(scores.proteins["length"].sum())},
    )
    if scores.name != "valid":
        log.show_metric(f"{scores.prefix}mse")


def _tags(scores: Scores, config: RunConfig, readings: Readings | None = None) -> dict[str, Any]:
    """Tags that say which proteins were measured, with what result, and how often they have been read."""
    name = f"{Tag.EVALUATED}.{scores.name}"
    tags: dict[str, Any] = {f"{name}.digest": scores.digest, f"{name}.proteins": len(scores.proteins)}
    if not config.spec.is_fitted:
        tags[f"{name}.improvement_over_sepmean"] = f"{scores.improvement.format(1)} %"
    return tags | ({f"{name}.readings": readings} if readings else {})
