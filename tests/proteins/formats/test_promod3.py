"""ProMod3's structure database: a tiny one packed field by field, every way to break it, and the published one."""

import gzip
import re
import struct
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protcli.errors import ProtcliError
from protcli.proteins.formats.promod3 import read_promod3
from protcli.proteins.formats.proteinnet import read_proteinnet
from protcli.proteins.formats.tfrecord import sniff
from protcli.proteins.protein import Protein
from protcli.proteins.residues import AMINO_ACIDS, DSSP, sequence_profile

TABLE = 77  # of the number of chains
ENTRY = 33  # bytes of a chain in the table
COLUMNS = ["letters", "atoms", "dihedrals", "accessibilities", "depths", "dssp", "frequencies", "structural"]
WIDTHS = [1, 24, 4, 2, 2, 1, 40, 40]  # bytes of a row of each


class Chain(NamedTuple):
    """A chain as it is stored."""

    entry: bytes
    name: bytes
    letters: bytes
    dssp: bytes
    atoms: Sequence[Sequence[int]]  # twelve numbers a residue, in 0.01 A
    frequencies: Sequence[Sequence[int]]
    shift: tuple[float, float, float] = (0.0, 0.0, 0.0)


def one_hot(letter: str, whole: int = 10_000) -> list[int]:
    return [whole * (letter == other) for other in AMINO_ACIDS]


FIRST = Chain(
    b"1ABC", b"A", b"MKV", b"CHE",
    [[0, 100, 200, 145, 100, 200, 200, 245, 200, 300, 300, 300], [380 + i for i in range(12)], [600] * 9 + [0] * 3],
    [one_hot("M"), one_hot("K", 9_996), [2_500, 2_500, 2_500, 2_484, *[0] * 16]],
    (1.5, -2.25, 0.0),
)  # fmt: skip
SECOND = Chain(b"2XYZ", b"d", b"GX", b"ST", [[65_535] * 12, [65_315] * 12], [[0] * 20] * 2, (-10.0, 0.0, 0.5))
THIRD = Chain(b"2XYZ", b"7", b"ACDE", b"BGIT", [[220 * i] * 12 for i in range(4)], [[500] * 20] * 4)


def packed(*chains: Chain, version: int = 2, stored: int = 0xFFFF_FFFF, **change: Any) -> bytes:
    """A database, written number by number; `counts` and `offsets` replace what it says of its columns and chains."""
    head = struct.pack("<II", 1234, version)
    head += struct.pack("<11I", 4, 4, 2, 8, 2, 6, 88, 40, 24, 6, 4)  # bytes of types in memory
    head += struct.pack("<IfbhQH", 1, 1.0, 1, 1, 1, 1)
    head += struct.pack("<IQ", stored, change.get("chains", len(chains)))
    first, columns = 0, dict.fromkeys(COLUMNS, b"")
    for number, chain in enumerate(chains):
        for text in (chain.entry, chain.name):
            head += struct.pack("<I", len(text)) + text
        offset = change.get("offsets", {}).get(number, first)
        head += struct.pack("<IHH", offset, len(chain.letters), 17) + struct.pack("<3f", *chain.shift)
        first += len(chain.letters)
        columns["letters"] += chain.letters
        columns["dssp"] += chain.dssp
        for row, frequencies in zip(chain.atoms, chain.frequencies, strict=True):
            columns["atoms"] += struct.pack("<12H", *row)
            columns["dihedrals"] += struct.pack("<2h", -1047, -785)
            columns["accessibilities"] += struct.pack("<H", 42)
            columns["depths"] += struct.pack("<H", 3)
            columns["frequencies"] += struct.pack("<20h", *frequencies)
            columns["structural"] += struct.pack("<20h", *[7] * 20)
    counts = change.get("counts", {})
    return head + b"".join(struct.pack("<Q", counts.get(name, first)) + column for name, column in columns.items())


WHOLE = packed(FIRST, SECOND, THIRD)
FRAME = TABLE + 8 + 3 * ENTRY + 8  # bytes before the first letter


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "structure_db.dat"


def refused(file: Path, content: bytes) -> str:
    """The sentence about a file of which nothing can be read, the same whether broken chains are left out or not."""
    file.write_bytes(content)
    said = []
    for on_bad in (None, said.append):
        with pytest.raises(ProtcliError) as caught:
            list(read_promod3(file, on_bad=on_bad))
    assert not said
    sentence = str(caught.value)
    assert sentence.startswith(f"{file} is damaged, truncated, compressed or of another version (")
    assert sentence.endswith("): expected structure_db.dat of ProMod3, version 2, as in Debian's promod3-data")
    assert sentence.isprintable()
    return sentence


def broken(file: Path, *chains: Chain, **change: Any) -> tuple[list[Protein], list[str]]:
    """The proteins of a database of which some chains are broken, and what is said of those."""
    file.write_bytes(packed(*chains, **change))
    errors: list[ProtcliError] = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        proteins = list(read_promod3(file, on_bad=errors.append))
        with pytest.raises(ProtcliError, match=re.escape(str(errors[0]))):
            list(read_promod3(file))
    assert all(str(error).startswith(f"{file}, chain ") and str(error).isprintable() for error in errors)
    return proteins, [str(error).removeprefix(f"{file}, chain ") for error in errors]


def test_chains_as_they_are_stored(file: Path) -> None:
    file.write_bytes(WHOLE)
    assert len(WHOLE) == TABLE + 8 + 3 * ENTRY + 8 * 8 + 9 * sum(WIDTHS)
    assert sniff(file) == "promod3-structure-db"
    seen: list[bytes] = []
    first, second, third = read_promod3(file, on_bytes=seen.append)
    assert b"".join(seen) == WHOLE
    assert max(map(len, seen)) == len(WHOLE) // 3 + 1
    assert [one.id for one in (first, second, third)] == ["1ABCpm_1_A", "2XYZpm_4_d", "2XYZpm_1_7"]
    assert [one.sequence for one in (first, second, third)] == ["MKV", "GX", "ACDE"]
    assert [one.has_profile for one in (first, second, third)] == [True, False, True]
    assert all(one.mask.all() and one.mask.dtype == bool for one in (first, second, third))
    # what is stored less the shift, which is stored in A
    np.testing.assert_array_equal(
        first.coords[0], np.array([[-1.5, 3.25, 2], [-0.05, 3.25, 2], [0.5, 4.7, 2]], np.float32)
    )
    np.testing.assert_array_equal(first.coords[1, 2], np.array([2.36, 6.12, 3.88], np.float32))
    np.testing.assert_array_equal(first.coords[2], np.tile(np.float32([4.5, 8.25, 6]), (3, 1)))
    np.testing.assert_array_equal(second.coords[0, 1], np.float32([665.35, 655.35, 654.85]))
    # frequencies divided by their sum, then their information: 1 for one amino acid, 0 for all alike
    np.testing.assert_array_equal(first.profile[:2], sequence_profile("MK"))
    np.testing.assert_allclose(first.profile[2, :4], np.array([2500, 2500, 2500, 2484]) / 9984, rtol=1e-6)
    assert first.profile[2, 20] == pytest.approx(1 - 2 / np.log2(20), abs=1e-5)
    np.testing.assert_allclose(third.profile, [[*[0.05] * 20, 0]] * 4, atol=1e-7)
    np.testing.assert_array_equal(second.profile, sequence_profile("GX"))  # as of a sequence without an alignment
    letters = ["".join(DSSP[code] for code in one.secondary) for one in (first, second, third)]
    assert letters == ["CHE", "ST", "BGIT"]
    for array, kind in ((first.profile, "f4"), (first.coords, "f4"), (first.secondary, "u1")):
        assert array.dtype == kind


def test_a_row_without_a_profile_in_a_chain_that_has_one(file: Path) -> None:
    file.write_bytes(packed(THIRD._replace(frequencies=[[0] * 20, *THIRD.frequencies[1:]])))
    (protein,) = read_promod3(file)
    assert protein.has_profile
    assert not protein.profile[0].any()
    assert protein.profile[1, :20].sum() == pytest.approx(1)


def test_a_file_that_ends_at_any_byte(file: Path) -> None:
    for size in range(len(WHOLE)):
        refused(file, WHOLE[:size])


def test_the_reason_why_a_file_is_refused(file: Path) -> None:
    assert "(it begins with b'\\xd2\\x04\\x00\\x00\\x03\\x00\\x00\\x00')" in refused(file, packed(FIRST, version=3))
    assert "(it begins with b'\\x1f\\x8b\\x08" in refused(file, gzip.compress(WHOLE))
    assert "(cannot mmap an empty file)" in refused(file, b"")
    for content in (packed(FIRST, stored=8), packed(FIRST, version=0), b"[ID]\n1ABC\n" * 10, b"\0" * 2000):
        assert "(it begins with " in refused(file, content)
    fits_not = "(its chains, rows and bytes do not fit each other)"
    assert fits_not in refused(file, WHOLE + b"\0")
    assert fits_not in refused(file, packed(FIRST, THIRD, offsets={1: 4}))  # a row between the chains
    assert fits_not in refused(file, packed(FIRST, THIRD, offsets={1: 2**32 - 1}))
    assert fits_not in refused(file, packed(FIRST, THIRD, offsets={1: 0}))  # the rows of the first chain once more
    assert fits_not in refused(file, packed())
    refused(file, packed(FIRST._replace(entry=b"pdb_00001abc")))  # the texts of the published file have one length
    refused(file, packed(FIRST._replace(name=b"AA"), THIRD))
    with pytest.raises(ProtcliError, match=r"nowhere is damaged, .*No such file or directory"):
        list(read_promod3(file.with_name("nowhere")))
    with pytest.raises(ProtcliError, match=r"is damaged, .*Is a directory"):
        list(read_promod3(file.parent))


@pytest.mark.parametrize("wrong", [0, 2, 4, 10, 1 << 16, 1 << 31, 1 << 58, (1 << 61) + 3, (1 << 63) + 3, (1 << 64) - 1])
@pytest.mark.parametrize("name", COLUMNS)
def test_counts_that_cannot_be(file: Path, name: str, wrong: int) -> None:
    refused(file, packed(FIRST, counts={name: wrong}))
    refused(file, packed(FIRST, chains=wrong))
    # all columns agree on it, and the table does not
    refused(file, packed(FIRST, counts=dict.fromkeys(COLUMNS, wrong)))


@settings(max_examples=400, deadline=None)
@given(st.integers(0, FRAME - 1), st.binary(min_size=1, max_size=8))
def test_any_damage_of_its_frame_is_found(tmp_path_factory: pytest.TempPathFactory, at: int, change: bytes) -> None:
    """Only names, numbers of residues and shifts may change unseen, and the length that stands before a name."""
    file = tmp_path_factory.mktemp("damaged") / "structure_db.dat"
    content = WHOLE[:at] + change[: FRAME - at] + WHOLE[min(at + len(change), FRAME) :]
    file.write_bytes(content)
    errors: list[ProtcliError] = []
    try:
        proteins = list(read_promod3(file, on_bad=errors.append))
    except ProtcliError:
        return
    table = range(TABLE + 8, TABLE + 8 + 3 * ENTRY)
    for place in range(FRAME):
        if content[place] != WHOLE[place]:
            assert place in table
            assert (place - table.start) % ENTRY not in range(13, 19)  # first row and number of rows
    assert len(proteins) + len(errors) == 3
    for one in proteins:
        assert one.sequence in ("MKV", "GX", "ACDE")
        assert not np.isnan(one.coords).any()


@settings(max_examples=400, deadline=None)
@given(st.integers(0, len(WHOLE)), st.binary(max_size=60), st.integers(0, 60))
def test_any_change_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, at: int, change: bytes, cut: int
) -> None:
    file = tmp_path_factory.mktemp("changed") / "structure_db.dat"
    file.write_bytes(WHOLE[:at] + change + WHOLE[at + cut :])
    errors: list[ProtcliError] = []
    try:
        for one in read_promod3(file, on_bad=errors.append):
            assert one.id.isprintable()
            assert set(one.sequence) <= set(AMINO_ACIDS + "X")
            assert one.secondary is not None
            assert one.secondary.max() < len(DSSP)
            assert np.abs(one.coords).max() <= 10_000
            assert -0.001 <= one.profile.min() <= one.profile.max() <= 1.001
    except ProtcliError as error:
        errors.append(error)
    assert all(str(error).isprintable() for error in errors)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"letters": b"MBV"}, "'B' at position 2 is not one of ACDEFGHIKLMNPQRSTVWY or X"),
        ({"letters": b"MkV"}, "'k' at position 2 is not one of"),
        ({"letters": b"MK\0"}, "at position 3 is not one of"),
        ({"letters": b"M-V"}, "expected letters of amino acids, DSSP's HBEGITSC, and a shift in numbers"),
        ({"letters": b"M\xffV"}, "can't decode byte 0xff"),
        ({"letters": "é".encode() + b"V"}, "is not one of ACDEFGHIKLMNPQRSTVWY or X"),
        ({"letters": b"", "dssp": b"", "atoms": [], "frequencies": []}, "expected letters of amino acids"),
        ({"dssp": b"C E"}, "expected letters of amino acids, DSSP's HBEGITSC, and a shift in numbers"),
        ({"dssp": b"\0\0\0"}, "expected letters of amino acids, DSSP's HBEGITSC"),
        ({"dssp": b"CH\xff"}, "can't decode byte 0xff"),
        ({"shift": (0.0, float("nan"), 0.0)}, "and a shift in numbers"),
        ({"shift": (0.0, 0.0, float("inf"))}, "a coordinate of -inf A: expected at most 10,000 A from zero"),
        ({"shift": (0.0, 3e38, 0.0)}, "a coordinate of -3e+38 A: expected at most 10,000 A from zero"),
        ({"frequencies": [[-500, 10_500, *[0] * 18]] * 3}, "-0.05 in a profile: expected frequencies and information"),
        ({"frequencies": [[-9_000, *[0] * 19]] * 3}, "-9000 in a profile: expected frequencies"),
        ({"atoms": [*FIRST.atoms[:2], [1_000] * 12]}, "CA atoms 2 and 3 are 10.7 A apart: expected 2 to 6 A, as in a"),
        ({"atoms": [[300] * 12] * 3}, "CA atoms 1 and 2 are 0.0 A apart: expected 2 to 6 A"),
        ({"entry": b"1\x1b[2"}, "characters that can be printed"),
        ({"name": b"\n"}, "characters that can be printed"),
    ],
)
def test_a_broken_chain_stops_the_reading_or_is_left_out(file: Path, change: dict[str, Any], said: str) -> None:
    proteins, errors = broken(file, THIRD, FIRST._replace(**change), SECOND)
    assert [one.id for one in proteins] == ["2XYZpm_1_7", "2XYZpm_4_d"]
    (error,) = errors
    assert error.startswith("2, '1")
    assert said in error


def test_it_is_known_by_its_content_and_a_damaged_one_by_its_name(tmp_path: Path) -> None:
    for name, content, kind in (
        ("x", WHOLE, "promod3-structure-db"),
        ("x.gz", gzip.compress(WHOLE), "promod3-structure-db"),
        ("x", packed(FIRST, version=9), "promod3-structure-db"),
        ("structure_db.dat", b"", "promod3-structure-db"),
        ("structure_db.dat", WHOLE[:7], "promod3-structure-db"),
        ("frag_db.dat", WHOLE[:8] + struct.pack("<6I", 4, 4, 4, 1, 4, 2), "unknown"),  # of the same program
        ("x", WHOLE[:40], "unknown"),
    ):
        (tmp_path / name).write_bytes(content)
        assert sniff(tmp_path / name) == kind


# --- the published database ---


@pytest.mark.slow
def test_the_published_database(real_data: Path) -> None:
    """Against ProteinNet records that were made from it, rounded to picometres and to two digits of a frequency."""
    file = real_data / "promod3" / "structure_db.dat"
    if not file.exists():
        pytest.skip("structure_db.dat of Debian's promod3-data is not in PROTCLI_REAL_DATA/promod3")
    expected = {protein.id: protein for protein in read_proteinnet(real_data / "promod3" / "training_more.gz")}
    count = residues = 0
    for protein in read_promod3(file):
        count, residues = count + 1, residues + len(protein)
        if (known := expected.pop(protein.id, None)) is not None:
            assert (protein.sequence, protein.has_profile) == (known.sequence, True)
            assert known.mask.all()
            np.testing.assert_allclose(protein.coords, known.coords, atol=0.0051)
            np.testing.assert_allclose(protein.profile[:, :20], known.profile[:, :20], atol=0.006)
            np.testing.assert_allclose(protein.profile[:, 20], known.profile[:, 20], atol=0.0006)
    assert (count, residues, len(expected)) == (21_119, 4_561_225, 0)
