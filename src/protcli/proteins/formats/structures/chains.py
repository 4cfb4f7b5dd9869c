"""A chain as given by a structure file: residues with atoms, and what the file states about the others."""

from collections import defaultdict
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from protcli.errors import shown
from protcli.proteins.formats.structures.compounds import is_amino_acid, letter_of

BACKBONE = ("N", "CA", "C")

PEPTIDE_BOND = 2.0  # angstrom, C' to the next N: 1.33 in a good model; unbound atoms are not this close
CA_STEP = 4.2  # angstrom between neighbouring CA: 3.8 (trans) or 2.9 (cis); more across a missing residue


class Atom(NamedTuple):
    """One alternate location of an atom, with its position in A."""

    compound: str
    altloc: str
    occupancy: float
    xyz: tuple[float, float, float]


class ResidueNumber(NamedTuple):
    """A residue's number in its chain and its insertion code, A = 1."""

    number: int
    insertion: int = 0

    @classmethod
    def parse(cls, number: str, insertion: str) -> "ResidueNumber":
        """Parse a number from a file, including hybrid-36 numbers. Raises ValueError if it is none."""
        from biotite.structure.io.pdb.hybrid36 import decode_hybrid36

        try:
            value = int(number)
        except ValueError:
            value = decode_hybrid36(number)
        letter = insertion.strip().upper()
        if len(letter) > 1:
            raise ValueError(f"an insertion code is one letter, not {shown(insertion)}")
        return cls(value, ord(letter) - ord("A") + 1 if letter else 0)


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
    def letter(self) -> str:
        """The letter of the leading alternate."""
        return letter_of(self.leader.compound, self.hetero)

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
                alternates = [atom for atom in self.atoms[name] if atom.altloc == altloc] or self.atoms[name]
                coords[row] = max(alternates, key=lambda atom: atom.occupancy).xyz
        return coords


@dataclass(slots=True)
class Chain:
    """A chain as given by its file.

    Attributes:
        name: chain name.
        residues: residues with coordinates, in file order.
        construct: compounds of every residue, resolved or not (several if a position has several); empty if not given.
        places: index into `construct` of each of `residues`, if the file gives it (mmCIF).
        missing: number and letter of the residues without coordinates, if the file lists them (REMARK 465).
    """

    name: str
    residues: list[Residue] = field(default_factory=list)
    construct: list[tuple[str, ...]] = field(default_factory=list)
    places: list[int] | None = None
    missing: list[tuple[ResidueNumber, str]] = field(default_factory=list)

    def is_protein(self) -> bool:
        """Whether there is a CA and most of the chain is amino acids."""
        compounds = [(names[0], True) for names in self.construct]
        compounds = compounds or [(residue.leader.compound, residue.hetero) for residue in self.residues]
        amino_acids = sum(is_amino_acid(*compound) for compound in compounds)
        return 2 * amino_acids > len(compounds) and any("CA" in residue.atoms for residue in self.residues)


def drop_ligands(residues: list[Residue]) -> None:
    """Remove HETATM residues without a peptide bond from the end of a chain that no TER ends."""
    while residues and residues[-1].hetero:
        if len(residues) > 1 and linked(residues[-2].coords(), residues[-1].coords()):
            break
        residues.pop()


def linked(before: np.ndarray, after: np.ndarray) -> bool:
    """Whether the geometry of two residues [3, 3] makes them neighbours in the chain; by CA if that is all there is."""
    bond = np.linalg.norm(after[0] - before[2])
    return bool(bond < PEPTIDE_BOND) if np.isfinite(bond) else bool(np.linalg.norm(after[1] - before[1]) < CA_STEP)
