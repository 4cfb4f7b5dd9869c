"""Structure files: small ones written here for each feature, real ones against independent facts."""

import gzip
import hashlib
import re
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
from biotite.structure.io.pdbx import CIFFile, get_structure
from hypothesis import given
from hypothesis import strategies as st

from protcli.errors import ProtcliError
from protcli.proteins.formats import files
from protcli.proteins.formats.proteinnet import read_proteinnet
from protcli.proteins.formats.structures import cif_text, is_structure, pdb_text, read_structure
from protcli.proteins.protein import Protein
from protcli.proteins.residues import AMINO_ACIDS, sequence_profile

COMPOUNDS = "ALACYSASPGLUPHEGLYHISILELYSLEUMETASNPROGLNARGSERTHRVALTRPTYR"
NAMES = dict(zip(AMINO_ACIDS, re.findall("...", COMPOUNDS), strict=True))


def atom(
    name: str, compound: str, number: int | str, xyz: tuple[float, float, float], chain: str = "A", *,
    altloc: str = " ", insertion: str = " ", occupancy: float | str = 1.0, hetero: bool = False,
) -> str:  # fmt: skip
    record = "HETATM" if hetero else "ATOM"
    place = "".join(f"{value:8.3f}" for value in xyz)
    occupied = occupancy if isinstance(occupancy, str) else f"{occupancy:6.2f}"
    return (
        f"{record:6}{1:5d}  {name:<3}{altloc}{compound:>3} {chain}{number:>4}{insertion}   {place}{occupied}{10:6.2f}"
    )


def residue(compound: str, number: int | str, at: int, chain: str = "A", **keywords) -> list[str]:
    """N, CA and C' of the residue at place `at` of a straight chain in which C' and the next N are 1.3 A apart."""
    x = 3.8 * at
    atoms = {"N": (x, 0.0, 0.0), "CA": (x + 1.25, 0.5, 0.0), "C": (x + 2.5, 0.0, 0.0)}
    return [atom(name, compound, number, xyz, chain, **keywords) for name, xyz in atoms.items()]


def residues(text: str, **keywords) -> list[str]:
    """Of `ALA 1 0, *MSE 2A 1 B, TER`: number, place and chain (A) of each residue, * for HETATM; other lines as is."""
    lines = []
    for each in text.split(", "):
        if found := re.fullmatch(r"(\*?)(\w{3}) (-?\d+|A\d+)([A-Z]?) (\d+) ?(.?)", each):
            hetero, compound, number, insertion, at, chain = found.groups()
            keywords |= {"hetero": bool(hetero), "insertion": insertion or " "}
            lines += residue(compound, number, int(at), chain or "A", **keywords)
        else:
            lines.append(each)
    return lines


def seqres(chain: str, letters: str) -> list[str]:
    names = [NAMES[letter] for letter in letters]
    rows = [names[i : i + 13] for i in range(0, len(names), 13)]
    return [f"SEQRES {i:3d} {chain} {len(names):4d}  " + " ".join(r) for i, r in enumerate(rows, 1)]


def remark_465(chain: str, missing: str) -> list[str]:
    """Of `GLY 1C, SER 2`."""
    rows = [re.fullmatch(r"(\w{3}) (-?\d+)([A-Z]?)", each).groups() for each in missing.split(", ") if each]
    lines = [f"REMARK 465     {compound} {chain} {digits:>5}{insertion}" for compound, digits, insertion in rows]
    return ["REMARK 465   M RES C SSSEQI", *lines]


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., Path]:
    def write(*lines: str | list[str], name: str = "x.pdb") -> Path:
        flat = [line for part in lines for line in ([part] if isinstance(part, str) else part)]
        path = tmp_path / name
        path.write_text("\n".join([*flat, *(["END"] if path.suffix == ".pdb" else [])]) + "\n")
        return path

    return write


def only(path: Path) -> Protein:
    (protein,) = read_structure(path)
    return protein


def chains_of(path: Path) -> str:
    """ID, sequence and mask of each chain."""
    masks = ((p, "".join("-+"[int(there)] for there in p.mask)) for p in read_structure(path))
    return ", ".join(f"{p.id} {p.sequence} {mask}" for p, mask in masks)


def test_record_of_a_plain_chain(written):
    protein = only(written(residue("ALA", 1, 0), residue("TRP", 2, 1), "TER", name="1abc.pdb"))
    assert (protein.id, protein.sequence, protein.has_profile) == ("1abc_1_A", "AW", False)
    expected = [[[0, 0, 0], [1.25, 0.5, 0], [2.5, 0, 0]], [[3.8, 0, 0], [5.05, 0.5, 0], [6.3, 0, 0]]]
    np.testing.assert_array_equal(protein.coords, np.array(expected, dtype=np.float32))
    assert protein.coords.dtype == np.float32
    assert protein.mask.tolist() == [True, True]
    np.testing.assert_array_equal(protein.profile, sequence_profile("AW"))
    for names, expected in (
        ("1abc.pdb PDB1ABC.ENT a.cif a.mmcif.gz b.pdb.gz a.b.Cif", True),
        ("training_30 a.txt a.gz cif a.tfrecord a.pdb.bz2", False),
    ):
        assert {is_structure(Path(name)) for name in names.split()} == {expected}


ALA, GLY = residue("ALA", 1, 0), residue("GLY", 2, 1)
PARTS = residues("ALA 1 0, TER, GLY 2 3, TER")
NAMELESS = [*residue("ALA", 1, 0, " "), "TER", *residue("GLY", 1, 3, " ")]
PDB = {
    "force-field names are read in ATOM records only: HSE is histidine there, homoserine as a HETATM": (
        residues("HSE 1 0, HIE 2 1, CYX 3 2, *HSE 4 3"), "x_1_A HHCS ++++",
    ),
    "no chains are nucleic acid, water, an ion named CA, and amino acids that float free after TER": (
        [
            atom("P", "DA", 1, (0, 0, 0), "D"), atom("C1'", "DA", 1, (1, 0, 0), "D"),
            *residues("ALA 1 0 B, *MSE 2 1 B, TER       7      MSE B   2, *GLU 900 5 B"),
            atom("CA", "CA", 901, (9, 9, 9), "B", hetero=True), atom("O", "HOH", 902, (9, 9, 0), "B", hetero=True),
            *residues("*GLY 1 0 C"),
        ], "x_1_B AM ++",
    ),
    "a ligand without TER needs a peptide bond": (residues("ALA 1 0, *MSE 2 1, *GLU 300 9"), "x_1_A AM ++"),
    "chains in file order, numbered among protein chains": (
        [atom("P", "DT", 1, (0, 0, 0), "E"), "TER", *residues("ALA 1 0 C, TER, GLY 1 0, TER")],
        "x_1_C A +, x_2_A G +",
    ),
    "TER parts chains of one name": (PARTS, "x_1_A A +, x_2_A G +"),
    "but SEQRES joins them": ([*seqres("A", "AG"), *PARTS], "x_1_A AG ++"),
    "TER parts chains without a name": (NAMELESS, "x_1 A +, x_2 G +"),
    "and so do segments": (
        [f"{line:<72}{segment}" for segment in ("PROA", "PROB") for line in residue("ALA", 1, 0, " ")],
        "x_1 A +, x_2 A +",
    ),
    "AMBER's names of the ends": (
        [line[:17] + end + line[21:] for end, lines in (("NMET", ALA), ("CHIE", GLY)) for line in lines],
        "x_1_A MH ++",
    ),
    "the first of several models": (
        residues("MODEL        1, ALA 1 0, ENDMDL, MODEL        2, GLY 1 5, ENDMDL"), "x_1_A A +",
    ),
    "of two amino acids at one place, SEQRES names one, and the letter is that of the coordinates taken": (
        [
            *seqres("A", "APG"), *ALA, *residues("PRO 2 1", altloc="A", occupancy=0.4),
            *residues("SER 2 1", altloc="B", occupancy=0.6), *residues("GLY 3 2"),
        ], "x_1_A ASG +++",
    ),
    "a chain of CA alone": (
        [*seqres("A", "AAAA"), *(residue("ALA", i, i - 1)[1] for i in (1, 2, 4))], "x_1_A AAAA ++-+",
    ),
    "numbers beyond four digits are hybrid-36, a blank occupancy counts as one": (
        [*residue("ALA", 9999, 0), *residue("GLY", "A000", 1, occupancy=" " * 6)], "x_1_A AG ++",
    ),
    "insertion codes run down before residue 1, as in chain L of 1A4W, and up after residue 3": (
        [
            *remark_465("A", "GLY 1C, GLY 2, SER 3B"), *seqres("A", "GGGGGGSSS"),
            *residues("GLY -1 0, GLY 1B 2, GLY 1A 3, GLY 1 4, SER 3 6, SER 3A 7"),
        ], "x_1_A GGGGGGSSS +-+++-++-",
    ),
    "numbers run on over a gap: the one place without a peptide bond tells where it is": (
        [*seqres("A", "AGGGGA"), *residues("ALA 1 0, GLY 2 1, GLY 3 4, ALA 4 5")], "x_1_A AGGGGA ++--++",
    ),
    "numbers are left out over a bond: chymotrypsin's go from 217 to 219 with nothing between": (
        [*seqres("A", "GGGS"), *residues("GLY 217 0, GLY 219 1, SER 220 2")], "x_1_A GGGS -+++",
    ),
    "a chain of SEQRES alone is left out": ([*seqres("B", "A"), *seqres("A", "A"), *ALA], "x_1_A A +"),
}  # fmt: skip
MODIFIED = {"MSE": "M", "SEC": "C", "PYL": "K", "PTR": "Y", "SEP": "S", "UNK": "X", "ASX": "X", "CRO": "X"}
PDB |= {
    f"{name} gets the letter of its parent": (residues(f"ALA 1 0, *{name} 2 1, GLY 3 2, TER"), f"x_1_A A{letter}G +++")
    for name, letter in MODIFIED.items()
}
PDB |= {  # nothing tells the first of four alike from the last where REMARK 465 does not
    f"residue {absent} of GGGG is missing, {'stated' if stated else 'told by the numbering'}": (
        [
            *(remark_465("A", f"GLY {absent}") if stated else []), *seqres("A", "GGGG"),
            *residues(", ".join(f"GLY {number} {number}" for number in range(1, 5) if number != absent)),
        ],
        "x_1_A GGGG " + "".join("-+"[number != absent] for number in range(1, 5)),
    )
    for absent, stated in ((1, True), (2, True), (3, True), (4, True), (2, False), (3, False))
}  # fmt: skip


@pytest.mark.parametrize("case", PDB)
def test_chains_of_a_pdb_file(written, case):
    lines, expected = PDB[case]
    assert chains_of(written(lines)) == expected


@pytest.mark.parametrize(
    ("atoms", "expected"),
    [  # the highest occupancy at CA; the first of equal ones, also where names are digits; an atom's own best
        ("N 1 A 0.3, N 2 B 0.7, CA 3 A 0.3, CA 4 B 0.7, C 5 _ 1", [2, 4, 5]),
        ("N 1 2 0.5, N 2 1 0.5, CA 3 2 0.5, CA 4 1 0.5, C 5 2 0.5, C 6 1 0.5", [1, 3, 5]),
        ("N 1 A 0.6, N 2 B 0.4, CA 3 A 0.4, CA 4 B 0.6, C 5 C 0.2, C 6 D 0.3", [2, 4, 6]),
    ],
)
def test_alternates(written, atoms, expected):
    """Of one serine: name, x, alternate and occupancy."""
    rows = [row.split() for row in atoms.split(", ")]
    lines = [
        atom(name, "SER", 1, (float(x), 0, 0), altloc=altloc.replace("_", " "), occupancy=float(taken))
        for name, x, altloc, taken in rows
    ]
    assert only(written(lines)).coords[0, :, 0].tolist() == expected


def test_missing_atoms_are_nan_and_the_mask_asks_for_ca(written):
    protein = only(written(residue("ALA", 1, 0)[:2], residue("GLY", 2, 1)[:1], residue("SER", 3, 2)[1:2]))
    assert protein.mask.tolist() == [True, False, True]
    there = np.array([[True, True, False], [True, False, False], [False, True, False]])
    np.testing.assert_array_equal(np.isnan(protein.coords), np.repeat(~there[:, :, None], 3, axis=2))


@given(
    letters=st.text("AG", min_size=1, max_size=12), present=st.lists(st.booleans(), min_size=12, max_size=12),
    first=st.integers(-20, 20), stated=st.booleans(),
)  # fmt: skip
def test_every_residue_comes_to_its_place(tmp_path_factory, letters, present, first, stated):
    """Any pattern of missing residues in a chain of two letters, with and without REMARK 465."""
    construct = f"W{letters}W"  # the ends are told from the rest: without REMARK 465 nothing else places them
    mask = [True, *present[: len(letters)], True]
    chain = list(zip(construct, mask, range(first, first + len(mask)), strict=True))
    lines = [line for letter, there, number in chain if there for line in residue(NAMES[letter], number, number)]
    missing = ", ".join(f"{NAMES[letter]} {number}" for letter, there, number in chain if not there)
    path = tmp_path_factory.mktemp("any") / "x.pdb"
    header = [*(remark_465("A", missing) if stated else []), *seqres("A", construct)]
    path.write_text("\n".join([*header, *lines, "TER", "END"]))
    protein = only(path)
    assert protein.sequence == construct
    assert protein.mask.tolist() == mask


def test_chain_that_contradicts_its_seqres_is_refused_and_the_next_one_read(written):
    wrong = [*seqres("A", "AG"), *seqres("B", "S"), *ALA, *residue("TRP", 2, 1), "TER"]
    path = written(wrong, residue("SER", 1, 0, "B"), "TER")
    errors: list[ProtcliError] = []
    assert [p.id for p in read_structure(path, on_bad=errors.append)] == ["x_2_B"]
    assert len(errors) == 1
    with pytest.raises(ProtcliError, match=r"x.pdb: chain A: its 2 residues with coordinates do not fit the 2"):
        list(read_structure(path))


# --- mmCIF ---

COLUMNS = (
    "group_PDB", "label_atom_id", "label_alt_id", "label_comp_id", "label_asym_id", "label_entity_id", "label_seq_id",
    "pdbx_PDB_ins_code", "Cartn_x", "Cartn_y", "Cartn_z", "occupancy", "auth_seq_id", "auth_asym_id",
    "pdbx_PDB_model_num",
)  # fmt: skip


def cif_residue(
    compound: str, place: str, number: str, at: int, *, asym: str = "A", entity: str = "1", author: str = "A",
    group: str = "ATOM", altloc: str = ".", insertion: str = "?", occupancy: float = 1, model: int = 1,
) -> list[str]:  # fmt: skip
    x = 3.8 * at
    return [
        f"{group} {name} {altloc} {compound} {asym} {entity} {place} {insertion} {x + dx:.3f} {y:.3f} 0.000 "
        f"{occupancy:.2f} {number} {author} {model}"
        for name, dx, y in (("N", 0, 0), ("CA", 1.25, 0.5), ("C", 2.5, 0))
    ]


def cif(*atoms: list[str], drop: tuple[str, ...] = (), scheme: Iterable[str] = (), entity: Iterable[str] = ()) -> str:
    """An mmCIF file of these atom_site rows, without the columns in `drop`, with polymer sequences if given."""
    keep = [index for index, name in enumerate(COLUMNS) if name not in drop]
    lines = ["data_TEST", "#", "loop_", *(f"_atom_site.{COLUMNS[index]}" for index in keep)]
    lines += [" ".join(row.split()[index] for index in keep) for part in atoms for row in part]
    for category, columns, rows in (
        ("pdbx_poly_seq_scheme", ("asym_id", "seq_id", "mon_id"), scheme),
        ("entity_poly_seq", ("entity_id", "num", "mon_id"), entity),
    ):
        if rows:
            lines += ["#", "loop_", *(f"_{category}.{column}" for column in columns), *rows]
    return "\n".join([*lines, "#"])


def spaced(
    first: int, *, asym: str = "A", author: str = "A", compounds: str = "MKV", **columns: str
) -> list[list[str]]:
    return [
        cif_residue(NAMES[letter], str(first + i), str(first + i), i, asym=asym, author=author, **columns)
        for i, letter in enumerate(compounds)
    ]


DROP = (*("label_seq_id", "label_alt_id", "label_entity_id", "pdbx_PDB_ins_code", "occupancy", "pdbx_PDB_model_num"),)
LIGAND = ("# another block", "data_comp_LIG", "_chem_comp.id LIG", "")
CIF = {
    f"places by the polymer's numbers ({category})": (
        cif(
            cif_residue("MSE", "2", "-4", 1, asym="C", author="H", entity="7", group="HETATM"),
            cif_residue("GLY", "4", "52", 3, asym="C", author="H", entity="7", insertion="A"),
            cif_residue("GLU", ".", "901", 9, asym="D", author="H", entity="8", group="HETATM"),
            **{category: [f"{owner} {i} {name}" for i, name in enumerate(["GLY", "MSE", "GLY", "GLY"], 1)]},
        ),
        "x_1_H GMGG -+-+",
    )
    for category, owner in (("scheme", "C"), ("entity", "7"))
}
CIF |= {
    "the first model, alternates, and two amino acids at one place": (
        cif(
            cif_residue("ALA", "1", "1", 0, altloc="A", occupancy=0.5),
            cif_residue("ALA", "1", "1", 7, altloc="B", occupancy=0.5),
            cif_residue("PRO", "2", "2", 1, altloc="A", occupancy=0.4),
            cif_residue("SER", "2", "2", 2, altloc="B", occupancy=0.6),
            cif_residue("ALA", "1", "1", 5, model=2),
            scheme=["A 1 ALA", "A 2 PRO", "A 2 SER"],
        ),
        "x_1_A AS ++",
    ),
    "a modelling program's, without polymer numbers and with few columns": (
        cif(
            cif_residue("ALA", ".", "1", 0), cif_residue("GLY", ".", "2", 1),
            cif_residue("GLU", ".", "9", 9, group="HETATM"), drop=DROP,
        ),
        "x_1_A AG ++",
    ),
    "the same with a stated sequence: placed by its authors' numbers": (
        cif(
            *(cif_residue("ALA", ".", "1", 0), cif_residue("GLY", ".", "3", 2)),
            drop=tuple(name for name in DROP if name != "label_entity_id"), entity=["1 1 ALA", "1 2 GLY", "1 3 GLY"],
        ),
        "x_1_A AGG +-+",
    ),
    "PyMOL's: its label_asym_id is `.`, and there is no auth_seq_id": (
        cif(*spaced(1, asym="."), *spaced(1, asym=".", author="B"), drop=("auth_seq_id",)),
        "x_1_A MKV +++, x_2_B MKV +++",
    ),
    "ions named CA with numbers of their own": (
        cif(*spaced(1), [cif_residue("CA", "201", "201", 9, group="HETATM")[1]]), "x_1_A MKV +++",
    ),
    "residues told apart by the insertion code alone": (
        cif(*spaced(1), *(cif_residue("GLY", "3", "3", 3 + i, insertion=code) for i, code in enumerate("AB"))),
        "x_1_A MKVGG +++++",
    ),
    "a block of restraints after that of the structure": ("\n".join([cif(*spaced(1)), *LIGAND]), "x_1_A MKV +++"),
    "and before it": ("\n".join([*LIGAND, cif(*spaced(1))]), "x_1_A MKV +++"),
    "names in capitals": (
        cif(*spaced(1)).replace("data_", "DATA_").replace("loop_", "LOOP_").replace("Cartn_x", "cartn_X"),
        "x_1_A MKV +++",
    ),
    "a coordinate that is not known": (cif(*spaced(1)).replace("1.250", "?"), "x_1_A MKV -++"),
}  # fmt: skip


@pytest.mark.parametrize("case", CIF)
def test_chains_of_an_mmcif_file(written, case):
    text, expected = CIF[case]
    assert chains_of(written(text, name="x.cif")) == expected


# --- files that are none ---


TWO = cif(cif_residue("ALA", "1", "1", 0), cif_residue("GLY", "2", "2", 1))
CONTRADICTS = cif(cif_residue("TRP", "1", "1", 0), cif_residue("ALA", "5", "5", 1), scheme=["A 1 ALA", "A 2 GLY"])
# each residue is alone: a table of 2,000 x 2,000 numbers for each of 300 would take minutes
APART = [atom("CA", "ALA", 10 * number, (9.0 * number, 0, 0)) for number in range(300)]


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("x.pdb", "", "x.pdb is empty"),
        ("x.cif", "  \n", "x.cif is empty"),
        ("x.pdb", "Dear reader,\nthis is a letter.\n", "has no ATOM record: expected a PDB file"),
        ("x.cif", "Dear reader,\nthis is a letter.\n", "x.cif has no line 'data_NAME': expected an mmCIF file"),
        ("x.cif", "\n<!DOCTYPE html><p>moved</p>", "x.cif is a web page: expected an mmCIF file; fetch the file again"),
        ("x.pdb", "\x89PNG\0\0", "x.pdb is not text: expected a PDB file"),
        ("x.cif", "data_X\n_cell.length_a 1\n", "has no atom_site category"),
        ("x.cif", "data_X\nloop_\n_atom_site.group_PDB\n_atom_site.label_atom_id\nATOM N\n", "has no 'label_comp_id'"),
        ("x.cif", TWO[: TWO.rindex("0.000")], "is not a complete and valid mmCIF file"),
        ("x.cif", CONTRADICTS, r"x.cif: chain A: its 2 residues with coordinates"),
        ("x.pdb", atom("P", "DA", 1, (0, 0, 0)), "contains no protein chain"),
        ("x.pdb", ALA[0], "contains no protein chain"),
        ("x.pdb", ALA[1][:40], r"x.pdb, line 1: expected an atom in the columns"),
        ("x.pdb", ALA[1].replace("   1.250", "   1.2x0"), r"line 1: .*1.2x0"),
        ("x.pdb", [*ALA, *GLY, *residue("ALA", 1, 5)], "line 7: residue 1 of chain A appears twice"),
        # without END the missing half would be taken for residues that nobody saw
        ("x.pdb", [*seqres("A", "AA"), *ALA], "x.pdb has SEQRES records but no END"),
        ("a\x07b.pdb", ALA, r"chain A: the ID 'a\\x07b_1_A' holds '\\x07'"),
        ("x.pdb", [*seqres("A", "A" * 2300), *APART, "END"], "A: 2000 residues are missing in 301 places or fewer"),
    ],
)
def test_files_that_are_no_structure(tmp_path, name, text, sentence):
    (tmp_path / name).write_text(text if isinstance(text, str) else "\n".join(text), encoding="latin-1")
    with pytest.raises(ProtcliError, match=sentence) as caught:
        list(read_structure(tmp_path / name))
    assert "\n" not in str(caught.value)


def test_gzip_whole_and_cut_off(tmp_path, monkeypatch):
    data = gzip.compress("\n".join(ALA).encode())
    path = tmp_path / "x.pdb.gz"
    path.write_bytes(data)
    assert only(path).id == "x_1_A"
    again = "the gzip stream is {}.*; fetch the file again"
    for content, said in (
        (data[:-10], again.format("truncated")),
        (data[:40] + b"\0\0\0" + data[43:], again.format("damaged")),
        (gzip.compress(bytes(1 << 22)), r"x\.pdb\.gz holds more than 1 MiB: expected a PDB file"),
        (None, r"cannot read .*x\.pdb\.gz: No such file"),
    ):
        monkeypatch.setattr(files, "_LARGEST_TEXT", 1 << 20)
        path.unlink() if content is None else path.write_bytes(content)
        with pytest.raises(ProtcliError, match=said):
            list(read_structure(path))


def test_coordinates_at_the_limit_and_beyond(written):
    there = atom("CA", "ALA", 1, (-999.999, 9999.999, 0))
    assert only(written(there)).coords[0, 1].tolist() == pytest.approx([-999.999, 9999.999, 0])
    with pytest.raises(ProtcliError, match=r"line 1: .*a coordinate of 10000\.5 A: expected at most 10,000 A"):
        only(written(there.replace("9999.999", "10000.50")))
    text = cif(cif_residue("ALA", "1", "1", 0))
    assert only(written(text.replace("1.250", "10000.0"), name="x.cif")).coords[0, 1, 0] == 10_000
    for value in ("10000.1", "1e300", "-1e300"):
        with pytest.raises(ProtcliError, match=r"x\.cif .*a coordinate of .* A: expected at most 10,000 A"):
            only(written(text.replace("1.250", value), name="x.cif"))


# --- written files ---

SEQUENCE = AMINO_ACIDS + "X"
REMARK = (
    "predicted by a model of many words, so that the remark takes more than a line of a PDB file; it is's no 'quote'"
)


@pytest.mark.parametrize("suffix", ["pdb", "cif"])
def test_what_is_written_is_read(tmp_path: Path, suffix: str) -> None:
    rng = np.random.default_rng(0)
    coords, error = rng.normal(0, 30, (21, 3)), rng.uniform(0, 20, 21)
    error[3], error[4] = 2000, np.nan
    given = (SEQUENCE, coords, error, REMARK)
    text = pdb_text(*given) if suffix == "pdb" else cif_text("n", *given)
    path = tmp_path / f"some.{suffix}"
    path.write_text(text)
    [protein] = read_structure(path)
    assert protein.sequence == SEQUENCE
    np.testing.assert_allclose(protein.atom("ca"), coords, atol=6e-4)
    if suffix == "pdb":
        lines = text.splitlines()
        assert all(len(line) <= 80 for line in lines)
        assert " ".join(line[11:] for line in lines if line.startswith("REMARK   1")) == REMARK
        found = [float(line[60:66]) for line in lines if line.startswith("ATOM")]
        np.testing.assert_allclose(found, [*error[:3], 999.99, 0, *error[5:]], atol=6e-3)
        assert lines[-2:] == ["TER", "END"]
    else:
        file = CIFFile.read(path)
        assert file.block["struct"]["title"].as_item() == REMARK
        atoms = get_structure(file, model=1, extra_fields=["b_factor"])
        np.testing.assert_allclose(atoms.b_factor[:3], error[:3], rtol=1e-5)


# --- real files ---


def test_every_file_reads(real_data):
    """Chains, residues and residues with CA; those of PDB files were counted with grep in SEQRES and REMARK 465.

    The digests of sequence, mask and coordinates are of what version 0.1.0 read with another reader of mmCIF.
    """
    found = {}
    for path in filter(is_structure, sorted((real_data / "raw_structures").iterdir())):
        chains = list(read_structure(path))
        digest = hashlib.sha256()
        for p in chains:
            digest.update(p.sequence.encode() + p.mask.tobytes() + p.coords.tobytes())
        ids = [p.id.removeprefix(path.name.split(".")[0] + "_") for p in chains]
        lengths = [(len(p), int(p.mask.sum())) for p in chains]
        found[path.name] = (digest.hexdigest()[:8], *zip(ids, lengths, strict=True))
    thrombin = (("1_L", (36, 26)), ("2_H", (259, 248)), ("3_I", (12, 9)))
    assert found == {
        "1A8O.cif": ("0a97ea67", ("1_A", (70, 70))),
        "1A8O.pdb": ("0a97ea67", ("1_A", (70, 70))),
        "1FMK.pdb": ("f5db6de7", ("1_A", (452, 438))),
        "1TUP.pdb": ("fd1d519f", ("1_A", (219, 196)), ("2_B", (219, 194)), ("3_C", (219, 195))),
        "1a4w.cif": ("eda9209c", *thrombin),
        "1a4w.pdb": ("eda9209c", *thrombin),
        "1aki.cif": ("c8b803cf", ("1_A", (129, 129))),
        "1fdo.pdb": ("29cd92e7", ("1_A", (715, 715))),
        "1l2y.pdb": ("e140102e", ("1_A", (20, 20))),
        "1lzh.pdb.gz": ("fb389383", ("1_A", (129, 129)), ("2_B", (129, 129))),
        "1o1z.pdb": ("f4a5d16b", ("1_A", (234, 226))),
        "3o5r.cif": ("d2555b5a", ("1_A", (128, 128))),
        "5pti.pdb": ("e5c81fcc", ("1_A", (58, 58))),
        "a_structure.pdb": ("542fdb8a", ("1_A", (87, 86)), ("2_B", (10, 10))),
    }


def test_chains_are_those_of_proteinnets_own_records(real_data):
    """Sequence, mask and coordinates of the records that another program made from these very files."""
    names = ("1a4w.cif", "1fdo.pdb", "3o5r.cif", "1A8O.pdb", "1TUP.pdb")
    chains = {p.id.upper(): p for name in names for p in read_structure(real_data / "raw_structures" / name)}
    compared = set()
    for record in (record for split in ("training_95", "testing") for record in read_proteinnet(real_data / split)):
        if ours := chains.get(record.id.rpartition("#")[2]):
            compared.add(ours.id.upper())
            assert ours.sequence == record.sequence
            np.testing.assert_array_equal(ours.mask, record.mask)
            np.testing.assert_allclose(ours.coords[ours.mask], record.coords[ours.mask], atol=1e-4)
    assert compared == {"1A4W_1_L", "1A4W_2_H", "1FDO_1_A", "3O5R_1_A", "1A8O_1_A", "1TUP_1_A"}
