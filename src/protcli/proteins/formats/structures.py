"""Protein chains in structure files: PDB and mmCIF read, chains of CA written; with `compounds`, the door of biotite.

gemmi reads mmCIF. Lines of PDB files are read here, because gemmi reads `1.2x0` as 1.2, joins residues that appear
twice, takes two columns for the chain's name, and reads nothing after an ENDMDL, all without a word.
"""

import logging
import math
import re
import textwrap
from collections import Counter, defaultdict
from collections.abc import Callable, Generator, Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import gemmi
import numpy as np

from protcli.errors import ProtcliError, truncate
from protcli.proteins.formats.chains import (
    BACKBONE,
    Atom,
    Chain,
    Residue,
    ResidueNumber,
    break_in_numbering,
    compound_name,
    compound_of,
    is_amino_acid,
    letter_of,
    place_residues,
)
from protcli.proteins.formats.files import check_coords, check_protein, proteins_of, read_text
from protcli.proteins.protein import Protein
from protcli.proteins.residues import sequence_profile

if TYPE_CHECKING:
    from biotite.structure import AtomArray

_CIF_SUFFIXES = (".cif", ".mmcif")
_SUFFIXES = (".pdb", ".ent", *_CIF_SUFFIXES)
_REMARK_465 = re.compile(r"REMARK 465\s+(?:(\d+)\s+)?([A-Z0-9]{1,3})\s+(?:(\w)\s+)?(-?\d+)(\w?)\s*$")
_REMARK_WIDTH = 69  # characters of a PDB remark
_LARGEST_ERROR = 999.99  # A that PDB's column of B factors holds
_LONGEST_BOND = 4.5  # A between CA of residues that are bound; 3.8 is usual
_LONGEST_STEP = 10.0  # A between neighbouring CA, beyond which two chains may have been taken for one


def is_structure(path: Path) -> bool:
    """Whether the name is of a structure file: .pdb, .ent, .cif or .mmcif, optionally with .gz."""
    return _suffix(path) in _SUFFIXES


def read_structure(path: Path, *, on_bad: Callable[[ProtcliError], None] | None = None) -> Iterator[Protein]:
    """Read the protein chains of a PDB or mmCIF file, gzipped or not, in file order.

    The ID is `<file's stem>_<n>_<chain>`, with n the chain's number among the file's protein chains. The first model is
    read (of every data block of mmCIF), and the alternate with the highest occupancy (the first one if tied). A
    modified residue gets its parent's letter, an unknown one X. If the file states the whole construct (SEQRES, or
    mmCIF's polymer sequence), residues without coordinates are in the sequence and masked. The mask is True where CA is
    present; the profile is `residues.sequence_profile`. Nucleic acids, ligands, ions, waters and free amino acids are
    not chains nor parts of one: HETATM, and compounds that are no amino acids, need a peptide bond to it.

    Args:
        path: the file.
        on_bad: called with the error of a chain, which is then skipped; without it the error raises.

    Raises:
        ProtcliError: a chain's coordinates contradict its stated sequence; or, even with `on_bad`, the file is not a
            complete structure.
    """
    return proteins_of(_read(path), on_bad)


def _read(path: Path) -> Generator[Protein | ProtcliError, None, None]:
    is_cif = _suffix(path) in _CIF_SUFFIXES
    text = read_text(path, "an mmCIF file" if is_cif else "a PDB file")
    chains = [chain for chain in (_cif_chains if is_cif else _pdb_chains)(text, path) if chain.is_protein()]
    if not chains:
        raise ProtcliError(f"{path} contains no protein chain: expected amino-acid residues with a CA atom")
    stem = path.name[: path.name.lower().rindex(_suffix(path))]
    for number, chain in enumerate(chains, 1):
        try:
            yield check_protein(_protein("_".join(filter(None, (stem, str(number), chain.name))), chain))
        except ValueError as error:
            yield ProtcliError(f"{path}: {_named(chain)}: {error}")
        for before, after in pairwise(chain.residues.values()):
            step = math.dist(before.leader.xyz, after.leader.xyz)
            is_gap = break_in_numbering(before.number, after.number) == 1
            pair = f"{path}: {_named(chain)}: residues {before.number} and {after.number}"
            if step > _LONGEST_STEP and not is_gap:
                _warn(f"{pair} follow each other at {step:.1f} A: are these two chains?")
                break
            if step > _LONGEST_BOND and is_gap and not chain.construct:
                _warn(f"{pair} follow each other: what lies between them is absent, and the file states no sequence")
                break


_warn = cache(logging.getLogger("protcli").warning)  # once, however often a file is read


def _suffix(path: Path) -> str:
    return Path(path.name.lower().removesuffix(".gz")).suffix


def _named(chain: Chain) -> str:
    return f"chain {truncate(chain.name) or 'without a name'}"


def _protein(protein_id: str, chain: Chain) -> Protein:
    """Place the residues with coordinates in the construct. Raises ValueError if they do not fit."""
    residues = list(chain.residues.values())
    if chain.construct:
        letters = ["".join(map(letter_of, compounds)) for compounds in chain.construct]
        places = chain.places or place_residues(residues, letters, chain.missing) or [-1] * len(residues)
    else:
        letters, places = [residue.letters for residue in residues], list(range(len(residues)))
    sequence = [alternatives[0] for alternatives in letters]
    coords = np.full((len(letters), 3, 3), np.nan, dtype=np.float32)
    for place, residue in zip(places, residues, strict=True):
        if not 0 <= place < len(letters) or not set(residue.letters) & set(letters[place]):
            raise ValueError(
                f"its {len(residues)} residues with coordinates do not fit the {len(letters)} of its stated sequence "
                f"(SEQRES or polymer sequence): correct or remove that sequence"
            )
        sequence[place] = letter_of(residue.leader.compound, residue.hetero)
        coords[place] = residue.coords()
    mask = np.isfinite(coords[:, 1, 0])  # a missing atom is NaN in x, y and z
    if mask.sum() > 1 and not np.ptp(coords[mask, 1], axis=0).any():
        raise ValueError("its CA atoms lie at one point: expected coordinates")
    return Protein(protein_id, "".join(sequence), sequence_profile("".join(sequence)), coords, mask, has_profile=False)


def _pdb_chains(text: str, path: Path) -> list[Chain]:
    """The chains of a PDB file's first model.

    A chain consists of the records of one chain name and segment up to TER. If SEQRES lists its residues, later ATOM
    records of that name belong to it too: some programs write TER at every break. HETATM after TER is never a residue.
    """
    lines = text.splitlines()
    constructs: dict[str, list[tuple[str, ...]]] = defaultdict(list)
    missing = defaultdict(list)
    for line in lines:
        if line.startswith("SEQRES"):
            constructs[line[11:12].strip()] += [(compound,) for compound in line[19:70].split()]
        elif (match := _REMARK_465.match(line)) and match[1] in (None, "1"):
            missing[match[3] or ""].append((ResidueNumber(int(match[4]), match[5]), letter_of(match[2])))

    chains: dict[tuple[str, str, int], Chain] = {}
    ends: Counter[str] = Counter()  # TER records seen, by chain
    segments = {}  # the last one, by chain
    complete: set[tuple[str, ResidueNumber]] = set()  # residues before an END
    models, name = 0, ""
    for line_number, line in enumerate(lines, 1):
        models += line.startswith("MODEL ")
        if models == 2:
            break
        if line.startswith("TER"):
            ends[line[21:22].strip() or name] += 1
        if line.startswith("END"):  # or ENDMDL
            complete.update((key[0], number) for key, chain in chains.items() for number in chain.residues)
        if not line.startswith(("ATOM ", "HETATM")):
            continue
        name, compound, hetero = line[21:22].strip(), compound_name(line[17:21]), line.startswith("HETATM")
        atom_name, stated = line[12:16].strip(), constructs.get(name, [])
        if atom_name not in BACKBONE or (hetero and ends[name]):
            continue
        known = (compound,) in stated or is_amino_acid(compound, hetero)
        if stated and not known:
            continue
        try:
            number = ResidueNumber(_number(line[22:26]), line[26:27].strip().upper())
            xyz = tuple(float(line[begin : begin + 8]) for begin in (30, 38, 46))
            check_coords(np.array(xyz))
            atom = Atom(compound, line[16:17].strip(), float(line[54:60].strip() or 1), xyz)
        except ValueError as error:
            raise ProtcliError(
                f"{path}, line {line_number}: expected an atom in the columns of the PDB format "
                f"({truncate(error, 100)})"
            ) from error
        if (name, number) in complete:
            _warn(f"{path}, line {line_number}: chain {truncate(name)} begins again after END, and is read once")
            break
        if not np.isfinite(xyz).all():
            continue
        if line[72:76].strip().isalnum() or not name:  # otherwise a charge, or left out in some lines
            segments[name] = line[72:76]
        key = (name, "" if stated else segments.get(name, ""), 0 if stated else ends[name])
        chain = chains.setdefault(key, Chain(name, stated, missing.get(name, [])))
        if number in chain.residues and not known and number != next(reversed(chain.residues)):
            continue  # a ligand's number
        residue = chain.residues.setdefault(number, Residue(number, hetero))
        alternates = residue.atoms[atom_name]
        if number != next(reversed(chain.residues)) and atom.altloc in {other.altloc for other in alternates}:
            raise ProtcliError(
                f"{path}, line {line_number}: residue {number} of {_named(chain)} appears twice: expected each residue "
                "once, and TER at the end of a chain"
            )
        alternates.append(atom)
    if not chains and not re.search("^(ATOM |HETATM)", text, re.MULTILINE):
        raise ProtcliError(f"{path} has no ATOM record: expected a PDB file")
    if constructs and not any(line.rstrip() == "END" for line in reversed(lines)):
        # otherwise half a file would look like a construct whose other half is unresolved
        raise ProtcliError(f"{path} has SEQRES records but no END: expected a complete PDB file; is it truncated?")
    for (name, *_), chain in chains.items():
        if not (chain.construct and ends[name]):
            chain.drop_ligands()
    return list(chains.values())


def _number(columns: str) -> int:
    """A residue's number, in hybrid-36 beyond 9999. Raises ValueError if it is none."""
    from biotite.structure.io.pdb.hybrid36 import decode_hybrid36

    return int(columns) if columns.strip().lstrip("-").isdigit() else decode_hybrid36(columns)


def _cif_chains(text: str, path: Path) -> list[Chain]:
    """The chains of an mmCIF file's first model; polymer sequence numbers give each residue's position."""
    text = text.replace("\n\0", "\n")
    if not re.search(r"^\s*data_", text, re.IGNORECASE | re.MULTILINE):
        raise ProtcliError(f"{path} has no line 'data_NAME': expected an mmCIF file")
    try:
        blocks = [block for block in gemmi.cif.read_string(text) if block.find_mmcif_category("_atom_site.")]
        if not blocks:
            raise ProtcliError(f"{path} has no atom_site category: expected an mmCIF file with coordinates")
        return [chain for block in blocks for chain in _block_chains(block, path)]
    except (RuntimeError, ValueError, IndexError) as error:
        raise ProtcliError(f"{path} is not a complete and valid mmCIF file ({truncate(error, 200)})") from error


def _block_chains(block: gemmi.cif.Block, path: Path) -> list[Chain]:
    """The chains of a block with coordinates. Raises ValueError and RuntimeError if it is incomplete."""
    table = block.find_mmcif_category("_atom_site.")
    columns = {tag.partition(".")[2].lower(): table.column(index) for index, tag in enumerate(table.tags)}
    for tag in ("label_atom_id", "label_comp_id", "Cartn_x", "Cartn_y", "Cartn_z"):
        column = columns.get(tag.lower()) or columns.get(tag.replace("label", "auth"))
        if column is None:
            raise ProtcliError(f"{path}: the atom_site category has no '{tag}' column; expected the mmCIF columns")
        if tag.startswith("Cartn"):  # gemmi reads 1.2x0 as unknown
            check_coords(np.array([value for value in column if value not in ("?", ".")], dtype=float))
    absent = {"id", "type_symbol", "label_alt_id", "label_asym_id"} - columns.keys()  # gemmi insists on these
    if absent and table.loop:
        table.loop.add_columns([f"_atom_site.{tag}" for tag in absent], ".")
    structure, constructs = gemmi.make_structure_from_block(block), _constructs(block)
    residues = [(chain.name, residue) for model in list(structure)[:1] for chain in model for residue in chain]
    numbered = {name for name, residue in residues if residue.label_seq is not None}  # not where a program made it
    chains: dict[tuple[str, str], Chain] = {}
    for name, residue in residues:
        compound, hetero = compound_name(residue.name), residue.het_flag == "H"
        stated = constructs.get(("asym_id", residue.subchain)) or constructs.get(("entity_id", residue.entity_id), [])
        known = is_amino_acid(compound, hetero) or any(residue.name in compounds for compounds in stated)
        atoms = [atom for atom in residue if atom.name in BACKBONE and np.isfinite(atom.pos.tolist()).all()]
        if not atoms or (name in numbered and residue.label_seq is None) or (stated and not known):
            continue
        chain = chains.setdefault((name, residue.subchain), Chain(name, stated))
        number = ResidueNumber(residue.seqid.num or 0, residue.seqid.icode.strip())
        if number not in chain.residues:
            chain.residues[number] = Residue(number, hetero)
            chain.places += [] if residue.label_seq is None else [residue.label_seq - 1]
        elif not known:
            continue  # a ligand's number
        for atom in atoms:
            alternates = chain.residues[number].atoms[atom.name]
            if atom.altloc in {other.altloc for other in alternates}:
                raise ValueError(f"residue {number} of {_named(chain)} appears twice")
            alternates.append(Atom(compound, atom.altloc, atom.occ, tuple(atom.pos.tolist())))
    for chain in chains.values():
        if not chain.construct:
            chain.drop_ligands()
    return list(chains.values())


def _constructs(block: gemmi.cif.Block) -> dict[tuple[str, str], list[tuple[str, ...]]]:
    """Compounds of every residue (several if a position has several) by the label of a chain or by its entity."""
    compounds: dict[tuple[str, str], dict[int, list[str]]] = defaultdict(lambda: defaultdict(list))
    for category, owner, place in (
        ("pdbx_poly_seq_scheme", "asym_id", "seq_id"),
        ("entity_poly_seq", "entity_id", "num"),
    ):
        for row in block.find(f"_{category}.", [owner, place, "mon_id"]):
            compounds[owner, row.str(0)][int(row[1])].append(row.str(2))
    return {key: [tuple(of) for _, of in sorted(numbers.items())] for key, numbers in compounds.items()}


def pdb_text(sequence: str, coords: np.ndarray, error: np.ndarray, remark: str) -> str:
    """A PDB file with one chain, A, of C-alpha atoms.

    Args:
        sequence: L letters.
        coords: [L, 3] in Å.
        error: expected error of each atom in Å, [L], in the column of B factors; NaN is written as 0.
        remark: what a reader must know, of any length.
    """
    from biotite.structure.io.pdb import PDBFile

    file = PDBFile()
    file.set_structure(_atoms(sequence, coords, error))
    remarks = [f"REMARK   1 {line}" for line in textwrap.wrap(remark, _REMARK_WIDTH)]
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
    atoms.set_annotation("b_factor", np.minimum(np.nan_to_num(error), _LARGEST_ERROR))
    atoms.set_annotation("occupancy", np.ones(len(sequence)))
    return atoms
