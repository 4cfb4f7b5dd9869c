"""Confidence: how right a residue's predicted distances may be expected to be, corrected by those that were."""

import json
from dataclasses import dataclass

import numpy as np

GROUPS, FEWEST = 20, 50  # of residues with like expectations, at most; residues in a group, at least


@dataclass(frozen=True, eq=False)
class Calibration:
    """A rising curve from the lDDT that a distogram expects of a residue to the one that is found on average.

    Attributes:
        expected: float64 [G], rising, 0 to 1.
        found: float64 [G], not falling, 0 to 1. Between two points the curve is straight, outside it is level.
    """

    expected: np.ndarray
    found: np.ndarray

    @classmethod
    def fit(cls, expected: np.ndarray, found: np.ndarray) -> "Calibration":
        """Fit the curve to residues, both [R]: isotonic regression of the means of groups of equally many residues.

        Raises:
            ValueError: there is no residue.
        """
        from scipy.optimize import isotonic_regression  # here, because it delays the start of a training

        grouped = reliability(expected, found)
        rising, place = np.unique(grouped.expected, return_inverse=True)
        count = np.bincount(place, grouped.count)
        means = np.bincount(place, grouped.count * grouped.found) / count
        return cls(rising, isotonic_regression(means, weights=count).x)

    def __call__(self, expected: np.ndarray) -> np.ndarray:
        """The confidence of residues: [...] from what their distograms expect; NaN stays NaN."""
        return np.interp(expected, self.expected, self.found)

    def to_json(self) -> str:
        """The text that `from_json` reads."""
        return json.dumps({"expected": self.expected.tolist(), "found": self.found.tolist()}, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Calibration":
        """Read what `to_json` wrote. Raises ValueError if it is something else."""
        try:
            content = json.loads(text)
            expected, found = (np.array(content[key], dtype=np.float64) for key in ("expected", "found"))
        except (KeyError, TypeError, OverflowError, RecursionError) as error:
            raise ValueError(f"it holds no calibration ({error})") from error
        if expected.ndim != 1 or expected.shape != found.shape or not len(expected) or (np.diff(expected) <= 0).any():
            raise ValueError("it holds no rising curve")
        return cls(expected, found)


@dataclass(frozen=True, eq=False)
class Reliability:
    """Groups of residues by what was expected of them.

    Attributes:
        count: int64 [G], residues.
        expected, found: float64 [G], mean lDDT expected and found.
    """

    count: np.ndarray
    expected: np.ndarray
    found: np.ndarray

    @property
    def error(self) -> float:
        """Mean difference between expected and found over the residues (the expected calibration error)."""
        return float(np.average(np.abs(self.expected - self.found), weights=self.count))


def reliability(expected: np.ndarray, found: np.ndarray) -> Reliability:
    """Group residues, both float [R], by their expected lDDT into at most GROUPS of equally many.

    Raises:
        ValueError: there is no residue.
    """
    if not len(expected):
        raise ValueError("no residue has both an expected lDDT and one that is found")
    order = np.argsort(expected, kind="stable")
    parts = np.array_split(order, max(min(GROUPS, len(order) // FEWEST), 1))
    means = [np.array([values[part].mean() for part in parts]) for values in (expected, found)]
    return Reliability(np.array([len(part) for part in parts]), *means)
