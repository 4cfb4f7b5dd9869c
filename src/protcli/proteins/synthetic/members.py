"""Families, which assign residues to a fold, and their members: a chain grown along the fold, and its profile."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from protcli.proteins.profiles import information
from protcli.proteins.protein import Protein
from protcli.proteins.residues import decode
from protcli.proteins.store import TESTING, TRAINING, VALIDATION
from protcli.proteins.synthetic.folds import LOOP, Fold, Grower, blocks_of, in_state, make_fold, stream
from protcli.proteins.synthetic.geometry import CA, C, N, transform

SPLITS = (TRAINING, VALIDATION, TESTING)
# Weights of the residues ACDEFGHIKLMNPQRSTVWY: abundance in proteins, then preferences, in tenths: in helices, strands
# and loops, in loops with phi > 0, at the surface and in the core. The preferences are textbook rules of thumb, rounded
# and slightly exaggerated.
_WEIGHTS = """
abundant 83 14 55 67 39 71 23 59 58 97 24 41 47 39 55 66 53 69 11 29
H        20  7  8 20 10  3 12 10 16 20 18  6  1 16 16  6  7  8 10  8
E         6 15  3  5 19  5  8 24  6 11 11  4  2  7  8  7 16 25 18 20
C         7 10 18  9  7 22 11  5 11  6  6 22 22  9  9 17 12  6  7  9
left      2  2 14  3  2 90  5  0  5  1  1 40  0  4  4  5  1  0  1  2
exposed   9  4 15 16  3 11 11  3 17  3  4 14 13 14 15 13 11  4  4  6
buried   15 22  3  2 24 10  7 25  1 24 22  4  5  3  2  8  9 22 17 13
"""
_RESIDUES = {name: np.array(weights, dtype=np.int64) for name, *weights in map(str.split, _WEIGHTS.strip().split("\n"))}


class Family(NamedTuple):
    """Sequences that share a fold of L residues: the distribution of residues at each position, float64 [L, 20].

    `name` names the family in all splits.
    """

    name: str
    fold: Fold
    residues: np.ndarray


def _pick(rng: np.random.Generator, shares: np.ndarray) -> np.ndarray:
    """One draw from each distribution: int [...] from [..., 20]."""
    cumulative = np.cumsum(shares, axis=-1)
    return (rng.random((*shares.shape[:-1], 1)) * cumulative[..., -1:] >= cumulative[..., :-1]).sum(axis=-1)


def _preferences(states: str, torsions: np.ndarray, burial: np.ndarray) -> np.ndarray:
    """Distribution of residues preferred at each position of a structure: float64 [L, 20]."""
    preference = np.stack([_RESIDUES[state] for state in states])
    preference[in_state(states, LOOP) & (torsions[0] > 0)] = _RESIDUES["left"]
    side = burial[:, None] * _RESIDUES["buried"] + (1 - burial[:, None]) * _RESIDUES["exposed"]
    weights = _RESIDUES["abundant"] * preference * side
    return weights / np.cumsum(weights, axis=1)[:, -1:]


@lru_cache(maxsize=4096)
def _make_family(seed: int, home: int, number: int, fold: Fold) -> Family:
    """One family on a fold: preferences mixed with an ancestor drawn from them, as far as positions are conserved."""
    rng = stream(seed, 1, home, number)
    preferences = _preferences(fold.states, fold.torsions, fold.burial)
    ancestor = np.eye(20)[_pick(rng, preferences)]
    conserved = 0.25 + 0.5 * rng.random((len(fold.states), 1)) + 0.2 * fold.burial[:, None] * rng.random()
    name = f"synthetic_{SPLITS[home]}_family_{number:04d}"
    return Family(name, fold, conserved * ancestor + (1 - conserved) * preferences)


def _choose_family(rng: np.random.Generator, seed: int, home: int, index: int, low: int, high: int) -> Family:
    """Choose a protein's family. Training families grow in number with the proteins; held-out proteins may use others.

    Half of the held-out proteins are homologues of training proteins, a quarter share only a fold with them, and a
    quarter share neither. A family's number is drawn up to a bound that increases with the protein's index, so that the
    oldest families are the largest, and no family depends on how many proteins are requested.
    """
    kinship = rng.random() if home else 0.0
    number = int(rng.integers(8 + (index if home else index // 4)))
    if kinship < 0.5:
        return _make_family(seed, 0, number, make_fold(seed, 0, number, low, high))
    fold = make_fold(seed, 0, number, low, high) if kinship < 0.75 else make_fold(seed, home, index, low, high)
    return _make_family(seed, home, index, fold)


class _MemberGrower(Grower):
    """Grows a homologue along the fold, residue by residue, with loops bent to rejoin it."""

    first, others = 80, 16
    bend, wobble = 20, 1
    enough = 1.0

    def __init__(self, rng: np.random.Generator, fold: Fold, parents: np.ndarray) -> None:
        """`parents`: int [L], the fold's residue for each residue of the member, -1 for an inserted one."""
        self.inserted = parents < 0
        states = "".join(LOOP if parent < 0 else fold.states[parent] for parent in parents)
        changed = np.zeros(len(parents), dtype=bool)
        for start, stop in blocks_of(states):
            head = start + states[start:stop].count(LOOP)
            changed[start:head] = (np.diff(parents[max(start - 1, 0) : head + 1]) != 1).any()
        super().__init__(rng, states, fold.torsions[:, parents], changed)
        self.guide = transform(fold.frames, CA)[:, parents]
        if before := parents[0]:
            self.origin, self.origin_psi = fold.frames[:, :, before - 1], int(fold.torsions[1, before - 1])

    def misfit(self, here: slice, ca: np.ndarray) -> np.ndarray:
        """Mean squared distance from the fold's CA."""
        x, y, z = ca - self.guide[:, None, here]
        return np.where(self.inserted[here], 0, x * x + y * y + z * z).mean(axis=1)


def _align(rng: np.random.Generator, states: str, low: int, high: int) -> np.ndarray:
    """The fold's residues that a member keeps, in order, with -1 for insertions; only loops differ."""
    blocks, length = blocks_of(states), len(states)
    removed = [int(rng.integers(5)) for _ in range(2)]  # residues at the two ends
    parents = []
    for number, (start, stop) in enumerate(blocks):
        loop = states[start:stop].count(LOOP)
        change, where = int(rng.integers(-2, 4)) if rng.random() < 0.2 else 0, loop // 2
        if number == 0:
            change, where = -removed[0], 0
        elif number == len(blocks) - 1:
            change, where = -removed[1], loop
        change = min(max(change, 2 - loop, low - length), high - length)
        length += change
        if change < 0:
            where = min(max(where + change // 2, 0), loop + change)
        first = start + where
        parents += [*range(start, first), *[-1] * change, *range(first - min(change, 0), stop)]
    return np.array(parents)


def _profile(rng: np.random.Generator, sequence: np.ndarray, residues: np.ndarray) -> np.ndarray:
    """Residue frequencies of sampled homologues, including the sequence itself, and information content: [L, 21]."""
    share = rng.random()
    depth = 1 + int(120 * share * share)
    closeness = 0.4 * rng.random((depth, 1))  # share of a homologue that equals the sequence by descent
    closeness[0] = 1
    descended = rng.random((depth, len(sequence))) < closeness
    aligned = np.where(descended, sequence, _pick(rng, np.broadcast_to(residues, (depth, *residues.shape))))
    frequencies = (aligned[:, :, None] == np.arange(20)).sum(axis=0) / depth
    return np.c_[frequencies, np.abs(information(frequencies).round(4))].astype(np.float32)


def _resolved(rng: np.random.Generator, states: str) -> np.ndarray:
    """Which residues are resolved: bool [L]; some chain ends and a few loops are not."""
    mask = np.ones(len(states), dtype=bool)
    first, last = rng.integers(1, 7, size=2) * (rng.random(2) < 0.35)
    mask[:first] = mask[len(states) - last :] = False
    for start, stop in blocks_of(states)[1:]:
        loop = states[start:stop].count(LOOP)
        if loop >= 4 and rng.random() < 0.06:
            mask[start + 1 : start + loop - 1] = False
    return mask


def make_member(seed: int, home: int, index: int, low: int, high: int) -> Protein:
    """One protein of a split (`home`, as in `stream`), `low` to `high` residues long, from a randomly drawn family."""
    rng = stream(seed, 2, home, index)
    family = _choose_family(rng, seed, home, index, low, high)
    fold = family.fold
    while True:
        parents = _align(rng, fold.states, low, high)
        grower = _MemberGrower(rng, fold, parents)
        if grower.grow():
            break
    preferences = _preferences(grower.states, grower.torsions, np.where(grower.inserted, 0, fold.burial[parents]))
    residues = np.where(grower.inserted[:, None], preferences, family.residues[parents])
    sequence = _pick(rng, residues)
    profile = _profile(rng, sequence, residues)
    mask = _resolved(rng, grower.states)
    coords = np.stack([transform(grower.frames, atom).T for atom in (N, CA, C)], axis=1)  # [L, 3, 3]
    # to 0.001 Å, so that last bits do not matter
    coords = (coords - coords[:, 1].mean(axis=0)).round(3).astype(np.float32)
    coords[~mask] = np.nan
    name = f"synthetic_{SPLITS[home]}_{index:04d}"
    return Protein(name, decode(sequence), profile, coords, mask, family=family.name)
