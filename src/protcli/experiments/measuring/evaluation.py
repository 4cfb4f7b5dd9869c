"""The scores of a run on one split, as a value."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from protcli.experiments.config import RunConfig
from protcli.experiments.measuring.scores import Scores, beside_sepmean
from protcli.experiments.statistics.contrasts import contrast
from protcli.experiments.statistics.estimates import Estimate
from protcli.proteins.confidence import Calibration, Reliability, reliability
from protcli.proteins.metrics import PairErrors
from protcli.proteins.subset import Proteins
from protcli.proteins.upsampling_patterns import UpsamplingPatterns
from protcli.tracking.keys import Metric
from protcli.tracking.readings import Readings

BESIDE_SEPMEAN = ("mae_8", "lddt", "precision_long_L5")  # logged with the baseline's; its others are in the artifacts
LENGTH_BINS = {"0-64": (0, 64), "65-128": (65, 128), "129-256": (129, 256), ">256": (257, math.inf)}  # residues


@dataclass(frozen=True)
class Evaluation:
    """The scores of a run on one split.

    Attributes:
        run_id: of the run that was measured.
        config: its configuration.
        data_name: of the store; `synthetic` says whether its proteins are generated, `source` where it is.
        split: the proteins, in the order of the scores.
        scores: of the run's best weights.
        sepmean: scores of the baseline fitted to the run's own training split.
        truth: upsampling patterns in the true maps.
        name: of these proteins in MLflow: `valid` if they are the run's own validation split, else as `proteins_name`,
            so that two sets never share a name.
        calibration: of the confidence of the weights, if they have one.
        sepmean_length: scores of the baseline that knows the chain's length too; None if an earlier protcli trained.
        structures: scores of coordinates, see `structures.score_structures`, if they were asked for.
        validation: `improvement` of the same weights on the proteins that the run was validated on, beside a test split
            of the same store; None elsewhere.
        readings: of the test set so far, including this one; None for another split, or if nothing was logged.
        other_tests: other test sets that the run was measured on before, by name with their numbers of proteins.
        logged_to: the version that has the figures, where the run has not: of an ensemble.
    """

    run_id: str
    config: RunConfig
    data_name: str
    synthetic: bool
    split: Proteins
    scores: Scores
    sepmean: Scores
    truth: UpsamplingPatterns
    name: str
    source: str
    calibration: Calibration | None = None
    sepmean_length: Scores | None = None
    structures: pd.DataFrame | None = None
    validation: Estimate | None = None
    readings: Readings | None = None
    other_tests: tuple[tuple[str, int], ...] = ()
    logged_to: str = ""

    @cached_property
    def reliability(self) -> Reliability | None:
        """The confidence of residues and what was found; None if the model predicts distances alone."""
        residues = self.scores.residues
        if not len(residues):
            return None
        expected = residues.expected if self.calibration is None else self.calibration(residues.expected)
        return reliability(expected, residues.found)

    @property
    def prefix(self) -> str:
        """What the names of its metrics begin with: `best/valid_` or `test-1a2b3c4d/`."""
        return Metric.BEST if self.name == "valid" else f"{self.name}/"

    @cached_property
    def improvement(self) -> Estimate:
        """By how many per cent the MSE of these weights is below sepmean's; its interval is over protein families."""
        return improvement_over_sepmean([self.scores.maps.errors], self.sepmean.maps.errors, self.split.families)

    @property
    def metrics(self) -> dict[str, float]:
        """Metrics by name, as logged: those that some protein has, with the baseline's for the most telling ones."""
        figures = {name: value for name, value in self.scores.metrics.items() if not name.startswith("mse_")}
        figures |= {f"{name}_sepmean": self.sepmean.metrics[name] for name in BESIDE_SEPMEAN}
        percent = self.improvement
        if self.sepmean_length is not None:
            figures["mse_over_sepmean_length"] = self.scores.metrics["mse"] / self.sepmean_length.metrics["mse"]
        figures |= {"improvement": percent.value, "improvement_low": percent.low, "improvement_high": percent.high}
        return {f"{self.prefix}{name}": value for name, value in figures.items() if not math.isnan(value)} | (
            beside_sepmean(self.prefix, self.scores.maps.errors, self.sepmean.maps.errors)
        )

    @property
    def groups(self) -> dict[str, dict[str, np.ndarray]]:
        """Indices of the proteins by `class` (ProteinNet's, if they have one) and by `length` of the whole chain."""
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


def improvement_over_sepmean(
    seeds: Sequence[PairErrors], sepmean: PairErrors, families: Sequence[str] | np.ndarray
) -> Estimate:
    """By how many per cent the MSE of a configuration is below sepmean's on the same proteins, with its 95 % interval.

    Args:
        seeds: the errors of its seeds; the interval of a single one holds for these weights only.
        sepmean: the baseline's errors.
        families: of the proteins; where all are of one, there is no interval.
    """
    if len(set(np.asarray(families)[sepmean.count > 0])) > 1:
        return contrast([seeds, [sepmean]], (1, -1), families).improvement()
    mse = sum(errors.mse for errors in seeds) / len(seeds)
    return Estimate(100 * (1 - mse / sepmean.mse), math.nan, math.nan)


def per_cent_lower(improvement: Estimate) -> str:
    """`7.1 [0.3, 13.5] % lower`, of an MSE; `higher` where there is no improvement."""
    if improvement.value <= 0:
        return f"{improvement.scaled(-1).format(1)} % higher"
    return f"{improvement.format(1)} % lower"
