"""Members of families: a chain grown along the fold, its sequence, profile and resolved residues."""

import numpy as np

from protcli.proteins.profiles import information
from protcli.proteins.protein import Protein
from protcli.proteins.residues import AMINO_ACIDS
from protcli.proteins.synthetic.families import choose_family, preferences_of
from protcli.proteins.synthetic.geometry import CA, place_atom
from protcli.proteins.synthetic.growth import LOOP, Fold, Grower, blocks_of
from protcli.proteins.synthetic.streams import SPLITS, pick, stream


class _MemberGrower(Grower):
    """Grows a homologue along the fold, residue by residue, with loops bent to rejoin it."""

    first, others, rounds = 80, 16, 8
    bend, wobble = 20, 1
    enough = 1.0

    def __init__(self, rng: np.random.Generator, fold: Fold, parents: np.ndarray) -> None:
        """`parents`: int [L], the fold's residue for each residue of the member, -1 for an inserted one."""
        self.inserted = parents < 0
        states = "".join(LOOP if parent < 0 else fold.states[parent] for parent in parents)
        changed = np.zeros(len(parents), dtype=bool)
        for start, stop in blocks_of(states):
            head = start + states[start:stop].count(LOOP)
            around = parents[max(start - 1, 0) : head + 1]
            changed[start:head] = (np.diff(around) != 1).any()
        super().__init__(rng, states, fold.torsions[:, parents], changed)
        self.guide = place_atom(fold.frames, CA)[:, parents]
        if parents[0]:
            self.origin = fold.frames[:, :, parents[0] - 1]
            self.origin_psi = int(fold.torsions[1, parents[0] - 1])

    def cost(self, start: int, ca: np.ndarray) -> np.ndarray:
        """Clashes plus the mean squared distance from the fold's CA."""
        stop = start + ca.shape[-1]
        x, y, z = ca - self.guide[:, None, start:stop]
        clashes = (self.between(start, ca) < self.least_squared[start:stop, :stop]).sum(axis=(1, 2))
        return np.where(self.inserted[start:stop], 0, x * x + y * y + z * z).mean(axis=1) + 8 * clashes


def _align(rng: np.random.Generator, states: str, low: int, high: int) -> np.ndarray:
    """The fold's residues that a member keeps, in order, with -1 for insertions; only loops differ."""
    blocks = blocks_of(states)
    length = len(states)
    cut = [int(rng.integers(5)) for _ in range(2)]  # residues removed at the two ends
    kept: list[int] = []
    for number, (start, stop) in enumerate(blocks):
        loop = states[start:stop].count(LOOP)
        change = int(rng.integers(-2, 4)) if rng.random() < 0.2 else 0
        if number == 0:
            change = -cut[0]
        elif number == len(blocks) - 1:
            change = -cut[1]
        change = min(max(change, 2 - loop, low - length), high - length)
        length += change
        where = 0 if number == 0 else loop if number == len(blocks) - 1 else loop // 2
        if change >= 0:
            residues = [*range(start, start + where), *[-1] * change, *range(start + where, stop)]
        else:
            first = min(max(where + change // 2, 0), loop + change)
            residues = [*range(start, start + first), *range(start + first - change, stop)]
        kept += residues
    return np.array(kept)


def _profile(rng: np.random.Generator, sequence: np.ndarray, residues: np.ndarray) -> np.ndarray:
    """Residue frequencies of sampled homologues, including the sequence itself, and information content: [L, 21]."""
    share = rng.random()
    depth = 1 + int(120 * share * share)
    closeness = 0.4 * rng.random((depth, 1))  # share of a homologue that equals the sequence by descent
    closeness[0] = 1
    size = (depth, len(sequence))
    aligned = np.where(rng.random(size) < closeness, sequence, pick(rng, np.broadcast_to(residues, (*size, 20))))
    frequencies = (aligned[:, :, None] == np.arange(20)).sum(axis=0) / depth
    return np.c_[frequencies, np.abs(information(frequencies).round(4))].astype(np.float32)


def _resolved(rng: np.random.Generator, states: str) -> np.ndarray:
    """Which residues are resolved: bool [L]; some chain ends and a few loops are not."""
    mask = np.ones(len(states), dtype=bool)
    ends = rng.integers(1, 7, size=2) * (rng.random(2) < 0.35)
    mask[: ends[0]] = False
    mask[len(states) - ends[1] :] = False
    for start, stop in blocks_of(states)[1:]:
        loop = states[start:stop].count(LOOP)
        if loop >= 4 and rng.random() < 0.06:
            mask[start + 1 : start + loop - 1] = False
    return mask


def make_member(seed: int, home: int, index: int, low: int, high: int) -> Protein:
    """One protein of a split (`home`, as in `stream`), `low` to `high` residues long, from a randomly drawn family."""
    rng = stream(seed, 2, home, index)
    family = choose_family(rng, seed, home, index, low, high)
    while True:
        parents = _align(rng, family.fold.states, low, high)
        grower = _MemberGrower(rng, family.fold, parents)
        if grower.grow():
            break
    burial = np.where(grower.inserted, 0, family.fold.burial[parents])
    own = preferences_of(grower.states, grower.torsions, burial)
    residues = np.where(grower.inserted[:, None], own, family.residues[parents])
    sequence = pick(rng, residues)
    profile = _profile(rng, sequence, residues)
    mask = _resolved(rng, grower.states)
    coords = np.stack([place_atom(grower.frames, atom).T for atom in range(3)], axis=1)  # [L, 3, 3]
    coords = (
        (coords - coords[:, 1].mean(axis=0)).round(3).astype(np.float32)
    )  # to 0.001 A, so that last bits do not matter
    coords[~mask] = np.nan
    letters = "".join(AMINO_ACIDS[residue] for residue in sequence)
    name = f"synthetic_{SPLITS[home]}_{index:04d}"
    return Protein(name, letters, profile, coords, mask, family=family.name)
