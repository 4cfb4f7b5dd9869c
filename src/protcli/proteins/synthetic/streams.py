"""Random numbers, with a separate stream for each generated object."""

import numpy as np

from protcli.proteins.store import TESTING, TRAINING, VALIDATION

SPLITS = (TRAINING, VALIDATION, TESTING)


def stream(seed: int, kind: int, home: int, number: int) -> np.random.Generator:
    """Random numbers for one fold (kind 0), family (1) or member (2) of the split SPLITS[home] only."""
    return np.random.default_rng([seed, kind, home, number])


def pick(rng: np.random.Generator, shares: np.ndarray) -> np.ndarray:
    """One draw from each distribution: int [...] from [..., 20]."""
    cumulative = np.cumsum(shares, axis=-1)
    return (rng.random((*shares.shape[:-1], 1)) * cumulative[..., -1:] >= cumulative[..., :-1]).sum(axis=-1)
