"""An evaluation as tables on disk: written once, and read again to compare runs."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from protcli.experiments.measuring.evaluation import Evaluation
from protcli.experiments.measuring.protein_table import read_table, write_protein_table
from protcli.figures.reliability import draw_reliability
from protcli.proteins.map_scores import SeparationErrors
from protcli.proteins.metrics import PairErrors
from protcli.tracking.keys import File, proteins_name

SUMMARY, PROTEINS, SEPARATIONS = "metrics.json", "proteins.csv", "separation.csv"
CONFIDENCE, RELIABILITY, STRUCTURES = "confidence.csv", "reliability.png", "structures.csv"


@dataclass(frozen=True)
class Measurement:
    """An evaluation read back from a run's artifacts.

    Attributes:
        run_id: of the run that was measured.
        split, digest: the proteins it was measured on.
        metrics: pooled metrics of the run's best weights by name (`mse`, `lddt`, `precision_long_L5`, ...), in A, A^2
            and fractions; NaN for one that no protein has.
        sepmean: the same metrics of the baseline.
        truth: `checkerboard_8`, `blockiness_8`, ... of the true maps.
        residual: `checkerboard_8`, ... of predicted minus true maps.
        groups: by `class` and `length`, then by name: {"n": proteins, "metrics": {...}, "sepmean": {...}}.
        proteins: one row per protein, in the order of the split; columns as in `proteins.csv`. `family` (str) is the
            protein's own id if an earlier protcli measured it, or if its store held no families.
        separations: one row per separation |i - j| that has pairs; columns as in `separation.csv`.
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
        """Errors of the run's best weights, bit for bit as measured."""
        return self._errors("")

    @property
    def sepmean_errors(self) -> PairErrors:
        """Errors of the baseline."""
        return self._errors("sepmean_")

    def _errors(self, predictor: str) -> PairErrors:
        columns = ("pairs", f"{predictor}squared", f"{predictor}absolute")
        return PairErrors(*(self.proteins[column].to_numpy() for column in columns))


def measurement_path(split: str, digest: str) -> str:
    """Artifact path of the tables of a split; `split` is `valid` or `test`."""
    return f"{File.EVALUATION}/{proteins_name(split, digest)}"


def write_measurement(result: Evaluation, split: str, folder: Path) -> Path:
    """Write the tables of an evaluation into a new subfolder of `folder`; return the subfolder."""
    out = folder / measurement_path(split, result.split.digest)
    out.mkdir(parents=True, exist_ok=True)
    scores, sepmean = result.scores, result.sepmean
    about = {
        "run_id": result.run_id,
        "data": result.data_name,
        "split": result.split.name,
        "digest": result.split.digest,
        "proteins": len(result.split),
        "atom": result.config.data.atom,
        "evaluated_length": result.config.evaluated_length,
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
                for name, chosen in groups.items()
            }
            for kind, groups in result.groups.items()
        },
    }
    (out / SUMMARY).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    sepmean_columns = {
        f"sepmean_{name}": column for name, column in sepmean.maps.columns.items() if not name.startswith("pairs_")
    }
    write_protein_table(
        out / PROTEINS,
        result.split,
        scores.maps.errors,
        sepmean.maps.errors,
        result.config.data.atom,
        scores.maps.columns | sepmean_columns,
    )
    if result.structures is not None:
        result.structures.to_csv(out / STRUCTURES, index=False)
    if (groups := result.reliability) is not None:
        pd.DataFrame(vars(groups)).to_csv(out / CONFIDENCE, index=False)
        draw_reliability(
            out / RELIABILITY, title=f"{result.config.spec.name} on {result.split.name}",
            expected=groups.expected.tolist(), found=groups.found.tolist(), count=groups.count.tolist(),
        )  # fmt: skip
    _separation_table(scores.separations, sepmean.separations).to_csv(out / SEPARATIONS, index=False)
    return out


def _separation_table(errors: SeparationErrors, sepmean: SeparationErrors) -> pd.DataFrame:
    present = np.flatnonzero(errors.count)
    table = pd.DataFrame({"separation": present, "pairs": errors.count[present]})
    for prefix, sums in (("", errors), ("sepmean_", sepmean)):
        table[f"{prefix}squared"], table[f"{prefix}absolute"] = sums.squared[present], sums.absolute[present]
        table[f"{prefix}mse"] = table[f"{prefix}squared"] / table["pairs"]
        table[f"{prefix}mae"] = table[f"{prefix}absolute"] / table["pairs"]
    return table


def _json(figures: dict[str, float]) -> dict[str, float | None]:
    """JSON has no NaN: null replaces it."""
    return {name: None if math.isnan(value) else value for name, value in figures.items()}


def _figures(stored: dict[str, float | None]) -> dict[str, float]:
    return {name: math.nan if value is None else value for name, value in stored.items()}


def read_measurement(folder: Path) -> Measurement:
    """Read what `write_measurement` wrote."""
    about = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
    proteins, separations = (read_table(folder / name) for name in (PROTEINS, SEPARATIONS))
    if "family" not in proteins:
        proteins["family"] = proteins["id"]
    groups = {
        kind: {
            name: group | {key: _figures(group[key]) for key in ("metrics", "sepmean")}
            for name, group in by_name.items()
        }
        for kind, by_name in about["groups"].items()
    }
    metrics, sepmean, truth, residual = (_figures(about[key]) for key in ("metrics", "sepmean", "truth", "residual"))
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
