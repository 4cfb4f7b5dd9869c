"""Confidence: what a distribution over distance bins says besides the mean distance, and how far it is right.

`probabilities` are float [..., K] with the sum 1, `edges` [K + 1] increasing, in Å. Within a bin all distances are
equally likely; the first bin includes all smaller distances, the last one all larger ones.
"""

import json
from dataclasses import dataclass

import numpy as np

from protcli.proteins.map_scores import INCLUSION_RADIUS, TOLERANCES

MOST_GROUPS, LEAST_RESIDUES = 20, 50  # groups of residues with like expectations, and residues of a group
# chains of a calibration that is not called rough: drawn from 231 real ones, those of 30 were 0.02 off on the others in
# nine of ten cases, those of 18 0.03, of 10 up to 0.09; without a calibration the same model was 0.04 off
FEWEST_CHAINS = 30


def probability_below(probabilities: np.ndarray, edges: np.ndarray, distance: np.ndarray | float) -> np.ndarray:
    """The probability that a distance is below `distance`, which is one number in Å or one per distribution: [...]."""
    return _below(_cumulative(probabilities), edges, distance)


def _cumulative(probabilities: np.ndarray) -> np.ndarray:
    """The probability below each edge: [..., K + 1]."""
    return np.pad(np.cumsum(probabilities, axis=-1), [(0, 0)] * (probabilities.ndim - 1) + [(1, 0)])


def _below(cumulative: np.ndarray, edges: np.ndarray, distance: np.ndarray | float) -> np.ndarray:
    place = np.clip(np.broadcast_to(distance, cumulative.shape[:-1]), edges[0], edges[-1])
    bin_of = np.clip(np.searchsorted(edges, place, side="right") - 1, 0, len(edges) - 2)
    share = (place - edges[bin_of]) / (edges[bin_of + 1] - edges[bin_of])
    low, high = (np.take_along_axis(cumulative, (bin_of + more)[..., None], axis=-1)[..., 0] for more in (0, 1))
    return low + share * (high - low)


def deviation(probabilities: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Standard deviation in Å: [...]."""
    centres, widths = (edges[1:] + edges[:-1]) / 2, np.diff(edges)
    return np.sqrt(np.maximum(probabilities @ (centres**2 + widths**2 / 12) - (probabilities @ centres) ** 2, 0))


def expected_lddt(probabilities: np.ndarray, edges: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """The lDDT that a predicted map may be expected to have at each residue, 0 to 1: [L], NaN without near pairs.

    It is the expected number of pairs below 15 Å whose distance is predicted within 0.5, 1, 2 and 4 Å, mean over these
    tolerances, over the expected number of pairs below 15 Å.

    Args:
        probabilities: [L, L, K].
        edges: see above.
        distance: the predicted map [L, L] in Å.

    Source: Mariani et al. 2013, Bioinformatics 29:2722, for lDDT.
    """
    cumulative = _cumulative(probabilities)
    near = _below(cumulative, edges, INCLUSION_RADIUS)
    kept = np.zeros_like(near)
    for tolerance in TOLERANCES:
        low, high = (
            _below(cumulative, edges, np.minimum(distance + sign * tolerance, INCLUSION_RADIUS)) for sign in (-1, 1)
        )
        kept += (high - low) / len(TOLERANCES)
    others = ~np.eye(len(distance), dtype=bool)
    total = (near * others).sum(axis=1)
    return np.divide((kept * others).sum(axis=1), total, out=np.full(len(distance), np.nan), where=total > 0)


@dataclass(frozen=True, eq=False)
class Calibration:
    """A rising curve from the lDDT that a distogram expects of a residue to the mean lDDT of such residues.

    Attributes:
        expected: float64 [G], rising, 0 to 1.
        found: float64 [G], not falling, 0 to 1. Between two points the curve is straight, outside it is level.
        chains: that it rests on; 0 where version 0.1.0 did not note it.
    """

    expected: np.ndarray
    found: np.ndarray
    chains: int = 0

    @classmethod
    def fit(cls, groups: "Reliability", chains: int) -> "Calibration":
        """Fit the curve to groups of residues of so many chains, none of them calibrated: isotonic regression of their
        means."""
        from scipy.optimize import isotonic_regression  # here, because it delays the start of a training

        rising, place = np.unique(groups.expected, return_inverse=True)
        count = np.bincount(place, groups.count)
        means = np.bincount(place, groups.count * groups.found) / count
        return cls(rising, isotonic_regression(means, weights=count).x, chains)

    @property
    def about(self) -> str:
        """What it rests on, in words."""
        rough = f", fewer than {FEWEST_CHAINS}: rough" if 0 < self.chains < FEWEST_CHAINS else ""
        return f"calibrated on {self.chains or 'an unknown number of'} validation chains{rough}"

    def __call__(self, expected: np.ndarray) -> np.ndarray:
        """The confidence of residues: [...] from what their distograms expect; NaN stays NaN."""
        return np.where(np.isnan(expected), np.nan, np.interp(expected, self.expected, self.found))

    def to_json(self) -> str:
        """The text that `from_json` reads."""
        content = {"expected": self.expected.tolist(), "found": self.found.tolist(), "chains": self.chains}
        return json.dumps(content, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Calibration":
        """Read what `to_json` wrote. Raises ValueError if it is something else."""
        try:
            content = json.loads(text)
            expected, found = (np.array(content[key], dtype=np.float64) for key in ("expected", "found"))
            chains = int(content.get("chains", 0))
        except (KeyError, TypeError, OverflowError, RecursionError) as error:
            raise ValueError(f"it holds no calibration ({error})") from error
        if expected.ndim != 1 or expected.shape != found.shape or not len(expected) or (np.diff(expected) <= 0).any():
            raise ValueError("it holds no rising curve")
        return cls(expected, found, chains)


@dataclass(frozen=True, eq=False)
class Reliability:
    """Groups of residues by what was expected of them.

    Attributes:
        count: int64 [G], residues.
        expected, found: float64 [G], mean lDDT.
    """

    count: np.ndarray
    expected: np.ndarray
    found: np.ndarray

    @property
    def error(self) -> float:
        """Mean difference between expected and found over the residues (the expected calibration error)."""
        return float(np.average(np.abs(self.expected - self.found), weights=self.count))


def reliability(expected: np.ndarray, found: np.ndarray) -> Reliability:
    """Group residues, both float [R], by their expected lDDT into at most MOST_GROUPS of equally many.

    Raises:
        ValueError: there is no residue.
    """
    if not len(expected):
        raise ValueError("no residue has both an expected lDDT and one that is found")
    order = np.argsort(expected, kind="stable")
    parts = np.array_split(order, max(min(MOST_GROUPS, len(order) // LEAST_RESIDUES), 1))
    means = [np.array([values[part].mean() for part in parts]) for values in (expected, found)]
    return Reliability(np.array([len(part) for part in parts]), *means)
