"""One protein chain: the record type that all readers return and all other packages use."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np

VALIDATION, TESTING = "validation", "testing"  # splits that are measured on
STRICT = "-strict"  # ends the class of proteins for which a profile finds no relative, either: 10-strict, a part of 10
ATOMS = ("ca", "cb")  # atoms that distances are measured between


@dataclass(frozen=True, slots=True, eq=False)
class Protein:
    """One chain of L residues. Lengths are in angstrom; unknown values are NaN and masked, never zero.

    Attributes:
        id: as in the file; for ProteinNet `<class>#<pdb>_<n>_<chain>` or `<pdb>_<n>_<chain>`.
        sequence: L letters of `residues.AMINO_ACIDS`, or X.
        profile: float32 [L, 21], twenty columns in the order of AMINO_ACIDS, then information content in 0..1.
        coords: float32 [L, 3, 3], N, CA, C' by x, y, z in angstrom; a missing atom is NaN in all three.
        mask: bool [L], whether the file marks the residue as resolved; see `resolved` for single atoms.
        has_profile: False if the profile was built from the sequence alone.
        secondary: uint8 [L], places of the secondary structure in `residues.DSSP`, 0 unknown; None as if it were all 0.
        features: float16 [L, D], numbers from elsewhere, as a language model's embedding; None if it has none.
        family: homologous proteins share one; a protein without known relatives is its own, named like it.
    """

    id: str
    sequence: str
    profile: np.ndarray
    coords: np.ndarray
    mask: np.ndarray
    has_profile: bool = True
    family: str = ""
    secondary: np.ndarray | None = None
    features: np.ndarray | None = None

    def __post_init__(self) -> None:
        if not self.family:
            object.__setattr__(self, "family", self.id)
        length = len(self.sequence)
        for name, shape in (("profile", (length, 21)), ("coords", (length, 3, 3)), ("mask", (length,))):
            if getattr(self, name).shape != shape:
                raise ValueError(f"{self.id}: {name} has shape {getattr(self, name).shape}, expected {shape}")

    def __len__(self) -> int:
        return len(self.sequence)

    @property
    def category(self) -> str:
        """ProteinNet's class, the part of the ID before '#' (10..90, FM, TBM, TBM-hard); empty if there is none."""
        return self.id.partition("#")[0] if "#" in self.id else ""

    def atom(self, name: str) -> np.ndarray:
        """Positions of one atom per residue: float32 [L, 3] in angstrom, NaN where unresolved.

        `ca` is read, `cb` is built from N, CA and C' (`virtual_cbeta`). Residues masked as unresolved are NaN.
        """
        if name not in ATOMS:
            raise ValueError(f"unknown atom {name!r}: expected one of {', '.join(ATOMS)}")
        xyz = self.coords[:, 1] if name == "ca" else virtual_cbeta(self.coords)
        return np.where(self.mask[:, None], xyz, np.float32(np.nan))

    def resolved(self, atom: str) -> np.ndarray:
        """Whether the mask is + and all atoms that `atom` needs have coordinates: bool [L]."""
        return ~np.isnan(self.atom(atom)).any(axis=1)


class ProteinSequence(Sequence[Protein]):
    """Proteins that are read when they are asked for."""

    @overload
    def __getitem__(self, index: int) -> Protein: ...
    @overload
    def __getitem__(self, index: slice) -> list[Protein]: ...
    def __getitem__(self, index: int | slice) -> Protein | list[Protein]:
        numbers = range(len(self))[index]  # negative from the end; IndexError beyond it
        return self.read(numbers) if isinstance(numbers, int) else [self.read(number) for number in numbers]

    @abstractmethod
    def read(self, number: int) -> Protein:
        """The protein with this number, from 0."""


def virtual_cbeta(backbone: np.ndarray) -> np.ndarray:
    """C-beta of an ideal tetrahedral residue: float32 [L, 3] from N, CA, C' [L, 3, 3]; NaN if one of them is.

    Source: Yang et al. 2020 (trRosetta), PNAS 117:1496, supplement; glycine gets one too.
    """
    n, ca, c = backbone[:, 0], backbone[:, 1], backbone[:, 2]
    b, c = ca - n, c - ca
    return np.float32(-0.58273431) * np.cross(b, c) + np.float32(0.56802827) * b - np.float32(0.54067466) * c + ca
