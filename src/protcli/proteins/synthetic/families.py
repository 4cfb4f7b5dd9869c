"""Families: the residue distribution at each position of a fold, and the choice of a protein's family."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from protcli.proteins.synthetic.folds import make_fold
from protcli.proteins.synthetic.growth import HELIX, LOOP, STRAND, Fold, in_state
from protcli.proteins.synthetic.streams import SPLITS, pick, stream

# Weights of the residues ACDEFGHIKLMNPQRSTVWY: abundance in proteins, then preferences, in tenths. The preferences
# are textbook rules of thumb, rounded and slightly exaggerated.
_ABUNDANCE = np.array([83, 14, 55, 67, 39, 71, 23, 59, 58, 97, 24, 41, 47, 39, 55, 66, 53, 69, 11, 29])
_PREFERENCE = {
    HELIX: np.array([20, 7, 8, 20, 10, 3, 12, 10, 16, 20, 18, 6, 1, 16, 16, 6, 7, 8, 10, 8]),
    STRAND: np.array([6, 15, 3, 5, 19, 5, 8, 24, 6, 11, 11, 4, 2, 7, 8, 7, 16, 25, 18, 20]),
    LOOP: np.array([7, 10, 18, 9, 7, 22, 11, 5, 11, 6, 6, 22, 22, 9, 9, 17, 12, 6, 7, 9]),
}
_LEFT_HANDED = np.array([2, 2, 14, 3, 2, 90, 5, 0, 5, 1, 1, 40, 0, 4, 4, 5, 1, 0, 1, 2])  # loop residues with phi > 0
_EXPOSED = np.array([9, 4, 15, 16, 3, 11, 11, 3, 17, 3, 4, 14, 13, 14, 15, 13, 11, 4, 4, 6])
_BURIED = np.array([15, 22, 3, 2, 24, 10, 7, 25, 1, 24, 22, 4, 5, 3, 2, 8, 9, 22, 17, 13])


@dataclass(frozen=True, eq=False)
class Family:
    """Sequences that share a fold of L residues: the distribution of residues at each position, float64 [L, 20].

    `name` names the family in all splits.
    """

    name: str
    fold: Fold
    residues: np.ndarray


def preferences_of(states: str, torsions: np.ndarray, burial: np.ndarray) -> np.ndarray:
    """Distribution of residues preferred at each position of a structure: float64 [L, 20]."""
    preference = np.stack([_PREFERENCE[state] for state in states])
    preference = np.where((in_state(states, LOOP) & (torsions[0] > 0))[:, None], _LEFT_HANDED, preference)
    weights = _ABUNDANCE * preference * (burial[:, None] * _BURIED + (1 - burial[:, None]) * _EXPOSED)
    return weights / np.cumsum(weights, axis=1)[:, -1:]


@lru_cache(maxsize=4096)
def make_family(seed: int, home: int, number: int, fold: Fold) -> Family:
    """One family on a fold: preferences mixed with an ancestor drawn from them, as far as positions are conserved."""
    rng = stream(seed, 1, home, number)
    preferences = preferences_of(fold.states, fold.torsions, fold.burial)
    ancestor = np.eye(20)[pick(rng, preferences)]
    conserved = 0.25 + 0.5 * rng.random((len(fold.states), 1)) + 0.2 * fold.burial[:, None] * rng.random()
    name = f"synthetic_{SPLITS[home]}_family_{number:04d}"
    return Family(name, fold, conserved * ancestor + (1 - conserved) * preferences)


def choose_family(rng: np.random.Generator, seed: int, home: int, index: int, low: int, high: int) -> Family:
    """Choose a protein's family. Training families grow in number with the proteins; held-out proteins may use others.

    Half of the held-out proteins are homologues of training proteins, a quarter share only a fold with them, and a
    quarter share neither. A family's number is drawn up to a bound that increases with the protein's index, so that the
    oldest families are the largest, and no family depends on how many proteins are requested.
    """
    if home == 0:
        number = int(rng.integers(8 + index // 4))
        return make_family(seed, 0, number, make_fold(seed, 0, number, low, high))
    kinship, number = rng.random(), int(rng.integers(8 + index))
    known = make_fold(seed, 0, number, low, high)
    if kinship < 0.5:
        return make_family(seed, 0, number, known)
    return make_family(seed, home, index, known if kinship < 0.75 else make_fold(seed, home, index, low, high))
