"""Compounds as letters: amino acids, force-field names, and the chemical component dictionary.

The dictionary is biotite's, because gemmi's table lacks 800 of its 1,800 amino acids, such as 02K, an alanine.
"""

import functools

from protcli.proteins.residues import AMINO_ACIDS, UNKNOWN

_STANDARD_COMPOUNDS = "ALACYSASPGLUPHEGLYHISILELYSLEUMETASNPROGLNARGSERTHRVALTRPTYR"
_STANDARD = {_STANDARD_COMPOUNDS[3 * i : 3 * i + 3]: letter for i, letter in enumerate(AMINO_ACIDS)}
_COMPOUNDS = {letter: compound for compound, letter in _STANDARD.items()}
# Force-field names of protonation states, used for ATOM records only: in the dictionary these names mean other
# compounds, which occur in HETATM records.
_FORCE_FIELD = dict.fromkeys(("HID", "HIE", "HIP", "HSD", "HSE", "HSP"), "H") | dict.fromkeys(("CYX", "CYM"), "C")
_FORCE_FIELD |= {"ASH": "D", "GLH": "E", "LYN": "K"}


@functools.cache
def _component(compound: str) -> tuple[str | None, str | None]:
    """Type and one-letter code in the chemical component dictionary; None for what it does not give."""
    from biotite.structure.info import link_type, one_letter_code  # loading takes a second; most files need none of it

    return link_type(compound), one_letter_code(compound)


def is_amino_acid(compound: str, hetero: bool) -> bool:
    """Whether a compound is an amino acid; one unknown to the dictionary counts as one only in ATOM records.

    Args:
        compound: compound name.
        hetero: whether it is in a HETATM record.
    """
    if compound in _STANDARD or (compound in _FORCE_FIELD and not hetero):
        return True
    kind = _component(compound)[0]
    return not hetero if kind is None else "peptide" in kind.lower() and kind.lower() != "peptide-like"


def letter_of(compound: str, hetero: bool = True) -> str:
    """The letter of a compound or of its parent amino acid, one of `residues.AMINO_ACIDS`, or X."""
    if letter := _STANDARD.get(compound) or (not hetero and _FORCE_FIELD.get(compound)):
        return letter
    code = _component(compound)[1] if is_amino_acid(compound, hetero) else None
    code = {"U": "C", "O": "K"}.get(code or UNKNOWN, code)  # selenocysteine and pyrrolysine become their parents
    return code if code in list(AMINO_ACIDS) else UNKNOWN


def without_terminus(columns: str) -> str:
    """The compound in columns 18 to 21 of a PDB line: AMBER calls the methionine that begins a chain NMET."""
    end = columns[:1] in ("N", "C") and (columns[1:] in _STANDARD or columns[1:] in _FORCE_FIELD)
    return columns[1:] if end else columns[:3].strip()


def compound_of(letter: str) -> str:
    """The compound of an amino acid's letter; UNK for X."""
    return _COMPOUNDS.get(letter, "UNK")
