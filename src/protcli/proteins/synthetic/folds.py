"""Folds: compact backbones of helices, strands and loops, with strands paired where a turn allows it."""

from functools import lru_cache

import numpy as np

from protcli.proteins.synthetic.geometry import CB, place_atom, squared_distances
from protcli.proteins.synthetic.growth import HELIX, LOOP, STRAND, Fold, Grower, in_state
from protcli.proteins.synthetic.streams import stream

_IDEAL = {HELIX: (-62, -43), STRAND: (-118, 132), LOOP: (0, 0)}  # phi, psi in degrees; a loop has no ideal
_HAIRPIN = np.array([(55, 38), (82, 2)])  # type I' turn, the most common in two-residue hairpins


class _FoldGrower(Grower):
    """Grows a new compact fold, with strands paired where a turn allows it."""

    contact = 9.0  # A between CA that attract each other
    pairing = 5.7  # A between CA of paired strands
    slack = 0.2
    least = 4.8, 5.5, 4.4  # closest approach in A without cost: of any two CA, within helices, within strands

    def __init__(self, rng: np.random.Generator, states: str) -> None:
        loop, helix, strand = (in_state(states, state) for state in (LOOP, HELIX, STRAND))
        super().__init__(rng, states, np.array([_IDEAL[state] for state in states]).T, loop)
        # Radius of gyration of compact chains, 2.2 L^0.38: Skolnick, Kolinski and Ortiz 1997, J. Mol. Biol. 265:217.
        self.radius = np.float32(round(2.2 * len(states) ** 0.38, 3) * (1.0 + 0.1 * rng.random()))
        self.centre = ((rng.random(3) - 0.5) * self.radius).astype(np.float32)
        separation = np.arange(len(states))[:, None] - np.arange(len(states))
        self.paired = strand[:, None] & strand & (separation >= 3)
        anywhere, helices, strands = self.least
        least = np.where(strand[:, None] & strand, strands, np.where(helix[:, None] & helix, helices, anywhere))
        self.least_squared = np.where(separation >= 6, least**2, self.least_squared).astype(np.float32)

    def propose(self, start: int, stop: int) -> np.ndarray:
        torsions = super().propose(start, stop)
        if start and stop - start == 3 and self.states[start - 1] == self.states[stop - 1] == STRAND:
            torsions[:, : torsions.shape[1] // 2, :2] = _HAIRPIN.T[:, None]
        return torsions

    def cost(self, start: int, ca: np.ndarray) -> np.ndarray:
        """Penalty for positions outside the ball and clashes, minus contacts and strand pairs."""
        stop = start + ca.shape[-1]
        x, y, z = ca.astype(np.float32) - self.centre[:, None, None]
        outside = np.maximum(np.sqrt(x * x + y * y + z * z) - self.radius, 0)
        between = self.between(start, ca)
        clashes = (between < self.least_squared[start:stop, :stop]).sum(axis=(1, 2))
        contacts = (between < np.float32(self.contact**2)).sum(axis=(1, 2))
        i, j = np.nonzero(self.paired[start:stop, :stop])
        pairs = (between[:, i, j] < np.float32(self.pairing**2)).sum(axis=1)
        return 0.5 * (outside * outside).mean(axis=1) + 8 * clashes - (contacts + 6 * pairs) / (stop - start)


def _layout(rng: np.random.Generator, length: int) -> str:
    """A sequence of helices, strands and loops of one class (mostly alpha, all beta, or mixed): L letters."""
    helical = (0.9, 0.0, 0.35, 0.5)[rng.integers(4)]
    states = LOOP * int(rng.integers(3, 9))
    before = LOOP
    while (room := length - len(states) - 3) >= 4:
        state = HELIX if rng.random() < helical else STRAND
        if before != LOOP:
            turn = 2 if before == state == STRAND and rng.random() < 0.6 else int(rng.integers(3, 9))
            states += LOOP * min(turn, room - 2)
            room = length - len(states) - 3
        size = int(rng.integers(7, 19) if state == HELIX else rng.integers(4, 9))
        states += state * max(min(size, room), 0)
        before = state
    return states + LOOP * (length - len(states))


def _burial(frames: np.ndarray) -> np.ndarray:
    """Burial of each residue by its number of neighbours (virtual C-beta within 10 A): float64 [L] in 0..1."""
    sides = place_atom(frames, CB)
    neighbours = (squared_distances(sides, sides) < 10.0**2).sum(axis=1) - 1
    return np.clip((neighbours - 7) / 18, 0, 1)


@lru_cache(maxsize=4096)
def make_fold(seed: int, home: int, number: int, low: int, high: int) -> Fold:
    """One fold of a split (`home`, as in `stream`), `low` to `high` residues long; deterministic."""
    rng = stream(seed, 0, home, number)
    share = rng.random()
    length = low + int((high - low) * (share + share * share) / 2)  # more short chains than long ones
    while True:
        grower = _FoldGrower(rng, _layout(rng, length))
        if grower.grow():
            return Fold(grower.states, grower.torsions, grower.frames, _burial(grower.frames))
