"""Folds: compact backbones of helices, strands and loops, grown block by block to minimise a cost, without clashes."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from protcli.proteins.synthetic.geometry import CA, CA_CLASH, CB, extend, is_clear, squared_distances, transform

HELIX, STRAND, LOOP = "HEC"
_IDEAL = {HELIX: (-62, -43), STRAND: (-118, 132), LOOP: (0, 0)}  # phi, psi in degrees; a loop has no ideal
_BASINS = np.array([(-65, -38), (-95, 0), (-115, 130), (-70, 145), (58, 38), (85, 5)])  # phi, psi of loop residues
_BASIN_SHARE = np.cumsum([0.26, 0.14, 0.24, 0.24, 0.08, 0.04])
_HAIRPIN = np.array([(55, 38), (82, 2)])  # type I' turn, the most common in two-residue hairpins
CONTACT, PAIRING = 9.0, 5.7  # Å between CA that attract each other, and between CA of paired strands


def stream(seed: int, kind: int, home: int, number: int) -> np.random.Generator:
    """Random numbers for one fold (kind 0), family (1) or member (2) of the split SPLITS[home] only."""
    return np.random.default_rng([seed, kind, home, number])


@dataclass(frozen=True, eq=False)
class Fold:
    """A backbone of L residues.

    Attributes:
        states: L letters, H helix, E strand, C loop.
        torsions: int [2, L], phi and psi in degrees; omega is 180.
        frames: float64 [3, 4, L], rotation and origin of each residue's frame.
        burial: float64 [L], 0 at the surface to 1 in the core.
    """

    states: str
    torsions: np.ndarray
    frames: np.ndarray
    burial: np.ndarray


class Grower:
    """Grows a backbone block by block; a block is a loop and the helix or strand after it.

    The helix or strand is rigid. The loop is searched in rounds: many candidates, then variations of the best one.
    """

    first, others, rounds = 64, 24, 8  # candidates in the first and in the other rounds
    patience = 20  # blocks that may fail before the attempt is abandoned
    bend, wobble = 24, 4  # degrees by which torsions of loops, and of helices and strands, vary at first
    enough = -np.inf  # cost below which the search stops
    slack = 0.0  # extra distance beyond a clash, in Å

    def __init__(self, rng: np.random.Generator, states: str, base: np.ndarray, free: np.ndarray) -> None:
        """`base`: int [2, L], torsions to follow; `free`: bool [L], residues that may take any torsions."""
        self.rng, self.states, self.free = rng, states, free
        self.origin, self.origin_psi = np.eye(3, 4), 0  # frame and psi of the residue before the first
        self.loop = in_state(states, LOOP)
        wobble = rng.integers(-self.wobble, self.wobble, size=base.shape, endpoint=True)
        self.base = base + np.where(self.loop, 0, wobble)
        self.spread = np.where(self.loop, self.bend, self.wobble)
        self.torsions = np.zeros(base.shape, dtype=np.int64)
        self.frames = np.zeros((3, 4, len(states)))
        index = np.arange(len(states))
        self.separation = index[:, None] - index
        self.excluded = np.where(self.separation >= 3, np.float32(0), np.float32(1e6))  # squared, in Å
        self.least_squared = np.full_like(self.excluded, (CA_CLASH + 0.2) ** 2)

    def propose(self, start: int, stop: int) -> np.ndarray:
        """First candidates for residues start..stop-1: phi and psi, int [2, K, n]."""
        free = self.free[start:stop]
        size = (self.first if free.any() else self.others, stop - start)
        anything = _BASINS[np.searchsorted(_BASIN_SHARE, self.rng.random(size), side="right")].transpose(2, 0, 1)
        return np.where(free, anything, self.base[:, None, start:stop])

    def misfit(self, here: slice, ca: np.ndarray) -> np.ndarray:
        """Penalty for CA positions [3, K, n] of the residues `here`: [K]."""
        raise NotImplementedError

    def gain(self, here: slice, between: np.ndarray) -> np.ndarray | float:
        """What squared distances [K, n, stop] of the residues `here` from all up to their end are worth: [K]."""
        return 0.0

    def _cost(self, start: int, ca: np.ndarray) -> np.ndarray:
        """The cost to minimise: [K] from CA positions of residues from `start` on, [3, K, n]."""
        here = slice(start, start + ca.shape[-1])
        grown = np.broadcast_to(transform(self.frames[:, :, None, :start], CA), (*ca.shape[:2], start))
        chain = np.concatenate([grown, ca], axis=2, dtype=np.float32)
        between = squared_distances(ca.astype(np.float32), chain) + self.excluded[here, : here.stop]
        clashes = (between < self.least_squared[here, : here.stop]).sum(axis=(1, 2))
        return self.misfit(here, ca) + 8 * clashes - self.gain(here, between)

    def grow(self) -> bool:
        """Fill `torsions` and `frames`; False if the chain clashed with itself too often."""
        blocks, failures, block = blocks_of(self.states), 0, 0
        while block < len(blocks):
            if self._add(*blocks[block]):
                block += 1
            elif (failures := failures + 1) < self.patience:
                block = max(block - failures % 3, 0)
            else:
                return False
        return True

    def _add(self, start: int, stop: int) -> bool:
        """Add one block; False if all of the best candidates clash with the chain."""
        end, psi = self.origin, self.origin_psi
        if start:
            end, psi = self.frames[:, :, start - 1], int(self.torsions[1, start - 1])
        head = min(start + int(self.loop[start:stop].sum()) + 1, stop)  # the loop and one residue of what follows
        tail = self.base[:, head:stop]
        rigid = transform(extend(np.eye(3, 4), int(self.base[1, head - 1]), tail[:, None]), CA)  # [3, 1, n - h]

        spread = self.spread[start:head]
        torsions = self._vary(self.propose(start, head), spread)
        for turn in range(self.rounds):
            frames = extend(end, psi, torsions)
            body = transform(frames[:, :, :, -1:], rigid)
            cost = self._cost(start, np.concatenate([transform(frames, CA), body], axis=2))
            if turn == self.rounds - 1 or cost.min() < self.enough:
                break
            spread = (spread + 1) // 2 if turn % 2 else spread
            torsions = self._vary(torsions[:, np.argmin(cost), None].repeat(1 + self.others, axis=1), spread)
        for choice in np.argsort(cost, kind="stable")[:5]:
            self.torsions[:, start:stop] = np.concatenate([torsions[:, choice], tail], axis=1)
            self.frames[:, :, start:stop] = extend(end, psi, self.torsions[:, None, start:stop])[:, :, 0]
            if is_clear(self.frames[:, :, :stop], start, self.slack):
                return True
        return False

    def _vary(self, torsions: np.ndarray, spread: np.ndarray) -> np.ndarray:
        """Torsions [2, K, n], all but the first changed by up to `spread` [n] degrees in either direction."""
        torsions[:, 1:] += self.rng.integers(-spread, spread, size=torsions[:, 1:].shape, endpoint=True)
        return torsions


def in_state(states: str, state: str) -> np.ndarray:
    """Which residues are in a state (helix, strand or loop): bool [L] from L letters."""
    return np.array(list(states)) == state


def blocks_of(states: str) -> list[tuple[int, int]]:
    """Split a chain after every helix and strand: (start, stop) of a loop and what follows it."""
    ends = [i for i in range(1, len(states)) if states[i - 1] != LOOP and states[i] == LOOP]
    return list(zip([0, *ends], [*ends, len(states)], strict=True))


class _FoldGrower(Grower):
    """Grows a new compact fold, with strands paired where a turn allows it."""

    slack = 0.2

    def __init__(self, rng: np.random.Generator, states: str) -> None:
        super().__init__(rng, states, np.array([_IDEAL[state] for state in states]).T, in_state(states, LOOP))
        # Radius of gyration of compact chains, 2.2 L^0.38: Skolnick, Kolinski and Ortiz 1997, J. Mol. Biol. 265:217.
        self.radius = np.float32(round(2.2 * len(states) ** 0.38, 3) * (1.0 + 0.1 * rng.random()))
        self.centre = ((rng.random(3) - 0.5) * self.radius).astype(np.float32)
        helices, strands = (np.logical_and.outer(*[in_state(states, state)] * 2) for state in (HELIX, STRAND))
        self.paired = strands & (self.separation >= 3)
        least = np.where(strands, 4.4, np.where(helices, 5.5, 4.8))  # closest approach in Å of two CA without cost
        self.least_squared = np.where(self.separation >= 6, least**2, self.least_squared).astype(np.float32)

    def propose(self, start: int, stop: int) -> np.ndarray:
        torsions = super().propose(start, stop)
        if start and stop - start == 3 and self.states[start - 1] == self.states[stop - 1] == STRAND:
            torsions[:, : torsions.shape[1] // 2, :2] = _HAIRPIN.T[:, None]
        return torsions

    def misfit(self, here: slice, ca: np.ndarray) -> np.ndarray:
        """Mean squared distance outside the ball."""
        x, y, z = ca.astype(np.float32) - self.centre[:, None, None]
        outside = np.maximum(np.sqrt(x * x + y * y + z * z) - self.radius, 0)
        return 0.5 * (outside * outside).mean(axis=1)

    def gain(self, here: slice, between: np.ndarray) -> np.ndarray:
        """Contacts, and six times as much for pairs of strands, per residue."""
        contacts = (between < np.float32(CONTACT**2)).sum(axis=(1, 2))
        pairs = (between[:, self.paired[here, : here.stop]] < np.float32(PAIRING**2)).sum(axis=1)
        return (contacts + 6 * pairs) / between.shape[1]


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
        states += state * min(size, room)
        before = state
    return states + LOOP * (length - len(states))


@lru_cache(maxsize=4096)
def make_fold(seed: int, home: int, number: int, low: int, high: int) -> Fold:
    """One fold of a split (`home`, as in `stream`), `low` to `high` residues long; deterministic."""
    rng = stream(seed, 0, home, number)
    share = rng.random()
    length = low + int((high - low) * (share + share * share) / 2)  # more short chains than long ones
    while not (grower := _FoldGrower(rng, _layout(rng, length))).grow():
        pass
    sides = transform(grower.frames, CB)
    neighbours = (squared_distances(sides, sides) < 10.0**2).sum(axis=1) - 1  # virtual C-beta within 10 Å
    return Fold(grower.states, grower.torsions, grower.frames, np.clip((neighbours - 7) / 18, 0, 1))
