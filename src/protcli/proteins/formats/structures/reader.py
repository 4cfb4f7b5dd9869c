"""Reads proteins from structure files."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from protcli.errors import ProtcliError, excerpt
from protcli.proteins.formats.limits import check_protein
from protcli.proteins.formats.structures.chains import Chain
from protcli.proteins.formats.structures.compounds import letter_of
from protcli.proteins.formats.structures.mmcif import cif_chains
from protcli.proteins.formats.structures.pdb import pdb_chains
from protcli.proteins.formats.structures.placement import place_residues
from protcli.proteins.formats.text import read_text
from protcli.proteins.protein import Protein
from protcli.proteins.residues import sequence_profile

PDB_SUFFIXES = (".pdb", ".ent")
CIF_SUFFIXES = (".cif", ".mmcif")


def is_structure(path: Path) -> bool:
    """Whether the name is of a structure file: .pdb, .ent, .cif or .mmcif, optionally with .gz."""
    return _suffix(path) in PDB_SUFFIXES + CIF_SUFFIXES


def read_structure(path: Path, *, on_bad: Callable[[ProtcliError], None] | None = None) -> Iterator[Protein]:
    """Read the protein chains of a PDB or mmCIF file, gzipped or not, in file order.

    The ID is `<file's stem>_<n>_<chain>`, with n the chain's number among the file's protein chains. The first model is
    read, and the alternate with the highest occupancy (the first one if tied). A modified residue gets its parent's
    letter, an unknown one X. If the file states the whole construct (SEQRES, or mmCIF's polymer sequence), residues
    without coordinates are in the sequence and masked. The mask is True where CA is present; the profile is
    `residues.sequence_profile`. Nucleic acids, ligands and waters are not chains.

    Args:
        path: the file.
        on_bad: called with the error of the file or of a chain, which is then skipped; without it the error raises.

    Raises:
        ProtcliError: the file is not a complete structure, or a chain's coordinates contradict its stated sequence.
    """
    report = on_bad or _raise
    try:
        text = read_text(path, "a PDB or mmCIF file")
        chains = cif_chains(text, path) if _suffix(path) in CIF_SUFFIXES else pdb_chains(text, path)
        chains = [chain for chain in chains if chain.is_protein()]
        if not chains:
            raise ProtcliError(f"{path} contains no protein chain: expected amino-acid residues with a CA atom")
    except ProtcliError as error:
        report(error)
        return
    stem = path.name[: path.name.lower().rindex(_suffix(path))]
    for number, chain in enumerate(chains, 1):
        try:
            protein = check_protein(_protein("_".join(filter(None, (stem, str(number), chain.name))), chain, path))
        except ProtcliError as error:
            report(error)
        except ValueError as error:
            report(ProtcliError(f"{path}: chain {excerpt(chain.name) or 'without a name'}: {error}"))
        else:
            yield protein


def _raise(error: ProtcliError) -> None:
    raise error


def _suffix(path: Path) -> str:
    return Path(path.name.lower().removesuffix(".gz")).suffix


def _protein(protein_id: str, chain: Chain, path: Path) -> Protein:
    """Place the residues with coordinates in the construct."""
    letters = ["".join(map(letter_of, compounds)) for compounds in chain.construct]
    if letters:
        places = chain.places or place_residues(chain.residues, letters, chain.missing)
    else:
        places, letters = list(range(len(chain.residues))), [residue.letters for residue in chain.residues]
    if not places or not all(
        place >= 0 and set(residue.letters) & set(letters[place])
        for place, residue in zip(places, chain.residues, strict=True)
    ):
        raise ProtcliError(
            f"{path}: the {len(chain.residues)} residues with coordinates of chain "
            f"{excerpt(chain.name) or 'without a name'} do not fit the {len(letters)} of its stated sequence "
            f"(SEQRES or polymer sequence): "
            f"correct or remove that sequence"
        )
    sequence = [alternatives[0] for alternatives in letters]
    coords = np.full((len(letters), 3, 3), np.nan, dtype=np.float32)
    for place, residue in zip(places, chain.residues, strict=True):
        sequence[place] = residue.letter
        coords[place] = residue.coords()
    mask = np.isfinite(coords[:, 1, 0])  # a missing atom is NaN in x, y and z
    profile = sequence_profile("".join(sequence))
    return Protein(protein_id, "".join(sequence), profile, coords, mask, has_profile=False)
