"""Profiles from alignments beside the chains: where they are looked for, what fits, what is said of the others."""

import gzip
import pickle
from pathlib import Path

import numpy as np
import pytest

from protcli.errors import ProtcliError
from protcli.experiments.data.import_files import import_data
from protcli.experiments.data.profiles import Profiles, give_profiles
from protcli.proteins.formats.sequences import read_a3m
from protcli.proteins.formats.structures import pdb_text
from protcli.proteins.profiles import alignment_profile
from protcli.proteins.protein import Protein
from protcli.proteins.residues import AMINO_ACIDS, encode, sequence_profile
from protcli.proteins.store import Families, Store, create_store, open_store

FIRST, SECOND = "MKVLAAGIVGLCDEFHIKRW", "GSTWYDEAKPQNMLCFHIVA"
RELATIVES = ("MKVLSAGIVGLCDEFHIKRW", "MRVL-AGLVGLC--FHIKRW")
NANOFOLD = "ARNDCQEGHILKMFPSTWYVX-"


def a3m(path: Path, *rows: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(f">row{number}\n{row}\n" for number, row in enumerate(rows))
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def chain(id: str, sequence: str) -> Protein:
    coords = np.random.default_rng(0).normal(size=(len(sequence), 3, 3)).astype(np.float32)
    return Protein(id, sequence, sequence_profile(sequence), coords, np.full(len(sequence), True), has_profile=False)


def write_store(path: Path, **splits: dict[str, str]) -> Path:
    with create_store(path) as writer:
        for name, chains in splits.items():
            with writer.split(name) as split:
                for id, sequence in chains.items():
                    split.add(chain(id, sequence))
                split.families = Families([*chains][:1] * len(chains), "by hand")
                split.details = {"read": len(chains) + 1, "dropped": {"some reason": ["other"]}, "notes": ["as it was"]}
    return path


def given(store: Path, out: Path, alignments: Path, **options) -> Store:
    list(give_profiles(store, out, alignments=alignments, **options))
    return open_store(out)


def expected(*rows: str) -> np.ndarray:
    return alignment_profile(np.stack([encode(row) for row in rows]))


def test_a_new_store_keeps_all_but_the_profiles(tmp_path: Path) -> None:
    chains = {"1abc_1_A": FIRST, "1abc_2_B": SECOND}
    store = write_store(tmp_path / "s", training=chains, validation={"10#2ABC_1_A": FIRST})
    before = {file.name: file.read_bytes() for file in store.iterdir()}
    a3m(tmp_path / "a/1abc_A.a3m", FIRST, *RELATIVES)
    new = given(store, tmp_path / "new", tmp_path / "a")
    assert {file.name: file.read_bytes() for file in store.iterdir()} == before
    old, training = open_store(store).split("training"), new.split("training")
    assert new.splits == ("training", "validation")
    np.testing.assert_array_equal(training[0].profile, expected(FIRST, *RELATIVES))
    np.testing.assert_array_equal(training[1].profile, sequence_profile(SECOND))
    assert [protein.has_profile for protein in training] == [True, False]
    assert (training.ids, training.sequences) == (old.ids, old.sequences)
    assert training.families.tolist() == old.families.tolist()
    np.testing.assert_array_equal(training[0].coords, old[0].coords)
    assert training.digest != old.digest
    assert new.split("validation").digest == open_store(store).split("validation").digest
    info = new.split_info("training")
    assert (info["read"], info["dropped"]) == (3, {"some reason": ["other"]})
    note = "profiles from the alignments in a: 1; 1 keep what they have: 1abc_2_B"
    assert info["notes"] == ["as it was", f"of s, {old.digest[:12]}: {note}"]
    with pytest.raises(ProtcliError, match="new: exists already; give the new store another --out"):
        given(store, tmp_path / "new", tmp_path / "a")


def test_an_import_of_structures_takes_them_too(tmp_path: Path) -> None:
    coords = np.cumsum(np.full((20, 3), 2.2), axis=0)
    a3m(tmp_path / "a/1ABC_A.a3m.gz", FIRST, *RELATIVES)
    (tmp_path / "1abc.pdb").write_text(pdb_text(FIRST, coords, np.zeros(20), "made up"))
    out = tmp_path / "s"
    list(import_data([tmp_path / "1abc.pdb"], out, as_split="train", families="none", alignments=tmp_path / "a"))
    (protein,) = open_store(out).split("training")
    np.testing.assert_array_equal(protein.profile, expected(FIRST, *RELATIVES))
    assert protein.has_profile
    assert open_store(out).split_info("training")["notes"] == ["profiles from the alignments in a: 1"]


@pytest.mark.parametrize(
    ("id", "names"),
    [
        ("1abc_1_A", ["1abc_A.a3m"]),
        ("1abc_3_1", ["1abc_1.a3m"]),
        ("my_2_model_1_A", ["my_2_model.a3m"]),
        ("10#1ABC_1_A", ["1abc_A/a3m/uniref90_hits.a3m", "1abc_A/a3m/bfd_hits.a3m", "1abc_A/hhr/pdb.hhr"]),
        ("1ABC_1_A", ["pdb/1abc_A/a3m/hits.a3m", "pdb/1abc_a/a3m/other.a3m"]),
        ("1abc_1_A", ["1abc_1_A.a3m", "1abc_A.sto", "1abc.a3m"]),
        ("T1", [f"chain_{b'T1'.hex()}.a3m"]),
    ],
)
def test_where_they_are_looked_for(tmp_path: Path, id: str, names: list[str]) -> None:
    """The first of the names is the chain's, with those in the same folder."""
    for name in names:
        a3m(tmp_path / name, FIRST, *RELATIVES) if name != "1abc_A.sto" else a3m(tmp_path / name)
    profiles = Profiles(tmp_path, skip_bad=False)
    assert {path.parent for path in profiles._files_of(id)} == {(tmp_path / names[0]).parent}
    files = {path.name for path in profiles._files_of(id)}
    assert Path(names[0]).name in files
    assert len(files) == (2 if "bfd_hits" in str(names) else 1)
    assert profiles._files_of("9xyz_1_A") == []


def test_several_files_are_joined_and_the_chain_counts_once(tmp_path: Path) -> None:
    a3m(tmp_path / "x/a3m/one.a3m", FIRST, RELATIVES[0])
    a3m(tmp_path / "x/a3m/two.afa", FIRST, RELATIVES[1])
    rows = [list(encode(row)) for row in (FIRST, *RELATIVES)]
    codes = [[NANOFOLD.index(letter) for letter in row] for row in (FIRST, *RELATIVES)]
    np.savez(tmp_path / "y.npz", aatype=np.array(codes[0], np.int32), msa=np.array(codes, np.int32))
    profiles = Profiles(tmp_path, skip_bad=False)
    for id in ("x", "y"):
        profile = profiles.give(chain(id, FIRST)).profile
        np.testing.assert_array_equal(profile, alignment_profile(np.array(rows, np.uint8)))


@pytest.mark.parametrize(
    ("sequence", "row"),
    [
        (FIRST[3:], RELATIVES[1][3:]),  # a part of the alignment's
        (FIRST[:8] + FIRST[12:], RELATIVES[1][:8] + RELATIVES[1][12:]),  # a loop is missing
        ("GSH" + FIRST, "---" + RELATIVES[1]),  # a tag
        (FIRST[:9] + "P" + FIRST[10:], RELATIVES[1][:9] + "-" + RELATIVES[1][10:]),  # a mutation, 95 %
    ],
)
def test_a_sequence_that_is_nearly_the_alignments(tmp_path: Path, sequence: str, row: str) -> None:
    a3m(tmp_path / "x.a3m", FIRST, RELATIVES[1])
    profile = Profiles(tmp_path, skip_bad=False).give(chain("x", sequence)).profile
    np.testing.assert_array_equal(profile, expected(sequence, row))


def test_the_chain_of_a_complex_is_the_one_that_fits(tmp_path: Path) -> None:
    (tmp_path / "c.a3m").write_text(f"#20,20\t1,1\n>1\n{FIRST + SECOND}\n>r\n{RELATIVES[1]}{'-' * 20}\n")
    profiles = Profiles(tmp_path, skip_bad=False)
    np.testing.assert_array_equal(profiles.give(chain("c_1_A", FIRST)).profile, expected(FIRST, RELATIVES[1]))
    np.testing.assert_array_equal(profiles.give(chain("c_2_B", SECOND)).profile, sequence_profile(SECOND))


def test_what_does_not_fit_is_one_sentence_or_left_out(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    a3m(folder / "other.a3m", SECOND, SECOND)
    a3m(folder / "short.a3m", FIRST[:9])
    a3m(folder / "ragged.a3m", FIRST, FIRST[:-1])
    (folder / "empty.a3m").touch()
    (folder / "binary.a3m").write_bytes(bytes(range(256)) * 9)
    (folder / "name.a3m").write_text(f">{'n' * 10_000}\n{FIRST}\n")
    (folder / "clustal.aln").write_text("no heading\n")
    (folder / "pickle.npz").write_bytes(pickle.dumps({"aatype": [0]}))
    np.savez(folder / "nan.npz", aatype=np.zeros(20, np.int32), msa=np.full((2, 20), np.nan))
    np.savez(folder / "range.npz", aatype=np.zeros(20, np.int32), msa=np.full((2, 20), 23))
    np.savez(folder / "shape.npz", aatype=np.zeros(20, np.int32), msa=np.zeros((2, 19), np.int32))
    np.savez(folder / "objects.npz", aatype=np.array([None] * 20), msa=np.zeros((2, 20), np.int32))
    a3m(folder / "good.a3m", FIRST)
    tokens = "expected nanoFold's features, whole numbers aatype .L. and msa .N, L. "
    said = {
        "other": r"other.a3m: \d+% of its first sequence are in other; expected 95% of the shorter one .--skip",
        "short": r"short.a3m: 90% of its first sequence are in short",
        "ragged": "ragged.a3m, line 3: row1 has 19 aligned letters and gaps, the first sequence 20",
        "empty": "empty.a3m is empty: expected an a3m alignment",
        "binary": "binary.a3m",
        "name": "name.a3m, line 1: an ID of 10000 characters",
        "clustal": "clustal.aln, line 1: an alignment begins with",
        **dict.fromkeys(("pickle", "nan", "range", "shape", "objects"), tokens),
    }
    profiles = Profiles(folder, skip_bad=False)
    for id, message in said.items():
        with pytest.raises(ProtcliError, match=message) as caught:
            profiles.give(chain(id, FIRST))
        assert "\n" not in str(caught.value)
    store = write_store(tmp_path / "s", training=dict.fromkeys([*said, "good", "absent"], FIRST))
    with pytest.raises(ProtcliError, match=r"other\.a3m"):
        given(store, tmp_path / "new", folder)
    assert not (tmp_path / "new").exists()
    new = given(store, tmp_path / "new", folder, skip_bad=True)
    note = new.split_info("training")["notes"][-1]
    assert f": profiles from the alignments in a: 1; {len(said) + 1} keep what they have: " in note
    assert "objects.npz" in note
    assert [protein.id for protein in new.split("training") if protein.has_profile] == ["good"]
    for empty in (tmp_path / "nowhere", tmp_path / "s"):
        with pytest.raises(ProtcliError, match="is no folder of alignments; expected files"):
            Profiles(empty, skip_bad=False)


def test_many_rows(tmp_path: Path) -> None:
    """50,000 of them, of two kinds."""
    other = "".join(AMINO_ACIDS[19 - AMINO_ACIDS.index(letter)] for letter in FIRST)
    a3m(tmp_path / "x.a3m", FIRST, *[other] * 50_000)
    (alignment,) = read_a3m(tmp_path / "x.a3m")
    assert alignment.rows.shape == (50_001, 20)
    profile = Profiles(tmp_path, skip_bad=False).give(chain("x", FIRST)).profile
    np.testing.assert_allclose(profile, expected(FIRST, other), atol=1e-6)


def random_chain(seed: int) -> str:
    return "".join(np.random.default_rng(seed).choice([*AMINO_ACIDS], 80))


def test_relatives_from_a_database_for_those_without_a_profile(tmp_path: Path) -> None:
    query, lone = random_chain(1), random_chain(2)
    relative = "".join("A" if number % 4 == 0 else letter for number, letter in enumerate(query))
    far = "".join("W" if number % 4 == 2 else letter for number, letter in enumerate(relative[5:70]))
    others = [random_chain(seed) for seed in range(10, 40)]
    fasta = "".join(f">{name}\n{row}\n" for name, row in enumerate((*others, relative, f"{lone[:9]}{far}*")))
    (tmp_path / "d.fasta.gz").write_bytes(gzip.compress(fasta.encode()))
    store = write_store(tmp_path / "s", training={"one": query, "two": lone, "three": "MKV"})
    new = given(store, tmp_path / "new", None, database=tmp_path / "d.fasta.gz")
    one, two, three = new.split("training")
    assert [each.has_profile for each in (one, two, three)] == [True, False, False]
    rows = [query, relative, "-" * 5 + far + "-" * 10]
    inside = slice(8, 67)  # the ends of an alignment are HMMER's choice
    np.testing.assert_allclose(one.profile[inside], expected(*rows)[inside], atol=0.02)
    np.testing.assert_array_equal(two.profile, sequence_profile(lone))
    assert "where there was none, profiles of relatives in d.fasta.gz" in new.split_info("training")["notes"][-1]
    again = given(tmp_path / "new", tmp_path / "again", None, database=tmp_path / "d.fasta.gz")
    assert again.split("training").digest == new.split("training").digest


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "d.fa is empty: expected a FASTA file"),
        (bytes(range(256)) * 9, "d.fa"),
        (b">a\nMKV\n>a\nMKV\n", "d.fa, line 3: a is already the name of the sequence at line 1"),
        (b">a\nMK-V1\n", "d.fa: expected sequences of at most 100,000 letters, not 'M"),
        (b">a\n" + b"M" * 100_001, "d.fa: expected sequences of at most 100,000 letters, not 'M"),
        (b">" + b"n" * 10_000 + b"\nMKV\n", "d.fa, line 1: an ID of 10000 characters"),
    ],
)
def test_a_database_that_is_none_is_one_sentence(tmp_path: Path, content: bytes, said: str) -> None:
    store = write_store(tmp_path / "s", training={"one": FIRST})
    (tmp_path / "d.fa").write_bytes(content)
    with pytest.raises(ProtcliError, match=said) as caught:
        given(store, tmp_path / "new", None, database=tmp_path / "d.fa")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "new").exists()
    for options in ({}, {"alignments": tmp_path, "database": tmp_path}):
        with pytest.raises(ProtcliError, match="give --alignments DIR or --database FILE, one of the two"):
            give_profiles(store, tmp_path / "new", **options)
