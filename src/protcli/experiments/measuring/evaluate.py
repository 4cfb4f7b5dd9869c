"""Measure a trained run on validation or, only on request and with a record, on the test split."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from protcli.errors import ProtcliError
from protcli.experiments.config import RunConfig
from protcli.experiments.measuring.evaluation import Evaluation, improvement_over_sepmean
from protcli.experiments.measuring.measurement import (
    Measurement,
    measurement_path,
    read_measurement,
    write_measurement,
)
from protcli.experiments.measuring.scores import score
from protcli.experiments.measuring.structures import score_structures
from protcli.experiments.runs.restored import baseline_model, best_model, recorded_config
from protcli.experiments.statistics.estimates import Estimate
from protcli.models.external import as_user_error, memory_as_user_error
from protcli.process import scratch_folder
from protcli.proteins.batches import ProteinBatches
from protcli.proteins.dataset import find_store, find_validation, require_atom
from protcli.proteins.store import VALIDATION, Store
from protcli.tracking.bundle import read_bundle
from protcli.tracking.keys import SPLITS, File, Param, Tag, proteins_name, weights_path
from protcli.tracking.readings import record_reading
from protcli.tracking.registry import Registry
from protcli.tracking.run import Run, find_run, project_run
from protcli.training.engine import find_device, start_engine
from protcli.training.predictor import SavedModel


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
    registry = Registry()
    with scratch_folder() as folder:
        saved = version = None
        if model is not None:
            version = registry.find(model)
            if not version.run_id:
                raise ProtcliError(
                    f"{version.uri} does not name the run that trained it: `protcli promote` registers versions that do"
                )
            run = find_run(version.run_id)
            saved = read_bundle(registry.download(version, folder)).saved
        else:
            run = find_run(str(run_id))
        config = recorded_config(run)
        for option, asked, trained in (("atom", atom, config.data.atom), ("crop", crop, config.spec.recipe.crop)):
            if asked not in (None, trained):
                raise ProtcliError(
                    f"run {run.id} was trained with --{option} {trained}: it cannot be measured with {asked}"
                )
        if structures and config.data.atom != "ca":
            atoms = f"{config.data.atom.upper()} atoms"
            raise ProtcliError(f"run {run.id} predicts distances between {atoms}: --structures needs CA")
        validation = None
        if split == "test":  # validation first: nothing may fail between reading the test set and recording that
            validation = _improvement_on_validation(run, config, saved=saved, data=data, device=device)
        result = measure(run, config, split, saved=saved, data=data, structures=structures, device=device)
        if split == "test":
            members = version.members if version is not None else ()
            readings = record_reading(run, result.split.digest, ",".join(members))
            result = replace(
                result, validation=validation, readings=readings, other_tests=_other_tests(run, result.name)
            )
        tables = write_measurement(result, split, folder)
        versions = registry.of_run(run.id)
        if version is not None and version.members:  # an ensemble's figures are not those of the run
            versions, result = [version], replace(result, logged_to=version.uri)
            run.log_artifact(tables, f"{File.EVALUATION}/{tables.name}-{version.name}-{version.number}")
        else:
            _log(run, result, tables)
        for version in versions:
            registry.tag(version, {name: f"{value:.6g}" for name, value in result.metrics.items()} | _tags(result))
        if (project := project_run()) and project.id != run.id:
            project.rename(f"evaluate {result.config.spec.name} on {result.split.name}")
            project.set_tags({Tag.EVALUATED_RUN: run.id})
            _log(project, result, tables)
    return result


def validation_of(run: Run, *, keep: bool = True) -> Measurement:
    """Scores of a run's best weights on its own validation proteins, measured now if they have not been yet.

    The test split is not opened. A new measurement is stored with the run, unless `keep` is False.

    Raises:
        ProtcliError: as `evaluate` does, if it has to be measured.
    """
    digest = run.params.get(Param.VALID_DIGEST)
    if digest and run.tags.get(Tag.VALID_MEASURED) == digest:
        return read_measurement(run.path(measurement_path("valid", digest)))
    result = measure(run, recorded_config(run), "valid")
    with scratch_folder() as folder:
        tables = write_measurement(result, "valid", folder)
        if keep:
            _log(run, result, tables)
        return read_measurement(tables)


def measure(
    run: Run,
    config: RunConfig,
    split: str,
    *,
    saved: SavedModel | None = None,
    data: str | None = None,
    structures: bool = False,
    device: str = "auto",
) -> Evaluation:
    """Measure a run as `evaluate` does, but log nothing.

    Args:
        run, config: the run and its configuration.
        split: `valid` or `test`.
        saved: weights to measure instead of the run's best.
        data, structures, device: see `evaluate`.
    """
    source = data or config.data.source
    store = find_store(source)
    held_out = config.data.held_out if data is None else 0.0  # other data have a validation split
    own = _valid_digest(store, config.data.train_split, held_out) == run.params.get(Param.VALID_DIGEST)
    if data is None and not own:
        raise ProtcliError(
            f"{config.data.source} is no longer the data that run {run.id} was trained on (its validation "
            "proteins have changed or are gone): choose the data to measure it on with --data"
        )
    proteins = (
        find_validation(store, config.data.train_split, held_out)
        if SPLITS[split] == VALIDATION
        else store.split(SPLITS[split])
    )
    proteins.verify()
    require_atom(proteins, config.data.atom, store)
    fabric = start_engine(find_device(device), config.run.precision)
    with memory_as_user_error(config.spec, "free some, or choose another --device"), as_user_error(config.spec):
        saved = saved or best_model(run, config)
        models = [saved, baseline_model(run, config)]
        if weights_path(File.SEPMEAN_LENGTH) in run.files(File.CHECKPOINTS):  # an earlier protcli fitted none
            models.append(baseline_model(run, config, File.SEPMEAN_LENGTH))
        networks = [model.network(fabric) for model in models]
        batches = ProteinBatches(
            proteins=proteins,
            atom=config.data.atom,
            batch_size=config.spec.recipe.batch_size,
            crop=config.evaluated_length,
        )
        (scores, sepmean, *others), truth = score(networks, batches, fabric.device)
        scored = (
            score_structures(networks[:2], proteins, config.evaluated_length, fabric.device) if structures else None
        )
    name = "valid" if own and split == "valid" else proteins_name(split, proteins.digest)
    return Evaluation(
        run.id, config, store.name, store.synthetic, proteins, scores, sepmean, truth, name, source, saved.calibration,
        others[0] if others else None, scored,
    )  # fmt: skip


def _valid_digest(store: Store, train_split: str | None, held_out: float) -> str:
    """The digest of the proteins that a run on this data is validated on; empty if there are none."""
    if held_out:
        return find_validation(store, train_split, held_out).digest
    return store.split_info(VALIDATION)["digest"] if VALIDATION in store.splits else ""  # without opening the split


def _improvement_on_validation(
    run: Run, config: RunConfig, *, saved: SavedModel | None, data: str | None, device: str
) -> Estimate | None:
    """The improvement over sepmean on what the run was validated on; None if the data measured now does not hold it."""
    held_out = config.data.held_out if data is None else 0.0
    digest = _valid_digest(find_store(data or config.data.source), config.data.train_split, held_out)
    if digest != run.params.get(Param.VALID_DIGEST):
        return None
    if saved is None and run.tags.get(Tag.VALID_MEASURED) == digest:
        known = validation_of(run)
        return improvement_over_sepmean([known.errors], known.sepmean_errors, known.proteins["family"].to_numpy())
    return measure(run, config, "valid", saved=saved, data=data, device=device).improvement


def _other_tests(run: Run, name: str) -> tuple[tuple[str, int], ...]:
    """The test sets that a run was measured on, but the one with this name: names and numbers of proteins."""
    pattern = rf"{re.escape(Tag.EVALUATED)}\.(test-.+)\.proteins"
    found = ((match[1], int(value)) for key, value in run.tags.items() if (match := re.fullmatch(pattern, key)))
    return tuple(sorted(each for each in found if each[0] != name))


def _log(log: Run, result: Evaluation, tables: Path) -> None:
    """Log the figures and the tables to a run."""
    log.log_metrics(result.metrics)
    log.log_artifact(tables, f"{File.EVALUATION}/{tables.name}")
    log.set_tags(_tags(result))
    log.log_dataset(
        f"{result.data_name}/{result.split.name}",
        digest=result.split.digest,
        source=result.source,
        context=result.split.name if result.name == "valid" else result.name,
        profile={"proteins": len(result.split), "residues": int(result.split.lengths.sum())},
    )
    if result.name != "valid":
        log.show_metric(f"{result.prefix}mse")


def _tags(result: Evaluation) -> dict[str, Any]:
    """Tags that say which proteins were measured, with what result, and how often they have been read."""
    name = f"{Tag.EVALUATED}.{result.name}"
    tags: dict[str, Any] = {f"{name}.digest": result.split.digest, f"{name}.proteins": len(result.split)}
    if not result.config.spec.is_fitted:
        tags[f"{name}.improvement_over_sepmean"] = f"{result.improvement.format(1)} %"
    return tags | ({f"{name}.readings": result.readings} if result.readings else {})
