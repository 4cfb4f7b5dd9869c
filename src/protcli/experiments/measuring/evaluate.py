"""Measure a trained run on validation or, said explicitly and recorded, on the test split."""

import json
import math
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from protcli.errors import ProtcliError
from protcli.experiments.running.record import CONFIG_FILE, MODEL_FILE, baseline_metrics, write_protein_table
from protcli.experiments.running.train import BEST, CHECKPOINTS, SEPMEAN
from protcli.experiments.runs.config import RunConfig, read_config
from protcli.models.external import explained, memory_explained
from protcli.models.zoo import find_model
from protcli.proteins.batches import Batch, ordered_batches
from protcli.proteins.dataset import find_store, require_atom
from protcli.proteins.map_scores import MapScores, SeparationErrors
from protcli.proteins.maps import distances
from protcli.proteins.metrics import PairErrors
from protcli.proteins.store import TESTING, VALIDATION, Split
from protcli.proteins.upsampling_patterns import InnerPairs, UpsamplingPatterns
from protcli.tracking.readings import Readings, record_reading
from protcli.tracking.registry import Registry
from protcli.tracking.runs import RecordedRun, RunLog, find_run, project_run
from protcli.training.checkpoint import load_weights
from protcli.training.engine import find_device, start_engine

SPLITS = {"valid": VALIDATION, "test": TESTING}
OWN_PREFIXES = {"valid": "best/valid_", "test": "test/"}  # of the metrics on the run's own data
FOLDER = "evaluation"  # of the artifacts, with one folder for each set of proteins
SUMMARY, PROTEINS, SEPARATIONS = "metrics.json", "proteins.csv", "separation.csv"
BESIDE_SEPMEAN = ("mae_8", "lddt", "precision_long_L5")  # logged with the baseline's; its others are in the artifacts
LENGTH_BINS = {"0-64": (0, 64), "65-128": (65, 128), "129-256": (129, 256), ">256": (257, math.inf)}  # residues
SCORED_AT_ONCE = {"cpu": 1 << 18, "cuda": 1 << 22}  # pairs: maps that stay in a CPU's cache, or fill a GPU


@dataclass(frozen=True)
class Scores:
    """What one predictor scores on a split.

    Attributes:
        maps: of each protein.
        separations: errors by |i - j|, over all proteins.
        patterns: of upsampling, in the predicted maps.
    """

    maps: MapScores
    separations: SeparationErrors
    patterns: UpsamplingPatterns

    @property
    def metrics(self) -> dict[str, float]:
        """All pooled figures by name; NaN for one that no protein has."""
        return self.maps.metrics | self.patterns.metrics

    @classmethod
    def concatenate(cls, parts: Sequence["Scores"]) -> "Scores":
        """Of the proteins of all parts, in order."""
        return cls(
            MapScores.concatenate(part.maps for part in parts),
            reduce(add, (part.separations for part in parts)),
            reduce(add, (part.patterns for part in parts)),
        )


@dataclass(frozen=True)
class Evaluation:
    """What a run scores on one split.

    Attributes:
        run_id: of the run that was measured.
        config: as it was trained.
        data_name: of the store, `synthetic` whether it is made up, `source` where it is.
        split: the proteins, in the order of the scores.
        scores: of the run's best weights.
        sepmean: of the baseline fitted to the run's own training split.
        truth: patterns in the true maps.
        prefix: of the metrics' names in MLflow.
        readings: of the test set so far, this one included; None where it is another split, or nothing was logged.
    """

    run_id: str
    config: RunConfig
    data_name: str
    synthetic: bool
    split: Split
    scores: Scores
    sepmean: Scores
    truth: UpsamplingPatterns
    prefix: str
    source: str
    readings: Readings | None = None

    @property
    def is_other_data(self) -> bool:
        """Whether it was measured on other data than the run's own."""
        return self.prefix not in OWN_PREFIXES.values()

    @property
    def metrics(self) -> dict[str, float]:
        """By name, as logged: each figure that some protein has, the baseline's own beside the telling ones."""
        figures = {name: value for name, value in self.scores.metrics.items() if not name.startswith("mse_")}
        figures |= {f"{name}_sepmean": self.sepmean.metrics[name] for name in BESIDE_SEPMEAN}
        return {f"{self.prefix}{name}": value for name, value in figures.items() if not math.isnan(value)} | (
            baseline_metrics(self.prefix, self.scores.maps.errors, self.sepmean.maps.errors)
        )

    @property
    def groups(self) -> dict[str, dict[str, np.ndarray]]:
        """Indices of the proteins by `class` (ProteinNet's, where they have one) and by `length` of the whole chain."""
        categories = np.array([protein.category for protein in self.split])
        names = sorted(set(categories) - {""}, key=lambda name: (not name.isdigit(), name))
        lengths = self.split.lengths
        bins = {
            name: np.flatnonzero((lengths >= first) & (lengths <= last)) for name, (first, last) in LENGTH_BINS.items()
        }
        return {
            "class": {name: np.flatnonzero(categories == name) for name in names},
            "length": {name: chosen for name, chosen in bins.items() if len(chosen)},
        }


@dataclass(frozen=True)
class Measurement:
    """An evaluation read again from a run's artifacts.

    Attributes:
        run_id: of the run that was measured.
        split, digest: the proteins it was measured on.
        metrics: pooled figures of the run's best weights by name (`mse`, `lddt`, `precision_long_L5`, ...), in A, A^2
            and shares; NaN for one that no protein has.
        sepmean: the same of the baseline.
        truth: `checkerboard_8`, `blockiness_8`, ... of the true maps.
        residual: `checkerboard_8`, ... of predicted minus true maps.
        groups: by `class` and `length`, then by name: {"n": proteins, "metrics": {...}, "sepmean": {...}}.
        proteins: a row a protein, in the order of the split; the headings are those of `proteins.csv`.
        separations: a row a separation |i - j| that has pairs; as `separation.csv`.
    """

    run_id: str
    split: str
    digest: str
    metrics: dict[str, float]
    sepmean: dict[str, float]
    truth: dict[str, float]
    residual: dict[str, float]
    groups: dict[str, dict[str, dict[str, Any]]]
    proteins: pd.DataFrame
    separations: pd.DataFrame

    @property
    def errors(self) -> PairErrors:
        """Of the run's best weights, to the bit as they were measured."""
        return self._errors("")

    @property
    def sepmean_errors(self) -> PairErrors:
        """Of the baseline."""
        return self._errors("sepmean_")

    def _errors(self, predictor: str) -> PairErrors:
        columns = ("pairs", f"{predictor}squared", f"{predictor}absolute")
        return PairErrors(*(self.proteins[column].to_numpy() for column in columns))


def evaluate_run(
    run_id: str,
    *,
    split: str = "valid",
    data: str | None = None,
    atom: str | None = None,
    crop: int | None = None,
    device: str = "auto",
) -> Evaluation:
    """Measure the best weights of a run and log the figures, and tables of them, to that run.

    Figures on the run's own data are logged as `best/...` (validation; the epochs' own curves stay as they are) or
    `test/...`; on other data as `<split>-<digest>/...`, so that they never mix. The run that `mlflow run -e evaluate`
    has begun gets them too, and so do, as tags, the versions that the run is registered as.

    Args:
        run_id: in MLflow; see `run_of` for that of a registered model.
        split: `valid` or `test`. Each reading of `test` is recorded on the run, and counted over the store.
        data: `sample` or the folder of another store; None takes the run's own.
        atom, crop: what the caller takes the run to be trained for, checked; None takes the run's own.
        device: see `training.engine.find_device`.

    Raises:
        ProtcliError: no such run, no weights in it, data that is damaged or does not fit it, a model from outside
            protcli that fails, or too little memory.
    """
    if split not in SPLITS:
        raise ProtcliError(f"unknown split {split!r}: give --split valid or --split test")
    run = find_run(run_id)
    with tempfile.TemporaryDirectory(prefix="protcli-") as scratch:
        folder = Path(scratch)
        result = measure(run, folder, split, data=data, atom=atom, crop=crop, device=device)
        if split == "test":
            result = replace(result, readings=record_reading(run, result.split.digest))
        tables = _write(result, split, folder)
        _log(run.log(), result, split, tables)
        registry = Registry()
        for version in registry.of_run(run.id):
            registry.tag(
                version, {name: f"{value:.6g}" for name, value in result.metrics.items()} | _tags(result, split)
            )
        if (begun := project_run()) and begun.id != run.id:
            begun.name(f"evaluate {result.config.spec.name} on {result.split.name}")
            begun.tags({"evaluated.run_id": run.id})
            _log(begun, result, split, tables)
    return result


def run_of(model: str) -> str:
    """The run of a registered model, `models:/NAME@ALIAS` or `models:/NAME/NUMBER`.

    Raises:
        ProtcliError: there is no such version, or protcli has not registered it.
    """
    version = Registry().find(model)
    if not version.run_id:
        raise ProtcliError(f"{version.uri} names no run that trained it: protcli promote registers one that does")
    return version.run_id


def validation_of(run: RecordedRun) -> Measurement:
    """What the best weights of a run score on its own validation split, measured now if nobody has yet.

    The test split is not opened.

    Raises:
        ProtcliError: as `evaluate_run` does, where it has to be measured.
    """
    digest = run.params.get("data.valid_digest")
    with tempfile.TemporaryDirectory(prefix="protcli-") as scratch:
        folder = Path(scratch)
        if digest and run.tags.get("evaluated.valid.digest") == digest:
            tables = run.download(f"{FOLDER}/valid-{digest[:8]}", folder)
            if (tables / SEPARATIONS).is_file():  # else an older protcli has measured it
                return _read(tables)
        result = measure(run, folder, "valid")
        tables = _write(result, "valid", folder)
        _log(run.log(), result, "valid", tables)
        return _read(tables)


def measure(
    run: RecordedRun,
    folder: Path,
    split: str,
    *,
    data: str | None = None,
    atom: str | None = None,
    crop: int | None = None,
    device: str = "auto",
) -> Evaluation:
    """Measure a run as `evaluate_run` does, with its files in a folder of the caller's; nothing is logged."""
    config = recorded_config(run, folder)
    for option, asked, trained in (("atom", atom, config.atom), ("crop", crop, config.spec.recipe.crop)):
        if asked not in (None, trained):
            raise ProtcliError(
                f"run {run.id} was trained with --{option} {trained}: it cannot be measured with {asked}"
            )
    source = data or config.data
    store = find_store(source)
    proteins = store.split(SPLITS[split])
    proteins.verify()
    require_atom(proteins, config.atom, store)
    valid_digest = store.split_info(VALIDATION)["digest"] if VALIDATION in store.splits else ""
    own = valid_digest == run.params.get("data.valid_digest")
    if data is None and not own:
        raise ProtcliError(
            f"{config.data} is not the data that run {run.id} was trained on any more (its validation split is "
            f"another or gone): name the data to measure it on with --data"
        )
    fabric = start_engine(find_device(device), config.precision)
    recipe = config.spec.recipe
    with memory_explained(config.spec, "free some, or choose another --device"), explained(config.spec):
        model, baseline = config.spec.build(), find_model(SEPMEAN).build()
        load_weights(model, run.download(f"{CHECKPOINTS}/{BEST}.safetensors", folder))
        load_weights(baseline, run.download(f"{CHECKPOINTS}/{SEPMEAN}.safetensors", folder))
        networks = [fabric.setup(network) for network in (model.to(memory_format=torch.channels_last), baseline)]
        batches = ordered_batches(proteins, atom=config.atom, crop=recipe.crop, batch_size=recipe.batch_size)
        (scores, sepmean), truth = score(networks, batches, fabric.device)
    prefix = OWN_PREFIXES[split] if own else f"{split}-{proteins.digest[:8]}/"
    return Evaluation(run.id, config, store.name, store.synthetic, proteins, scores, sepmean, truth, prefix, source)


@torch.inference_mode()
def score(
    networks: Sequence[nn.Module], batches: Iterable[Batch], device: torch.device
) -> tuple[list[Scores], UpsamplingPatterns]:
    """Scores of several networks, in evaluation mode, on the same proteins, and patterns in the true maps; one pass."""
    for network in networks:
        network.eval()
    parts: list[list[Scores]] = [[] for _ in networks]
    truth: list[UpsamplingPatterns] = []
    for batch in batches:
        batch = batch.to(device)
        predictions = [network(batch.residues).distance for network in networks]
        lengths = batch.residues.mask.sum(dim=1)
        few = max(SCORED_AT_ONCE[device.type] // batch.mask.shape[1] ** 2, 1)
        for first in range(0, len(batch), few):
            chosen = slice(first, first + few)
            true, mask = distances(batch.coords[chosen]), batch.mask[chosen]
            inner = InnerPairs(mask, lengths[chosen])
            truth.append(inner.patterns(true))
            for of_network, predicted in zip(parts, predictions, strict=True):
                of_network.append(_score_maps(predicted[chosen], true, mask, inner))
    return [Scores.concatenate(of_network) for of_network in parts], reduce(add, truth)


def _score_maps(predicted: Tensor, true: Tensor, mask: Tensor, inner: InnerPairs) -> Scores:
    return Scores(
        MapScores.of(predicted, true, mask), SeparationErrors.of(predicted, true, mask), inner.patterns(predicted)
    )


def recorded_config(run: RecordedRun, folder: Path) -> RunConfig:
    """What a run was made of, with its files in a folder. Raises ProtcliError where it is no training run."""
    path = run.download(CONFIG_FILE, folder)
    if MODEL_FILE in run.files():
        run.download(MODEL_FILE, folder)
    return read_config(path)


def _write(result: Evaluation, split: str, folder: Path) -> Path:
    """The tables of an evaluation, in a folder of their own in the given one."""
    out = folder / FOLDER / f"{split}-{result.split.digest[:8]}"
    out.mkdir(parents=True, exist_ok=True)
    scores, sepmean = result.scores, result.sepmean
    about = {
        "run_id": result.run_id,
        "data": result.data_name,
        "split": result.split.name,
        "digest": result.split.digest,
        "proteins": len(result.split),
        "atom": result.config.atom,
        "crop": result.config.spec.recipe.crop,
        "prefix": result.prefix,
        "metrics": _json(scores.metrics),
        "sepmean": _json(sepmean.metrics),
        "truth": _json(result.truth.metrics),
        "residual": _json({f"checkerboard_{s}": value for s, value in scores.patterns.residual(result.truth).items()}),
        "groups": {
            kind: {
                name: {
                    "n": len(chosen),
                    "metrics": _json(scores.maps.select(chosen).metrics),
                    "sepmean": _json(sepmean.maps.select(chosen).metrics),
                }
                for name, chosen in of_kind.items()
            }
            for kind, of_kind in result.groups.items()
        },
    }
    (out / SUMMARY).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    beside = {f"sepmean_{name}": of for name, of in sepmean.maps.columns.items() if not name.startswith("pairs_")}
    write_protein_table(
        out / PROTEINS,
        result.split,
        scores.maps.errors,
        sepmean.maps.errors,
        result.config.atom,
        scores.maps.columns | beside,
    )
    _separation_table(scores.separations, sepmean.separations).to_csv(out / SEPARATIONS, index=False)
    return out


def _separation_table(errors: SeparationErrors, sepmean: SeparationErrors) -> pd.DataFrame:
    seen = np.flatnonzero(errors.count)
    table = pd.DataFrame({"separation": seen, "pairs": errors.count[seen]})
    for prefix, of in (("", errors), ("sepmean_", sepmean)):
        table[f"{prefix}squared"], table[f"{prefix}absolute"] = of.squared[seen], of.absolute[seen]
        table[f"{prefix}mse"] = table[f"{prefix}squared"] / table["pairs"]
        table[f"{prefix}mae"] = table[f"{prefix}absolute"] / table["pairs"]
    return table


def _json(figures: dict[str, float]) -> dict[str, float | None]:
    """JSON has no NaN: null stands for it."""
    return {name: None if math.isnan(value) else value for name, value in figures.items()}


def _figures(stored: dict[str, float | None]) -> dict[str, float]:
    return {name: math.nan if value is None else value for name, value in stored.items()}


def _read_table(path: Path) -> pd.DataFrame:
    """As it was written: floats to the bit (pandas' parser has not always read them so), NaN where a field is empty."""
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    for heading in table.columns.difference(["id", "class"]):
        whole = table[heading].str.fullmatch(r"\d+").all()
        table[heading] = table[heading].replace("", "nan").astype(int if whole else float)
    return table


def _read(folder: Path) -> Measurement:
    about = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
    proteins, separations = (_read_table(folder / name) for name in (PROTEINS, SEPARATIONS))
    groups = {
        kind: {
            name: group | {of: _figures(group[of]) for of in ("metrics", "sepmean")} for name, group in named.items()
        }
        for kind, named in about["groups"].items()
    }
    metrics, sepmean, truth, residual = (_figures(about[of]) for of in ("metrics", "sepmean", "truth", "residual"))
    return Measurement(
        about["run_id"],
        about["split"],
        about["digest"],
        metrics,
        sepmean,
        truth,
        residual,
        groups,
        proteins,
        separations,
    )


def _log(log: RunLog, result: Evaluation, split: str, tables: Path) -> None:
    """Leave the figures and the tables with a run."""
    log.metrics(result.metrics)
    log.artifact(tables, f"{FOLDER}/{tables.name}")
    log.tags(_tags(result, split))
    log.dataset(
        f"{result.data_name}/{result.split.name}",
        digest=result.split.digest,
        source=result.source,
        context=result.prefix.rstrip("/") if result.is_other_data else result.split.name,
        profile={"proteins": len(result.split), "residues": int(result.split.lengths.sum())},
    )


def _tags(result: Evaluation, split: str) -> dict[str, Any]:
    """On which proteins, and how often those have been read."""
    name = f"evaluated.{result.prefix.rstrip('/')}" if result.is_other_data else f"evaluated.{split}"
    tags: dict[str, Any] = {f"{name}.digest": result.split.digest, f"{name}.proteins": len(result.split)}
    return tags | ({f"{name}.readings": result.readings} if result.readings else {})
