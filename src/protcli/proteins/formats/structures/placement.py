"""Aligns a chain's residues with its stated sequence by letters, numbering and bonds."""

import itertools
from collections.abc import Sequence

import numpy as np

from protcli.proteins.formats.structures.chains import Residue, ResidueNumber, linked

_MOST_WORK = 1e9  # table cells; half a minute. A chain of 1,000 residues that lacks 300 in ten places takes a million
_IMPOSSIBLE = 1e6  # cost of a letter that contradicts the stated sequence


def place_residues(
    residues: Sequence[Residue], construct: Sequence[str], missing: Sequence[tuple[ResidueNumber, str]]
) -> list[int] | None:
    """Index into `construct` of each residue, or None if the letters allow no placement.

    Letters alone do not tell which G of GGG is missing. So among all placements with matching letters that break no
    chemical bond, the one that contradicts the numbering least is chosen. Exact, by dynamic programming over (residues
    placed, residues skipped), with no gap allowed between bonded neighbours.

    Raises:
        ValueError: too many residues are missing in too many places.
    """
    spare = len(construct) - len(residues)
    if spare < 0:
        return None
    if len(missing) != spare:
        missing = ()
    fits = {
        letters: np.array([not set(letters).isdisjoint(place) for place in construct])
        for letters in {residue.letters for residue in residues}
    }
    coords = [residue.coords() for residue in residues]
    breaks = 2 + sum(not linked(*pair) for pair in itertools.pairwise(coords))
    if breaks * spare**2 > _MOST_WORK:
        raise ValueError(f"{spare} residues are missing in {breaks} places or fewer: expected a structure of the chain")
    ends = [None, *(residue.number for residue in residues), None]
    cost = np.where(np.arange(spare + 1) == 0, 0, _IMPOSSIBLE)  # by the number of residues skipped
    steps = []
    for placed in range(len(residues) + 1):
        before, after = ends[placed], ends[placed + 1]
        source = np.arange(spare + 1)
        if not (before and after and linked(coords[placed - 1], coords[placed])):
            turns = cost[:, None] + _gap_costs(before, after, missing, construct[placed : placed + spare])  # [from, to]
            jump = turns.argmin(axis=0)
            cost = cost + _break_in_numbering(before, after)
            source = np.where(turns.min(axis=0) < cost, jump, source)
            cost = np.minimum(cost, turns.min(axis=0))
        if after:
            cost = cost + _IMPOSSIBLE * ~fits[residues[placed].letters][placed : placed + spare + 1]
        steps.append(source)
    if cost[spare] >= _IMPOSSIBLE:
        return place_residues(residues, construct, ()) if missing else None
    skipped, places = spare, []
    for placed in range(len(residues), 0, -1):
        skipped = int(steps[placed][skipped])
        places.append(placed - 1 + skipped)
    return places[::-1]


def _gap_costs(
    before: ResidueNumber | None,
    after: ResidueNumber | None,
    missing: Sequence[tuple[ResidueNumber, str]],
    construct: Sequence[str],
) -> np.ndarray:
    """Cost of skipping the missing residues `from`..`to` - 1 between two residues: [from, to].

    If the missing residues are numbered, breaks in the numbering and wrong letters count; otherwise a gap of the length
    implied by the neighbours' numbers is free, another length costs 1, and 2 if the numbers imply no gap.
    """
    spare = len(construct)
    start, stop = np.arange(spare + 1)[:, None], np.arange(spare + 1)[None, :]
    if missing:
        numbers = [number for number, _ in missing]
        wrong = np.cumsum([0, *(letter not in place for (_, letter), place in zip(missing, construct, strict=True))])
        inside = np.cumsum([0, 0, *(_break_in_numbering(*pair) for pair in itertools.pairwise(numbers))])
        enter = np.array([*(_break_in_numbering(before, number) for number in numbers), 0])
        leave = np.array([0, *(_break_in_numbering(number, after) for number in numbers)])
        inner = inside[stop] - inside[np.minimum(start + 1, spare)]
        costs = enter[start] + inner + leave[stop] + _IMPOSSIBLE * (wrong[stop] - wrong[start])
    elif before and after:
        skipped = after.number - before.number - 1
        costs = np.where(stop - start == skipped, 0, 1 if skipped > 0 else 2)
    else:
        costs = np.zeros((spare + 1, spare + 1))
    return np.where(start < stop, costs, _IMPOSSIBLE)


def _break_in_numbering(before: ResidueNumber | None, after: ResidueNumber | None) -> float:
    """0 if the numbers are consecutive, 1 if some are skipped, 2 if they decrease; 0 at a chain's end."""
    if before is None or after is None:
        return 0
    step = after.number - before.number
    if step == 0:
        return float(abs(after.insertion - before.insertion) != 1)  # insertion letters may go up or down
    return 0 if step == 1 else 1 if step > 1 else 2
