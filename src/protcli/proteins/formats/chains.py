"""Chains as structure files give them: residues with atoms, what the file states of the others, and their places."""

import functools
import itertools
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from protcli.proteins.residues import AMINO_ACIDS, UNKNOWN

BACKBONE = ("N", "CA", "C")

_PEPTIDE_BOND = 2.0  # angstrom, C' to the next N: 1.33 in a good model; unbound atoms are not this close
_CA_STEP = 4.2  # angstrom between neighbouring CA: 3.8 (trans) or 2.9 (cis); more across a missing residue
_MOST_WORK = 1e9  # table cells; half a minute. A chain of 1,000 residues that lacks 300 in ten places takes a million
_IMPOSSIBLE = 1e6  # cost of a letter that contradicts the stated sequence


class Atom(NamedTuple):
    """One alternate location of an atom, with its position in Å."""

    compound: str
    altloc: str
    occupancy: float
    xyz: tuple[float, ...]


class ResidueNumber(NamedTuple):
    """A residue's number in its chain and its insertion code, a letter or blank."""

    number: int
    insertion: str = ""

    def __str__(self) -> str:
        return f"{self.number}{self.insertion}"


@dataclass(slots=True)
class Residue:
    """A residue with coordinates; only its backbone atoms are kept."""

    number: ResidueNumber
    hetero: bool  # HETATM
    atoms: dict[str, list[Atom]] = field(default_factory=lambda: defaultdict(list))  # name -> alternates

    @property
    def leader(self) -> Atom:
        """The alternate with the highest occupancy at CA (else at another atom); the first one if tied."""
        alternates = next(self.atoms[name] for name in ("CA", "N", "C") if name in self.atoms)
        return max(alternates, key=lambda atom: atom.occupancy)

    @property
    def letters(self) -> str:
        """The letters of all alternates: if two amino acids share a position, SEQRES names only one of them."""
        compounds = dict.fromkeys(atom.compound for alternates in self.atoms.values() for atom in alternates)
        return "".join(letter_of(compound, self.hetero) for compound in compounds)

    def coords(self) -> np.ndarray:
        """N, CA, C' of the leading alternate, or of an atom's best alternate if it lacks that one: float32 [3, 3]."""
        coords = np.full((3, 3), np.nan, dtype=np.float32)
        altloc = self.leader.altloc
        for row, name in enumerate(BACKBONE):
            if name in self.atoms:
                coords[row] = max(self.atoms[name], key=lambda atom: (atom.altloc == altloc, atom.occupancy)).xyz
        return coords


@dataclass(slots=True)
class Chain:
    """A chain as given by its file.

    Attributes:
        name: chain name.
        construct: compounds of every residue, resolved or not (several if a position has several); empty if not given.
        missing: number and letter of the residues without coordinates, if the file lists them (REMARK 465).
        residues: residues with coordinates by their numbers, in file order.
        places: index into `construct` of each of `residues`, if the file gives it (mmCIF).
    """

    name: str
    construct: list[tuple[str, ...]] = field(default_factory=list)
    missing: list[tuple[ResidueNumber, str]] = field(default_factory=list)
    residues: dict[ResidueNumber, Residue] = field(default_factory=dict)
    places: list[int] = field(default_factory=list)

    def is_protein(self) -> bool:
        """Whether there is a CA and most of the chain is amino acids."""
        compounds = [(names[0], True) for names in self.construct]
        compounds = compounds or [(residue.leader.compound, residue.hetero) for residue in self.residues.values()]
        amino_acids = sum(is_amino_acid(*compound) for compound in compounds)
        return 2 * amino_acids > len(compounds) and any("CA" in residue.atoms for residue in self.residues.values())

    def drop_ligands(self) -> None:
        """Remove what no peptide bond ties to the chain: HETATM, and compounds that are no amino acids.

        A modified residue is one if more of the chain follows, perhaps after a gap: no ligand stands there.
        """
        residues = list(self.residues.values())
        coords = [residue.coords() for residue in residues]
        for i, residue in reversed(list(enumerate(residues))):
            compound = residue.leader.compound
            is_known = is_amino_acid(compound, residue.hetero)
            is_free = residue.hetero and (compound in _STANDARD or i + 1 == len(self.residues))
            if is_known and not is_free:
                continue
            bonds = itertools.starmap(linked, itertools.pairwise(coords[max(i - 1, 0) : i + 2]))
            if not (any(bonds) and (is_known or len(residue.atoms) == len(BACKBONE))):
                del self.residues[residue.number]


def linked(before: np.ndarray, after: np.ndarray) -> bool:
    """Whether the geometry of two residues [3, 3] makes them neighbours in the chain; by CA if that is all there is."""
    bond = np.linalg.norm(after[0] - before[2])
    return bool(bond < _PEPTIDE_BOND if np.isfinite(bond) else np.linalg.norm(after[1] - before[1]) < _CA_STEP)


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
            cost = cost + break_in_numbering(before, after)
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
        inside = np.cumsum([0, 0, *(break_in_numbering(*pair) for pair in itertools.pairwise(numbers))])
        enter = np.array([*(break_in_numbering(before, number) for number in numbers), 0])
        leave = np.array([0, *(break_in_numbering(number, after) for number in numbers)])
        inner = inside[stop] - inside[np.minimum(start + 1, spare)]
        costs = enter[start] + inner + leave[stop] + _IMPOSSIBLE * (wrong[stop] - wrong[start])
    elif before and after:
        skipped = after.number - before.number - 1
        costs = np.where(stop - start == skipped, 0, 1 if skipped > 0 else 2)
    else:
        costs = np.zeros((spare + 1, spare + 1))
    return np.where(start < stop, costs, _IMPOSSIBLE)


def break_in_numbering(before: ResidueNumber | None, after: ResidueNumber | None) -> float:
    """0 if the numbers are consecutive, 1 if some are skipped, 2 if they decrease; 0 at a chain's end."""
    if before is None or after is None:
        return 0
    step = after.number - before.number
    if step == 0:
        letters = [ord(number.insertion or "@") for number in (before, after)]  # @ stands before A
        return float(abs(letters[1] - letters[0]) != 1)  # insertion letters may go up or down
    return 0 if step == 1 else 1 if step > 1 else 2


_STANDARD_COMPOUNDS = "ALACYSASPGLUPHEGLYHISILELYSLEUMETASNPROGLNARGSERTHRVALTRPTYR"
_STANDARD = {_STANDARD_COMPOUNDS[3 * i : 3 * i + 3]: letter for i, letter in enumerate(AMINO_ACIDS)}
_COMPOUNDS = {letter: compound for compound, letter in _STANDARD.items()}
# Names of protonation states and the like in AMBER, CHARMM, GROMACS, GROMOS, OPLS, Rosetta and FoldX. In the dictionary
# some of them mean other compounds, which occur in HETATM records.
_VARIANTS = {
    "C": "CYX CYM CYD",
    "D": "ASH",
    "E": "GLH",
    "H": "HID HIE HIP HSD HSE HSP H1S H2S",
    "K": "LYN LSN LYP",
    "Q": "QLN",
    "R": "ARN",
    "S": "S1P SP1 SP2",
    "T": "T1P TP1 TP2",
    "Y": "Y1P PT1 PT2 TYM",
}
_FORCE_FIELD = {name: letter for letter, names in _VARIANTS.items() for name in names.split()}


@functools.cache
def _component(compound: str) -> tuple[str | None, str | None]:
    """Type and one-letter code in the chemical component dictionary; None for what it does not give."""
    from biotite.structure.info import link_type, one_letter_code  # loading takes a second; most files need none of it

    return link_type(compound), one_letter_code(compound)


def is_amino_acid(compound: str, hetero: bool) -> bool:
    """Whether a compound is an amino acid; force fields' names are of ATOM records only.

    Args:
        compound: compound name.
        hetero: whether it is in a HETATM record.
    """
    if compound in _STANDARD or (compound in _FORCE_FIELD and not hetero):
        return True
    kind = (_component(compound)[0] or "").lower()
    return "peptide" in kind and kind != "peptide-like"


def letter_of(compound: str, hetero: bool = True) -> str:
    """The letter of a compound or of its parent amino acid, one of `residues.AMINO_ACIDS`, or X."""
    force_field = _FORCE_FIELD.get(compound)
    if letter := _STANDARD.get(compound) or (not hetero and force_field):
        return letter
    code = _component(compound)[1] if is_amino_acid(compound, hetero) else force_field
    code = {"U": "C", "O": "K"}.get(code or UNKNOWN, code)  # selenocysteine and pyrrolysine become their parents
    return code if code in list(AMINO_ACIDS) else UNKNOWN


def compound_name(text: str) -> str:
    """A compound's name in capitals, and with three letters if it is of an amino acid.

    AMBER calls the methionine that begins a chain NMET, GROMOS a histidine HISB; some programs have chains of two
    letters, whose first one stands where the fourth of a name would.
    """
    name = text.strip().upper()
    if name[:1] in ("N", "C") and (name[1:] in _STANDARD or name[1:] in _FORCE_FIELD):
        return name[1:]
    return name[:3] if name[:3] in (*_STANDARD, "MSE") else name


def compound_of(letter: str) -> str:
    """The compound of an amino acid's letter; UNK for X."""
    return _COMPOUNDS.get(letter, "UNK")
