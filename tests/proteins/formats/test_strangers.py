"""Files as other programs and their users write them: what belongs to a chain, and where one ends."""

from collections.abc import Iterable
from pathlib import Path

import gemmi
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protcli.errors import ProtcliError
from protcli.experiments.data.import_files import import_data
from protcli.experiments.predicting.predict import read_queries
from protcli.proteins.formats.structures import read_structure
from protcli.proteins.store import open_store

FIRST, SECOND = "MKTAYIAKQRQLSFVK", "GSHMEEVLKDWAQTRL"
NAMES = {letter: gemmi.expand_one_letter(letter, gemmi.ResidueKind.AA) for letter in "ACDEFGHIKLMNPQRSTVWY"}
FIRST_NAMES, SECOND_NAMES = ([NAMES[letter] for letter in letters] for letters in (FIRST, SECOND))


def residue(name: str, number: int, at: float, *, icode: str = " ", hetero: bool = False, altloc: str = "\0",
            occupancy: float = 1, segment: str = "", place: int | None = None) -> gemmi.Residue:  # fmt: skip
    """N, CA and C' of the residue at place `at` of a straight chain in which C' and the next N are 1.3 A apart."""
    made = gemmi.Residue()
    made.name, made.seqid, made.segment = name, gemmi.SeqId(number, icode), segment
    made.het_flag, made.label_seq = "AH"[hetero], place
    for atom_name, x, y in (("N", 0, 0), ("CA", 1.25, 0.5), ("C", 2.5, 0)):
        atom = gemmi.Atom()
        atom.name, atom.pos, atom.altloc, atom.occ = atom_name, gemmi.Position(3.8 * at + x, y, 0), altloc, occupancy
        atom.element = gemmi.Element("Ca" if name in ("CA", "CAL") else atom_name[0])
        made.add_atom(atom)
    return made


def polymer(names: Iterable[str], first: int = 1, at: int = 0, **options) -> list[gemmi.Residue]:
    return [residue(name, first + i, at + i, **options) for i, name in enumerate(names)]


def structure(chains: dict[str, list[gemmi.Residue]]) -> gemmi.Structure:
    made, model = gemmi.Structure(), gemmi.Model(1)
    for name, residues in chains.items():
        chain = gemmi.Chain(name)
        for each in residues:
            chain.add_residue(each)
        model.add_chain(chain)
    made.add_model(model)
    return made


def pdb(chains: dict[str, list[gemmi.Residue]], **options) -> str:
    return structure(chains).make_pdb_string(gemmi.PdbWriteOptions(**options))


def cif(chains: dict[str, list[gemmi.Residue]]) -> str:
    """Without entities, and with a chain's name and a number of its own in the labels of all its residues."""
    made = structure(chains)
    for chain in made[0]:
        for each in chain:
            each.subchain, each.label_seq = chain.name, each.seqid.num
    return made.make_mmcif_document(gemmi.MmcifOutputGroups(False, atoms=True, group_pdb=True)).as_string()


def read(folder: Path, text: str | bytes, name: str) -> list[tuple[str, str]]:
    """Name and sequence of each chain."""
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return [("_".join(protein.id.split("_")[2:]), protein.sequence) for protein in read_structure(path)]


# --- compounds ---

COMMON = {  # of the Chemical Component Dictionary, by kind
    "water": "HOH DOD",
    "ions": "ZN MG CA CL NA K MN FE FE2 NI CO CU CD HG IOD BR SR CS BA RB LI YB SM GD PT AU AG PB TL CAL",
    "buffers": "SO4 PO4 GOL EDO ACT PEG PGE PG4 1PE P6G MPD DMS TRS MES EPE CIT FMT ACY IPA BME DTT IMD NO3 NH4 AZI "
    "SCN BCT MLI TLA EOH MRD BOG LDA CO3",
    "cofactors": "HEM HEC FAD FMN NAD NAP NDP NAI ATP ADP AMP ANP GTP GDP GNP SAM SAH COA ACO PLP TPP UDP UMP GSH B12 "
    "CLA BCL RET SF4 FES F3S BTN H4B",
    "glycans": "NAG BMA MAN FUC GAL GLC BGC SIA NDG FUL XYP GLA",
    "nucleotides": "A C G U DA DC DG DT DU",
    "lipids and caps": "PLM OLA OLC STE MYR CLR ACE NH2 NME LIG UNL",
}
FREE = "GLY GLU ASP ALA LYS ARG HIS SER TYR PHE"
MODIFIED = {"MSE": "M", "SEP": "S", "TPO": "T", "PTR": "Y", "CSO": "C", "HYP": "P", "MLY": "K", "SEC": "C", "PYL": "K",
            "PCA": "Q", "KCX": "K", "LLP": "K", "CME": "C", "OCS": "C", "M3L": "K", "ALY": "K"}  # fmt: skip


@pytest.mark.parametrize("kind", COMMON)
def test_what_no_bond_ties_to_a_chain_is_no_residue(tmp_path, kind):
    """With atoms named N, CA and C, in either record, and with the chain's labels and a number in mmCIF."""
    for name in COMMON[kind].split():
        assert "AA" not in str(gemmi.find_tabulated_residue(name).kind)
        for hetero in (True, False):
            chains = {"A": [*polymer(FIRST_NAMES), residue(name, 201, 60, hetero=hetero)]}
            assert read(tmp_path, cif(chains), "x.cif") == [("A", FIRST)], name
            for ter in (True, False):
                assert read(tmp_path, pdb(chains, ter_records=ter), "x.pdb") == [("A", FIRST)], name


@pytest.mark.parametrize("name", [*FREE.split(), *MODIFIED])
def test_free_amino_acids_are_none_and_bonded_ones_are(tmp_path, name):
    letter = MODIFIED.get(name) or gemmi.find_tabulated_residue(name).one_letter_code
    free = {"A": [*polymer(FIRST_NAMES), residue(name, 201, 60, hetero=True)]}
    bonded = {"A": [*polymer(FIRST_NAMES), residue(name, 17, 16, hetero=True), *polymer(SECOND_NAMES, 18, 17)]}
    for text, suffix in ((cif, "cif"), (pdb, "pdb")):
        assert read(tmp_path, text(free), f"x.{suffix}") == [("A", FIRST)]
        assert read(tmp_path, text(bonded), f"x.{suffix}") == [("A", FIRST + letter + SECOND)]


def test_bonds_tell_a_compound_that_the_dictionary_has_not(tmp_path):
    for name, letter in {"LIG": "X", "QQQ": "X", "S1P": "S", "HIE": "H", "HSD": "H", "CYX": "C", "ASH": "D"}.items():
        for hetero in (True, False):
            bonded = [*polymer(FIRST_NAMES), residue(name, 17, 16, hetero=hetero), *polymer(SECOND_NAMES, 18, 17)]
            for text, suffix in ((cif, "cif"), (pdb, "pdb")):
                assert read(tmp_path, text({"A": bonded}), f"x.{suffix}") == [("A", FIRST + letter + SECOND)]


VARIANTS = {
    "H": "HID HIE HIP HSD HSE HSP HISA HISB HISD HISE HISH HISP", "C": "CYX CYM CYS2 CYSH", "D": "ASH ASPP ASPH",
    "E": "GLH GLUP GLUH", "K": "LYN LSN LYP LYSH", "R": "ARN", "Y": "TYM",
}  # fmt: skip
ENDS = [*NAMES.values(), "HID", "HIE", "HIP", "CYX"]
ENDS.remove("HIS")


def test_names_of_force_fields(tmp_path):
    """Both ends of AMBER's 23 residues, and names of protonation states in AMBER, CHARMM, GROMACS and GROMOS."""
    letters = {name: letter for letter, name in NAMES.items()}
    letters |= {name: letter for letter, names in VARIANTS.items() for name in names.split()}
    names = [f"{end}{name}" for end in "NC" for name in ENDS]
    assert len(names) == 46
    for name in [*names, *(name for of in VARIANTS.values() for name in of.split())]:
        letter = letters.get(name) or letters[name[1:]]
        chain = polymer([NAMES["G"], name, *FIRST_NAMES])
        assert read(tmp_path, cif({"A": chain}), "x.cif") == [("A", f"G{letter}{FIRST}")]
        for column in ("A", " "):  # gemmi writes three letters
            lines = [
                f"{line[:17]}{name:<4}{column}{line[22:]}" if line[22:26] == "   2" else line[:21] + column + line[22:]
                for line in pdb({"A": chain}).splitlines()
                if line.startswith("ATOM")
            ]
            [(_, found)] = read(tmp_path, "\n".join(lines), "x.pdb")
            assert found == f"G{letter}{FIRST}", name


# --- where a chain ends ---


def lines(residues: list[gemmi.Residue], chain: str = "A", segment: str = "") -> list[str]:
    atoms = [line for line in pdb({chain: residues}).splitlines() if line.startswith(("ATOM", "HETATM"))]
    return [f"{line[:72]}{segment:<4}{line[76:]}" for line in atoms]


def rows(residues: list[gemmi.Residue], asym: str = "A", author: str = "A", entity: str = "1") -> list[list[str]]:
    """Atoms of mmCIF, in the columns of COLUMNS."""
    return [
        [
            "HETATM" if each.het_flag == "H" else "ATOM", atom.element.name, atom.name, ".", each.name, asym, entity,
            str(each.label_seq or "."), "?", *(f"{value:.3f}" for value in atom.pos.tolist()), "1.00", "90.00",
            str(each.seqid.num), author, "1",
        ]
        for each in residues
        for atom in each
    ]  # fmt: skip


COLUMNS = (
    "group_PDB type_symbol label_atom_id label_alt_id label_comp_id label_asym_id label_entity_id label_seq_id "
    "pdbx_PDB_ins_code Cartn_x Cartn_y Cartn_z occupancy B_iso_or_equiv auth_seq_id auth_asym_id pdbx_PDB_model_num"
)


def block(*parts: list[list[str]], name: str = "model", drop: tuple[str, ...] = (), before: str = "") -> str:
    """A data block of atoms, numbered, without the columns in `drop`; `before` are other categories."""
    columns = COLUMNS.split()
    kept = [index for index, column in enumerate(columns) if column not in drop]
    heading = [f"data_{name}", "#", before, "loop_", "_atom_site.id", *(f"_atom_site.{columns[i]}" for i in kept)]
    atoms = [row for part in parts for row in part]
    return "\n".join([*heading, *(f"{n} {' '.join(row[i] for i in kept)}" for n, row in enumerate(atoms, 1)), "#", ""])


NUMBERED = [residue(name, i, i, place=i) for i, name in enumerate(FIRST_NAMES, 1)]
OTHER = [residue(name, i, 40 + i, place=i) for i, name in enumerate(SECOND_NAMES, 1)]
GOES_ON = polymer(SECOND_NAMES, 17, 40)
LIGAND = [residue("LIG", 1, 90, hetero=True)]
SODIUM = ["ATOM   1001  Na+ Na+   101      99.000  99.000  99.000  1.00  0.00"]
WATER = "ATOM  {:5} {:<4} {:<4}{}{:>4}      90.000  90.000  90.000  1.00  0.00{}"
ENTITIES = """loop_
_entity.id
_entity.type
1 polymer
2 polymer
3 non-polymer
loop_
_entity_poly.entity_id
_entity_poly.type
1 polypeptide(L)
2 polypeptide(L)
loop_
_pdbx_poly_seq_scheme.asym_id
_pdbx_poly_seq_scheme.entity_id
_pdbx_poly_seq_scheme.seq_id
_pdbx_poly_seq_scheme.mon_id
""" + "\n".join(
    f"{asym} {entity} {i} {name}"
    for asym, entity, names in (("A", 1, FIRST_NAMES), ("B", 2, SECOND_NAMES))
    for i, name in enumerate(names, 1)
)
TWO = [("A", FIRST), ("B", SECOND)]
PROGRAMS = {
    "PyMOL, PDB": (
        "x.pdb", [*lines(NUMBERED), "TER      49      LYS A  16", *lines(OTHER, "B"), *lines(LIGAND, "B"), "END"], TWO,
    ),
    "PyMOL, mmCIF: the segment is label_asym_id": (
        "x.cif",
        [block(rows(NUMBERED, "."), rows(OTHER, ".", "B"), rows(LIGAND, ".", "B"), drop=("auth_seq_id",))], TWO,
    ),
    "ChimeraX, mmCIF: a ligand has a label of its own": (
        "x.cif", [block(rows(NUMBERED), rows(OTHER, "B", "B", "2"), rows(LIGAND, "C", "A", "3"))], TWO,
    ),
    "Rosetta: tables of energies after the atoms": (
        "x.pdb", [
            "HEADER                                            01-JAN-24   XXXX", "EXPDTA    THEORETICAL MODEL",
            *lines(polymer(FIRST_NAMES)), "TER                                                                     ",
            *lines(GOES_ON, "B"), "TER", "# All scores below are weighted scores, not raw scores.",
            "#BEGIN_POSE_ENERGIES_TABLE x.pdb", "label fa_atr fa_rep total", "MET:NtermProteinFull_1 -2.1 0.3 -1.8",
            "#END_POSE_ENERGIES_TABLE x.pdb",
        ], TWO,
    ),
    "GROMACS: a box, models, four-letter names, no chain letters, water": (
        "x.pdb", [
            "TITLE     Protein in water t=   0.00000", "REMARK    THIS IS A SIMULATION BOX",
            "CRYST1   60.000   60.000   60.000  90.00  90.00  90.00 P 1           1", "MODEL        1",
            *(line.replace("LYS    16", "CLYS   16") for line in lines(NUMBERED, " ")), "TER",
            WATER.format(49, " OW", "SOL", " ", 17, ""), "TER", "ENDMDL",
        ], [("", FIRST)],
    ),
    "AMBER (LEaP, cpptraj): neither letters nor segments, numbers go on, TER": (
        "x.pdb", [
            *(line.replace("MET      1", "NMET     1") for line in lines(polymer(FIRST_NAMES), " ")), "TER",
            *(line.replace("HIS ", "HIE ") for line in lines(GOES_ON, " ")), "TER", *SODIUM, "TER",
            WATER.format(102, "O", "WAT", " ", 40, ""), "TER", "END",
        ], [("", FIRST), ("", SECOND)],
    ),
    "CHARMM: segments, HSD, TIP3, CAL": (
        "x.pdb", [
            "REMARK  GENERATED BY CHARMM-GUI", *lines(polymer(FIRST_NAMES), " ", "PROA"),
            *(line.replace("HIS ", "HSD ") for line in lines(polymer(SECOND_NAMES, 1, 40), " ", "PROB")),
            WATER.format(97, "CAL", "CAL", " ", 1, "      HETA"), WATER.format(98, "OH2", "TIP3", " ", 1, "      TIP3"),
            *(WATER.format(99, name, "POPC", " ", 1, "      MEMB") for name in ("N", "C", "C12")), "END",
        ], [("", FIRST), ("", SECOND)],
    ),
    "VMD: one chain letter and two segments": (
        "x.pdb", [*lines(polymer(FIRST_NAMES), "P", "P1"), *lines(GOES_ON, "P", "P2"), "END"],
        [("P", FIRST), ("P", SECOND)],
    ),
    "AlphaFold 2, PDB": (
        "x.pdb", ["MODEL     1", *lines(NUMBERED), "TER      49      LYS A  16", "ENDMDL", "END"], [("A", FIRST)],
    ),
    "AlphaFold 3, mmCIF: ligands have `.` in label_seq_id": (
        "x.cif", [block(rows(NUMBERED), rows(OTHER, "B", "B", "2"), rows(LIGAND, "C", "C", "3"), before=ENTITIES)], TWO,
    ),
    "ColabFold, PDB": (
        "x.pdb", [
            "MODEL     1", *lines(NUMBERED), "TER      49      LYS A  16", *lines(OTHER, "B"),
            "TER      98      LEU B  16", "ENDMDL", "END",
        ], TWO,
    ),
    "MODELLER: numbers go on": (
        "x.pdb", [
            "EXPDTA    THEORETICAL MODEL, MODELLER 10.4 2024/01/01 00:00:00",
            "REMARK   6 MODELLER OBJECTIVE FUNCTION:       512.3",
            *lines(polymer(FIRST_NAMES)), "TER      49      LYS A  16", *lines(GOES_ON, "B"), *lines(LIGAND, "B"),
            "TER      98      LIG B  33", "END",
        ], TWO,
    ),
    "two letters of a chain": (
        "x.pdb", [*lines(polymer(FIRST_NAMES), "AA"), "TER", *lines(GOES_ON, "BA")], [("A", FIRST), ("A", SECOND)],
    ),
    "AutoDock: a charge where segments stand": (
        "x.pdb", [f"{line[:70]}{'+-'[i % 2]}0.{i:03d}{line[76:]}" for i, line in enumerate(lines(NUMBERED))],
        [("A", FIRST)],
    ),
    "mmCIF whose chains differ in label_asym_id alone, in auth_asym_id alone, or have `?`": (
        "x.cif", [
            block(rows(NUMBERED), rows(OTHER, "B", "B"), drop=("auth_asym_id",), name="one"),
            block(rows(NUMBERED), rows(OTHER, "A", "B"), name="two"),
            block(rows(NUMBERED, "?"), rows(OTHER, "?", "B"), name="three"),
        ], TWO * 3,
    ),
    "mmCIF of one chain with numbers and one without": (
        "x.cif", [block(rows(NUMBERED), rows(polymer(SECOND_NAMES), "B", "B"))], TWO,
    ),
    "a comment at a row's end, and capitals": (
        "x.cif", [
            block(rows(NUMBERED), rows(OTHER, "B", "B")).replace(" A 1\n", " A 1 # here\n").replace("data", "DATA")
            .replace("loop", "LOOP").replace("_atom_site.C", "_Atom_Site.c").replace("ALA", "Ala"),
        ], TWO,
    ),
}  # fmt: skip


@pytest.mark.parametrize("program", PROGRAMS)
def test_what_programs_write(tmp_path, program):
    name, text, expected = PROGRAMS[program]
    assert read(tmp_path, "\n".join(text), name) == expected


def test_steps_that_are_too_long_are_said(tmp_path, caplog):
    """Two chains of one name, whose numbers go on or back; and a gap in the numbers, with nothing that fills it."""
    path = tmp_path / "x.pdb"
    for first, second, said in (
        (polymer(FIRST_NAMES), GOES_ON, "residues 16 and 17 follow each other"),
        (polymer(FIRST_NAMES, 50), polymer(SECOND_NAMES, 1, 40), "residues 65 and 1 follow each other"),
        (
            polymer(FIRST_NAMES),
            polymer(SECOND_NAMES, 18, 40),
            "residues 16 and 18 follow each other: what lies between",
        ),
    ):
        for text, suffix in ((pdb, "pdb"), (cif, "cif")):
            path = tmp_path / f"x.{suffix}"
            path.write_text(text({"A": [*first, *second]}))
            caplog.clear()
            for _ in range(2):  # said once
                assert [p.sequence for p in read_structure(path)] == [FIRST + SECOND]
            (message,) = caplog.messages
            assert message.startswith(f"{path}: chain A: {said}")


@pytest.mark.parametrize("end", ["END", "ENDMDL", "TER\nEND"])
def test_frames_without_model_are_one_protein(tmp_path, caplog, end):
    frames = [pdb({"A": polymer(FIRST_NAMES)}), pdb({"B": polymer(SECOND_NAMES)})]
    atoms = ["\n".join(line for line in frame.splitlines() if line.startswith("ATOM")) for frame in frames]
    path = tmp_path / "x.pdb"
    path.write_text(f"\n{end}\n".join([*atoms, *atoms, ""]))  # chain B after END is no other frame, A again is one
    assert [protein.sequence for protein in read_structure(path)] == [FIRST, SECOND]
    (message,) = caplog.messages
    assert "chain A begins again after END" in message


def test_atoms_at_one_point_are_no_structure(tmp_path):
    path = tmp_path / "x.pdb"
    lines = pdb({"A": polymer(FIRST_NAMES)}).splitlines()
    nowhere = f"{0:8.3f}" * 3
    path.write_text("\n".join(line[:30] + nowhere + line[54:] if line[:4] == "ATOM" else line for line in lines))
    with pytest.raises(ProtcliError, match="lie at one point"):
        list(read_structure(path))


@pytest.mark.parametrize(("name", "text"), [
    ("x.pdb", pdb({"A": [*polymer(FIRST_NAMES), *polymer(SECOND_NAMES, 1, 40)]})),
    ("x.cif", block(rows(polymer(FIRST_NAMES)), rows(polymer(SECOND_NAMES, 1, 40)))),
    ("y.cif", block(rows([residue(name, 1, i) for i, name in enumerate(FIRST_NAMES)]))),
])  # fmt: skip
def test_chains_that_nothing_parts_are_one_sentence(tmp_path, name, text):
    with pytest.raises(ProtcliError, match=r"residue 1 of chain A appears twice"):
        read(tmp_path, text, name)


@pytest.mark.parametrize("suffix", ["pdb", "cif", "ent", "mmcif"])
def test_bytes_of_other_systems(tmp_path, suffix):
    text = (cif if "cif" in suffix else pdb)({"A": NUMBERED})
    for content in (
        text.replace("\n", "\r\n"), text.replace("\n", "\r"), text.rstrip(), f"{text}\n\0", "\ufeff" + text,
        text.encode("utf-16"),
    ):  # fmt: skip
        assert read(tmp_path, content, f"x.{suffix}") == [("A", FIRST)]


# --- the files of the issue ---


def test_files_that_were_reported(real_data, tmp_path):
    folder = real_data / "strangers"
    both = {"pymol.cif", "p_segid.pdb"}
    structures = [path for path in sorted(folder.iterdir()) if path.suffix in (".cif", ".pdb")]
    list(import_data(structures, tmp_path / "s", as_split="train", families="none"))
    found = {(protein.id.split("_")[0], protein.sequence) for protein in open_store(tmp_path / "s").split("training")}
    stems = {path.name.split("_")[0].split(".")[0] for path in structures}
    twice = {name.split("_")[0].split(".")[0] for name in both}
    assert found == {(stem, FIRST) for stem in stems} | {(stem, SECOND) for stem in twice}
    for name, sequences in {
        "bom.fasta": [FIRST, SECOND], "seqs.fasta.gz": [FIRST, SECOND], "nul_end.a3m": [FIRST],
        "complex.a3m": [FIRST, SECOND], "rgn_query.txt": [FIRST],
    }.items():  # fmt: skip
        queries = list(read_queries(folder / name))
        assert [query.sequence for query in queries] == sequences
        assert all((query.profile is None) == ("fasta" in name) for query in queries)
    assert queries[0].profile.shape == (16, 21)
    assert queries[0].known is None


# --- any structure, against gemmi ---

LETTERS = {**{name: letter for letter, name in NAMES.items()}, **MODIFIED}


@st.composite
def chains(draw) -> dict[str, list[gemmi.Residue]]:
    made = {}
    for number, name in enumerate(draw(st.lists(st.sampled_from("ABC"), min_size=1, max_size=3, unique=True))):
        residues, seqid, at, icode = [], draw(st.integers(-5, 50)), 100 * number, " "
        for _ in range(draw(st.integers(5, 12))):
            compound = draw(st.sampled_from([*NAMES.values(), "MSE", "SEP", "HYP", "CSO"]))
            options = {"icode": icode, "hetero": compound in MODIFIED}
            others = draw(st.sampled_from([(), (), (compound if compound in MODIFIED else "SER",), (compound,)]))
            options |= {"altloc": "A", "occupancy": 0.6} if others else {}
            residues.append(residue(compound, seqid, at, **options))
            for other in others:
                second = residue(other, seqid, at + 0.1, **{**options, "altloc": "B", "occupancy": 0.4})
                if other == compound:
                    for atom in second:
                        residues[-1].add_atom(atom)
                else:
                    residues.append(second)
            step = draw(st.sampled_from(["next", "next", "insertion", "gap"]))
            if step == "insertion":
                icode = "A" if icode == " " else chr(ord(icode) + 1)
            else:
                skipped = draw(st.integers(1, 5)) if step == "gap" else 0
                seqid, at, icode = seqid + 1 + skipped, at + skipped, " "
            at += 1
        residues.append(residue("GLY", seqid, at, icode=icode))  # a modified residue at the end may be a ligand
        ligands = draw(st.lists(st.sampled_from(["HOH", "CA", "ZN", "GOL", "NAG", "GLY", "ATP"]), max_size=3))
        residues += [residue(ligand, 900 + i, at + 20 + 2 * i, hetero=True) for i, ligand in enumerate(ligands)]
        made[name] = residues
    return made


@given(made=chains(), ter=st.booleans())
def test_chains_and_residues_are_those_of_gemmi(tmp_path_factory, made, ter):
    """By gemmi's rules for polymers, after it has read the file itself; with and without TER, labels and entities."""
    folder = tmp_path_factory.mktemp("any")
    whole = structure(made)
    whole.setup_entities()
    whole.assign_label_seq_id(force=True)
    texts = {
        "x.pdb": whole.make_pdb_string(gemmi.PdbWriteOptions(ter_records=ter)),
        "x.cif": whole.make_mmcif_document().as_string(),
        "y.cif": cif(made),
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
        theirs = gemmi.read_structure(str(folder / name))
        theirs.setup_entities()
        expected = []
        for chain in theirs[0]:
            found = [each for each in chain.get_polymer().first_conformer()]
            if found:
                expected.append(
                    ("".join(LETTERS[each.name] for each in found), [each["CA"][0].pos.x for each in found])
                )
        got = [(protein.sequence, protein.atom("ca")[:, 0].tolist()) for protein in read_structure(folder / name)]
        assert [sequence for sequence, _ in got] == [sequence for sequence, _ in expected]
        for (_, ours), (_, gemmis) in zip(got, expected, strict=True):
            np.testing.assert_allclose(ours, gemmis, atol=1e-3)
