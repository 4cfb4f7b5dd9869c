"""Chains of a PDB file.

The columns are parsed here because biotite's reader does not report three things: where TER ends a chain (free ligands,
some of them amino acids, follow it), alternates named by a digit, and the line of an error.
"""

import re
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np

from protcli.errors import ProtcliError, excerpt
from protcli.proteins.formats.limits import check_coords
from protcli.proteins.formats.structures.chains import BACKBONE, Atom, Chain, Residue, ResidueNumber, drop_ligands
from protcli.proteins.formats.structures.compounds import is_amino_acid, letter_of

_REMARK_465 = re.compile(r"REMARK 465\s+(?:(\d+)\s+)?([A-Z0-9]{1,3})\s+(?:(\w)\s+)?(-?\d+)(\w?)\s*$")


def pdb_chains(text: str, path: Path) -> list[Chain]:
    """The chains of a PDB file's first model.

    A chain consists of the records of one chain name up to TER. If SEQRES lists its residues, later ATOM records of
    that name belong to it too: some programs write TER at every break. HETATM after TER is never a residue.
    """
    lines = text.splitlines()
    constructs: dict[str, list[tuple[str, ...]]] = defaultdict(list)
    missing: dict[str, list[tuple[ResidueNumber, str]]] = defaultdict(list)
    for line in lines:
        if line.startswith("SEQRES"):
            constructs[line[11:12].strip()] += [(compound,) for compound in line[19:70].split()]
        elif (match := _REMARK_465.match(line)) and match[1] in (None, "1"):
            _, absent, name, digits, insertion = match.groups(default="")
            missing[name].append((ResidueNumber.parse(digits, insertion), letter_of(absent)))

    chains: dict[tuple[str, int], Chain] = {}
    numbered: dict[tuple[str, int], dict[ResidueNumber, Residue]] = defaultdict(dict)
    ends: Counter[str] = Counter()  # TER records seen, by chain
    models, atoms, name = 0, 0, ""
    for line_number, line in enumerate(lines, 1):
        if line.startswith("MODEL "):
            models += 1
            if models == 2:
                break
        elif line.startswith("TER"):
            ends[line[21:22].strip() or name] += 1
        elif line.startswith(("ATOM ", "HETATM")):
            atoms += 1
            name, compound, hetero = line[21:22].strip(), line[17:20].strip(), line.startswith("HETATM")
            atom_name = line[12:16].strip()
            if atom_name not in BACKBONE or (hetero and ends[name]):
                continue
            if (compound,) not in constructs.get(name, ()) and not is_amino_acid(compound, hetero):
                continue
            key = (name, 0 if name in constructs else ends[name])
            try:
                number = ResidueNumber.parse(line[22:26], line[26:27])
                xyz = (float(line[30:38]), float(line[38:46]), float(line[46:54]))
                check_coords(np.array(xyz))
                atom = Atom(compound, line[16:17].strip(), float(line[54:60].strip() or 1), xyz)
            except ValueError as error:
                raise ProtcliError(
                    f"{path}, line {line_number}: expected an atom in the columns of the PDB format "
                    f"({excerpt(error, 100)})"
                ) from error
            if not np.isfinite(xyz).all():
                continue
            if key not in chains:
                chains[key] = Chain(name, construct=constructs.get(name, []), missing=missing.get(name, []))
            residues = chains[key].residues
            residue = numbered[key].setdefault(number, Residue(number, hetero))
            if not residue.atoms:
                residues.append(residue)
            elif residue is not residues[-1] and atom.altloc in {a.altloc for a in residue.atoms[atom_name]}:
                raise ProtcliError(
                    f"{path}, line {line_number}: residue {excerpt(line[22:27].strip())} of chain "
                    f"{excerpt(name) or 'without a name'} appears twice: expected each "
                    f"residue once, and TER at the end of a chain"
                )
            residue.atoms[atom_name].append(atom)
    if not atoms:
        raise ProtcliError(f"{path} has no ATOM record: expected a PDB file")
    if constructs and not any(line.rstrip() == "END" for line in reversed(lines)):
        # otherwise half a file would look like a construct whose other half is unresolved
        raise ProtcliError(f"{path} has SEQRES records but no END: expected a complete PDB file; is it truncated?")
    for (name, _), chain in chains.items():
        if not ends[name]:
            drop_ligands(chain.residues)
    return list(chains.values())
