"""Writes a chain of C-alpha atoms as PDB or mmCIF."""

import textwrap
from typing import TYPE_CHECKING

import numpy as np

from protcli.proteins.formats.structures.compounds import compound_of

if TYPE_CHECKING:
    from biotite.structure import AtomArray

REMARK_WIDTH = 69  # characters of a PDB remark
LARGEST_ERROR = 999.99  # A that PDB's column of B factors holds


def pdb_text(sequence: str, coords: np.ndarray, error: np.ndarray, remark: str) -> str:
    """A PDB file with one chain, A, of C-alpha atoms.

    Args:
        sequence: L letters.
        coords: [L, 3] in A.
        error: expected error of each atom in A, [L], in the column of B factors; NaN is written as 0.
        remark: what a reader must know, of any length.
    """
    from biotite.structure.io.pdb import PDBFile

    file = PDBFile()
    file.set_structure(_atoms(sequence, coords, error))
    remarks = [f"REMARK   1 {line}" for line in textwrap.wrap(remark, REMARK_WIDTH)]
    return "\n".join([*remarks, *file.lines, "TER", "END", ""])


def cif_text(name: str, sequence: str, coords: np.ndarray, error: np.ndarray, remark: str) -> str:
    """The same as mmCIF; `name` is that of the data block, and the remark is the structure's title."""
    from biotite.structure.io.pdbx import CIFCategory, CIFFile, set_structure

    file = CIFFile()
    set_structure(file, _atoms(sequence, coords, error), data_block=name)
    file.block["struct"] = CIFCategory({"entry_id": name, "title": remark})
    return file.serialize()


def _atoms(sequence: str, coords: np.ndarray, error: np.ndarray) -> "AtomArray":
    from biotite.structure import AtomArray

    atoms = AtomArray(len(sequence))
    atoms.coord = np.asarray(coords, dtype=np.float32)
    atoms.res_name[:] = [compound_of(letter) for letter in sequence]
    atoms.res_id[:] = np.arange(1, len(sequence) + 1)
    atoms.chain_id[:], atoms.atom_name[:], atoms.element[:] = "A", "CA", "C"
    atoms.set_annotation("b_factor", np.minimum(np.nan_to_num(error), LARGEST_ERROR))
    atoms.set_annotation("occupancy", np.ones(len(sequence)))
    return atoms
