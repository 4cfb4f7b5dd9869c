"""Grows a backbone block by block to minimise a cost, without clashes."""

from dataclasses import dataclass

import numpy as np

from protcli.proteins.synthetic.geometry import CA, CA_CLASH, extend, is_clear, place_atom, squared_distances

HELIX, STRAND, LOOP = "HEC"
_BASINS = np.array(
    [(-65, -38), (-95, 0), (-115, 130), (-70, 145), (58, 38), (85, 5)]
)  # phi, psi of loop residues, in degrees
_BASIN_SHARE = np.cumsum([0.26, 0.14, 0.24, 0.24, 0.08, 0.04])


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
    bend = 24  # degrees by which loop torsions vary at first
    wobble = 4  # degrees by which helix and strand torsions vary
    enough = -np.inf  # cost below which the search stops
    slack = 0.0  # extra distance beyond a clash, in A

    def __init__(self, rng: np.random.Generator, states: str, base: np.ndarray, free: np.ndarray) -> None:
        """`base`: int [2, L], torsions to follow; `free`: bool [L], residues that may take any torsions."""
        self.rng, self.states, self.free = rng, states, free
        self.origin, self.origin_psi = np.eye(3, 4), 0  # frame and psi of the residue before the first
        self.loop = in_state(states, LOOP)
        self.base = base + np.where(
            self.loop, 0, rng.integers(-self.wobble, self.wobble, size=base.shape, endpoint=True)
        )
        self.spread = np.where(self.loop, self.bend, self.wobble)
        self.torsions = np.zeros(base.shape, dtype=np.int64)
        self.frames = np.zeros((3, 4, len(states)))
        separation = np.arange(len(states))[:, None] - np.arange(len(states))
        self.apart = np.where(separation >= 3, np.float32(0), np.float32(1e6))
        self.least_squared = np.full(self.apart.shape, (CA_CLASH + 0.2) ** 2, dtype=np.float32)

    def propose(self, start: int, stop: int) -> np.ndarray:
        """First candidates for residues start..stop-1: phi and psi, int [2, K, n]."""
        size = (self.first if self.free[start:stop].any() else self.others, stop - start)
        anything = _BASINS[np.searchsorted(_BASIN_SHARE, self.rng.random(size), side="right")].transpose(2, 0, 1)
        return np.where(self.free[start:stop], anything, self.base[:, None, start:stop])

    def cost(self, start: int, ca: np.ndarray) -> np.ndarray:
        """The cost to minimise: [K] from CA positions of residues from `start` on, [3, K, n]."""
        raise NotImplementedError

    def between(self, start: int, ca: np.ndarray) -> np.ndarray:
        """Squared distances from candidates to the chain and themselves, 1e6 below separation 3: [K, n, m + n]."""
        old = np.broadcast_to(place_atom(self.frames[:, :, None, :start], CA), (*ca.shape[:2], start))
        chain = np.concatenate([old, ca], axis=2, dtype=np.float32)
        apart = self.apart[start : start + ca.shape[-1], : chain.shape[-1]]
        return squared_distances(ca.astype(np.float32), chain) + apart

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
        end = self.frames[:, :, start - 1] if start else self.origin
        psi = int(self.torsions[1, start - 1]) if start else self.origin_psi
        head = min(start + int(self.loop[start:stop].sum()) + 1, stop)  # the loop and one residue of what follows
        tail = self.base[:, head:stop]
        rigid = place_atom(extend(np.eye(3, 4), int(self.base[1, head - 1]), tail[:, None])[:, :, 0], CA)  # [3, n - h]
        x, y, z = rigid[:, None, None]

        spread = self.spread[start:head]
        proposed = self.propose(start, head)
        torsions = np.concatenate([proposed[:, :1], self.vary(proposed[:, 1:], spread)], axis=1)
        for turn in range(self.rounds):
            frames = extend(end, psi, torsions)
            last = frames[:, :, :, -1:]
            body = last[:, 0] * x + last[:, 1] * y + last[:, 2] * z + last[:, 3]
            cost = self.cost(start, np.concatenate([place_atom(frames, CA), body], axis=2))
            if cost.min() < self.enough:
                break
            if turn < self.rounds - 1:
                best = torsions[:, np.argmin(cost), None]
                spread = (spread + 1) // 2 if turn % 2 else spread
                torsions = np.concatenate([best, self.vary(best.repeat(self.others, axis=1), spread)], axis=1)
        for choice in np.argsort(cost, kind="stable")[:5]:
            self.torsions[:, start:head], self.torsions[:, head:stop] = torsions[:, choice], tail
            self.frames[:, :, start:stop] = extend(end, psi, self.torsions[:, None, start:stop])[:, :, 0]
            if is_clear(self.frames[:, :, :stop], start, self.slack):
                return True
        return False

    def vary(self, torsions: np.ndarray, spread: np.ndarray) -> np.ndarray:
        """Torsions [2, K, n], each changed by up to `spread` [n] degrees in either direction."""
        return torsions + self.rng.integers(-spread, spread, size=torsions.shape, endpoint=True)


def in_state(states: str, state: str) -> np.ndarray:
    """Which residues are in a state (helix, strand or loop): bool [L] from L letters."""
    return np.array([letter == state for letter in states])


def blocks_of(states: str) -> list[tuple[int, int]]:
    """Split a chain after every helix and strand: (start, stop) of a loop and what follows it."""
    ends = [i for i in range(1, len(states)) if states[i - 1] != LOOP and states[i] == LOOP]
    return list(zip([0, *ends], [*ends, len(states)], strict=True))
