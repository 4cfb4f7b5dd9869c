"""Distograms: what a distribution over distance bins says besides the mean distance.

`probabilities` are float [..., K] with the sum 1, `edges` [K + 1] increasing, in A. Within a bin all distances are
equally likely; the first bin includes all smaller distances, the last one all larger ones.
"""

import numpy as np

from protcli.proteins.map_scores import INCLUSION_RADIUS, TOLERANCES


def probability_below(probabilities: np.ndarray, edges: np.ndarray, distance: np.ndarray | float) -> np.ndarray:
    """The probability that a distance is below `distance`, which is one number in A or one per distribution: [...]."""
    return _below(_cumulative(probabilities), edges, distance)


def _cumulative(probabilities: np.ndarray) -> np.ndarray:
    """The probability below each edge: [..., K + 1]."""
    return np.concatenate([np.zeros_like(probabilities[..., :1]), np.cumsum(probabilities, axis=-1)], axis=-1)


def _below(cumulative: np.ndarray, edges: np.ndarray, distance: np.ndarray | float) -> np.ndarray:
    place = np.clip(np.broadcast_to(distance, cumulative.shape[:-1]), edges[0], edges[-1])
    bin_of = np.clip(np.searchsorted(edges, place, side="right") - 1, 0, len(edges) - 2)
    share = (place - edges[bin_of]) / (edges[bin_of + 1] - edges[bin_of])
    low, high = (np.take_along_axis(cumulative, (bin_of + more)[..., None], axis=-1)[..., 0] for more in (0, 1))
    return low + share * (high - low)


def deviation(probabilities: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Standard deviation in A: [...]."""
    centres, widths = (edges[1:] + edges[:-1]) / 2, np.diff(edges)
    mean = probabilities @ centres
    return np.sqrt(np.maximum(probabilities @ (centres**2 + widths**2 / 12) - mean**2, 0))


def expected_lddt(probabilities: np.ndarray, edges: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """The lDDT that a predicted map may be expected to have at each residue, 0 to 1: [L], NaN without near pairs.

    It is the expected number of pairs below 15 A whose distance is predicted within 0.5, 1, 2 and 4 A, mean over these
    tolerances, over the expected number of pairs below 15 A.

    Args:
        probabilities: [L, L, K].
        edges: see above.
        distance: the predicted map [L, L] in A.

    Source: Mariani et al. 2013, Bioinformatics 29:2722, for lDDT.
    """
    cumulative = _cumulative(probabilities)
    near = _below(cumulative, edges, float(INCLUSION_RADIUS))
    kept = np.zeros_like(near)
    for tolerance in TOLERANCES:
        low, high = (
            _below(cumulative, edges, np.minimum(distance + sign * tolerance, INCLUSION_RADIUS)) for sign in (-1, 1)
        )
        kept += (high - low) / len(TOLERANCES)
    others = ~np.eye(len(distance), dtype=bool)
    total = (near * others).sum(axis=1)
    return np.divide((kept * others).sum(axis=1), total, out=np.full(len(distance), np.nan), where=total > 0)
