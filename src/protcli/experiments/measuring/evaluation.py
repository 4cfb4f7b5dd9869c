"""What a run scores on one split, as a value."""

import math
from dataclasses import dataclass

import numpy as np

from protcli.experiments.measuring.scores import Scores, beside_sepmean
from protcli.experiments.runs.config import RunConfig
from protcli.proteins.store import Split
from protcli.proteins.upsampling_patterns import UpsamplingPatterns
from protcli.tracking.keys import Metric
from protcli.tracking.readings import Readings

OWN_PREFIXES = {"valid": Metric.BEST, "test": Metric.TEST}  # of the metrics on the run's own data
BESIDE_SEPMEAN = ("mae_8", "lddt", "precision_long_L5")  # logged with the baseline's; its others are in the artifacts
LENGTH_BINS = {"0-64": (0, 64), "65-128": (65, 128), "129-256": (129, 256), ">256": (257, math.inf)}  # residues


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
            beside_sepmean(self.prefix, self.scores.maps.errors, self.sepmean.maps.errors)
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
