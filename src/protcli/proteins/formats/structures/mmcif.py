"""Chains of an mmCIF file; biotite parses the syntax."""

import io
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from protcli.errors import ProtcliError, excerpt
from protcli.proteins.formats.limits import check_coords
from protcli.proteins.formats.structures.chains import BACKBONE, Atom, Chain, Residue, ResidueNumber, drop_ligands
from protcli.proteins.formats.structures.compounds import is_amino_acid


def cif_chains(text: str, path: Path) -> list[Chain]:
    """The chains of an mmCIF file's first model; polymer sequence numbers give each residue's position."""
    from biotite import DeserializationError, InvalidFileError
    from biotite.structure.io.pdbx import CIFFile

    try:
        block = CIFFile.read(io.StringIO(text)).block
        if "atom_site" not in block:
            raise ProtcliError(f"{path} has no atom_site category: expected an mmCIF file with coordinates")
        return _chains_of_block(block, path)
    except KeyError as error:
        raise ProtcliError(
            f"{path}: the atom_site category has no {excerpt(error)} column; expected the mmCIF columns"
        ) from error
    except (DeserializationError, InvalidFileError, ValueError, IndexError) as error:
        raise ProtcliError(f"{path} is not a complete mmCIF file ({excerpt(error, 200)})") from error


def _chains_of_block(block: Any, path: Path) -> list[Chain]:
    site = block["atom_site"]

    def column(*names: str, default: str | None = None) -> np.ndarray:
        """The first of these columns that the file has, as text; the default if it has none."""
        name = next((name for name in names if name in site), names[0])
        if name not in site and default is not None:
            return np.full(site.row_count, default)
        return site[name].as_array(str)

    atom_names, compounds = column("label_atom_id", "auth_atom_id"), column("label_comp_id", "auth_comp_id")
    asyms, names = column("label_asym_id", "auth_asym_id"), column("auth_asym_id", "label_asym_id")
    entities, altlocs = column("label_entity_id", default="?"), column("label_alt_id", default=".")
    numbers, insertions = column("auth_seq_id", "label_seq_id"), column("pdbx_PDB_ins_code", default="?")
    hetero = column("group_PDB", default="ATOM") == "HETATM"
    occupancy = site["occupancy"].as_array(float, 1.0) if "occupancy" in site else np.ones(site.row_count)
    xyz = np.stack([site[f"Cartn_{axis}"].as_array(float, np.nan) for axis in "xyz"], axis=1)  # [atoms, 3]
    models = column("pdbx_PDB_model_num", default="1")
    chosen = (models == models[0]) & np.isin(atom_names, BACKBONE) & np.isfinite(xyz).all(axis=1)

    try:
        check_coords(xyz[chosen])
    except ValueError as error:
        raise ProtcliError(f"{path}: {error}") from None
    places = column("label_seq_id", default=".")  # in the polymer, from 1; "." for ligands and water
    in_polymer = ~np.isin(places, [".", "?"])
    numbered = bool(in_polymer.any())
    if numbered:
        chosen &= in_polymer
    else:  # not from the archive: amino acids count as residues
        chosen[chosen] = [
            is_amino_acid(str(c), bool(h)) for c, h in zip(compounds[chosen], hetero[chosen], strict=True)
        ]

    chains: dict[str, Chain] = {}
    residues: dict[tuple[str, ResidueNumber], Residue] = {}
    for row in np.flatnonzero(chosen):
        chain = chains.setdefault(str(asyms[row]), Chain(str(names[row])))
        fields = (str(places[row]), "") if numbered else (str(numbers[row]), insertions[row].strip("?."))
        number = ResidueNumber.parse(*fields)
        residue = residues.setdefault((str(asyms[row]), number), Residue(number, bool(hetero[row])))
        if not residue.atoms:
            chain.residues.append(residue)
        altloc, (x, y, z) = altlocs[row].strip("?."), xyz[row].tolist()
        residue.atoms[str(atom_names[row])].append(Atom(str(compounds[row]), altloc, float(occupancy[row]), (x, y, z)))

    constructs = _constructs(block, dict(zip(asyms.tolist(), entities.tolist(), strict=True)))
    for asym, chain in chains.items():
        construct = constructs.get(asym, {})
        chain.construct = [tuple(compounds) for _, compounds in sorted(construct.items())]
        if not numbered:
            drop_ligands(chain.residues)
        elif construct:
            order = {place: index for index, place in enumerate(sorted(construct))}
            chain.places = [order.get(residue.number.number, -1) for residue in chain.residues]
    return list(chains.values())


def _constructs(block: Any, entity_of: dict[str, str]) -> dict[str, dict[int, list[str]]]:
    """Compounds of every residue (several if a position has several) by chain and number in the polymer."""
    by_owner: dict[str, dict[int, list[str]]] = defaultdict(lambda: defaultdict(list))
    for category, owner, place in (
        ("pdbx_poly_seq_scheme", "asym_id", "seq_id"),
        ("entity_poly_seq", "entity_id", "num"),
    ):
        if category in block:
            table = block[category]
            columns = (table[owner].as_array(str), table[place].as_array(int), table["mon_id"].as_array(str))
            for name, number, compound in zip(*(values.tolist() for values in columns), strict=True):
                by_owner[name][number].append(compound)
            return by_owner if owner == "asym_id" else {a: by_owner[e] for a, e in entity_of.items() if e in by_owner}
    return {}
