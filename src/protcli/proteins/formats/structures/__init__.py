"""Protein chains from structure files, PDB and mmCIF; the only package that imports biotite.

biotite reads mmCIF, hybrid-36 numbers and the chemical component dictionary.
"""

from protcli.proteins.formats.structures.reader import is_structure, read_structure

__all__ = ["is_structure", "read_structure"]
