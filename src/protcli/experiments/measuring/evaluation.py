"""The scores of a run on one split, as a value."""

import math
from dataclasses import dataclass

import numpy as np

from protcli.experiments.measuring.scores import Scores, beside_sepmean
from protcli.experiments.runs.config import RunConfig
from protcli.proteins.hold_out import Proteins
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
        readings: of the test set so far, including this one; None for another split, or if nothing was logged.
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
    readings: Readings | None = None

    @property
    def prefix(self) -> str:
        """What the names of its metrics begin with: `best/valid_` or `test-1a2b3c4d/`."""
        return Metric.BEST if self.name == "valid" else f"{self.name}/"

    @property
    def metrics(self) -> dict[str, float]:
        """Metrics by name, as logged: those that some protein has, with the baseline's for the most telling ones."""
        figures = {name: value for name, value in self.scores.metrics.items() if not name.startswith("mse_")}
        figures |= {f"{name}_sepmean": self.sepmean.metrics[name] for name in BESIDE_SEPMEAN}
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
