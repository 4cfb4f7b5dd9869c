"""Protein chains from structure files, PDB and mmCIF; the only door to biotite.

biotite reads mmCIF, hybrid-36 numbers and the chemical component dictionary. The columns of a PDB file are read here,
because three things are needed that its reader does not tell: where TER ends a chain (after it stand free ligands, some
of them amino acids), alternates with a digit for a name, and the line of a mistake.
"""

import functools
import gzip
import io
import itertools
import re
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from protcli.errors import ProtcliError
from protcli.proteins.protein import Protein
from protcli.proteins.residues import AMINO_ACIDS, UNKNOWN, sequence_profile

PDB_SUFFIXES = (".pdb", ".ent")
CIF_SUFFIXES = (".cif", ".mmcif")
BACKBONE = ("N", "CA", "C")

PEPTIDE_BOND = 2.0  # angstrom, C' to the next N: 1.33 in a good model, nothing unbound comes this near
CA_STEP = 4.2  # angstrom between neighbouring CA: 3.8 (trans) or 2.9 (cis); over a missing residue it is more

_STANDARD_COMPOUNDS = "ALACYSASPGLUPHEGLYHISILELYSLEUMETASNPROGLNARGSERTHRVALTRPTYR"
_STANDARD = {_STANDARD_COMPOUNDS[3 * i : 3 * i + 3]: letter for i, letter in enumerate(AMINO_ACIDS)}
# Protonation states as force fields name them, read so in ATOM records only: the dictionary knows other compounds by
# these names, and those stand in HETATM records.
_FORCE_FIELD = dict.fromkeys(("HID", "HIE", "HIP", "HSD", "HSE", "HSP"), "H") | dict.fromkeys(("CYX", "CYM"), "C")
_FORCE_FIELD |= {"ASH": "D", "GLH": "E", "LYN": "K"}
_REMARK_465 = re.compile(r"REMARK 465\s+(?:(\d+)\s+)?([A-Z0-9]{1,3})\s+(?:(\w)\s+)?(-?\d+)(\w?)\s*$")
_IMPOSSIBLE = 1e6  # cost of a letter that contradicts the stated sequence


class _Atom(NamedTuple):
    compound: str
    altloc: str
    occupancy: float
    xyz: tuple[float, float, float]


class _Number(NamedTuple):
    """A residue's number in its chain and its insertion code, A = 1."""

    number: int
    insertion: int = 0


@dataclass(slots=True)
class _Residue:
    number: _Number
    hetero: bool  # HETATM
    atoms: dict[str, list[_Atom]] = field(default_factory=lambda: defaultdict(list))  # name -> its alternates

    @property
    def leader(self) -> _Atom:
        """The alternate with the highest occupancy at CA (at another atom where there is none), the first of equals."""
        alternates = next(self.atoms[name] for name in ("CA", "N", "C") if name in self.atoms)
        return max(alternates, key=lambda atom: atom.occupancy)

    @property
    def letter(self) -> str:
        return _letter(self.leader.compound, self.hetero)

    @property
    def letters(self) -> str:
        """The letter of every alternate: where two amino acids share a place, SEQRES names only one of them."""
        compounds = dict.fromkeys(atom.compound for alternates in self.atoms.values() for atom in alternates)
        return "".join(_letter(compound, self.hetero) for compound in compounds)

    def coords(self) -> np.ndarray:
        """N, CA, C' of the leading alternate, or of an atom's own best where it lacks that one: float32 [3, 3]."""
        coords = np.full((3, 3), np.nan, dtype=np.float32)
        altloc = self.leader.altloc
        for row, name in enumerate(BACKBONE):
            if name in self.atoms:
                alternates = [atom for atom in self.atoms[name] if atom.altloc == altloc] or self.atoms[name]
                coords[row] = max(alternates, key=lambda atom: atom.occupancy).xyz
        return coords


@dataclass(slots=True)
class _Chain:
    """A chain as its file tells it.

    Attributes:
        name: the chain's name.
        residues: those with coordinates, in file order.
        construct: compounds of every residue, resolved or not (several where a place has several); empty if not told.
        places: index into `construct` of each of `residues`, where the file tells it (mmCIF).
        missing: number and letter of the residues without coordinates, where the file tells them (REMARK 465).
    """

    name: str
    residues: list[_Residue] = field(default_factory=list)
    construct: list[tuple[str, ...]] = field(default_factory=list)
    places: list[int] | None = None
    missing: list[tuple[_Number, str]] = field(default_factory=list)

    def is_protein(self) -> bool:
        """Whether there is a CA, and most of the chain is amino acids."""
        compounds = [(names[0], True) for names in self.construct]
        compounds = compounds or [(residue.leader.compound, residue.hetero) for residue in self.residues]
        amino_acids = sum(_is_amino_acid(*compound) for compound in compounds)
        return 2 * amino_acids > len(compounds) and any("CA" in residue.atoms for residue in self.residues)


def is_structure(path: Path) -> bool:
    """Whether the name is that of a structure file: .pdb, .ent, .cif or .mmcif, each also with .gz."""
    return _suffix(path) in PDB_SUFFIXES + CIF_SUFFIXES


def read_structure(path: Path, *, on_bad: Callable[[ProtcliError], None] | None = None) -> Iterator[Protein]:
    """Read the protein chains of a PDB or mmCIF file, gzipped or not, in file order.

    The id is `<file's stem>_<n>_<chain>`, n the chain's number among the file's protein chains. Of several models the
    first is read, of several alternates the one with the highest occupancy (the first of equal ones). A modified
    residue gets its parent's letter, an unknown one X. Where the file states the whole construct (SEQRES, or mmCIF's
    polymer sequence), residues without coordinates are in the sequence and masked. The mask is True where CA is there;
    the profile is `residues.sequence_profile`. Nucleic acids, ligands and waters make no chain.

    Args:
        path: the file.
        on_bad: told what is wrong with the file or with a chain, which is then left out; without it that is raised.

    Raises:
        ProtcliError: the file is no whole structure, or a chain's coordinates contradict its stated sequence.
    """
    report = on_bad or _raise
    try:
        text = _read_text(path)
        chains = _cif_chains(text, path) if _suffix(path) in CIF_SUFFIXES else _pdb_chains(text, path)
        chains = [chain for chain in chains if chain.is_protein()]
        if not chains:
            raise ProtcliError(f"{path} holds no protein chain: expected amino-acid residues with a CA atom")
    except ProtcliError as error:
        report(error)
        return
    stem = path.name[: path.name.lower().rindex(_suffix(path))]
    for number, chain in enumerate(chains, 1):
        try:
            protein = _protein("_".join(filter(None, (stem, str(number), chain.name))), chain, path)
        except ProtcliError as error:
            report(error)
        else:
            yield protein


def _raise(error: ProtcliError) -> None:
    raise error


def _suffix(path: Path) -> str:
    return Path(path.name.lower().removesuffix(".gz")).suffix


def _read_text(path: Path) -> str:
    try:
        data = path.read_bytes()
        if path.suffix.lower() == ".gz":
            data = gzip.decompress(data)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ProtcliError(f"{path} is no whole gzip file ({error}): fetch it again") from error
    except OSError as error:
        raise ProtcliError(f"{path} cannot be read: {error.strerror or error}") from error
    if not data.strip():
        raise ProtcliError(f"{path} is empty: expected a PDB or mmCIF file")
    return data.decode("utf-8", "replace")


@functools.cache
def _component(compound: str) -> tuple[str | None, str | None]:
    """Type and one-letter code in the chemical component dictionary; None for what it does not say."""
    from biotite.structure.info import link_type, one_letter_code  # most files need no dictionary, a second to load

    return link_type(compound), one_letter_code(compound)


def _is_amino_acid(compound: str, hetero: bool) -> bool:
    """Whether it is one; what the dictionary does not know at all is taken for one in ATOM records only."""
    if compound in _STANDARD or (compound in _FORCE_FIELD and not hetero):
        return True
    kind = _component(compound)[0]
    return not hetero if kind is None else "peptide" in kind.lower() and kind.lower() != "peptide-like"


def _letter(compound: str, hetero: bool = True) -> str:
    """The letter of a compound or of its parent amino acid, one of `residues.AMINO_ACIDS`, or X."""
    if compound in _STANDARD:
        return _STANDARD[compound]
    if compound in _FORCE_FIELD and not hetero:
        return _FORCE_FIELD[compound]
    code = (_component(compound)[1] or UNKNOWN) if _is_amino_acid(compound, hetero) else UNKNOWN
    code = {"U": "C", "O": "K"}.get(code, code)  # selenocysteine and pyrrolysine, to the parents they are made from
    return code if len(code) == 1 and code in AMINO_ACIDS else UNKNOWN


def _pdb_chains(text: str, path: Path) -> list[_Chain]:
    """The chains of a PDB file's first model.

    A chain is the part of the records of one name that ends with TER. Where SEQRES tells what belongs to it, later ATOM
    records of the name belong to it too: some programs write TER at every break. HETATM after TER is never a residue.
    """
    lines = text.splitlines()
    constructs: dict[str, list[tuple[str, ...]]] = defaultdict(list)
    missing: dict[str, list[tuple[_Number, str]]] = defaultdict(list)
    for line in lines:
        if line.startswith("SEQRES"):
            constructs[line[11:12].strip()] += [(compound,) for compound in line[19:70].split()]
        elif (found := _REMARK_465.match(line)) and found[1] in (None, "1"):
            _, absent, name, digits, insertion = found.groups(default="")
            missing[name].append((_number(digits, insertion), _letter(absent)))

    chains: dict[tuple[str, int], _Chain] = {}
    numbered: dict[tuple[str, int], dict[_Number, _Residue]] = defaultdict(dict)
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
            if (compound,) not in constructs.get(name, ()) and not _is_amino_acid(compound, hetero):
                continue
            key = (name, 0 if name in constructs else ends[name])
            try:
                number = _number(line[22:26], line[26:27])
                xyz = (float(line[30:38]), float(line[38:46]), float(line[46:54]))
                atom = _Atom(compound, line[16:17].strip(), float(line[54:60].strip() or 1), xyz)
            except ValueError as error:
                raise ProtcliError(
                    f"{path}, line {line_number}: expected an atom in the columns of the PDB format ({error})"
                ) from error
            if not np.isfinite(xyz).all():
                continue
            if key not in chains:
                chains[key] = _Chain(name, construct=constructs.get(name, []), missing=missing.get(name, []))
            residues = chains[key].residues
            residue = numbered[key].setdefault(number, _Residue(number, hetero))
            if not residue.atoms:
                residues.append(residue)
            elif residue is not residues[-1] and atom.altloc in {a.altloc for a in residue.atoms[atom_name]}:
                raise ProtcliError(
                    f"{path}, line {line_number}: residue {line[22:27].strip()} of chain {name or 'without a name'} "
                    f"comes a second time: expected each residue once, and TER at the end of a chain"
                )
            residue.atoms[atom_name].append(atom)
    if not atoms:
        raise ProtcliError(f"{path} has no ATOM record: expected a PDB file")
    if constructs and not any(line.rstrip() == "END" for line in reversed(lines)):
        # without this, half a file would read as a construct whose other half nobody saw
        raise ProtcliError(f"{path} has SEQRES records but no END: expected a whole PDB file, this one seems cut off")
    for (name, _), chain in chains.items():
        if not ends[name]:
            _drop_ligands(chain.residues)
    return list(chains.values())


def _number(number: str, insertion: str) -> _Number:
    """A residue's number, hybrid-36 included, and insertion code; ValueError where it is none."""
    from biotite.structure.io.pdb.hybrid36 import decode_hybrid36

    try:
        value = int(number)
    except ValueError:
        value = decode_hybrid36(number)
    return _Number(value, ord(insertion.upper()) - ord("A") + 1 if insertion.strip() else 0)


def _drop_ligands(residues: list[_Residue]) -> None:
    """Where no TER ends a chain, take from its end the HETATM residues that no peptide bond ties to it."""
    while residues and residues[-1].hetero:
        if len(residues) > 1 and _linked(residues[-2].coords(), residues[-1].coords()):
            break
        residues.pop()


def _cif_chains(text: str, path: Path) -> list[_Chain]:
    """The chains of an mmCIF file's first model; its polymer sequence numbers tell each residue's place."""
    from biotite import DeserializationError, InvalidFileError
    from biotite.structure.io.pdbx import CIFFile

    try:
        block = CIFFile.read(io.StringIO(text)).block
        if "atom_site" not in block:
            raise ProtcliError(f"{path} has no atom_site category: expected an mmCIF file with coordinates")
        return _chains_of_block(block)
    except KeyError as error:
        raise ProtcliError(f"{path}: the atom_site category has no {error} column, expected mmCIF's columns") from error
    except (DeserializationError, InvalidFileError, ValueError, IndexError) as error:
        raise ProtcliError(f"{path} is no whole mmCIF file ({error})") from error


def _chains_of_block(block: Any) -> list[_Chain]:
    site = block["atom_site"]

    def column(*names: str, default: str | None = None) -> np.ndarray:
        """The first of these columns that the file has, as text; the default where it has none."""
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

    places = column("label_seq_id", default=".")  # in the polymer, from 1; "." for ligands and water
    in_polymer = ~np.isin(places, [".", "?"])
    numbered = bool(in_polymer.any())
    if numbered:
        chosen &= in_polymer
    else:  # not from the archive: what is an amino acid is taken for a residue
        chosen[chosen] = [
            _is_amino_acid(str(c), bool(h)) for c, h in zip(compounds[chosen], hetero[chosen], strict=True)
        ]

    chains: dict[str, _Chain] = {}
    residues: dict[tuple[str, _Number], _Residue] = {}
    for row in np.flatnonzero(chosen):
        chain = chains.setdefault(str(asyms[row]), _Chain(str(names[row])))
        number = _number(str(places[row]), "") if numbered else _number(str(numbers[row]), insertions[row].strip("?."))
        residue = residues.setdefault((str(asyms[row]), number), _Residue(number, bool(hetero[row])))
        if not residue.atoms:
            chain.residues.append(residue)
        altloc, (x, y, z) = altlocs[row].strip("?."), xyz[row].tolist()
        residue.atoms[str(atom_names[row])].append(_Atom(str(compounds[row]), altloc, float(occupancy[row]), (x, y, z)))

    constructs = _constructs(block, dict(zip(asyms.tolist(), entities.tolist(), strict=True)))
    for asym, chain in chains.items():
        construct = constructs.get(asym, {})
        chain.construct = [tuple(compounds) for _, compounds in sorted(construct.items())]
        if not numbered:
            _drop_ligands(chain.residues)
        elif construct:
            order = {place: index for index, place in enumerate(sorted(construct))}
            chain.places = [order.get(residue.number.number, -1) for residue in chain.residues]
    return list(chains.values())


def _constructs(block: Any, entity_of: dict[str, str]) -> dict[str, dict[int, list[str]]]:
    """Every residue's compounds (several where a place has several) by chain and number in the polymer."""
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


def _protein(protein_id: str, chain: _Chain, path: Path) -> Protein:
    """Bring the residues with coordinates to their places in the construct."""
    letters = ["".join(map(_letter, compounds)) for compounds in chain.construct]
    if letters:
        places = chain.places or _place(chain.residues, letters, chain.missing)
    else:
        places, letters = list(range(len(chain.residues))), [residue.letters for residue in chain.residues]
    if not places or not all(
        place >= 0 and set(residue.letters) & set(letters[place])
        for place, residue in zip(places, chain.residues, strict=True)
    ):
        raise ProtcliError(
            f"{path}: the {len(chain.residues)} residues of chain {chain.name or 'without a name'} that have "
            f"coordinates do not fit the {len(letters)} of its stated sequence (SEQRES or polymer sequence): "
            f"correct or remove that sequence"
        )
    sequence = [alternatives[0] for alternatives in letters]
    coords = np.full((len(letters), 3, 3), np.nan, dtype=np.float32)
    for place, residue in zip(places, chain.residues, strict=True):
        sequence[place] = residue.letter
        coords[place] = residue.coords()
    mask = np.isfinite(coords[:, 1, 0])  # an atom that is missing is NaN in x, y and z
    profile = sequence_profile("".join(sequence))
    return Protein(protein_id, "".join(sequence), profile, coords, mask, has_profile=False)


def _place(
    residues: Sequence[_Residue], construct: Sequence[str], missing: Sequence[tuple[_Number, str]]
) -> list[int] | None:
    """Index into `construct` of each residue, or None where the letters leave no way.

    Letters alone do not say where in GGG the one missing G is. So among all placements whose letters agree the one is
    taken that contradicts the numbering least, and none breaks a chemical bond. Exact, by dynamic programming over
    (residues placed, residues passed over), with a turn between bonded neighbours ruled out.
    """
    spare = len(construct) - len(residues)
    if spare < 0:
        return None
    if len(missing) != spare:
        missing = ()
    fits = {
        letters: np.array([not set(letters).isdisjoint(place) for place in construct])
        for letters in {residue.letters for residue in residues}
    }
    coords = [residue.coords() for residue in residues]
    ends = [None, *(residue.number for residue in residues), None]
    cost = np.where(np.arange(spare + 1) == 0, 0, _IMPOSSIBLE)  # by the number of residues passed over
    steps = []
    for placed in range(len(residues) + 1):
        before, after = ends[placed], ends[placed + 1]
        source = np.arange(spare + 1)
        if not (before and after and _linked(coords[placed - 1], coords[placed])):
            turns = cost[:, None] + _gap_costs(before, after, missing, construct[placed : placed + spare])  # [from, to]
            jump = turns.argmin(axis=0)
            cost = cost + _break_in_numbering(before, after)
            source = np.where(turns.min(axis=0) < cost, jump, source)
            cost = np.minimum(cost, turns.min(axis=0))
        if after:
            cost = cost + _IMPOSSIBLE * ~fits[residues[placed].letters][placed : placed + spare + 1]
        steps.append(source)
    if cost[spare] >= _IMPOSSIBLE:
        return _place(residues, construct, ()) if missing else None
    passed, places = spare, []
    for placed in range(len(residues), 0, -1):
        passed = int(steps[placed][passed])
        places.append(placed - 1 + passed)
    return places[::-1]


def _gap_costs(
    before: _Number | None, after: _Number | None, missing: Sequence[tuple[_Number, str]], construct: Sequence[str]
) -> np.ndarray:
    """What it costs to pass over residues `from`..`to` - 1 of the missing ones between two residues: [from, to].

    Where the missing residues are numbered, breaks in the numbering and wrong letters count; else a gap of the length
    that the numbers of its neighbours say is free, another costs 1, and 2 where the numbers say that there is none.
    """
    spare = len(construct)
    start, stop = np.arange(spare + 1)[:, None], np.arange(spare + 1)[None, :]
    if missing:
        numbers = [number for number, _ in missing]
        wrong = np.cumsum([0, *(letter not in place for (_, letter), place in zip(missing, construct, strict=True))])
        inside = np.cumsum([0, 0, *(_break_in_numbering(*pair) for pair in itertools.pairwise(numbers))])
        enter = np.array([*(_break_in_numbering(before, number) for number in numbers), 0])
        leave = np.array([0, *(_break_in_numbering(number, after) for number in numbers)])
        inner = inside[stop] - inside[np.minimum(start + 1, spare)]
        costs = enter[start] + inner + leave[stop] + _IMPOSSIBLE * (wrong[stop] - wrong[start])
    elif before and after:
        skipped = after.number - before.number - 1
        costs = np.where(stop - start == skipped, 0, 1 if skipped > 0 else 2)
    else:
        costs = np.zeros((spare + 1, spare + 1))
    return np.where(start < stop, costs, _IMPOSSIBLE)


def _break_in_numbering(before: _Number | None, after: _Number | None) -> float:
    """0 where one number follows the other, 1 where some are left out, 2 where they go back; 0 at a chain's end."""
    if before is None or after is None:
        return 0
    step = after.number - before.number
    if step == 0:
        return float(abs(after.insertion - before.insertion) != 1)  # letters may run up or down
    return 0 if step == 1 else 1 if step > 1 else 2


def _linked(before: np.ndarray, after: np.ndarray) -> bool:
    """Whether two residues [3, 3] are neighbours in the chain by their geometry, by CA alone where that is all."""
    bond = np.linalg.norm(after[0] - before[2])
    return bool(bond < PEPTIDE_BOND) if np.isfinite(bond) else bool(np.linalg.norm(after[1] - before[1]) < CA_STEP)
