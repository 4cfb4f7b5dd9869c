"""Measure a trained run on validation or, only on request and with a record, on the test split."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from protcli.errors import ProtcliError
from protcli.experiments.config import RunConfig, baseline_model, best_model, recorded_config
from protcli.experiments.scores import PREDICTORS, SEPMEAN, Scores, protein_table, score, separation_table
from protcli.experiments.statistics.estimates import Estimate
from protcli.models.external import as_user_error, memory_as_user_error
from protcli.process import scratch_folder
from protcli.proteins.batches import ProteinBatches, collate
from protcli.proteins.confidence import deviation, reliability
from protcli.proteins.coordinates import trace
from protcli.proteins.dataset import find_store, find_validation, require_atom, require_features
from protcli.proteins.protein import Protein
from protcli.proteins.store import TESTING, VALIDATION
from protcli.proteins.structure_scores import gdt_ts, radius_of_gyration, random_chain, tm_score
from protcli.proteins.subset import Proteins
from protcli.tracking.keys import SPLITS, File, Metric, Param, Tag, proteins_name, weights_path
from protcli.tracking.registry import Readings, Registry, record_reading
from protcli.tracking.run import Run, find_run, project_run
from protcli.training.engine import find_device, start_engine
from protcli.training.predictor import SavedModel

LEAST_RESOLVED = 5  # residues of a chain whose structure is scored
STRUCTURE_SCORES = {"tm_score": tm_score, "gdt_ts": gdt_ts}


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
    if model is not None:
        version = registry.find(model)
        if not version.run_id:
            raise ProtcliError(
                f"{version.uri} does not name the run that trained it: `protcli promote` registers versions that do"
            )
        saved = registry.load(version)
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
    validation = None
    if split == "test" and (valid := _own_validation(run, config, data)) is not None:
        # validation first: nothing may fail between reading the test set and recording that
        if saved is None and run.tags.get(Tag.VALID_MEASURED) == valid.digest:
            validation = validation_of(run).improvement
        else:
            validation = measure(run, config, "valid", saved=saved, data=data, device=device).improvement
    scores = measure(run, config, split, saved=saved, data=data, structures=structures, device=device)
    members = version.members if version else ()
    tags, readings = scores.tags, None
    if split == "test":
        readings = record_reading(run, scores.digest, members)
        tags |= {f"{Tag.EVALUATED}.{scores.name}.readings": readings}
    runs, versions, logged_to = [run], registry.versions_of(run.id), f"run {run.id}"
    if version and members:  # an ensemble's figures are not those of the run
        runs, versions, logged_to = [], [version], version.uri
        _log_tables(run, scores, f"-{version.name}-{version.number}")
    if project := project_run(besides=run.id):
        project.rename(f"evaluate {scores.model} on {scores.split}")
        project.set_tags({Tag.EVALUATED_RUN: run.id})
        runs.append(project)
    for each in runs:
        _log(each, scores, tags, data or config.data.source)
    for registered in versions:
        registry.tag(registered, {name: f"{value:.6g}" for name, value in scores.logged.items()} | tags)
    other_tests = _other_tests(run, scores.name) if split == "test" else ()
    return Evaluation(scores, config.spec.is_fitted, logged_to, validation, readings, other_tests)


def validation_of(run: Run, *, keep: bool = True) -> Scores:
    """Scores of a run's best weights on its own validation proteins, measured now if they have not been yet.

    The test split is not opened. New scores are stored with the run, unless `keep` is False.

    Raises:
        ProtcliError: as `evaluate` does, if it has to be measured.
    """
    digest = run.params.get(Param.VALID_DIGEST)
    if digest and run.tags.get(Tag.VALID_MEASURED) == digest:
        return Scores.load(run.path(f"{File.EVALUATION}/{proteins_name('valid', digest)}"))
    config = recorded_config(run)
    scores = measure(run, config, "valid")
    if keep:
        _log(run, scores, scores.tags, config.data.source)
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
    store, valid = find_store(data or config.data.source), _own_validation(run, config, data)
    if data is None and valid is None:
        raise ProtcliError(
            f"{config.data.source} is no longer the data that run {run.id} was trained on (its validation "
            "proteins have changed or are gone): choose the data to measure it on with --data"
        )
    proteins = store.split(TESTING) if split == "test" else valid or store.split(VALIDATION)
    proteins.verify()
    atom, length, spec = config.data.atom, config.evaluated_length, config.spec
    require_atom(proteins, atom, store)
    require_features(proteins, spec.features, store)
    fabric = start_engine(find_device(device), config.run.precision)
    with memory_as_user_error(spec, "free some, or choose another --device"), as_user_error(spec):
        saved = saved or best_model(config, run)
        models = [saved, baseline_model(config, run)]
        if weights_path(File.SEPMEAN_LENGTH) in run.files(File.CHECKPOINTS):  # an earlier protcli fitted none
            models.append(baseline_model(config, run, File.SEPMEAN_LENGTH))
        networks = [each.network(fabric) for each in models]
        batches = ProteinBatches(proteins=proteins, atom=atom, batch_size=spec.recipe.batch_size, crop=length)
        (model, sepmean, *others), truth = score(networks, batches, fabric.device)
        coordinates = score_structures(networks[:2], proteins, length, fabric.device) if structures else None
    expected, found = model.residues
    if saved.calibration is not None:
        expected = saved.calibration(expected)
    return Scores(
        run_id=run.id,
        model=spec.name,
        data=store.name,
        synthetic=store.synthetic,
        split=proteins.name,
        digest=proteins.digest,
        atom=atom,
        evaluated_length=length,
        prefix=Metric.BEST if proteins is valid else f"{proteins_name(split, proteins.digest)}/",
        metrics=model.metrics,
        sepmean=sepmean.metrics,
        sepmean_length=others[0].metrics if others else {},
        truth=truth.metrics,
        proteins=protein_table(proteins, atom, model.maps.columns() | sepmean.maps.columns(SEPMEAN)),
        separations=separation_table(model.separations, sepmean.separations),
        structures=coordinates,
        reliability=reliability(expected, found) if len(expected) else None,
        is_calibrated=saved.calibration is not None,
    )


def _own_validation(run: Run, config: RunConfig, data: str | None) -> Proteins | None:
    """The proteins that a run was validated on; None if the data, as for `evaluate`, have others, or none."""
    store = find_store(data or config.data.source)
    held_out = config.data.held_out if data is None else 0.0  # other data have a validation split
    if not held_out and VALIDATION not in store.splits:
        return None
    proteins = find_validation(store, config.data.train_split, held_out)
    return proteins if proteins.digest == run.params.get(Param.VALID_DIGEST) else None


def _other_tests(run: Run, name: str) -> tuple[tuple[str, int], ...]:
    """The test sets that a run was measured on before, but the one with this name: names and numbers of proteins."""
    counts = {key.split(".")[1]: value for key, value in run.tags.items() if key.endswith(".proteins")}
    others = (each for each in counts if each.startswith("test-") and each != name)
    return tuple((each, int(counts[each])) for each in sorted(others))


def _log_tables(run: Run, scores: Scores, further: str = "") -> None:
    """Store the tables of scores with a run, in a folder with the name of the proteins."""
    with scratch_folder() as folder:
        scores.save(folder)
        run.log_artifact(
            folder, f"{File.EVALUATION}/{proteins_name(scores.name.split('-')[0], scores.digest)}{further}"
        )


def _log(run: Run, scores: Scores, tags: dict[str, Any], source: str) -> None:
    """Log scores to a run."""
    run.log_metrics(scores.logged)
    _log_tables(run, scores)
    run.set_tags(tags)
    run.log_dataset(
        f"{scores.data}/{scores.split}",
        digest=scores.digest,
        source=source,
        context=scores.split if scores.name == "valid" else scores.name,
        profile={"proteins": len(scores.proteins), "residues": int(scores.proteins["length"].sum())},
    )
    if scores.name != "valid":
        run.show_metric(f"{scores.prefix}mse")


@torch.inference_mode()
def score_structures(
    networks: Sequence[nn.Module], proteins: Sequence[Protein], length: int, device: torch.device
) -> pd.DataFrame:
    """TM-score and GDT_TS of the first residues of each protein, one row each; NaN for one with too few resolved ones.

    A network's structure is made of its distances alone, by `coordinates.trace`; one that predicts a distribution
    weighs them by its deviations. The random chain has the true radius of gyration, and its own seed for each protein.

    Args:
        networks: the model and `sepmean`, for C-alpha atoms.
        proteins: in the order of the rows.
        length: residues of each chain.
        device: of the networks.
    """
    rows = []
    for number, protein in enumerate(proteins):
        true = protein.atom("ca")[:length].astype(np.float64)
        known = ~np.isnan(true).any(axis=1)
        rows.append({"id": protein.id, "class": protein.category, "residues": len(protein)})
        if known.sum() >= LEAST_RESOLVED:
            structures = [_structure(network, protein, length, device) for network in networks]
            structures.append(random_chain(len(true), radius_of_gyration(true[known]), np.random.default_rng(number)))
            for predictor, coords in zip(PREDICTORS, structures, strict=True):
                for name, score in STRUCTURE_SCORES.items():
                    rows[-1][f"{predictor}_{name}"] = score(coords[known], true[known])
    columns = [f"{predictor}_{name}" for predictor in PREDICTORS for name in STRUCTURE_SCORES]
    return pd.DataFrame(rows, columns=["id", "class", "residues", *columns])


def _structure(network: nn.Module, protein: Protein, length: int, device: torch.device) -> np.ndarray:
    """C-alpha atoms as predicted: float64 [L, 3]."""
    prediction = network(collate([protein], atom="ca", crop=length).residues.to(device))
    chain = 0, slice(len(protein)), slice(len(protein))
    distance, deviations = prediction.distance[chain].double().cpu().numpy(), None
    if prediction.logits is not None and prediction.bins is not None:
        probabilities = prediction.logits[chain].double().softmax(dim=-1).cpu().numpy()
        deviations = deviation(probabilities, prediction.bins.double().cpu().numpy())
    return trace(distance, deviations).coords
