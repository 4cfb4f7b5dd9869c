"""Structure files: small ones written here for each feature, real ones against independent facts."""

import gzip
import hashlib
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protcli.errors import ProtcliError
from protcli.proteins.formats import files
from protcli.proteins.formats.structures import is_structure, read_structure
from protcli.proteins.protein import Protein
from protcli.proteins.residues import sequence_profile

COMPOUNDS = "ALACYSASPGLUPHEGLYHISILELYSLEUMETASNPROGLNARGSERTHRVALTRPTYR"
NAMES = dict(zip("ACDEFGHIKLMNPQRSTVWY", re.findall("...", COMPOUNDS), strict=True))


def atom(
    name: str,
    compound: str,
    number: int | str,
    xyz: tuple[float, float, float],
    chain: str = "A",
    *,
    altloc: str = " ",
    insertion: str = " ",
    occupancy: float | str = 1.0,
    hetero: bool = False,
) -> str:
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


def seqres(chain: str, compounds: Iterable[str]) -> list[str]:
    names = list(compounds)
    rows = [names[i : i + 13] for i in range(0, len(names), 13)]
    return [f"SEQRES {i:3d} {chain} {len(names):4d}  " + " ".join(f"{n:>3}" for n in r) for i, r in enumerate(rows, 1)]


def remark_465(chain: str, missing: Iterable[tuple[str, int | str]]) -> list[str]:
    rows = []
    for compound, number in missing:
        digits, insertion = re.fullmatch(r"(-?\d+)([A-Z]?)", str(number)).groups()
        rows.append(f"REMARK 465     {compound} {chain} {digits:>5}{insertion}")
    return ["REMARK 465   M RES C SSSEQI", *rows]


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


@pytest.mark.parametrize("name", ["1abc.pdb", "PDB1ABC.ENT", "a.cif", "a.mmcif.gz", "b.pdb.gz", "a.b.Cif"])
def test_structure_names(name):
    assert is_structure(Path(name))


@pytest.mark.parametrize("name", ["training_30", "a.txt", "a.gz", "cif", "a.tfrecord", "a.pdb.bz2"])
def test_other_names(name):
    assert not is_structure(Path(name))


def test_record_of_a_plain_chain(written):
    protein = only(written(residue("ALA", 1, 0), residue("TRP", 2, 1), "TER", name="1abc.pdb"))
    assert (protein.id, protein.sequence, protein.has_profile) == ("1abc_1_A", "AW", False)
    expected = [[[0, 0, 0], [1.25, 0.5, 0], [2.5, 0, 0]], [[3.8, 0, 0], [5.05, 0.5, 0], [6.3, 0, 0]]]
    np.testing.assert_array_equal(protein.coords, np.array(expected, dtype=np.float32))
    assert protein.coords.dtype == np.float32
    assert protein.mask.tolist() == [True, True]
    np.testing.assert_array_equal(protein.profile, sequence_profile("AW"))


@pytest.mark.parametrize(
    ("compound", "letter"),
    [("MSE", "M"), ("SEC", "C"), ("PYL", "K"), ("PTR", "Y"), ("SEP", "S"), ("UNK", "X"), ("ASX", "X"), ("CRO", "X")],
)
def test_modified_residue_gets_its_parents_letter(written, compound, letter):
    protein = only(written(residue("ALA", 1, 0), residue(compound, 2, 1, hetero=True), residue("GLY", 3, 2), "TER"))
    assert protein.sequence == f"A{letter}G"
    assert protein.mask.all()


def test_force_field_names_are_read_in_atom_records_only(written):
    """HSE is a protonation state of histidine in ATOM records, L-homoserine as a HETATM."""
    chain = [*residue("HSE", 1, 0), *residue("HIE", 2, 1), *residue("CYX", 3, 2), *residue("HSE", 4, 3, hetero=True)]
    assert only(written(chain, "TER")).sequence == "HHCS"


def test_what_is_no_chain(written):
    """Nucleic acid, water, an ion named CA, and amino acids that float free after TER."""
    path = written(
        atom("P", "DA", 1, (0, 0, 0), "D"),
        atom("C1'", "DA", 1, (1, 0, 0), "D"),
        residue("ALA", 1, 0, "B"),
        residue("MSE", 2, 1, "B", hetero=True),
        "TER       7      MSE B   2",
        residue("GLU", 900, 5, "B", hetero=True),
        atom("CA", "CA", 901, (9, 9, 9), "B", hetero=True),
        atom("O", "HOH", 902, (9, 9, 0), "B", hetero=True),
        residue("GLY", 1, 0, "C", hetero=True),
    )
    assert [(p.id, p.sequence) for p in read_structure(path)] == [("x_1_B", "AM")]


def test_ligand_without_ter_needs_a_peptide_bond(written):
    chain = [*residue("ALA", 1, 0), *residue("MSE", 2, 1, hetero=True)]
    assert only(written(chain, residue("GLU", 300, 9, hetero=True))).sequence == "AM"


def test_chains_in_file_order_numbered_among_protein_chains(written):
    path = written(
        atom("P", "DT", 1, (0, 0, 0), "E"),
        "TER",
        residue("ALA", 1, 0, "C"),
        "TER",
        residue("GLY", 1, 0, "A"),
        "TER",
    )
    assert [(p.id, p.sequence) for p in read_structure(path)] == [("x_1_C", "A"), ("x_2_A", "G")]


def test_ter_parts_chains_of_one_name_unless_seqres_joins_them(written):
    parts = [*residue("ALA", 1, 0), "TER", *residue("GLY", 2, 3), "TER"]
    assert [p.id for p in read_structure(written(parts))] == ["x_1_A", "x_2_A"]
    assert only(written(seqres("A", ["ALA", "GLY"]), parts)).sequence == "AG"
    nameless = [*residue("ALA", 1, 0, " "), "TER", *residue("GLY", 1, 3, " ")]
    assert [p.id for p in read_structure(written(nameless))] == ["x_1", "x_2"]


def test_first_of_several_models(written):
    path = written("MODEL        1", residue("ALA", 1, 0), "ENDMDL", "MODEL        2", residue("GLY", 1, 5), "ENDMDL")
    protein = only(path)
    assert protein.sequence == "A"
    assert protein.coords[0, 0].tolist() == [0, 0, 0]


def test_alternate_with_the_highest_occupancy_at_ca(written):
    lines = [
        atom("N", "SER", 1, (1, 0, 0), altloc="A", occupancy=0.3),
        atom("N", "SER", 1, (2, 0, 0), altloc="B", occupancy=0.7),
        atom("CA", "SER", 1, (3, 0, 0), altloc="A", occupancy=0.3),
        atom("CA", "SER", 1, (4, 0, 0), altloc="B", occupancy=0.7),
        atom("C", "SER", 1, (5, 0, 0)),
    ]
    assert only(written(lines)).coords[0, :, 0].tolist() == [2, 4, 5]


def test_first_of_equal_alternates_and_names_that_are_digits(written):
    lines = [
        atom(name, "SER", 1, (x, 0, 0), altloc=altloc, occupancy=0.5)
        for name, start in (("N", 1), ("CA", 3), ("C", 5))
        for x, altloc in ((start, "2"), (start + 1, "1"))
    ]
    assert only(written(lines)).coords[0, :, 0].tolist() == [1, 3, 5]


def test_atoms_follow_the_alternate_of_ca_or_take_their_own_best(written):
    lines = [
        atom("N", "SER", 1, (1, 0, 0), altloc="A", occupancy=0.6),
        atom("N", "SER", 1, (2, 0, 0), altloc="B", occupancy=0.4),
        atom("CA", "SER", 1, (3, 0, 0), altloc="A", occupancy=0.4),
        atom("CA", "SER", 1, (4, 0, 0), altloc="B", occupancy=0.6),
        atom("C", "SER", 1, (5, 0, 0), altloc="C", occupancy=0.2),
        atom("C", "SER", 1, (6, 0, 0), altloc="D", occupancy=0.3),
    ]
    assert only(written(lines)).coords[0, :, 0].tolist() == [2, 4, 6]


def test_two_amino_acids_at_one_place(written):
    """SEQRES names one of them; the letter is that of the coordinates taken."""
    lines = [
        *residue("ALA", 1, 0),
        *residue("PRO", 2, 1, altloc="A", occupancy=0.4),
        *residue("SER", 2, 1, altloc="B", occupancy=0.6),
        *residue("GLY", 3, 2),
    ]
    assert only(written(seqres("A", ["ALA", "PRO", "GLY"]), lines, "TER")).sequence == "ASG"


def test_missing_atoms_are_nan_and_the_mask_asks_for_ca(written):
    lines = [*residue("ALA", 1, 0)[:2], *residue("GLY", 2, 1)[:1], *residue("SER", 3, 2)[1:2]]
    protein = only(written(lines))
    assert protein.mask.tolist() == [True, False, True]
    missing = np.isnan(protein.coords)
    assert missing[:, :, 0].tolist() == [[False, False, True], [False, True, True], [True, False, True]]
    assert (missing.all(axis=2) == missing.any(axis=2)).all()


def test_ca_only_chain(written):
    lines = [residue("ALA", i, i - 1)[1] for i in (1, 2, 4)]
    protein = only(written(seqres("A", ["ALA"] * 4), lines, "TER"))
    assert protein.mask.tolist() == [True, True, False, True]
    assert np.isnan(protein.coords[:, [0, 2]]).all()


def test_numbers_beyond_four_digits_are_hybrid_36(written):
    assert only(written(residue("ALA", 9999, 0), residue("GLY", "A000", 1))).sequence == "AG"


def test_negative_numbers_and_insertion_codes_in_either_direction(written):
    """Insertion codes run down before residue 1, as in chain L of 1A4W, and up after residue 3."""
    lines = [
        *residue("GLY", -1, 0),
        *residue("GLY", 1, 2, insertion="B"),
        *residue("GLY", 1, 3, insertion="A"),
        *residue("GLY", 1, 4),
        *residue("SER", 3, 6),
        *residue("SER", 3, 7, insertion="A"),
    ]
    construct = ["GLY"] * 6 + ["SER"] * 3
    missing = [("GLY", "1C"), ("GLY", 2), ("SER", "3B")]
    protein = only(written(remark_465("A", missing), seqres("A", construct), lines, "TER"))
    assert protein.sequence == "GGGGGGSSS"
    assert protein.mask.tolist() == [True, False, True, True, True, False, True, True, False]


@pytest.mark.parametrize(
    ("absent", "mask", "stated"),
    [
        (1, "-+++", True),
        (2, "+-++", True),
        (3, "++-+", True),
        (4, "+++-", True),
        (2, "+-++", False),
        (3, "++-+", False),
    ],
)
def test_letters_that_do_not_tell_leave_it_to_the_numbering(written, absent, mask, stated):
    """With and without REMARK 465 (without it nothing tells the first of four alike from the last)."""
    lines = [line for number in range(1, 5) if number != absent for line in residue("GLY", number, number)]
    remarks = remark_465("A", [("GLY", absent)]) if stated else []
    protein = only(written(remarks, seqres("A", ["GLY"] * 4), lines, "TER"))
    assert "".join("-+"[int(there)] for there in protein.mask) == mask
    np.testing.assert_allclose(protein.coords[protein.mask][:, 0, 0] / 3.8, [n for n in range(1, 5) if n != absent])


def test_renumbered_chain_is_placed_by_letters_and_bonds(written):
    """Numbers run on over the gap; the one place without a peptide bond tells where it is."""
    lines = [*residue("ALA", 1, 0), *residue("GLY", 2, 1), *residue("GLY", 3, 4), *residue("ALA", 4, 5)]
    protein = only(written(seqres("A", ["ALA", "GLY", "GLY", "GLY", "GLY", "ALA"]), lines, "TER"))
    assert protein.mask.tolist() == [True, True, False, False, True, True]


def test_numbering_that_leaves_numbers_out_over_a_bond(written):
    """Chymotrypsin numbering goes from 217 to 219 with nothing between."""
    lines = [*residue("GLY", 217, 0), *residue("GLY", 219, 1), *residue("SER", 220, 2)]
    protein = only(written(seqres("A", ["GLY", "GLY", "GLY", "SER"]), lines, "TER"))
    assert protein.mask.tolist() == [False, True, True, True]


@given(
    letters=st.text("AG", min_size=1, max_size=12),
    present=st.lists(st.booleans(), min_size=12, max_size=12),
    first=st.integers(-20, 20),
    stated=st.booleans(),
)
def test_every_residue_comes_to_its_place(tmp_path_factory, letters, present, first, stated):
    """Any pattern of missing residues in a chain of two letters, with and without REMARK 465."""
    construct = f"W{letters}W"  # the ends are told from the rest: without REMARK 465 nothing else places them
    mask = [True, *present[: len(letters)], True]
    chain = list(zip(construct, mask, range(first, first + len(mask)), strict=True))
    lines = [line for letter, there, number in chain if there for line in residue(NAMES[letter], number, number)]
    missing = [(NAMES[letter], number) for letter, there, number in chain if not there]
    path = tmp_path_factory.mktemp("any") / "x.pdb"
    header = [*(remark_465("A", missing) if stated else []), *seqres("A", [NAMES[c] for c in construct])]
    path.write_text("\n".join([*header, *lines, "TER", "END"]))
    protein = only(path)
    assert protein.sequence == construct
    assert protein.mask.tolist() == mask


def test_chain_that_contradicts_its_seqres_is_refused_and_the_next_one_read(written):
    path = written(
        seqres("A", ["ALA", "GLY"]),
        seqres("B", ["SER"]),
        residue("ALA", 1, 0),
        residue("TRP", 2, 1),
        "TER",
        residue("SER", 1, 0, "B"),
        "TER",
    )
    with pytest.raises(ProtcliError, match=r"x.pdb: chain A: its 2 residues with coordinates do not fit the 2"):
        list(read_structure(path))
    errors: list[ProtcliError] = []
    assert [p.id for p in read_structure(path, on_bad=errors.append)] == ["x_2_B"]
    assert len(errors) == 1


# --- mmCIF ---

COLUMNS = (
    "group_PDB",
    "label_atom_id",
    "label_alt_id",
    "label_comp_id",
    "label_asym_id",
    "label_entity_id",
    "label_seq_id",
)
COLUMNS += ("pdbx_PDB_ins_code", "Cartn_x", "Cartn_y", "Cartn_z", "occupancy", "auth_seq_id", "auth_asym_id")
COLUMNS += ("pdbx_PDB_model_num",)


def cif_residue(
    compound: str,
    place: str,
    number: str,
    at: int,
    *,
    asym: str = "A",
    entity: str = "1",
    author: str = "A",
    group: str = "ATOM",
    altloc: str = ".",
    insertion: str = "?",
    occupancy: float = 1,
    model: int = 1,
) -> list[str]:
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


@pytest.mark.parametrize("category", ["scheme", "entity"])
def test_cif_places_by_the_polymers_numbers(written, category):
    owner = {"scheme": "C", "entity": "7"}[category]
    sequence = [f"{owner} {i} {name}" for i, name in enumerate(["GLY", "MSE", "GLY", "GLY"], 1)]
    text = cif(
        cif_residue("MSE", "2", "-4", 1, asym="C", author="H", entity="7", group="HETATM"),
        cif_residue("GLY", "4", "52", 3, asym="C", author="H", entity="7", insertion="A"),
        cif_residue("GLU", ".", "901", 9, asym="D", author="H", entity="8", group="HETATM"),
        **{category: sequence},
    )
    protein = only(written(text, name="1abc.cif"))
    assert (protein.id, protein.sequence) == ("1abc_1_H", "GMGG")
    assert protein.mask.tolist() == [False, True, False, True]
    np.testing.assert_allclose(protein.coords[1], [[3.8, 0, 0], [5.05, 0.5, 0], [6.3, 0, 0]], rtol=1e-6)


def test_cif_first_model_alternates_and_two_amino_acids_at_one_place(written):
    text = cif(
        cif_residue("ALA", "1", "1", 0, altloc="A", occupancy=0.5),
        cif_residue("ALA", "1", "1", 7, altloc="B", occupancy=0.5),
        cif_residue("PRO", "2", "2", 1, altloc="A", occupancy=0.4),
        cif_residue("SER", "2", "2", 2, altloc="B", occupancy=0.6),
        cif_residue("ALA", "1", "1", 5, model=2),
        scheme=["A 1 ALA", "A 2 PRO", "A 2 SER"],
    )
    protein = only(written(text, name="x.cif"))
    assert protein.sequence == "AS"
    np.testing.assert_allclose(protein.coords[:, 0, 0], [0, 7.6], rtol=1e-6)


def test_cif_without_polymer_numbers_is_read_by_its_authors_numbers(written):
    """Coordinates as a modelling program writes them: no label_seq_id, few columns."""
    drop = ("label_seq_id", "label_alt_id", "label_entity_id", "pdbx_PDB_ins_code", "occupancy", "pdbx_PDB_model_num")
    text = cif(
        cif_residue("ALA", ".", "1", 0),
        cif_residue("GLY", ".", "2", 1),
        cif_residue("GLU", ".", "9", 9, group="HETATM"),
        drop=drop,
    )
    assert only(written(text, name="x.cif")).sequence == "AG"
    drop = tuple(name for name in drop if name != "label_entity_id")
    text = cif(
        cif_residue("ALA", ".", "1", 0),
        cif_residue("GLY", ".", "3", 2),
        drop=drop,
        entity=["1 1 ALA", "1 2 GLY", "1 3 GLY"],
    )
    assert only(written(text, name="x.cif")).mask.tolist() == [True, False, True]


def test_cif_residue_that_contradicts_its_sequence(written):
    text = cif(cif_residue("TRP", "1", "1", 0), cif_residue("ALA", "5", "5", 1), scheme=["A 1 ALA", "A 2 GLY"])
    with pytest.raises(ProtcliError, match=r"x.cif: chain A: its 2 residues with coordinates"):
        list(read_structure(written(text, name="x.cif")))


# --- files of kinds that people have reported trouble with elsewhere ---


def spaced(
    first: int, *, asym: str = "A", author: str = "A", compounds: str = "MKV", **columns: str
) -> list[list[str]]:
    return [
        cif_residue(NAMES[letter], str(first + i), str(first + i), i, asym=asym, author=author, **columns)
        for i, letter in enumerate(compounds)
    ]


def test_cif_of_pymol(written):
    """Its label_asym_id is `.`, and it writes no auth_seq_id."""
    text = cif(*spaced(1, asym="."), *spaced(1, asym=".", author="B"), drop=("auth_seq_id",))
    assert [(p.id, p.sequence) for p in read_structure(written(text, name="x.cif"))] == [
        ("x_1_A", "MKV"),
        ("x_2_B", "MKV"),
    ]


def test_cif_ions_named_ca_with_numbers_of_their_own(written):
    ion = [cif_residue("CA", "201", "201", 9, group="HETATM")[1]]
    assert only(written(cif(*spaced(1), ion), name="x.cif")).sequence == "MKV"


def test_cif_residues_told_apart_by_the_insertion_code_alone(written):
    inserted = [cif_residue("GLY", "3", "3", 3 + i, insertion=code) for i, code in enumerate("AB")]
    assert only(written(cif(*spaced(1), *inserted), name="x.cif")).sequence == "MKVGG"


@pytest.mark.parametrize("block", ["data_comp_LIG\n_chem_comp.id LIG\n{}", "{}\ndata_comp_LIG\n_chem_comp.id LIG\n"])
def test_cif_of_several_blocks(written, block):
    assert only(written(block.format(cif(*spaced(1))), name="x.cif")).sequence == "MKV"


def test_cif_in_capitals(written):
    text = cif(*spaced(1)).replace("data_", "DATA_").replace("loop_", "LOOP_").replace("Cartn_x", "cartn_X")
    assert only(written(text, name="x.cif")).sequence == "MKV"


def test_cif_coordinate_that_is_no_number(written):
    text = cif(*spaced(1))
    with pytest.raises(ProtcliError, match=r"1\.2x0"):
        only(written(text.replace("1.250", "1.2x0"), name="x.cif"))
    assert only(written(text.replace("1.250", "?"), name="x.cif")).mask.tolist() == [False, True, True]


def test_terminal_names_of_amber(written):
    lines = [*residue("MET", 1, 0), *residue("HIE", 2, 1), *residue("LYS", 3, 2)]
    named = [re.sub("(MET|LYS) A", lambda m: f"{'N' if m[1] == 'MET' else 'C'}{m[1]}A", line) for line in lines]
    assert named[0][17:22] == "NMETA"
    assert only(written(named, "TER")).sequence == "MHK"


def test_segments_part_chains_without_a_name(written):
    lines = [f"{line:<72}{segment}" for segment in ("PROA", "PROB") for line in residue("ALA", 1, 0, " ")]
    assert [p.id for p in read_structure(written(lines))] == ["x_1", "x_2"]


# --- files that are none ---


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("x.pdb", "", "x.pdb is empty"),
        ("x.cif", "  \n", "x.cif is empty"),
        ("x.pdb", "Dear reader,\nthis is a letter.\n", "has no ATOM record: expected a PDB file"),
        ("x.cif", "Dear reader,\nthis is a letter.\n", "is not a complete mmCIF file"),
        ("x.cif", "data_X\n_cell.length_a 1\n", "has no atom_site category"),
        ("x.cif", "data_X\nloop_\n_atom_site.group_PDB\n_atom_site.label_atom_id\nATOM N\n", "has no 'label_comp_id'"),
        ("x.pdb", atom("P", "DA", 1, (0, 0, 0)) + "\n", "contains no protein chain"),
        ("x.pdb", residue("ALA", 1, 0)[0] + "\n", "contains no protein chain"),
        ("x.pdb", residue("ALA", 1, 0)[1][:40] + "\n", r"x.pdb, line 1: expected an atom in the columns"),
        ("x.pdb", residue("ALA", 1, 0)[1].replace("   1.250", "   1.2x0"), r"line 1: .*1.2x0"),
    ],
)
def test_files_that_are_no_structure(tmp_path, name, text, sentence):
    (tmp_path / name).write_text(text)
    with pytest.raises(ProtcliError, match=sentence) as caught:
        list(read_structure(tmp_path / name))
    assert "\n" not in str(caught.value)
    errors: list[ProtcliError] = []
    assert list(read_structure(tmp_path / name, on_bad=errors.append)) == []
    assert [str(error) for error in errors] == [str(caught.value)]


def test_cif_cut_off_in_a_row(written):
    text = cif(cif_residue("ALA", "1", "1", 0), cif_residue("GLY", "2", "2", 1))
    with pytest.raises(ProtcliError, match="is not a complete mmCIF file"):
        list(read_structure(written(text[: text.rindex("0.000")], name="x.cif")))


def test_pdb_cut_off_between_lines(tmp_path):
    """Without END the missing half would be taken for residues that nobody saw."""
    lines = [*seqres("A", ["ALA"] * 2), *residue("ALA", 1, 0)]
    (tmp_path / "x.pdb").write_text("\n".join(lines))
    with pytest.raises(ProtcliError, match=r"x.pdb has SEQRES records but no END"):
        list(read_structure(tmp_path / "x.pdb"))


def test_residue_that_comes_twice(written):
    path = written(residue("ALA", 1, 0), residue("GLY", 2, 1), residue("ALA", 1, 5))
    with pytest.raises(ProtcliError, match=r"line 7: residue 1 of chain A appears twice"):
        list(read_structure(path))


def test_gzip_whole_and_cut_off(tmp_path):
    data = gzip.compress("\n".join(residue("ALA", 1, 0)).encode())
    path = tmp_path / "x.pdb.gz"
    path.write_bytes(data)
    assert only(path).id == "x_1_A"
    for broken in (data[:-10], b"ATOM not gzip", data[:40] + b"\0\0\0" + data[43:]):
        path.write_bytes(broken)
        with pytest.raises(ProtcliError, match="is not a complete gzip file"):
            list(read_structure(path))


def test_coordinates_at_the_limit_and_beyond(written):
    there = atom("CA", "ALA", 1, (-999.999, 9999.999, 0))
    assert only(written(there)).coords[0, 1].tolist() == pytest.approx([-999.999, 9999.999, 0])
    with pytest.raises(ProtcliError, match=r"line 1: .*a coordinate of 10000\.5 A: expected at most 10,000 A"):
        only(written(there.replace("9999.999", "10000.50")))
    place = f"{1.25:.3f}"
    rows = [cif_residue("ALA", "1", "1", 0)]
    assert place in rows[0][1]
    for value, refused in (("10000.0", False), ("10000.1", True), ("1e300", True), ("-1e300", True)):
        path = written(cif([row.replace(place, value) for row in rows[0]]), name="x.cif")
        if refused:
            with pytest.raises(ProtcliError, match=r"x\.cif .*a coordinate of .* A: expected at most 10,000 A"):
                only(path)
        else:
            assert only(path).coords[0, 1, 0] == 10_000


def test_a_name_that_cannot_be_printed(written):
    path = written(residue("ALA", 1, 0), name="a\x07b.pdb")
    with pytest.raises(ProtcliError, match=r"chain A: the ID 'a\\x07b_1_A' holds '\\x07'"):
        only(path)


def test_residues_that_are_missing_in_very_many_places(written):
    """Each residue is alone: a table of 2,000 x 2,000 numbers for each of 300 would take minutes."""
    apart = [atom("CA", "ALA", 10 * number, (9.0 * number, 0, 0)) for number in range(300)]
    path = written(seqres("A", ["ALA"] * 2300), *apart)
    with pytest.raises(ProtcliError, match="chain A: 2000 residues are missing in 301 places or fewer"):
        only(path)


def test_a_file_that_unpacks_to_very_much(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_LARGEST_TEXT", 1 << 20)
    path = tmp_path / "x.pdb.gz"
    path.write_bytes(gzip.compress(bytes(1 << 22)))
    with pytest.raises(ProtcliError, match=r"x\.pdb\.gz holds more than 1 MiB: expected a PDB or mmCIF file"):
        only(path)


def test_file_that_is_not_there(tmp_path):
    with pytest.raises(ProtcliError, match="cannot be read: No such file"):
        list(read_structure(tmp_path / "none.pdb"))


# --- real files ---


@pytest.fixture(scope="module")
def real() -> Path:
    folder = os.environ.get("PROTCLI_REAL_DATA")
    if not folder:
        pytest.skip("PROTCLI_REAL_DATA is not set")
    return Path(folder)


@pytest.fixture(scope="module")
def raw(real) -> Path:
    return real / "raw_structures"


def test_every_file_reads(raw):
    """Chains, residues and residues with CA; those of PDB files were counted with grep in SEQRES and REMARK 465.

    The digests of sequence, mask and coordinates are of what version 0.1.0 read with another reader of mmCIF.
    """
    found = {}
    for path in filter(is_structure, sorted(raw.iterdir())):
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


def test_same_chains_as_in_the_proteinnet_files(real):
    """Sequence, mask and coordinates of the records that another program made from these very files."""
    chains = {
        protein.id.upper(): protein
        for name in ("1a4w.cif", "1fdo.pdb", "3o5r.cif", "1A8O.pdb", "1TUP.pdb")
        for protein in read_structure(real / "raw_structures" / name)
    }
    compared = set()
    for split in ("training_95", "testing"):
        for record in (real / split).read_text().split("[ID]\n")[1:]:
            lines = record.split("\n")
            protein = chains.get(lines[0].rpartition("#")[2])
            if protein is None:
                continue
            compared.add(protein.id.upper())
            start = lines.index("[TERTIARY]") + 1
            mask = np.array([sign == "+" for sign in lines[lines.index("[MASK]") + 1]])
            picometres = np.array([[float(v) for v in line.split()] for line in lines[start : start + 3]])
            assert protein.sequence == lines[2]
            np.testing.assert_array_equal(protein.mask, mask)
            theirs = picometres.T.reshape(-1, 3, 3)[mask] / 100
            np.testing.assert_allclose(protein.coords[mask], theirs, atol=1e-4)
    assert compared == {"1A4W_1_L", "1A4W_2_H", "1FDO_1_A", "3O5R_1_A", "1A8O_1_A", "1TUP_1_A"}
