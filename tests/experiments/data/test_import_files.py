import json
import os
import struct
import subprocess
import sys
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from signal import SIGINT

import google_crc32c
import numpy as np
import pytest

from protcli.errors import ProtcliError
from protcli.experiments.data.import_files import BROKEN, DUPLICATE, UNRESOLVED, import_data
from protcli.experiments.data.inspect import inspect_data, picture_data
from protcli.experiments.pages import Progress
from protcli.proteins.store import MANIFEST, SplitWriter, open_store


def record(identity: str, length: int = 4, resolved: int | None = None) -> str:
    """A record of ProteinNet's text: residue i has CA at (100 (i + 1), 0, 0) pm; the residues after `resolved` none."""
    resolved = length if resolved is None else resolved
    column = [f"{number / 100}" for number in range(length)]
    x = [100 * (i + 1) + atom if i < resolved else 0 for i in range(length) for atom in range(3)]
    rows = ["\t".join(column)] * 21
    coords = ["\t".join(map(str, x)), *["\t".join(["0"] * 3 * length)] * 2]
    mask = "+" * resolved + "-" * (length - resolved)
    parts = (
        "[ID]",
        identity,
        "[PRIMARY]",
        "A" * length,
        "[EVOLUTIONARY]",
        *rows,
        "[TERTIARY]",
        *coords,
        "[MASK]",
        mask,
    )
    return "\n".join([*parts, "", ""])


def proteinnet(path: Path, *records: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(records))
    return path


def run(sources: Sequence[Path], out: Path, **options) -> dict[str, dict]:
    return {event.name: event.entry for event in import_data(sources, out, **options) if isinstance(event, SplitWriter)}


def nothing_in(folder: Path, *but: str) -> bool:
    return sorted(entry.name for entry in folder.iterdir()) == sorted(but)


# --- TFRecord, written by hand ---


def _message(number: int, data: bytes) -> bytes:
    size = len(data)
    digits = [size >> shift & 0x7F | 0x80 for shift in range(0, max(size.bit_length() - 7, 0), 7)]  # of a varint
    return bytes([number << 3 | 2, *digits, size >> 7 * len(digits)]) + data


def _crc32c(data: bytes) -> bytes:
    crc = google_crc32c.value(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def tfrecord(path: Path, *messages: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    sizes = [struct.pack("<Q", len(message)) for message in messages]
    path.write_bytes(b"".join(s + _crc32c(s) + m + _crc32c(m) for s, m in zip(sizes, messages, strict=True)))
    return path


def _map(entries: dict[str, bytes]) -> bytes:
    return b"".join(_message(1, _message(1, name.encode()) + _message(2, value)) for name, value in entries.items())


def _feature(kind: int, data: bytes) -> bytes:
    """Of bytes (1), floats (2) or integers of one byte (3)."""
    return _message(kind, _message(1, data))


def _floats(*values: float) -> bytes:
    return _feature(2, struct.pack(f"<{len(values)}f", *values))


def sequence_example(identity: str) -> bytes:
    """Two residues, AC, CA 380 pm apart."""
    lists = {
        "primary": [_feature(3, bytes([residue])) for residue in (0, 1)],
        "evolutionary": [_floats(*[0.5] * 21)] * 2,
        "tertiary": [_floats(380 * (number // 3) + number % 3 + 1, 0, 0) for number in range(6)],
        "mask": [_floats(1)] * 2,
    }
    encoded = {name: b"".join(_message(1, step) for step in steps) for name, steps in lists.items()}
    return _message(1, _map({"id": _feature(1, identity.encode())})) + _message(2, _map(encoded))


def flat_example(identity: str) -> bytes:
    """The studies' own layout: 256 residues, 256 points."""
    features = {
        "id": _feature(1, identity.encode()),
        "primary": _feature(3, bytes([3] * 256)),
        "evolutionary": _floats(*[0.5] * 256 * 21),
        "tertiary": _floats(*range(1, 769)),
    }
    return _message(1, _map(features))


# --- a release, files, structures ---


def test_a_proteinnet_folder(tmp_path: Path) -> None:
    folder = tmp_path / "casp"
    training = proteinnet(folder / "training_30", record("1ABC_1_A", 5, 3), record("2ABC_1_A", 6))
    proteinnet(folder / "training_100", record("3ABC_1_A"))
    proteinnet(folder / "validation", record("10#4ABC_1_A"))
    proteinnet(folder / "testing", record("FM#5ABC_1_A"))
    (folder / "README").write_text("words")
    (folder / "more").mkdir()
    events = list(import_data([folder], tmp_path / "s"))
    plan = events[0]
    assert plan.ignored == ["README", "more/"]
    assert plan.size == sum(
        file.stat().st_size for file in folder.iterdir() if file.is_file() and file.name != "README"
    )
    progress = [event.done for event in events if isinstance(event, Progress) and event.unit == "bytes"]
    assert progress == sorted(progress)

    store = open_store(tmp_path / "s")
    assert store.splits == ("training_30", "training_100", "validation", "testing")
    info = store.split_info("training_30")
    assert (info["read"], info["records"], info["dropped"], info["atoms"]["CA"]) == (2, 2, {}, 9)
    data = training.read_bytes()
    assert info["sources"] == [{"name": "training_30", "bytes": len(data), "sha256": sha256(data).hexdigest()}]
    first = store.split("training_30")[0]
    assert first.coords[:3, 1, 0] == pytest.approx([1.01, 2.01, 3.01])
    assert np.isnan(first.coords[3:]).all()
    assert first.profile[4] == pytest.approx(0.04)
    assert str(tmp_path) not in (tmp_path / "s" / MANIFEST).read_text()
    run([folder], tmp_path / "there" / "s")
    here, there = ((tmp_path / place / "s" / MANIFEST).read_bytes() for place in ("", "there"))
    assert here == there


def test_shards_of_a_tfrecord_release_in_order(tmp_path: Path) -> None:
    for shard in (1, 2, 10):
        tfrecord(tmp_path / "casp" / "training_30" / str(shard), sequence_example(f"shard{shard}"))
        tfrecord(tmp_path / "casp" / "training" / "50" / str(shard), sequence_example(f"shard{shard}"))
    tfrecord(tmp_path / "casp" / "validation.tfrecord", sequence_example("a"), sequence_example("b"))
    entries = run([tmp_path / "casp"], tmp_path / "s")
    store = open_store(tmp_path / "s")
    assert store.splits == ("training_30", "training_50", "validation")
    for split in ("training_30", "training_50"):
        assert [protein.id for protein in store.split(split)] == ["shard1", "shard2", "shard10"]
    assert [source["name"] for source in entries["training_30"]["sources"]] == [f"training_30/{n}" for n in (1, 2, 10)]
    assert np.diff(store.split("validation")[0].atom("ca")[:, 0]) == pytest.approx([3.8])


def test_several_files_become_one_split_and_a_split_is_added(tmp_path: Path) -> None:
    one, two = proteinnet(tmp_path / "one", record("a")), proteinnet(tmp_path / "two", record("b"), record("c"))
    assert run([two, one], tmp_path / "s", as_split="valid")["validation"]["records"] == 3
    assert [protein.id for protein in open_store(tmp_path / "s").split("validation")] == ["b", "c", "a"]
    flat = tfrecord(tmp_path / "train.tfrecords", flat_example("flat"))
    [note] = run([flat], tmp_path / "s", as_split="train")["training"]["notes"]
    assert "85 residues" in note
    assert open_store(tmp_path / "s").split_info("training")["atoms"]["CA"] == 85
    assert open_store(tmp_path / "s").splits == ("validation", "training")
    with pytest.raises(ProtcliError, match="already has a split 'validation'"):
        run([proteinnet(tmp_path / "validation", record("b"))], tmp_path / "s")


def pdb(path: Path, residues: int = 3) -> Path:
    atoms = [
        f"ATOM  {3 * i + n + 1:5d}  {name:<3} GLY A{i + 1:4d}    {3.8 * i + n:8.3f}{0.5:8.3f}{0.0:8.3f}  1.00  0.00"
        for i in range(residues)
        for n, name in enumerate(("N", "CA", "C"))
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([*atoms, "END", ""]))
    return path


def test_structures_have_no_profile_of_their_own(tmp_path: Path) -> None:
    pdb(tmp_path / "models" / "one.pdb")
    pdb(tmp_path / "models" / "two.ent", residues=5)
    (tmp_path / "models" / "notes.txt").write_text("words")
    events = list(import_data([tmp_path / "models"], tmp_path / "s", as_split="test"))
    assert events[0].ignored == ["notes.txt"]  # type: ignore[union-attr]
    store = open_store(tmp_path / "s")
    info = store.split_info("testing")
    assert (info["records"], info["real_profiles"], info["lengths"]["total"]) == (2, 0, 8)
    data = (tmp_path / "models" / "one.pdb").read_bytes()
    assert info["sources"][0] == {"name": "one.pdb", "bytes": len(data), "sha256": sha256(data).hexdigest()}
    glycine = store.split("testing")[0]
    assert not glycine.has_profile
    assert glycine.profile[0].tolist() == [0, 0, 0, 0, 0, 1, *[0] * 14, 1]


# --- what is left out ---


def structure_db(path: Path, letters: bytes, chains: int) -> Path:
    """ProMod3's database of alike chains, each with its CA on a line; the letters are those of all of them."""
    rows, length = len(letters), len(letters) // chains
    header = struct.pack("<14IfbhQHI", 1234, 2, 4, 4, 2, 8, 2, 6, 88, 40, 24, 6, 4, 1, 1.0, 1, 1, 1, 1, 2**32 - 1)
    table = [
        struct.pack("<I4sI1sIHH3f", 4, b"1ABC", 1, b"%c" % (65 + i), i * length, length, 1, 0, 0, 0)
        for i in range(chains)
    ]
    atoms = b"".join(struct.pack("<12H", *[220 * i] * 12) for i in range(rows))
    frequencies = struct.pack("<20h", *[500] * 20) * rows
    columns = (letters, atoms, bytes(4 * rows), bytes(2 * rows), bytes(2 * rows), b"H" * rows, frequencies, frequencies)
    content = [header, struct.pack("<Q", chains), *table]
    path.write_bytes(b"".join([*content, *(struct.pack("<Q", rows) + column for column in columns)]))
    return path


def test_a_structure_database_is_for_training(tmp_path: Path) -> None:
    source = structure_db(tmp_path / "structure_db.dat", b"ACDEFGHI", 2)
    entry = run([source], tmp_path / "s", families="none")["training"]
    assert entry["sources"] == [
        {
            "name": source.name,
            "bytes": source.stat().st_size,
            "sha256": sha256(source.read_bytes()).hexdigest(),
        }
    ]
    first, second = open_store(tmp_path / "s").split("training")
    assert (first.id, first.sequence, second.id, second.sequence) == ("1ABCpm_1_A", "ACDE", "1ABCpm_2_B", "FGHI")
    assert first.secondary.tolist() == [1] * 4
    assert list(run([source.rename(tmp_path / "x")], tmp_path / "s", as_split="test")) == ["testing"]
    # beside files of other kinds, none of which is damaged by it
    (tmp_path / "folder").mkdir()
    structure_db(tmp_path / "folder" / "db", b"ACDEFGHI", 2)
    proteinnet(tmp_path / "folder" / "text", record("1AAA_1_A"))
    (tmp_path / "folder" / "frag_db.dat").write_bytes(struct.pack("<6I", 1234, 2, 4, 4, 4, 1))
    entry = run([tmp_path / "folder"], tmp_path / "s", as_split="mixed", families="none")["mixed"]
    assert (entry["records"], len(entry["sources"])) == (3, 2)
    found = {protein.id: protein.secondary.max() for protein in open_store(tmp_path / "s").split("mixed")}
    assert found == {"1ABCpm_1_A": 1, "1ABCpm_2_B": 1, "1AAA_1_A": 0}


def test_a_structure_database_that_is_damaged(tmp_path: Path) -> None:
    source = structure_db(tmp_path / "structure_db.dat", b"ACBEFGHIKLMN", 3)
    with pytest.raises(ProtcliError, match=r"chain 1, '1ABCpm_1_A': 'B' at position 3 .*\(--skip-bad leaves such rec"):
        run([source], tmp_path / "s", families="none")
    entry = run([source], tmp_path / "s", families="none", skip_bad=True)["training"]
    assert (entry["read"], entry["records"], len(entry["dropped"][BROKEN])) == (3, 2, 1)
    assert entry["dropped"][BROKEN][0].startswith("structure_db.dat, chain 1, '1ABCpm_1_A': ")
    whole = source.read_bytes()
    for content in (whole[:-1], whole[:100], whole[:3], b"", whole[:4] + b"\3" + whole[5:]):
        source.write_bytes(content)
        with pytest.raises(ProtcliError, match=r"structure_db\.dat is damaged, truncated, compressed or of another"):
            run([source], tmp_path / "t", families="none")
        with pytest.raises(ProtcliError, match=r"no record of structure_db\.dat can be kept \(1 broken record\)"):
            run([source], tmp_path / "t", families="none", skip_bad=True)
        assert nothing_in(tmp_path, "s", "structure_db.dat")


def test_dropped_records_are_counted_by_reason(tmp_path: Path) -> None:
    source = proteinnet(
        tmp_path / "training_30", record("a"), record("b", 5, 1), record("a"), record("c", 5, 2), record("d", 5, 0)
    )
    entry = run([source], tmp_path / "s")["training_30"]
    assert (entry["read"], entry["records"], entry["dropped"]) == (5, 2, {UNRESOLVED: ["b", "d"], DUPLICATE: ["a"]})


def test_a_broken_record_stops_the_import_or_is_left_out(tmp_path: Path) -> None:
    broken = record("bad").replace("AAAA", "AAA")
    source = proteinnet(tmp_path / "in" / "training_30", record("good"), broken, record("other"))
    with pytest.raises(ProtcliError, match=r"training_30, line \d+, record bad: .*--skip-bad"):
        run([source], tmp_path / "s")
    assert nothing_in(tmp_path, "in")
    entry = run([source], tmp_path / "s", skip_bad=True)["training_30"]
    [sentence] = entry["dropped"][BROKEN]
    assert (entry["read"], entry["records"], sentence[:18]) == (3, 2, "training_30, line ")  # no path of this machine
    assert "record bad" in sentence


def test_skip_bad_leaves_out_a_file_that_holds_no_record(tmp_path: Path) -> None:
    text = proteinnet(tmp_path / "in" / "training_30", record("good"))
    words = proteinnet(tmp_path / "in" / "words.txt", "words" * 100)
    nothing = proteinnet(tmp_path / "in" / "nothing.txt", "")
    entry = run([words, text, nothing], tmp_path / "s", skip_bad=True, as_split="train")["training"]
    assert entry["dropped"] == {
        BROKEN: [
            "words.txt, line 1: not a ProteinNet text file: expected [ID], found 'wordswordswordswords'",
            "nothing.txt is empty: expected ProteinNet records; fetch the file again",
        ]
    }
    assert ([source["name"] for source in entry["sources"]], entry["read"], entry["records"]) == (["training_30"], 3, 1)
    with pytest.raises(ProtcliError, match=r"no record of words\.txt can be kept .1 broken record"):
        run([words], tmp_path / "t", skip_bad=True, as_split="train")
    with pytest.raises(ProtcliError, match=r"not a ProteinNet text file.*--skip-bad leaves such files out"):
        run([words, text], tmp_path / "t", as_split="train")
    with pytest.raises(ProtcliError, match=r"found 'wordswordswordswords'$"):  # of one file nothing would be left
        run([words], tmp_path / "t", as_split="train")
    assert nothing_in(tmp_path, "in", "s")


def test_half_a_file_and_nothing_to_keep(tmp_path: Path) -> None:
    text = record("a", 40) + record("b", 40)
    for content, said in (
        (text[: len(text) * 3 // 4], r"record b: .*truncated"),
        (record("a", 5, 1), f"no record of training_30 can be kept .1 {UNRESOLVED}"),
    ):
        with pytest.raises(ProtcliError, match=said):
            run([proteinnet(tmp_path / "in" / "training_30", content)], tmp_path / "s")
        assert nothing_in(tmp_path, "in")
    source = proteinnet(tmp_path / "in" / "training_30", text.rstrip("\n"))  # without the last blank line it is whole
    assert run([source], tmp_path / "s")["training_30"]["records"] == 2


# --- sources that will not do ---


def test_sources_that_will_not_do(tmp_path: Path) -> None:
    inside = tmp_path / "in"
    odd = proteinnet(inside / "casp" / "training_30", record("a")).parent
    text = proteinnet(inside / "words.txt", "words")
    (inside / "empty").mkdir()
    loose = pdb(inside / "loose" / "one.pdb").parent
    cases = [
        ([inside / "nowhere"], None, "no such file or folder"),
        ([text], None, "its name does not say its split; give it, as in --as train"),
        ([text], "train", "not a ProteinNet text file"),
        ([inside / "empty"], "train", ": nothing to import; expected"),
        ([loose], None, "its file names do not say their split"),
        ([odd], "train", "leave out --as"),
        ([odd], "../x", "is not a valid split name"),
    ]
    for sources, as_split, message in cases:
        with pytest.raises(ProtcliError, match=message):
            run(sources, tmp_path / "s", as_split=as_split)
    assert nothing_in(tmp_path, "in")


# --- ended from outside ---

STALLED = """
import sys, time
from protcli.experiments.data import import_files as import_data
from protcli.proteins.formats.proteinnet import read_proteinnet

def stalled(path, **options):
    proteins = list(read_proteinnet(path, **options))
    yield from proteins
    print("reading", flush=True)
    time.sleep(60)

import_data.read_proteinnet = stalled
from protcli.cli import main
sys.argv = ["protcli", "data", "import", *sys.argv[1:]]
main()
"""


@pytest.mark.slow
def test_an_import_that_is_stopped_leaves_no_store(tmp_path: Path) -> None:
    source = proteinnet(tmp_path / "training_30", *(record(f"p{number}") for number in range(200)))
    command = [sys.executable, "-c", STALLED, str(source), "--out", str(tmp_path / "s")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert b"reading\n" in iter(child.stdout.readline, b"")
        os.kill(child.pid, SIGINT)
        assert child.stderr.read().startswith(b"Stopped: ")
    assert child.returncode == 130
    assert nothing_in(tmp_path, "training_30")


def test_closing_the_iterator_leaves_no_store(tmp_path: Path) -> None:
    events = import_data([proteinnet(tmp_path / "in" / "training_30", record("a"))], tmp_path / "s")
    while not isinstance(next(events), Progress):
        pass
    events.close()
    assert nothing_in(tmp_path, "in")


# --- inspecting ---


def test_inspection_opens_no_split(tmp_path: Path) -> None:
    folder = tmp_path / "casp"
    proteinnet(folder / "training_30", record("1ABC_1_A", 4, 3), record("x", 4, 1), record("10#2ABC_1_A", 6))
    proteinnet(folder / "testing", record("FM#5ABC_1_A"))
    run([folder], tmp_path / "s")
    for file in (tmp_path / "s").glob("*.arrow"):
        file.write_bytes(bytes(file.stat().st_size))  # as long as it was, and nothing in it
    store, tables = inspect_data(tmp_path / "s")
    assert store.splits == ("training_30", "testing")
    splits, atoms, classes, families, overlaps, profile = tables
    training = dict(zip(splits.headings, splits.rows[0], strict=True))
    counts = [training[name] for name in ("read", "kept", "dropped", "shortest", "median", "longest", "residues")]
    assert counts == ["3", "2", "1", "4", "5", "6", "10"]
    assert atoms.headings == ("split", "missing", "N", "CA", "C'", "C-beta")
    assert atoms.rows[0] == ("training_30", "10.00%", "90.00%", "90.00%", "90.00%", "90.00%")
    assert classes.headings == ("split", "10", "none", "FM")
    assert classes.rows == (("training_30", "1", "1", "0"), ("testing", "0", "0", "1"))
    assert families.rows[0][:3] == ("training_30", "2", "1")
    assert overlaps.rows == (("testing", "1", "training_30", "1", "1"),)
    assert profile.rows[0][:2] == ("A", "0.0210  80.00%")  # (0.06 + 0.15) / 10; the first column of each record is 0


def test_inspection_of_a_store_that_lacks_something(tmp_path: Path) -> None:
    run([proteinnet(tmp_path / "testing", record("FM#5ABC_1_A"))], tmp_path / "s")
    file, manifest = tmp_path / "s" / "testing.arrow", tmp_path / "s" / MANIFEST
    whole = manifest.read_text()
    entries = json.loads(whole)
    del entries["splits"]["testing"]["atoms"]
    manifest.write_text(json.dumps(entries))
    with pytest.raises(ProtcliError, match="lacks 'atoms'"):
        inspect_data(tmp_path / "s")
    manifest.write_text(whole)
    file.write_bytes(file.read_bytes() + b"\0")
    with pytest.raises(ProtcliError, match=r"testing\.arrow: holds .* bytes, its manifest says .*import it again"):
        inspect_data(tmp_path / "s")
    file.unlink()
    with pytest.raises(ProtcliError, match=r"cannot read .*testing\.arrow: .*import it again"):
        inspect_data(tmp_path / "s")
    with pytest.raises(ProtcliError, match="holds only a test split"):
        picture_data(tmp_path / "s", tmp_path / "page.png")


def test_pictures_leave_the_test_split_closed(tmp_path: Path) -> None:
    folder = tmp_path / "casp"
    proteinnet(folder / "training_30", *(record(f"p{number}", 20 + number, 18) for number in range(5)))
    proteinnet(folder / "testing", record("FM#5ABC_1_A"))
    run([folder], tmp_path / "s")
    (tmp_path / "s" / "testing.arrow").unlink()
    picture_data(tmp_path / "s", tmp_path / "page.png")
    assert (tmp_path / "page.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ProtcliError, match="cannot be written there"):
        picture_data(tmp_path / "s", tmp_path / "nowhere" / "page.png")
    assert nothing_in(tmp_path, "casp", "page.png", "s")


# --- real data ---


@pytest.mark.slow
def test_genuine_files_and_structures(tmp_path: Path, real_data: Path) -> None:
    genuine = real_data / "genuine_proteinnet"
    counts = {"text_sample": 1, "tf_sample": 1, "openprotein_testfile.txt": 6, "proteinnetpy_5_records.txt": 5}
    for name, count in counts.items():
        split = f"from_{name}"
        assert run([genuine / name], tmp_path / "s", as_split=split)[split]["records"] == count
    entry = run([real_data / "raw_structures"], tmp_path / "s", as_split="test")["testing"]
    assert (len(entry["sources"]), entry["read"], entry["records"], entry["real_profiles"]) == (14, 22, 18, 0)
    assert len(entry["dropped"][DUPLICATE]) == 4  # 1A8O and the three chains of 1a4w are there as PDB and as mmCIF
