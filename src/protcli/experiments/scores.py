"""What a model scores on every protein of a split, beside the baseline: one value in memory, on disk and in tables."""

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property, reduce
from operator import add
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import nn

from protcli.atomic import atomic_write
from protcli.errors import ProtcliError
from protcli.models.spec import Prediction
from protcli.proteins.batches import Batch, Batches, ProteinBatches
from protcli.proteins.confidence import Calibration, Reliability, expected_lddt, reliability
from protcli.proteins.map_scores import MapScores, residue_lddt, separation_errors
from protcli.proteins.maps import distances
from protcli.proteins.metrics import PairErrors, stack_errors, unstack_errors
from protcli.proteins.protein import STRICT
from protcli.proteins.upsampling_patterns import InnerPairs, UpsamplingPatterns
from protcli.tracking.keys import File, Metric, Tag
from protcli.training.checkpoint import read_tensors, write_tensors

if TYPE_CHECKING:  # Arrow and MLflow, which scoring does not need, too
    from protcli.experiments.statistics.estimates import Estimate
    from protcli.proteins.subset import Proteins
    from protcli.tracking.run import Run

# SciPy, biotite and matplotlib are imported where they are needed: they would delay the start of a training
METRICS, RELIABILITY = "metrics.json", "reliability.png"
TABLES = {
    "proteins": "proteins.csv", "separations": "separation.csv", "structures": "structures.csv",
    "reliability": "confidence.csv",
}  # fmt: skip
PREDICTORS = ("model", "sepmean", "random")  # whose structures are scored
SEPMEAN = "sepmean_"  # begins the baseline's columns of the tables
BESIDE_SEPMEAN = ("mae_8", "lddt", "precision_long_L5")  # logged with the baseline's; its others are in the artifacts
LENGTH_BINS = {"0-64": (0, 64), "65-128": (65, 128), "129-256": (129, 256), ">256": (257, math.inf)}  # residues
SCORED_AT_ONCE = {"cpu": 1 << 18, "cuda": 1 << 22}  # pairs, so that the maps fit a CPU's cache, or fill a GPU


@dataclass(frozen=True, eq=False, kw_only=True)
class Scores:
    """What a model, and `sepmean` beside it, score on a split.

    Attributes:
        metrics: pooled metrics of the model by name (`mse`, `lddt`, `precision_long_L5`, `checkerboard_8`, ...), in Å,
            Å² and shares; NaN for one that no protein has.
        sepmean, sepmean_length: the same of the baselines; the second is empty if an earlier protcli trained the run.
        truth: `checkerboard_8`, `blockiness_8`, ... of the true maps.
        proteins: one row per protein, in the order of the split, as `protein_table` makes it, with the columns of
            `MapScores` of the model and, after `sepmean_`, of the baseline. `family` is the protein's own id if an
            earlier protcli measured it, or if its store held no families.
        separations: one row per separation |i - j| that has pairs: `pairs`, then `squared`, `absolute`, `mse` and `mae`
            of both, over all proteins.
        structures: see `evaluate.score_structures`; None if it was not asked for.
        reliability: the confidence of residues and what was found; None if the model predicts distances alone.
        run_id, model: of the run that was measured.
        data, synthetic: the name of the store, and whether its proteins are generated.
        split, digest: of the proteins.
        is_calibrated: whether the confidence was corrected, on the validation proteins of the run.
        atom, evaluated_length: the atom that distances are between, and the residues measured of each chain.
        prefix: what the names of its metrics begin with: `best/valid_` on the run's own validation proteins, else
            `test-1a2b3c4d/` or the like, so that two sets of proteins never share a name.
    """

    run_id: str = ""
    model: str = ""
    data: str = ""
    synthetic: bool = False
    split: str = ""
    digest: str = ""
    is_calibrated: bool = False
    atom: str = ""
    evaluated_length: int = 0
    prefix: str = Metric.BEST
    metrics: dict[str, float]
    sepmean: dict[str, float]
    truth: dict[str, float]
    sepmean_length: dict[str, float] = field(default_factory=dict)
    proteins: pd.DataFrame
    separations: pd.DataFrame
    structures: pd.DataFrame | None = None
    reliability: Reliability | None = None

    def save(self, folder: Path) -> None:
        """Write the tables, and a figure of the confidence, to a folder, which is created if need be."""
        folder.mkdir(parents=True, exist_ok=True)
        about = {each.name: getattr(self, each.name) for each in fields(self) if each.name not in TABLES}
        about["proteins"] = len(self.proteins)
        about["groups"] = {
            kind: {
                name.removesuffix("#"): {
                    "n": int(rows.sum()), "metrics": self.pooled(rows), "sepmean": self.pooled(rows, SEPMEAN)
                }
                for name, rows in groups.items()
            }
            for kind, groups in self.groups.items()
        }  # fmt: skip
        about = json.loads(json.dumps(about), parse_constant=lambda _: None)  # JSON has no NaN: null replaces it
        (folder / METRICS).write_text(json.dumps(about, indent=2) + "\n", "utf-8")
        for name, file in TABLES.items():
            if (table := getattr(self, name)) is not None:
                write_table(folder / file, pd.DataFrame(vars(table)) if name == "reliability" else table)
        if self.reliability is not None:
            from protcli.figures.curves import draw_reliability

            draw_reliability(folder / RELIABILITY, self.reliability, title=f"{self.model} on {self.split}")

    @classmethod
    def load(cls, folder: Path) -> "Scores":
        """Read what `save`, or an earlier protcli, wrote."""
        text = (folder / METRICS).read_text("utf-8")
        about = json.loads(
            text, object_hook=lambda figures: {k: math.nan if v is None else v for k, v in figures.items()}
        )
        tables: dict[str, Any] = {
            name: read_table(folder / file) for name, file in TABLES.items() if (folder / file).exists()
        }
        if "family" not in tables["proteins"]:
            tables["proteins"]["family"] = tables["proteins"]["id"]
        if "reliability" in tables:
            tables["reliability"] = Reliability(**{k: v.to_numpy() for k, v in tables["reliability"].items()})
        return cls(**{each.name: about[each.name] for each in fields(cls) if each.name in about} | tables)

    @property
    def name(self) -> str:
        """Of the proteins, in names of tags: `valid` for the run's own validation proteins, else `test-1a2b3c4d`."""
        return "valid" if self.prefix == Metric.BEST else self.prefix.removesuffix("/")

    @cached_property
    def errors(self) -> PairErrors:
        """The model's errors, bit for bit as measured."""
        return PairErrors.from_columns(self.proteins)

    @cached_property
    def sepmean_errors(self) -> PairErrors:
        """The baseline's errors."""
        return PairErrors.from_columns(self.proteins, SEPMEAN)

    @property
    def families(self) -> np.ndarray:
        """The family of each protein: str [N]."""
        return self.proteins["family"].to_numpy()

    @cached_property
    def improvement(self) -> "Estimate":
        """By how many per cent the MSE of these weights is below sepmean's; its interval is over protein families."""
        from protcli.experiments.statistics.contrasts import improvement_over_sepmean

        return improvement_over_sepmean([self.errors], self.sepmean_errors, self.families)

    @property
    def classes(self) -> dict[str, np.ndarray]:
        """The rows of each of ProteinNet's classes, such as `10#` and `FM#`: bool [N]; none if they have no class.

        `10#` holds `10-strict#` as well.
        """
        category = self.proteins["class"].to_numpy()
        names = {part for name in set(category) - {""} for part in (name, name.removesuffix(STRICT))}
        order = sorted(names, key=lambda name: (not name[0].isdigit(), name))
        return {f"{name}#": np.isin(category, [name, name + STRICT]) for name in order}

    @property
    def groups(self) -> dict[str, dict[str, np.ndarray]]:
        """The rows, bool [N], of each `class`, and of each `length` of the whole chain, such as `0-64`."""
        length = self.proteins["length"].to_numpy()
        bins = {name: (length >= first) & (length <= last) for name, (first, last) in LENGTH_BINS.items()}
        return {"class": self.classes, "length": {name: rows for name, rows in bins.items() if rows.any()}}

    def pooled(self, rows: np.ndarray, predictor: str = "") -> dict[str, float]:
        """The metrics of `MapScores` on some of the proteins, bool [N]; of the baseline with `sepmean_`."""
        return MapScores.from_columns(self.proteins[rows], predictor).metrics

    def tm_scores(self) -> Iterator[tuple[str, int, list["Estimate"]]]:
        """Of `all` proteins and of each class: its name, how many have structures, and mean TM-scores of PREDICTORS."""
        from protcli.experiments.statistics.estimates import over_families

        assert self.structures is not None
        for name, rows in {"all": np.ones(len(self.proteins), bool), **self.classes}.items():
            scores = [self.structures[f"{predictor}_tm_score"].to_numpy()[rows] for predictor in PREDICTORS]
            estimates = [over_families(values, self.families[rows]) for values in scores]
            yield name, int(np.isfinite(scores[0]).sum()), estimates

    @property
    def logged(self) -> dict[str, float]:
        """Metrics by their names in MLflow: those that some protein has, with sepmean's for the most telling ones."""
        figures = {name: value for name, value in self.metrics.items() if not name.startswith("mse_")}
        figures |= {f"{name}_sepmean": self.sepmean[name] for name in BESIDE_SEPMEAN}
        figures |= beside_sepmean("", self.errors, self.sepmean_errors)
        if self.sepmean_length:
            figures["mse_over_sepmean_length"] = self.metrics["mse"] / self.sepmean_length["mse"]
        gain = self.improvement
        figures |= {"improvement": gain.value, "improvement_low": gain.low, "improvement_high": gain.high}
        return {f"{self.prefix}{name}": value for name, value in figures.items() if not math.isnan(value)}

    @property
    def tags(self) -> dict[str, Any]:
        """Tags that say which proteins were measured, and with what result."""
        values = {"digest": self.digest, "proteins": len(self.proteins)}
        values["improvement_over_sepmean"] = f"{self.improvement.format(1)} %"
        return {f"{Tag.EVALUATED}.{self.name}.{name}": value for name, value in values.items()}


class SplitScores(NamedTuple):
    """What one network scores on the proteins of a split, or of a batch of it.

    Attributes:
        maps: of each protein's map.
        separations: errors by |i - j|, over all proteins.
        patterns: upsampling patterns in the predicted maps.
        residues: expected and found lDDT of every residue that has both, float64 [2, R]; R is 0 without a distogram.
    """

    maps: MapScores
    separations: PairErrors
    patterns: UpsamplingPatterns
    residues: np.ndarray

    @property
    def metrics(self) -> dict[str, float]:
        """All pooled metrics by name; NaN for one that no protein has."""
        return self.maps.metrics | self.patterns.metrics

    @classmethod
    def concatenate(cls, parts: Iterable["SplitScores"]) -> "SplitScores":
        """The scores of all parts' proteins, in order."""
        maps, separations, patterns, residues = zip(*parts, strict=True)
        return cls(
            MapScores.concatenate(maps), reduce(add, separations), reduce(add, patterns),
            np.concatenate(residues, axis=1),
        )  # fmt: skip


@torch.inference_mode()
def score(
    networks: Sequence[nn.Module], batches: Batches, device: torch.device
) -> tuple[list[SplitScores], UpsamplingPatterns]:
    """Score networks, in evaluation mode, on the same proteins in one pass; also return patterns in the true maps."""
    for network in networks:
        network.eval()
    parts: list[list[SplitScores]] = [[] for _ in networks]
    truth = []
    for batch in batches.epoch(1):
        batch = batch.to(device)
        predictions = [network(batch.residues) for network in networks]
        orders = [prediction.contact_order() for prediction in predictions]
        lengths = batch.residues.mask.sum(dim=1)
        chunk = max(SCORED_AT_ONCE[device.type] // batch.mask.shape[1] ** 2, 1)
        for first in range(0, len(batch), chunk):
            rows = slice(first, first + chunk)
            true, mask = distances(batch.coords[rows]), batch.mask[rows]
            inner = InnerPairs(mask, lengths[rows])
            truth.append(inner.patterns(true))
            for part, prediction, order in zip(parts, predictions, orders, strict=True):
                maps = prediction.distance[rows]
                part.append(
                    SplitScores(
                        MapScores.of(maps, true, mask, order[rows]),
                        separation_errors(maps, true, mask),
                        inner.patterns(maps),
                        residue_scores(prediction, batch, range(len(batch))[rows]),
                    )
                )
    return [SplitScores.concatenate(part) for part in parts], reduce(add, truth)


def residue_scores(prediction: Prediction, batch: Batch, rows: Iterable[int]) -> np.ndarray:
    """The lDDT that distograms expect and that is found, of every resolved residue with near pairs: float64 [2, R].

    R is 0 where the model predicts distances alone; `rows` are those of the batch.
    """
    parts = [np.empty((2, 0))]
    if prediction.logits is not None and prediction.bins is not None:
        edges = prediction.bins.double().cpu().numpy()
        for row in rows:
            length = int(batch.residues.mask[row].sum())
            chain = row, slice(length), slice(length)
            distance, mask = prediction.distance[chain].float(), batch.mask[row, :length]
            found = residue_lddt(distance[None], distances(batch.coords[row, :length])[None], mask[None])[0]
            probabilities = prediction.logits[chain].float().softmax(dim=-1).cpu().numpy()
            expected = expected_lddt(probabilities, edges, distance.cpu().numpy())
            both = np.stack([expected.astype(np.float64), found.cpu().numpy()])
            parts.append(both[:, mask.cpu().numpy() & ~np.isnan(both).any(axis=0)])
    return np.concatenate(parts, axis=1)


@torch.inference_mode()
def calibrate(network: nn.Module, batches: ProteinBatches, device: torch.device) -> Calibration | None:
    """The calibration of a network's confidence on some proteins; None if no residue of theirs has a score."""
    network.eval()
    moved = (batch.to(device) for batch in batches.epoch(1))
    parts = [residue_scores(network(batch.residues), batch, range(len(batch))) for batch in moved]
    residues = np.concatenate(parts, axis=1)
    return Calibration.fit(reliability(*residues), len(batches.proteins)) if residues.size else None


def protein_table(proteins: "Proteins", atom: str, columns: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """One row per protein, in the order of the split; its sums give all pooled errors bit for bit.

    Lengths and resolved residues are counted over the whole chain, everything else over its evaluated residues, in Å
    and Å². NaN stands where a protein lacks the quantity, such as mean errors without a resolved pair.

    Args:
        proteins: the split.
        atom: the atom that distances are measured between.
        columns: errors of the model and of the baseline: [N] by heading.
    """
    rows = [(each.id, each.category, each.family, len(each), int(each.resolved(atom).sum())) for each in proteins]
    return pd.DataFrame(rows, columns=["id", "class", "family", "length", "resolved"]).assign(**columns)


def separation_table(errors: PairErrors, sepmean: PairErrors) -> pd.DataFrame:
    """One row per separation |i - j| that has pairs, with the errors of the model and of the baseline."""
    present = np.flatnonzero(errors.count)
    ours, theirs = (sums.select(present) for sums in (errors, sepmean))
    return pd.DataFrame({"separation": present, **ours.columns(), **theirs.columns(SEPMEAN)})


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table as CSV, complete or not at all; a field is empty where a figure is not finite."""
    with atomic_write(path) as partial:
        table.replace([np.inf, -np.inf], np.nan).to_csv(partial, index=False)


def read_table(path: Path) -> pd.DataFrame:
    """Read a table back: floats bit for bit (pandas' parser has not always done so), NaN for an empty field."""
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    for heading in table.columns.difference(["id", "class", "family"]):
        whole = table[heading].str.fullmatch(r"\d+").all()
        table[heading] = table[heading].replace("", "nan").astype(int if whole else float)
    return table


def best_and_worst(errors: PairErrors, ends: int) -> list[int]:
    """Indices of the proteins with the lowest and with the highest MSE of their own, by that: at most 2 `ends`."""
    order = np.argsort(errors.protein_mse)  # NaN, a protein without a pair, sorts last
    order = order[: int(np.isfinite(errors.protein_mse).sum())]
    return order.tolist() if len(order) <= 2 * ends else [*order[:ends].tolist(), *order[-ends:].tolist()]


def beside_sepmean(prefix: str, errors: PairErrors, sepmean: PairErrors) -> dict[str, float]:
    """The metrics of a split by name (`valid/` + `mse`), with sepmean's MSE on the same proteins."""
    names = ("mse", "rmse", "mae", "legacy_sse_pm2")
    ratio = {f"{prefix}mse_sepmean": sepmean.mse, f"{prefix}mse_over_sepmean": errors.mse / sepmean.mse}
    return {f"{prefix}{name}": getattr(errors, name) for name in names} | ratio


def write_epochs(path: Path, epochs: Sequence[PairErrors]) -> None:
    """Write the errors of at least one epoch on every validation protein, the first first, complete or not at all.

    Tensors: `count` int64 [N], `squared` and `absolute` float64 [E, N], as in `PairErrors`, in the order of the split.
    """
    write_tensors(path, {key: torch.from_numpy(value) for key, value in stack_errors(epochs).items()})


def read_epochs(path: Path) -> list[PairErrors]:
    """The errors of every epoch, the first first, bit for bit as written.

    Raises:
        ValueError: the file is missing or damaged, or holds other tensors; the message goes on from its name.
    """
    tensors = {key: value.numpy() for key, value in read_tensors(path)[0].items()}
    if {key: value.ndim for key, value in tensors.items()} != {"count": 1, "squared": 2, "absolute": 2}:
        raise ValueError("is no table of validation errors: its tensors have other names or shapes")
    return unstack_errors(**tensors)


def epochs_of(run: "Run") -> list[PairErrors]:
    """The errors of a finished run on its validation proteins after every epoch, the first first.

    Raises:
        ProtcliError: the run's file is damaged, or its artifacts cannot be read.
    """
    try:
        return read_epochs(run.path(File.VALIDATION_ERRORS))
    except ValueError as error:
        raise ProtcliError(
            f"run {run.id} ({run.name}) cannot be compared: its {File.VALIDATION_ERRORS} {error}; restore the "
            f"file, or delete the run with `mlflow runs delete --run-id {run.id}` and train it again"
        ) from error
