"""Proteins on disk: what goes in comes out, whole or not at all, with families beside a split."""

import json
import multiprocessing
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protcli.errors import ProtcliError
from protcli.proteins.protein import Protein
from protcli.proteins.store import (
    BATCH_RECORDS,
    MANIFEST,
    Families,
    create_store,
    open_store,
    replace_families,
    split_name,
    writing,
)


def protein(seed: int, length: int = 5, identity: str | None = None) -> Protein:
    rng = np.random.default_rng(seed)
    coords = rng.normal(size=(length, 3, 3)).astype(np.float32)
    coords[rng.random((length, 3)) < 0.2] = np.nan
    sequence = "".join(rng.choice(list("ACDEFGHIKLMNPQRSTVWYX"), length))
    profile, mask = rng.random((length, 21), dtype=np.float32), rng.random(length) < 0.8
    return Protein(identity or f"p{seed}", sequence, profile, coords, mask, bool(rng.random() < 0.5))


def write(path: Path, **splits: Iterable[Protein]) -> Path:
    with create_store(path) as store:
        for name, proteins in splits.items():
            with store.split(name) as writer:
                for one in proteins:
                    writer.add(one)
    return path


def digest(path: Path, proteins: list[Protein]) -> str:
    return open_store(write(path, training=proteins)).split_info("training")["digest"]


def assert_same(found: Protein, expected: Protein) -> None:
    assert (found.id, found.sequence, found.has_profile) == (expected.id, expected.sequence, expected.has_profile)
    for name in ("profile", "coords", "mask"):
        assert getattr(found, name).dtype == getattr(expected, name).dtype
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))  # a NaN equals a NaN here


def leftovers(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


# --- what goes in comes out ---


@settings(deadline=None, max_examples=25)
@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=2 * BATCH_RECORDS + 3),
    values=st.lists(st.floats(width=32), min_size=1, max_size=20),
    identity=st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
)
def test_round_trip_of_any_float_and_id(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], values: list[float], identity: str
) -> None:
    proteins = [
        replace(
            protein(number, length, f"{number}{identity}"),
            profile=np.resize(np.float32(values), (length, 21)),
            coords=np.resize(np.float32(values), (length, 3, 3)),
        )
        for number, length in enumerate(lengths)
    ]
    split = open_store(write(tmp_path_factory.mktemp("store") / "s", training=proteins)).split("training")
    assert len(split) == len(proteins)
    assert split.lengths.tolist() == lengths
    for found, expected in zip(split, proteins, strict=True):
        assert_same(found, expected)


def test_a_sequence_of_proteins_whose_arrays_are_views_of_the_map(tmp_path: Path) -> None:
    proteins = [protein(number, 50) for number in range(BATCH_RECORDS + 2)]
    split = open_store(write(tmp_path / "s", valid=proteins)).split("validation")
    assert [one.id for one in split[-3:]] == ["p63", "p64", "p65"]
    assert split[-1].id == "p65"
    with pytest.raises(IndexError):
        split[len(proteins)]
    allocated = pa.total_allocated_bytes()
    for name in ("profile", "coords"):
        first, again = getattr(split[65], name), getattr(split[65], name)
        assert np.shares_memory(first, again)
        assert not first.flags.owndata
        assert not first.flags.writeable
    assert pa.total_allocated_bytes() == allocated


def test_survives_another_process(tmp_path: Path) -> None:
    split = open_store(write(tmp_path / "s", training=[protein(1, 4), protein(2, 6)])).split("training")
    assert_same(pickle.loads(pickle.dumps(split))[1], split[1])
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        for found, expected in zip(pool.apply(list, [split]), split, strict=True):
            assert_same(found, expected)


def test_manifest_counts_by_hand(tmp_path: Path) -> None:
    profile, coords = np.zeros((3, 21), np.float32), np.ones((3, 3, 3), np.float32)
    profile[0, 0], profile[:, 20] = 0.9, [1, 0.5, 0]
    # residue 1 whole, residue 2 with CA alone, residue 3 whole but masked out
    coords[1, [0, 2]] = np.nan
    one = Protein("30#1ABC_1_A", "ACD", profile, coords, np.array([True, True, False]))
    two = Protein("2ABC_1_A", "G", np.zeros((1, 21), "f4"), np.full((1, 3, 3), np.nan, "f4"), np.array([True]), False)
    info = open_store(write(tmp_path / "s", training=[one, two])).split_info("training")
    expected = {
        "records": 2, "real_profiles": 1, "classes": {"": 1, "30": 1},
        "lengths": {"min": 1, "median": 2.0, "max": 3, "total": 4}, "atoms": {"N": 1, "CA": 2, "C'": 1, "C-beta": 1},
        "profile_mean": pytest.approx([0.9 / 4] + [0] * 19 + [1.5 / 4]),
        "profile_nonzero": [1 / 4] + [0] * 19 + [2 / 4],
    }  # fmt: skip
    assert {name: info[name] for name in expected} == expected


def test_secondary_structure_comes_back_where_residues_are_resolved(tmp_path: Path) -> None:
    """It lies in the bytes of the mask, so that a split without any is what it was, byte for byte."""
    mask = np.array([True, False, True, True, False])
    base = replace(protein(1), mask=mask)
    codes = np.array([8, 7, 0, 1, 0], np.uint8)
    with_codes = replace(base, secondary=codes)
    none, unknown, some = (
        write(tmp_path / name, training=[protein(2), one, protein(3)]) / "training.arrow"
        for name, one in (("none", base), ("unknown", replace(base, secondary=codes * 0)), ("some", with_codes))
    )
    assert none.read_bytes() == unknown.read_bytes()
    with pa.ipc.open_file(none) as file:
        assert file.get_batch(0).column("mask")[1].as_py() == [1, 0, 1, 1, 0]
    with pa.ipc.open_file(some) as file:
        assert file.get_batch(0).column("mask")[1].as_py() == [9, 0, 1, 2, 0]
    opened, plain = (open_store(path.parent).split("training") for path in (some, none))
    assert opened.digest != plain.digest
    opened.verify()
    assert opened[1].secondary.tolist() == [8, 0, 0, 1, 0]
    assert (opened[1].secondary.dtype, opened[1].mask.dtype) == (np.uint8, bool)
    for found, expected in zip(opened, plain, strict=True):
        assert_same(found, expected)
        assert not expected.secondary.any()
    again = open_store(write(tmp_path / "again", training=opened)).split("training")  # as it was read
    assert again.digest == opened.digest


# --- the digest ---


@pytest.mark.parametrize("batch", [1, 7, 1000])
def test_digest_does_not_depend_on_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch: int) -> None:
    proteins = [protein(number, 3 + number % 4) for number in range(150)]
    usual = digest(tmp_path / "usual", proteins)
    monkeypatch.setattr(writing, "BATCH_RECORDS", batch)
    assert digest(tmp_path / "other", proteins) == usual


def _changed(array: np.ndarray, value: object) -> np.ndarray:
    array = array.copy()
    array.flat[-1] = value
    return array


BASE = replace(protein(3), coords=np.ones((5, 3, 3), np.float32), mask=np.ones(5, bool), has_profile=True)
NAN = np.uint32(0xFFC00001)  # another one than NumPy's


def test_digest_changes_with_anything_and_with_order_number_and_borders(tmp_path: Path) -> None:
    nan, other_nan = (replace(BASE, coords=_changed(BASE.coords, of)) for of in (np.nan, NAN.view(np.float32)))
    changed = [
        BASE,
        replace(BASE, id="p4"),
        replace(BASE, sequence="X" + BASE.sequence[1:]),
        replace(BASE, profile=_changed(BASE.profile, np.nextafter(BASE.profile.flat[-1], np.float32(2)))),
        nan,  # a missing atom
        replace(BASE, mask=_changed(BASE.mask, False)),
        replace(BASE, has_profile=False),
        replace(BASE, secondary=np.array([0, 0, 0, 0, 3], np.uint8)),
    ]
    one, two, joined, nameless = (replace(BASE, id=name) for name in ("a", "b", "ab", ""))
    orders = ([one, two], [two, one], [one], [joined, nameless], [nameless, joined])
    contents = [*orders, *([protein(9), each] for each in changed)]
    assert len({digest(tmp_path / str(number), proteins) for number, proteins in enumerate(contents)}) == len(contents)
    assert digest(tmp_path / "a", [nan]) == digest(tmp_path / "b", [other_nan])


# --- what is no whole store ---


def rewrite(path: Path, edit: Callable[[dict], object]) -> None:
    """Change the manifest of a store; `edit` changes it in place, or returns another one."""
    manifest = json.loads((path / MANIFEST).read_text())
    (path / MANIFEST).write_text(json.dumps(edit(manifest) or manifest))


@pytest.mark.parametrize(("text", "message"), [
    ('{"format": "protcli store", "format_version": 99}', "format 99, but this protcli reads format 1"),
    ('{"some": "json"}', "not the manifest of a protcli store"),
    ("[]", "not the manifest of a protcli store"),
    ('{"format": "protcli store", "format_version": 1, "name"', "cannot be read as JSON"),
    ("[" * 100_000, "cannot be read as JSON"),
])  # fmt: skip
def test_folders_and_manifests_of_another_kind(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "file").write_text("")
    for name, said in (("nowhere", "no such folder"), (".", "is not a store"), ("file", "is not a store")):
        with pytest.raises(ProtcliError, match=said):
            open_store(tmp_path / name)
    path = write(tmp_path / "s", training=[protein(1)])
    (path / MANIFEST).write_text(text)
    with pytest.raises(ProtcliError, match=message) as caught:
        open_store(path)
    assert len(str(caught.value)) < 600


ENTRY = ["splits", "training"]


@pytest.mark.parametrize(("place", "value", "said"), [
    *((["splits"], value, r"splits") for value in ([1], {"training": None}, {"training": {"records": 1}})),
    *((["splits", name], {}, r"splits\.") for name in ("../../x", "/tmp/x", "a\0b", "", "..")),
    *(([*ENTRY, "file"], value, r"splits\.training\.file") for value in ("../x", "/etc/passwd", "a\0b", "..", 1, "")),
    *(([*ENTRY, "bytes"], value, r"splits\.training\.bytes") for value in ("1", -1)),
    *(([*ENTRY, "records"], value, r"splits\.training\.records") for value in (1.5, True)),
    ([*ENTRY, "digest"], None, r"splits\.training\.digest"),
    *(([*ENTRY, "families"], value, r"splits\.training\.families") for value in (
        [], {"file": "../x", "bytes": 1, "digest": ""}, {"file": "x"},
    )),
])  # fmt: skip
def test_entries_of_a_manifest_are_checked(tmp_path: Path, place: list[str], value: object, said: str) -> None:
    path = write(tmp_path / "s", training=[protein(1)])

    def edit(manifest: dict) -> None:
        for key in place[:-1]:
            manifest = manifest[key]
        manifest[place[-1]] = value

    rewrite(path, edit)
    with pytest.raises(ProtcliError, match=rf"is incomplete or wrong \({said}"):
        open_store(path)


@pytest.mark.parametrize("records", [1, 3])
def test_a_manifest_that_counts_wrongly(tmp_path: Path, records: int) -> None:
    path = write(tmp_path / "s", training=[protein(1), protein(2)])
    rewrite(path, lambda manifest: manifest["splits"]["training"].update(records=records))
    with pytest.raises(ProtcliError, match=f"batch 0 cannot be read .it holds 2 proteins, not {records}"):
        list(open_store(path).split("training"))


@pytest.mark.parametrize(("column", "values", "said"), [
    ("id", [None, "b"], "a value is missing"), ("sequence", ["A", "A"], "sequences and masks differ in length"),
    ("coords", [[0.0] * 9, [0.0] * 9], "coords and mask differ in length"),
    ("profile", [[0.0] * 21, [0.0] * 20], "profile and mask differ in length"),
])  # fmt: skip
def test_columns_that_do_not_fit_each_other(tmp_path: Path, column: str, values: list, said: str) -> None:
    path = write(tmp_path / "s", training=[protein(1, length=1), protein(2, length=2)])
    file = path / "training.arrow"
    table = pa.ipc.open_file(pa.BufferReader(file.read_bytes())).read_all()
    place = table.schema.get_field_index(column)
    changed = table.set_column(place, table.schema.field(column), pa.array(values, table.schema.field(column).type))
    with pa.ipc.new_file(str(file), table.schema) as writer:
        writer.write_table(changed)
    rewrite(path, lambda manifest: manifest["splits"]["training"].update(bytes=file.stat().st_size))
    with pytest.raises(ProtcliError, match=f"batch 0 cannot be read .{said}.; the store is damaged"):
        open_store(path).split("training")[1]


def test_a_split_opens_no_other_file_and_sizes_are_checked_without_opening(tmp_path: Path) -> None:
    path = write(tmp_path / "s", train=[protein(1)], test=[protein(2)])
    store, file = open_store(path), path / "testing.arrow"
    whole = file.read_bytes()
    with pytest.raises(ProtcliError, match="no split 'validation'; it has training, testing"):
        store.split("validation")
    file.write_bytes(bytes(len(whole)))  # no Arrow file, but as long
    store.check_sizes()
    with pytest.raises(ProtcliError, match="cannot be read as Arrow"):
        store.split("testing")
    file.write_bytes(whole[:-1])
    said = rf"testing\.arrow: holds {len(whole) - 1:,} bytes, its manifest says {len(whole):,}; "
    for opened in (store.check_sizes, lambda: store.split("testing")):
        with pytest.raises(ProtcliError, match=said):
            opened()
    file.unlink()
    with pytest.raises(ProtcliError, match=r"cannot read .*testing\.arrow: No such file.*import it again"):
        store.check_sizes()
    store = open_store(path)
    assert len(store.split("training")) == 1
    assert store.split_info("testing")["records"] == 1
    with pytest.raises(ProtcliError, match=r"testing\.arrow.*damaged"):
        store.split("testing")


def test_no_damaged_byte_changes_a_protein_unseen(tmp_path: Path) -> None:
    proteins = [protein(1, 3, "a"), protein(2, 4, "bc")]
    file = write(tmp_path / "s", training=proteins) / "training.arrow"
    whole, said = file.read_bytes(), []
    for place in range(len(whole)):
        data = bytearray(whole)
        data[place] ^= 0xFF
        file.write_bytes(data)
        try:
            split = open_store(file.parent).split("training")
            split.verify()
        except ProtcliError as error:
            said.append(str(error))
        else:  # padding, or the schema's copy at the head of the file
            for found, expected in zip(split, proteins, strict=True):
                assert_same(found, expected)
    assert len(said) > 7 * (21 + 9) * 4
    assert all(sentence.endswith("the store is damaged: import it again") for sentence in said)


# --- making one, whole or not at all ---


def test_names_of_splits() -> None:
    full = {"train": "training", "valid": "validation", "test": "testing", "training_30": "training_30"}
    assert {name: split_name(name) for name in full} == full
    for name in ("../up", "", ".hidden", "a b"):
        with pytest.raises(ProtcliError, match="is not a valid split name"):
            split_name(name)


def test_splits_are_added_to_a_store(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()  # an empty folder becomes the store
    path = write(tmp_path / "s", training=[protein(1)])
    assert open_store(path).name == "s"
    write(path, validation=[protein(2)])
    assert open_store(path).splits == ("training", "validation")
    assert_same(open_store(path).split("training")[0], protein(1))
    before = (path / MANIFEST).read_bytes()
    with pytest.raises(ProtcliError, match="already has a split 'training'"):
        write(path, testing=[protein(4)], training=[protein(3)])
    with pytest.raises(ProtcliError, match="holds real proteins"), create_store(path, synthetic=True):
        pass
    assert (path / MANIFEST).read_bytes() == before
    assert leftovers(path) == [MANIFEST, "training.arrow", "validation.arrow"]
    assert leftovers(tmp_path) == ["s"]


def test_what_cannot_be_written_is_a_sentence_and_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine").mkdir()
    for name in ("mine/thesis.txt", "file"):
        (tmp_path / name).write_text("words")
    one = [protein(1)]
    for place, splits, said in (
        ("mine", {"training": one}, "exists and is not a store"),
        ("file", {"training": one}, "exists and is not a store"),
        ("file/s", {"training": one}, "cannot be written"),
        ("/proc/nowhere/s", {"training": one}, "cannot be written"),
        ("s", {"training": []}, "no proteins to store"),
        ("s", {}, "no splits to store"),
    ):
        with pytest.raises(ProtcliError, match=said):
            write(tmp_path / place, **splits)

    class FullDisk:
        def write_batch(self, batch: pa.RecordBatch) -> None:
            raise OSError("No space left on device")

        def close(self) -> None:
            pass

    with monkeypatch.context() as patch:
        patch.setattr(pa.ipc, "new_file", lambda sink, schema: FullDisk())
        with pytest.raises(ProtcliError, match="training cannot be written: No space left"):
            write(tmp_path / "s", training=one)
    assert (leftovers(tmp_path), leftovers(tmp_path / "mine")) == (["file", "mine"], ["thesis.txt"])
    with create_store(tmp_path / "s") as store:
        with store.split("training") as writer:
            writer.add(protein(1))
        with pytest.raises(ProtcliError, match="another process is writing"):
            write(tmp_path / "s", training=one)
    assert open_store(tmp_path / "s").splits == ("training",)


HALF_AN_IMPORT = """
import sys, numpy as np
from protcli.proteins.protein import Protein
from protcli.proteins.store import create_store
one = Protein("a", "AC", np.ones((2, 21), "f4"), np.ones((2, 3, 3), "f4"), np.ones(2, bool))
with create_store(sys.argv[1]) as store, store.split("training") as writer:
    for _ in range(1000):
        writer.add(one)
    print("writing", flush=True)
    sys.stdin.read()
"""


def test_a_killed_writer_leaves_no_store(tmp_path: Path) -> None:
    path, pipe = tmp_path / "s", subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", HALF_AN_IMPORT, str(path)], stdin=pipe, stdout=pipe) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"writing\n"
        child.kill()
    assert not path.exists()
    assert leftovers(tmp_path) == [".s.partial"]
    write(path, validation=[protein(1)])
    assert leftovers(tmp_path) == ["s"]
    assert leftovers(path) == [MANIFEST, "validation.arrow"]


IDS = ["a", 'b,"\r\n', "ç", "d"]
LABELS = ["one", "two, or\n2", "one", "one"]


def write_families(path: Path, labels: list[str] | None, split: str = "training") -> Path:
    with create_store(path) as store, store.split(split) as writer:
        for name in IDS:
            ones = np.ones((2, 3, 3), np.float32)
            writer.add(Protein(name, "AC", np.ones((2, 21), np.float32), ones, np.ones(2, bool)))
        if labels is not None:
            writer.families = Families(labels, "a test")
    return path


def test_families_come_back_and_the_digest_stays(tmp_path: Path) -> None:
    store = open_store(write_families(tmp_path / "with", LABELS))
    split, without = store.split("training"), open_store(write_families(tmp_path / "without", None)).split("training")
    assert split.families.tolist() == LABELS
    assert [protein.family for protein in split] == LABELS
    assert pickle.loads(pickle.dumps(split)).families.tolist() == LABELS
    assert (split.family_source, without.family_source) == ("a test", None)
    assert split.digest == without.digest
    split.verify()
    entry = store.split_info("training")["families"]
    assert (entry["source"], entry["count"], entry["largest"]) == ("a test", 2, 3)
    assert without.families.tolist() == without.ids == [protein.family for protein in without] == IDS  # each its own


def test_families_are_replaced_under_the_feet_of_nobody(tmp_path: Path) -> None:
    path = write_families(tmp_path / "s", LABELS)
    write_families(path, None, "validation")
    before = open_store(path)
    opened = before.split("training")
    new, other = Families(list("wxyz"), "new"), Families(list("ppqq"), "new")
    files = {file.name: file.read_bytes() for file in path.iterdir()}
    with pytest.raises(ProtcliError, match="no split 'testing'"):
        replace_families(path, {"training": new, "testing": Families(["a"], "new")})
    assert {file.name: file.read_bytes() for file in path.iterdir()} == files
    with pytest.raises(ProtcliError, match="no such folder"):
        replace_families(tmp_path / "nowhere", {})
    replace_families(path, {"training": new, "validation": other})
    assert (opened.families.tolist(), opened[1].family) == (LABELS, LABELS[1])
    assert before.split("training").families.tolist() == list("wxyz")
    store = open_store(path)
    assert store.split("training").families.tolist() == list("wxyz")
    assert store.split("validation").families.tolist() == list("ppqq")
    assert store.split("training").digest == opened.digest
    written = [store.split_info(name)["families"]["file"] for name in store.splits]
    assert leftovers(path) == sorted([MANIFEST, "training.arrow", "validation.arrow", *written])
    assert leftovers(tmp_path) == ["s"]
    replace_families(path, {"training": Families(list("wxyz"), "the same")})
    assert open_store(path).split("training").families.tolist() == list("wxyz")


def test_nothing_is_half_read_while_families_are_replaced(tmp_path: Path) -> None:
    path, known = write_families(tmp_path / "s", LABELS), [list("wxyz"), list("ppqq")]
    replace_families(path, {"training": Families(known[0], "new")})
    with ThreadPoolExecutor(1) as writer:
        replaced = writer.submit(
            lambda: [replace_families(path, {"training": Families(known[i % 2], "new")}) for i in range(100)]
        )
        reads = 0
        while not replaced.done():
            split, reads = open_store(path).split("training"), reads + 1
            assert split.families.tolist() in known
            assert [protein.family for protein in split] in known
        assert len(replaced.result()) == 100
    assert reads


def test_damaged_families(tmp_path: Path) -> None:
    path = write_families(tmp_path / "s", LABELS)
    store = open_store(path)
    file = path / store.split_info("training")["families"]["file"]
    whole = file.read_bytes()
    file.write_bytes(whole.replace(b"one", b"two", 1))
    with pytest.raises(ProtcliError, match=r"families-.*\.csv: its content has changed; the store is damaged"):
        store.split("training")
    file.write_bytes(whole[:-1])
    for opened in (store.check_sizes, lambda: store.split("training")):
        with pytest.raises(ProtcliError, match=r"families-.*\.csv: holds .* the store is damaged"):
            opened()
    file.unlink()
    with pytest.raises(ProtcliError, match=r"cannot read .*families-.*\.csv"):
        store.check_sizes()
