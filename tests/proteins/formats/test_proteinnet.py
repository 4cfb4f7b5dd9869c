"""ProteinNet text: hand-made records against Python's own float, what is refused, and the real files."""

import csv
import gzip
import os
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from protcli.errors import ProtcliError
from protcli.proteins.formats import files, proteinnet
from protcli.proteins.formats.proteinnet import read_proteinnet

REAL = os.environ.get("PROTCLI_REAL_DATA")
real_data = pytest.mark.skipif(not REAL, reason="PROTCLI_REAL_DATA names no folder")


def make(id: str, sequence: str, profile: list[list[str]], xyz: list[list[str]], mask: str) -> str:
    rows = ["[ID]", id, "[PRIMARY]", sequence, "[EVOLUTIONARY]", *map("\t".join, profile)]
    return "\n".join([*rows, "[TERTIARY]", *map("\t".join, xyz), "[MASK]", mask, "", ""])


def numbers(rows: int, columns: int, start: int = 1, over: int = 8) -> list[list[str]]:
    return [[f"{(start + columns * i + j) / over}" for j in range(columns)] for i in range(rows)]


def record(id: str = "1ABC_1_A", sequence: str = "ACD", mask: str = "++-") -> str:
    return make(id, sequence, numbers(21, len(sequence), over=128), numbers(3, 3 * len(sequence), start=1000), mask)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "training_30"


def read_error(file: Path, text: str | bytes) -> str:
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(ProtcliError) as caught:
        list(read_proteinnet(file))
    return str(caught.value)


def test_a_record_by_hand(file: Path) -> None:
    profile = [["0", "0"] for _ in range(21)]
    profile[1][0], profile[20] = "0.7031", ["1.", "5e-02"]
    xyz = [  # N, CA, C' of two residues; a zero row, and a true zero in the fourth atom
        ["100", "0", "-2050.5", "0", "0", "1"],
        ["200", "0", "1", "12.5", "0", "1"],
        ["300", "0", "1", "7", "0", "1"],
    ]
    file.write_text(make("30#1ABC_1_A", "CX", profile, xyz, "+-"))
    [protein] = read_proteinnet(file)
    assert (protein.id, protein.sequence, protein.category, protein.has_profile) == ("30#1ABC_1_A", "CX", "30", True)
    assert protein.profile.dtype == protein.coords.dtype == np.float32
    assert protein.profile[0, 1] == np.float32(0.7031)
    assert protein.profile[:, 20].tolist() == [1, np.float32(0.05)]
    assert np.count_nonzero(protein.profile) == 3
    nan = [np.nan] * 3
    expected = [[[1, 2, 3], nan, [-20.505, 0.01, 0.01]], [[0, 0.125, 0.07], nan, [0.01, 0.01, 0.01]]]
    np.testing.assert_array_equal(protein.coords, np.array(expected, dtype=np.float32))
    assert protein.mask.tolist() == [True, False]


def tokens(least: float, most: float) -> st.SearchStrategy[str]:
    """Numbers in a range, as text of several kinds."""
    within = st.floats(least, most)
    return st.one_of(
        within.map(repr), within.map("{:.4f}".format), st.floats(0, 1).map("{:.25f}".format),
        st.sampled_from(["0", "1.", "-0", "+1", ".5"]),
    )  # fmt: skip


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), length=st.integers(1, 4))
def test_every_value_is_what_float_says(file: Path, data: st.DataObject, length: int) -> None:
    profile = data.draw(st.lists(st.lists(tokens(0, 1), min_size=length, max_size=length), min_size=21, max_size=21))
    row = st.lists(tokens(-1e6, 1e6), min_size=3 * length, max_size=3 * length)
    xyz = data.draw(st.lists(row, min_size=3, max_size=3))
    file.write_text(make("x", "A" * length, profile, xyz, "+" * length))
    [protein] = read_proteinnet(file)
    columns = np.array([[float(token) for token in row] for row in profile]).T.astype(np.float32)
    np.testing.assert_array_equal(protein.profile, columns)
    points = np.array([[float(token) / 100 for token in row] for row in xyz]).T.astype(np.float32)
    points[(points == 0).all(axis=1)] = np.nan
    np.testing.assert_array_equal(protein.coords.reshape(-1, 3), points)


@pytest.mark.parametrize("block", [1, 7, 100, 1 << 20])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_blocks_line_ends_and_other_sections_change_nothing(
    file: Path, block: int, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "\n" + record("a") + record("b", "ACDEF", "+++++").replace("[TERTIARY]", "[RAMA]\n1\t2\nx\n[TERTIARY]")
    text += record("c").replace("[PRIMARY]", "[SECONDARY]\nLHH\n\n[PRIMARY]").rstrip() + "\n[CHI]\n0.1\n0.2"
    monkeypatch.setattr(files, "_BLOCK", block)
    file.write_bytes(text.replace("\n", ending).encode())
    read = list(read_proteinnet(file))
    assert [(protein.id, protein.sequence) for protein in read] == [("a", "ACD"), ("b", "ACDEF"), ("c", "ACD")]
    expected = np.array(numbers(21, 5, over=128), dtype=np.float32).T
    np.testing.assert_array_equal(read[1].profile, expected)


def test_the_last_record_needs_no_blank_line_and_nan_coordinates_are_missing(file: Path) -> None:
    for text in (record().rstrip(), record().rstrip() + "\n", record() + "\n\n"):
        file.write_text(text)
        assert len(list(read_proteinnet(file))) == 1
    file.write_text(record().replace("\n125.0\t125.125\t", "\n125.0\tnan\t", 1))
    [protein] = read_proteinnet(file)
    assert np.argwhere(np.isnan(protein.coords)).tolist() == [[0, 1, axis] for axis in range(3)]


def test_gzip_and_the_bytes_seen(file: Path) -> None:
    text = "".join(record(str(i)) for i in range(300)).encode()
    packed = gzip.compress(text[:5000]) + gzip.compress(text[5000:])
    for content in (text, packed):
        file.write_bytes(content)
        seen: list[bytes] = []
        assert [protein.id for protein in read_proteinnet(file, on_bytes=seen.append)] == list(map(str, range(300)))
        assert b"".join(seen) == content
    file.write_bytes(packed[:-20])
    errors: list[ProtcliError] = []
    kept = list(read_proteinnet(file, on_bad=errors.append))
    assert len(kept) > 200
    assert [str(error) for error in errors] == [f"{file}: the gzip stream is truncated; fetch the file again"]
    assert "gzip stream is damaged" in read_error(file, packed[:60] + b"junk" + packed[64:])


NO_ROW = numbers(21, 3, over=128)[2]
BROKEN = {
    "columns": (("\t".join(NO_ROW), "\t".join(NO_ROW[:2])), 8, r"\[EVOLUTIONARY\] row 3 has 2 columns, expected 3"),
    "tertiary": (("\n126.125\t", "\n"), 29, r"\[TERTIARY\] row 2 has 8 columns, expected 9, N, CA and C'"),
    "gap": (("\t".join(NO_ROW), f"{NO_ROW[0]}\t\t{NO_ROW[2]}"), 8, r"\[EVOLUTIONARY\] row 3 has 2 columns, expected 3"),
    "far away": (("\n126.125\t", "\n-1e39\t"), 29, r"\[TERTIARY\] row 2, column 1: expected a number, found '-1e39'"),
    "token": (("0.1484375\t", "0.14x\t"), 12, r"\[EVOLUTIONARY\] row 7, column 1: expected a number, found '0\.14x'"),
    "underscore": (("0.1484375\t", "2_3\t"), 12, "expected a number, found '2_3'"),
    "infinity": (("0.1484375\t", "inf\t"), 12, "expected a number, found 'inf'"),
    "too large": (("0.1484375\t", "1e39\t"), 12, "expected a number, found '1e39'"),
    "nan profile": (("0.1484375\t", "nan\t"), 12, "expected a number, found 'nan'"),
    "moved": ((NO_ROW[2] + "\n", NO_ROW[2] + "\t"), 5, r"rows in \[EVOLUTIONARY\]: expected 21, found 20"),
    "letter": (("\nACD\n", "\nAbD\n"), 4, r"'b' at position 2 of \[PRIMARY\] is not one of ACDEFGHIKLMNPQRSTVWYX"),
    "sign": (("++-", "+0-"), 32, r"'0' at position 2 of \[MASK\] is neither \+ nor -"),
    "signs": (("++-", "++"), 32, r"\[MASK\] has 2 signs, expected 3"),
    "no profile": (("[EVOLUTIONARY]", "[PROFILE]"), 1, r"no \[EVOLUTIONARY\], expected one with 21 rows"),
    "no coordinates": (("[TERTIARY]", "[OTHER]"), 1, r"no \[TERTIARY\], expected one with 3 rows"),
    "no mask": (("[MASK]\n", "[OTHER]\n"), 1, r"no \[MASK\], expected one with 1 row"),
    "twice": (("[MASK]", "[TERTIARY]"), 31, r"a second \[TERTIARY\]"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_record_is_named_and_can_be_skipped(file: Path, case: str) -> None:
    (old, new), line, message = BROKEN[case]
    broken = record("bad").replace(old, new, 1)
    assert broken != record("bad")
    text = record("a") + broken + record("c")
    error = read_error(file, text)
    before = record("a").count("\n")
    assert error.startswith(f"{file}, line {before + line}, record bad: "), error
    assert re.search(message, error), error
    errors: list[ProtcliError] = []
    assert [protein.id for protein in read_proteinnet(file, on_bad=errors.append)] == ["a", "c"]
    assert [str(found) for found in errors] == [error]


LIMITS = {  # what is written for a value, what is read, and what is said of the next value beyond
    "profile": ("0.0078125", "1.001", "1.0011", r"\[EVOLUTIONARY\] row 1: 1\.0011 in a profile: expected"),
    "low profile": ("0.0078125", "-0.001", "-0.0011", r"row 1: -0\.0011 in a profile: expected .* from 0 to 1"),
    "coordinate": ("125.0", "1000000", "1000000.2", r"\[TERTIARY\] row 1: a coordinate of 10000 A: expected"),
    "far coordinate": ("125.0", "-1e6", "-1e30", r"\[TERTIARY\] row 1: a coordinate of -1e\+28 A: expected"),
    "id": ("bad", "b" * 300, "b" * 301, "an ID of 301 characters: expected at most 300"),
}


@pytest.mark.parametrize("case", LIMITS)
def test_a_value_at_the_limit_is_read_and_one_beyond_is_not(file: Path, case: str) -> None:
    old, at_limit, beyond, message = LIMITS[case]
    for others in ([], [record("a"), record("c")]):
        file.write_text("".join([*others, record("bad").replace(old, at_limit, 1)]))
        *_, protein = read_proteinnet(file)
        first = {"profile": protein.profile[0, 0], "coordinate": protein.coords[0, 0, 0]}
        if case != "id":
            written = float(at_limit) / (100 if "coordinate" in case else 1)
            assert first[case.removeprefix("low ").removeprefix("far ")] == np.float32(written)
        error = read_error(file, "".join([*others, record("bad").replace(old, beyond, 1)]))
        assert re.search(message, error), error
        assert len(error) < 600


@pytest.mark.parametrize("wrong", ["\0", "\x1b[31m", "\x7f", "\x85", "\u202e"])
def test_an_id_that_cannot_be_printed_is_refused(file: Path, wrong: str) -> None:
    for text in (record(f"a{wrong}b"), record("a") + record(f"a{wrong}b").replace("[MASK]\n", "[MASK]\n\n")):
        error = read_error(file, text)
        assert f"the ID 'a{ascii(wrong)[1:-1]}b' holds {wrong[0]!a}: expected characters that can be printed" in error
        assert error.isprintable()


def test_an_endless_record_is_refused_and_those_before_it_are_kept(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proteinnet, "LONGEST_RECORD", 1 << 20)
    file.write_text(record("a") + "[ID]\nb\n[PRIMARY]\n" + "A" * (1 << 21))
    errors: list[ProtcliError] = []
    assert [protein.id for protein in read_proteinnet(file, on_bad=errors.append)] == ["a"]
    assert "a record of over 1 MiB is not a protein" in str(errors[0])


EDIT = st.tuples(
    st.integers(0, 10**6), st.integers(0, 40), st.binary(max_size=8) | st.sampled_from([b"1e300", b"-7", b"nan"])
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(edits=st.lists(EDIT, min_size=1, max_size=4), queries=st.booleans())
def test_any_damage_is_read_within_the_limits_or_said_in_a_short_sentence(
    file: Path, edits: list, queries: bool
) -> None:
    content = (record("a") + record("b", "ACDEF", "+++++")).encode()
    for place, length, new in edits:
        at = place % len(content)
        content = content[:at] + new + content[at + length :]
    file.write_bytes(content)
    errors: list[ProtcliError] = []
    try:
        for protein in read_proteinnet(file, on_bad=errors.append, queries=queries):
            assert len(protein.sequence) == len(protein.profile) == len(protein.coords) == len(protein.mask)
            assert not (np.abs(protein.coords) > 10_000).any()
            assert ((protein.profile >= -0.001) & (protein.profile <= 1.001)).all()
    except ProtcliError as error:
        errors.append(error)
    for sentence in (str(error).removeprefix(str(file)) for error in errors):
        assert sentence.isprintable()
        assert len(sentence) <= 600


def test_queries_without_structure_are_read_if_asked_for(file: Path) -> None:
    whole = record("a")
    query = whole[: whole.index("[TERTIARY]")]
    for text in (query, "\ufeff" + query, query.replace("\n", "\r\n"), query.replace("\n", "\r"), query + whole):
        file.write_bytes(text.encode())
        first, *rest = read_proteinnet(file, queries=True)
        assert (first.id, first.sequence, first.mask.any(), len(rest)) == ("a", "ACD", False, int(whole in text))
        assert np.isnan(first.coords).all()
        np.testing.assert_array_equal(first.profile[:, 0], [1 / 128, 2 / 128, 3 / 128])
    assert "no [TERTIARY], expected one with 3 rows" in read_error(file, query)
    file.write_text(query + "[MASK]\n+++\n")  # half a structure is a broken record
    with pytest.raises(ProtcliError, match=r"no \[TERTIARY\]"):
        list(read_proteinnet(file, queries=True))


def test_half_a_file_and_widths_that_make_up_for_each_other(file: Path) -> None:
    text = record("a") + record("b")
    for cut in range(len(record("a")) + 5, len(text) - 4):
        error = read_error(file, text[:cut])
        assert "is the file truncated?" in error, (cut, error)
        assert "record b" in error or cut <= text.index("\nb\n") + 2
    file.write_text(text[: text.rindex("[MASK]")])
    errors: list[ProtcliError] = []
    assert [protein.id for protein in read_proteinnet(file, on_bad=errors.append)] == ["a"]
    assert len(errors) == 1
    rows = numbers(21, 3, over=128)
    rows[4].append("9")
    rows[5].pop()
    assert "line 10" in read_error(file, make("x", "ACD", rows, numbers(3, 9), "+++"))


@pytest.mark.parametrize(("content", "message"), [
    (b"", "is empty"),
    (b"\n \n", "is empty"),
    (b"\nHEADER    HYDROLASE\n", "line 2: not a ProteinNet text file: expected [ID], found 'HEADER    HYDROLASE'"),
    (bytes(range(256)), "not a ProteinNet text file"),
    (b"[ID]", "a record without an ID"),
])  # fmt: skip
def test_what_is_no_proteinnet(file: Path, content: bytes, message: str) -> None:
    assert message in read_error(file, content)
    if not content.startswith(b"[ID]"):
        with pytest.raises(ProtcliError):
            list(read_proteinnet(file, on_bad=lambda error: None))
    for path in (file.parent, file.parent / "missing"):
        with pytest.raises(ProtcliError, match="cannot read"):
            list(read_proteinnet(path))


@real_data
@pytest.mark.parametrize("split", ["training_30", "training_95", "training_ca_only", "validation", "testing"])
def test_the_real_splits_agree_with_their_manifest(split: str) -> None:
    with (Path(REAL or "") / "MANIFEST.tsv").open() as lines:
        rows = [row for row in csv.DictReader(lines, delimiter="\t") if row["split"] == split]
    read = list(read_proteinnet(Path(REAL or "") / split))
    expected = {row["id"].split("#")[-1]: (int(row["length"]), int(row["n_resolved"])) for row in rows}
    assert len(read) == len(rows)
    found = {protein.id.split("#")[-1]: (len(protein), int(protein.resolved("ca").sum())) for protein in read}
    assert found == expected
    if split == "training_ca_only":
        assert all(np.isnan(protein.coords[:, (0, 2)]).all() for protein in read)
    else:
        assert all(np.array_equal(protein.resolved("cb"), protein.mask) for protein in read)
