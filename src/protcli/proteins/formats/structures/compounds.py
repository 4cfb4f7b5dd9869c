"""Compounds as letters: amino acids, force-field names, and the chemical component dictionary."""

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
    from biotite.structure.info import (
        link_type,
        one_letter_code,
    )  # loading the dictionary takes a second, and most files do not need it

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
    if compound in _STANDARD:
        return _STANDARD[compound]
    if compound in _FORCE_FIELD and not hetero:
        return _FORCE_FIELD[compound]
    code = (_component(compound)[1] or UNKNOWN) if is_amino_acid(compound, hetero) else UNKNOWN
    code = {"U": "C", "O": "K"}.get(code, code)  # selenocysteine and pyrrolysine become their parents
    return code if len(code) == 1 and code in AMINO_ACIDS else UNKNOWN


def compound_of(letter: str) -> str:
    """The compound of an amino acid's letter; UNK for X."""
    return _COMPOUNDS.get(letter, "UNK")
