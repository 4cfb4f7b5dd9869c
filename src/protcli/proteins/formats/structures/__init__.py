"""Protein chains in structure files, PDB and mmCIF, read and written; the only package that imports biotite.

biotite reads mmCIF, hybrid-36 numbers and the chemical component dictionary, and writes both formats.
"""

from protcli.proteins.formats.structures.reader import is_structure, read_structure
from protcli.proteins.formats.structures.writer import cif_text, pdb_text

__all__ = ["cif_text", "is_structure", "pdb_text", "read_structure"]
