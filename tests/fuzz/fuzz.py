"""Give protcli broken and hostile input of every kind: it must be read or refused in one sentence, and soon.

`python tests/fuzz/fuzz.py --seconds 300` prints a table. The inputs are valid examples, made on the spot, that are
changed at random. Each kind has a process of its own with a limit of memory, where many inputs are read one after the
other. An input is decided by the seed, its kind and its number: `--only KIND --first NUMBER --count 1` repeats one.
"""

import argparse
import gzip
import io
import json
import mmap
import multiprocessing
import os
import random
import re
import resource
import shutil
import signal
import struct
import sys
import tarfile
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pyarrow as pa
import safetensors.torch
import torch
import yaml

from protcli.errors import ProtcliError
from protcli.experiments.config import RunConfig, read_config
from protcli.experiments.data.families import read_family_table
from protcli.experiments.data.fetch import _read_json, _unpack
from protcli.experiments.data.import_files import import_data
from protcli.experiments.predicting.predict import _read_profiles, read_queries
from protcli.experiments.suites.suite import find_suite
from protcli.models.zoo import ZOO, find_model
from protcli.proteins.confidence import Calibration
from protcli.proteins.formats.files import FARTHEST, LONGEST_ID, ROUNDING
from protcli.proteins.formats.promod3 import read_promod3
from protcli.proteins.formats.proteinnet import read_proteinnet
from protcli.proteins.formats.structures import cif_text, pdb_text, read_structure
from protcli.proteins.formats.tfrecord import read_tfrecord, sniff
from protcli.proteins.protein import Protein
from protcli.proteins.residues import AMINO_ACIDS, sequence_profile
from protcli.proteins.store import MANIFEST, Families, create_store, open_store, replace_families
from protcli.proteins.store.columns import SCHEMA
from protcli.tracking.run import find_run
from protcli.tracking.store import open_store as make_runs
from protcli.training.checkpoint import load_weights, read_tensors, write_tensors

HANG, STUCK = 5.0, 30.0  # seconds for one input: that end it, and its process where it does not listen
MEMORY = 6 << 30  # bytes of address space beyond what the imports take
LONGEST_SENTENCE = 600  # characters, without the path
NUMBERS = ["nan", "-inf", "1e30", "1e999", "-1e-320", "9" * 400, "-0", "2e4", "1000001", "0x10", "1_0", "1:59:59", ""]
CONTROLS = [b"\0", b"\x1b[2J", b"\r", b"\x85", b"\xff\xfe", b"\xed\xa0\x80", b"\x7f", "\u202e".encode(), b"\t", b"\n"]
NAMES = [
    "../../x", "/etc/passwd", "a\0b", "..", "", "CON", "x" * 5000, "\udcff", "models:/x", "file:///x", "a'b\"c`", "*",
]  # fmt: skip
VALUES: list[Any] = [None, True, -1, 10**30, 1e308, float("nan"), "", "../../x", [], {}, [[[]]], {"a": 1}, "x" * 5000]


class Hang(BaseException):
    """An input took longer than HANG. No Exception: nobody may catch it."""


@dataclass
class Kind:
    """Input of one kind.

    Attributes:
        examples: valid ones.
        read: gives one to protcli, as a file; raises AssertionError if what comes out breaks a limit.
        name: of the file.
        mutate: how an example is changed.
        allowed: exceptions besides ProtcliError that are documented.
        broken: examples that are not valid.
    """

    examples: list[bytes]
    read: Callable[[Path], Any]
    name: str
    mutate: Callable[[random.Random, bytes], bytes] = field(default=lambda draw, data: mutate(draw, data))
    allowed: tuple[type[Exception], ...] = ()
    broken: list[bytes] = field(default_factory=list)


# --- mutation ---


def mutate(draw: random.Random, data: bytes) -> bytes:
    """Change bytes in one to five places."""
    for _ in range(draw.choice([1, 1, 1, 2, 5])):
        at = draw.randrange(len(data) + 1)
        to = min(len(data), at + draw.choice([1, 2, 8, 50, 400]))
        match draw.randrange(9):
            case 0 if at < len(data):
                data = data[:at] + bytes([data[at] ^ 1 << draw.randrange(8)]) + data[at + 1 :]
            case 1:
                data = data[:at]
            case 2:
                data = data[:to] + data[at:to] * draw.choice([1, 2, 50]) + data[to:]
            case 3:
                data = data[:at] + data[to:]
            case 4:
                data = data[:at] + draw.choice(CONTROLS) + data[at:]
            case 5 if found := list(re.finditer(rb"-?\d+(\.\d+)?", data[at : at + 2000])):
                number = draw.choice(found)
                data = data[: at + number.start()] + draw.choice(NUMBERS).encode() + data[at + number.end() :]
            case 6:
                lines = data.split(b"\n")
                first, second = draw.randrange(len(lines)), draw.randrange(len(lines))
                lines[first], lines[second] = lines[second], lines[first]
                data = b"\n".join(lines)
            case 7:
                data = data[:at] + draw.randbytes(draw.choice([1, 4, 8])) + data[at:]
            case _:
                data = data[:at] + draw.choice([b"\0", b"\xff"]) * (to - at) + data[to:]
    return data


def mutate_document(draw: random.Random, data: bytes) -> bytes:
    """Change a value of a JSON or YAML document, or its bytes, or nest it."""
    match draw.randrange(8):
        case 0 | 1 | 2:
            return mutate(draw, data)
        case 3:
            opened = draw.choice(
                ["[", "{a: ", '{"a":', "- ", "? ", "&a [*a, ", "!!python/object:os.system ", "!!binary "]
            )
            at = draw.choice([0, len(data), draw.randrange(len(data) + 1)])
            return data[:at] + opened.encode() * draw.choice([1, 30, 3000, 20_000]) + data[at:]
        case 4:
            lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
            lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, draw.choice([3, 9, 30]))]
            merged = [f"b{i}: &b{i} {{<<: [{', '.join([f'*b{i - 1}'] * 9)}], k{i}: 1}}" for i in range(1, 9)]
            bomb = lines if draw.random() < 0.5 else ["b0: &b0 {x: 1}", *merged]
            return "\n".join([*bomb, ""]).encode() + data
    try:
        document = yaml.safe_load(data)
    except (yaml.YAMLError, ValueError):
        return mutate(draw, data)
    for _ in range(draw.choice([1, 1, 3])):
        document = _changed(draw, document)
    return (json.dumps(document) if data.lstrip().startswith(b"{") else yaml.safe_dump(document)).encode()


def _changed(draw: random.Random, value: Any) -> Any:
    if isinstance(value, dict) and value and draw.random() < 0.9:
        key, what = draw.choice(list(value)), draw.randrange(8)
        if what == 0:
            return {name: each for name, each in value.items() if name != key}
        if what == 1:
            return {draw.choice(NAMES[:6]) if name == key else name: each for name, each in value.items()}
        return value | {key: _changed(draw, value[key])}
    if isinstance(value, list) and value and draw.random() < 0.8:
        at = draw.randrange(len(value))
        return [*value[:at], _changed(draw, value[at]), *value[at + 1 :]]
    return draw.choice(VALUES)


def mutate_packed(draw: random.Random, data: bytes) -> bytes:
    """Change a gzipped file or, half of the time, what is in it."""
    return mutate(draw, data) if draw.random() < 0.5 else gzip.compress(mutate(draw, gzip.decompress(data)), 1)


def frame(message: bytes) -> bytes:
    """A TFRecord."""

    def masked(part: bytes) -> bytes:
        crc = google_crc32c.value(part)
        return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)

    length = struct.pack("<Q", len(message))
    return length + masked(length) + message + masked(message)


def mutate_framed(draw: random.Random, data: bytes) -> bytes:
    """Change a TFRecord file or, more often, a message in it, whose digests are right."""
    return mutate(draw, data) if draw.random() < 0.3 else frame(mutate(draw, data[12:-4]))


def mutate_tensors(draw: random.Random, data: bytes) -> bytes:
    """Change a safetensors file: its bytes, the length of its header, or the header, whose length is then right."""
    size, what = int.from_bytes(data[:8], "little"), draw.randrange(4)
    if what == 0:
        return mutate(draw, data)
    if what == 1:
        wrong = draw.choice([0, 1, 2**63, 2**64 - 1, 2**62, 100_000_001, size - 1, size + 1])
        return struct.pack("<Q", wrong) + data[8:]
    header = (mutate_document if draw.random() < 0.7 else mutate)(draw, data[8 : 8 + size])
    return struct.pack("<Q", len(header)) + header + data[8 + size :]


# --- examples, and how they are read ---


def chain(length: int, seed: int) -> Protein:
    """A random walk with a profile."""
    rng = np.random.default_rng(seed)
    coords = np.cumsum(rng.normal(0, 2, (length, 3, 3)), axis=0).astype(np.float32)
    sequence = "".join(rng.choice(list(AMINO_ACIDS), length))
    return Protein(f"{seed}ABC_1_A", sequence, sequence_profile(sequence), coords, np.ones(length, dtype=bool))


def proteinnet(protein: Protein) -> str:
    """A record as text."""
    rows = ["\t".join(map(str, row)) for row in protein.profile.T]
    xyz = ["\t".join(f"{value * 100:.1f}" for value in row) for row in protein.coords.reshape(-1, 3).T]
    lines = ["[ID]", protein.id, "[PRIMARY]", protein.sequence, "[EVOLUTIONARY]", *rows, "[TERTIARY]", *xyz, "[MASK]"]
    return "\n".join([*lines, "+" * len(protein), "", ""])


def _field(number: int, data: bytes) -> bytes:
    size, length = len(data), b""
    while size >= 0x80:
        length += bytes([size & 0x7F | 0x80])
        size >>= 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + data


def _entry(name: str, value: bytes) -> bytes:
    return _field(1, _field(1, name.encode()) + _field(2, value))


def _floats(values: np.ndarray) -> bytes:
    return _field(2, _field(1, values.astype("<f4").tobytes()))


def sequence_example(protein: Protein) -> bytes:
    """ProteinNet's TFRecord message."""
    steps = {
        "primary": [_field(3, _field(1, bytes([AMINO_ACIDS.index(letter)]))) for letter in protein.sequence],
        "evolutionary": [_floats(row) for row in protein.profile],
        "tertiary": [_floats(row * 100) for row in protein.coords.reshape(-1, 3)],
        "mask": [_floats(np.ones(1))] * len(protein),
    }
    lists = b"".join(_entry(name, b"".join(_field(1, step) for step in each)) for name, each in steps.items())
    return _field(1, _entry("id", _field(1, _field(1, protein.id.encode())))) + _field(2, lists)


def flat_example(protein: Protein) -> bytes:
    """The studies' TFRecord message."""
    features = {
        "id": _field(1, _field(1, protein.id.encode())), "primary": _field(3, _field(1, bytes([3] * 256))),
        "evolutionary": _floats(np.full(256 * 21, 0.5)), "tertiary": _floats(np.arange(768.0)),
    }  # fmt: skip
    return _field(1, b"".join(_entry(name, value) for name, value in features.items()))


def structure_db(proteins: list[Protein]) -> bytes:
    """ProMod3's database."""
    rows = sum(map(len, proteins))
    content = struct.pack("<14IfbhQHI", 1234, 2, 4, 4, 2, 8, 2, 6, 88, 40, 24, 6, 4, 1, 1.0, 1, 1, 1, 1, 0xFFFFFFFF)
    content += struct.pack("<Q", len(proteins))
    first = 0
    for protein in proteins:
        content += struct.pack("<I4sI1sIHH3f", 4, b"1ABC", 1, protein.id[:1].encode(), first, len(protein), 1, 1, 2, 3)
        first += len(protein)
    letters = "".join(protein.sequence for protein in proteins).encode()
    frequencies = (np.concatenate([protein.profile[:, :20] for protein in proteins]) * 10_000).astype("<i2").tobytes()
    atoms = np.repeat(np.arange(rows) % 2 * 220, 12).astype("<u2").tobytes()
    columns = (letters, atoms, bytes(4 * rows), bytes(2 * rows), bytes(2 * rows), b"C" * rows, frequencies)
    return content + b"".join(struct.pack("<Q", rows) + column for column in (*columns, frequencies))


def structures(protein: Protein) -> tuple[bytes, bytes]:
    """Its C-alpha atoms as PDB, with SEQRES and REMARK 465, and as mmCIF."""
    error = np.ones(len(protein))
    pdb = pdb_text(protein.sequence, protein.coords[:, 1], error, "an example")
    names = [line[17:20] for line in pdb.splitlines() if line.startswith("ATOM")]
    seqres = [f"SEQRES  {1:2} A {len(names) + 1:4}  {' '.join(names[i : i + 13])}" for i in range(0, len(names), 13)]
    absent = f"REMARK 465     GLY A{len(names) + 1:6}"
    whole = "\n".join([absent, *seqres, f"SEQRES {9:3} A {len(names) + 1:4}  GLY", pdb])
    return whole.encode(), cif_text("example", protein.sequence, protein.coords[:, 1], error, "an example").encode()


def archive() -> bytes:
    """A release with members of every kind beside its files."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name in ("casp7/training_30", "casp7/deeper/validation", "casp7/" + "long" * 40):
            info = tarfile.TarInfo(name)
            info.size = 300
            tar.addfile(info, io.BytesIO(bytes(300)))
    return packed.getvalue()


def mutate_archive(draw: random.Random, data: bytes) -> bytes:
    """Change an archive's bytes, or add a hostile member."""
    if draw.random() < 0.5:
        return mutate_packed(draw, data)
    packed = io.BytesIO()
    names = ["../escaped", "/tmp/protcli-escaped", "a/../../escaped", "a", "a/b", "a\\..\\escaped", ".", "x/" * 40]
    odd = [tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE]
    layout = draw.choice([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
    with tarfile.open(fileobj=packed, mode="w:gz", compresslevel=1, format=layout) as tar:
        for number in range(draw.randrange(1, 4)):
            info = tarfile.TarInfo(draw.choice([*names, f"{number}"]))
            info.type = draw.choice([tarfile.REGTYPE] * 3 + odd)
            info.linkname = draw.choice(["..", "/etc", "a", "../../outside"])
            info.size = draw.choice([0, 10, 3000]) if info.isreg() else 0
            info.mode = draw.choice([0, 0o777, 0o4755])
            tar.addfile(info, io.BytesIO(bytes(info.size)))
    return mutate_packed(draw, packed.getvalue()) if draw.random() < 0.3 else packed.getvalue()


def check(protein: Protein) -> None:
    """The limits that a protein from any reader keeps."""
    assert protein.id.isprintable(), "id"
    assert len(protein.id) <= LONGEST_ID, "id"
    assert len(protein.sequence) == len(protein.profile) == len(protein.coords) == len(protein.mask) > 0, "lengths"
    assert not (np.abs(protein.coords) > FARTHEST).any(), "coordinates"
    check_range(protein.profile)


def check_range(profile: np.ndarray) -> None:
    """Whether a profile's values are 0 to 1, none of them NaN."""
    assert ((profile >= -ROUNDING) & (profile <= 1 + ROUNDING)).all(), "profile"


def _all(read: Callable[..., Iterator[Protein]]) -> Callable[[Path], None]:
    def run(path: Path) -> None:
        errors: list[ProtcliError] = []
        for protein in read(path, on_bad=errors.append):
            check(protein)
        for error in errors[1:]:
            _sentence(error)
        if errors:
            raise errors[0]

    return run


def _sentence(error: ProtcliError) -> None:
    """Raise what ProtcliError's text must not be."""
    assert isinstance(error, ProtcliError), type(error)
    text = re.sub(r"/[^ :,]*protcli-fuzz[^ :,]*", "", str(error))
    assert len(text) <= LONGEST_SENTENCE, f"a sentence of {len(text)} characters: {text[:100]}"
    assert all(each.isprintable() for each in text), f"control characters in {text[:100]!r}"


def _queries(path: Path) -> None:
    for query in read_queries(path):
        assert query.id.isprintable(), "id"
        if query.profile is not None:
            check_range(query.profile)


def _import(path: Path) -> None:
    sniff(path)
    out = path.parent / "store"
    try:
        for _ in import_data([path], out, as_split="train", skip_bad=True, families="none"):
            pass
        for protein in open_store(out).split("training"):
            check(protein)
    finally:
        shutil.rmtree(out, ignore_errors=True)
        assert {each.name for each in path.parent.iterdir()} == {path.name}, "something is left"


def _archive(path: Path) -> None:
    staging = path.parent / "staging"
    copy = path.with_name("copy")  # a refused archive is deleted
    shutil.copyfile(path, copy)
    try:
        for _ in _unpack(copy, staging):
            pass
        assert not any(each.is_symlink() for each in staging.rglob("*")), "a link"
    finally:
        for each in staging.rglob("*"):
            if each.is_dir():
                each.chmod(0o755)
        shutil.rmtree(staging, ignore_errors=True)
        copy.unlink(missing_ok=True)
        assert not Path("/tmp/protcli-escaped").exists(), "a file outside"


def _store(folder: Path) -> bytes:
    with create_store(folder) as store, store.split("training") as split:
        for number in range(3):
            split.add(chain(9 + number, number))
        split.families = Families(["a", "a", "b"], "by hand")
    return (folder / "training.arrow").read_bytes()


def _arrow(path: Path) -> None:
    store = path.parent / "store"
    if not store.exists():
        _store(store)
    manifest = json.loads((store / MANIFEST).read_text())
    manifest["splits"]["training"]["bytes"] = path.stat().st_size
    (store / MANIFEST).write_text(json.dumps(manifest))
    shutil.copyfile(path, store / "training.arrow")
    split = open_store(store).split("training")
    for protein in split:
        assert len(protein.sequence) == len(protein.profile)
    split.lengths, split.ids, split.sequences  # noqa: B018  read from the columns
    split.verify()


def _manifest(path: Path) -> None:
    store, whole, outside = path.parent / "store", path.parent / "whole", path.parent.parent / "x"
    if not whole.exists():
        _store(whole)
    shutil.rmtree(store, ignore_errors=True)
    shutil.copytree(whole, store)
    outside.write_text("kept")
    shutil.copyfile(path, store / MANIFEST)
    try:
        opened = open_store(store)
        opened.check_sizes()
        for name in opened.splits:
            split = opened.split(name)
            for protein in split:
                assert protein.id
            replace_families(store, {name: Families(["c"] * len(split), "by hand")})
    finally:
        assert outside.exists(), "a file outside is deleted"
        outside.unlink()


def wrong_columns() -> list[bytes]:
    """Arrow files with other columns, or columns that differ in length."""
    made = []
    one = {"profile": [[1.0]], "coords": [[1.0]], "mask": [[1]], "has_profile": [True]}
    short = pa.table({"id": ["a", "b", None], "sequence": ["A"] * 3} | {name: each * 3 for name, each in one.items()})
    for table in (pa.table({"id": ["a"], "sequence": ["A"]}), pa.table({"id": [1]} | one), short.cast(SCHEMA)):
        sink = io.BytesIO()
        with pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
        made.append(sink.getvalue())
    return made


NETWORK = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))


def _checkpoint(path: Path) -> None:
    try:
        read_tensors(path)
    finally:
        load_weights(NETWORK, path)
        assert all(not value.is_complex() for value in NETWORK.state_dict().values())


def tensors(folder: Path) -> tuple[list[bytes], list[bytes]]:
    """Weights with a digest, as protcli writes them, and without, as other programs do; and with other types."""
    weights = NETWORK.state_dict()
    write_tensors(folder / "weights", weights, {"epoch": 3})
    own = (folder / "weights").read_bytes()
    (folder / "weights").unlink()
    cast = [{name: value.to(kind) for name, value in weights.items()} for kind in (torch.complex64, torch.bool)]
    return [own, safetensors.torch.save(dict(weights))], [safetensors.torch.save(each) for each in cast]


def _names(path: Path) -> None:
    name = path.read_text("utf-8", "surrogateescape")
    refused = 0
    for ask in (find_model, find_suite, find_run):
        try:
            ask(name)
        except ProtcliError as error:
            refused += 1
            _sentence(error)
    assert refused >= 2, f"{name!r} is a model, a suite or a run"


def mutate_name(draw: random.Random, data: bytes) -> bytes:
    return mutate(draw, data)[:5000] if draw.random() < 0.5 else draw.choice(NAMES).encode("utf-8", "surrogateescape")


def kinds(folder: Path) -> dict[str, Kind]:
    """Every kind of input, with examples that are read without an error."""
    two = [chain(5, 1), chain(12, 2)]
    text = "".join(map(proteinnet, two)).encode()
    pdb, cif = structures(two[1])
    numbers = " ".join(["-1"] * 20 + ["5"] * 20 + ["0.5", "0.1"])
    rows = [f"{number} {letter} {numbers}" for number, letter in enumerate("MKV", 1)]
    arrays = io.BytesIO()
    np.savez(arrays, a=two[0].profile)
    array = io.BytesIO()
    np.save(array, two[0].profile)
    config = RunConfig(spec=ZOO["psp1"]).to_yaml().encode()
    suite = b"""question: Is it better?
reference: base
seeds: 3
looks: [3]
primary: [psp1, base]
figures: []
recipe: {epochs: 2, lr: 1e-3}
cells:
  - {model: sepmean, name: base}
  - {model: psp1, recipe: {batch_size: 4}}
factorial: {model: psp1, factors: {epochs: [3, 4], dropout: [0.1, 0.2]}}
published: {unit: mse, validation: {1: {base: 3.5}}}
"""
    arrow = _store(folder / "example")
    manifest = (folder / "example" / MANIFEST).read_bytes()
    shutil.rmtree(folder / "example")
    framed, flat = (frame(each(two[0])) for each in (sequence_example, flat_example))
    state = json.dumps({"url": "http://x", "total": 3, "etag": '"a"', "last_modified": None, "date": "x"}).encode()
    fasta = b">one first\nMKVLA\nMK\n>two\nACDEF*\n"
    clustal = b"CLUSTAL W\n\none  MKV-LA 5\ntwo  MKVALA 6\n     ***.\n\none  MK\ntwo  MK\n"
    pssm = "\n".join(["", "Last position-specific", *rows, ""]).encode()
    curve = Calibration(np.array([0.1, 0.5]), np.array([0.2, 0.4])).to_json().encode()
    weights, other_weights = tensors(folder)
    text_of_records, records = _all(read_proteinnet), _all(read_tfrecord)
    return {
        "ProteinNet text": Kind([text], text_of_records, "training_30"),
        "ProteinNet text, gzipped": Kind([gzip.compress(text)], text_of_records, "training_30.gz", mutate_packed),
        "TFRecord": Kind([framed], records, "1", mutate_framed),
        "flat TFRecord": Kind([flat], records, "1", mutate_framed),
        "structure database": Kind([structure_db(two)], _all(read_promod3), "structure_db.dat"),
        "PDB": Kind([pdb], _all(read_structure), "x.pdb"),
        "mmCIF": Kind([cif], _all(read_structure), "x.cif"),
        "import": Kind([text, framed, flat, structure_db(two)], _import, "training_30"),
        "FASTA": Kind([fasta], _queries, "x.fasta"),
        "a3m": Kind([b">one\nMKV-LA\n>two\nMKVaaALA\n>ss_dssp\nHHHHHH\n"], _queries, "x.a3m"),
        "Clustal": Kind([clustal], _queries, "x.aln"),
        "PSSM": Kind([pssm], _queries, "x.pssm"),
        "profile .npy": Kind([array.getvalue()], _read_profiles, "x.npy"),
        "profile .npz": Kind([arrays.getvalue()], _read_profiles, "x.npz"),
        "profile as text": Kind([b"0.1 0.2\n0.3 0.4\n"], _read_profiles, "x.txt"),
        "families": Kind([b"id,family\na,one\nb,\n", b"id\tfamily\na\tone\n"], read_family_table, "x.csv"),
        "archive": Kind([archive()], _archive, "x.tar.gz", mutate_archive),
        "record of a fetch": Kind([state], _read_json, "x.json", mutate_document),
        "Arrow": Kind([arrow], _arrow, "x.arrow", broken=wrong_columns()),
        "manifest": Kind([manifest], _manifest, MANIFEST, mutate_document),
        "run YAML": Kind([config], read_config, "config.yaml", mutate_document),
        "suite YAML": Kind([suite], lambda path: find_suite(str(path)), "x.yaml", mutate_document),
        "calibration": Kind(
            [curve], lambda path: Calibration.from_json(path.read_text("utf-8")), "x.json", mutate_document,
            (ValueError,),
        ),
        "checkpoint": Kind(weights, _checkpoint, "x.safetensors", mutate_tensors, (ValueError,), other_weights),
        "names and ids": Kind([], _names, "x", mutate_name, broken=[b"psp", b"flagshi", b"0123456789abcdef" * 2]),
    }  # fmt: skip


# --- the loop ---


@dataclass
class Row:
    """What became of the inputs of one kind."""

    kind: str
    inputs: int = 0
    refused: int = 0
    seconds: float = 0.0
    problems: Counter[str] = field(default_factory=Counter)
    first: dict[str, int] = field(default_factory=dict)  # number of an input, by problem

    def add(self, problem: str, number: int) -> None:
        self.problems[problem] += 1
        self.first.setdefault(problem, number)


def _one(name: str, kind: Kind, folder: Path, seed: int, number: int) -> str:
    """Read one input: empty if it was read, `refused`, or the problem."""
    draw = random.Random(f"{seed} {name} {number}")
    given = kind.examples + kind.broken
    path, example = folder / kind.name, given[number % len(given)]
    path.write_bytes(example if number < len(given) else kind.mutate(draw, example))
    signal.setitimer(signal.ITIMER_REAL, HANG)
    try:
        kind.read(path)
        return ""
    except ProtcliError as error:
        try:
            _sentence(error)
            return "refused"
        except AssertionError as problem:
            return f"sentence: {problem}"
    except kind.allowed:
        return "refused"
    except Hang:
        return "hang"
    except BaseException as error:
        places = [each for each in traceback.extract_tb(error.__traceback__) if "protcli" in each.filename]
        text = str(error).partition("\n")[0][:150]
        return f"{type(error).__name__} in {places[-1].name if places else '?'}: {text}"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _alarm(*_: object) -> None:
    raise Hang


def _work(
    name: str, kind: Kind, folder: Path, seed: int, first: int, count: int, seconds: float, at: Any, answers: Any
) -> None:
    """Read inputs from number `first` on, for some seconds; `at` says which one is being read."""
    sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGALRM, _alarm)
    warnings.simplefilter("ignore")
    _one(name, kind, folder, seed, first)  # imports and makes what it needs once
    row, until, number = Row(name), time.monotonic() + seconds, first
    while number < first + count and time.monotonic() < until:
        at[:8] = struct.pack("<q", number)
        match _one(name, kind, folder, seed, number):
            case "":
                pass
            case "refused" if number >= len(kind.examples):
                row.refused += 1
            case problem:
                row.add(problem, number)
        number += 1
    row.inputs = number - first
    answers.send(row)


def fuzz(name: str, kind: Kind, root: Path, seed: int, seconds: float, first: int, count: int) -> Row:
    """Read inputs of one kind in processes of their own; one that dies costs an input."""
    sandbox = root / re.sub(r"\W", "_", name)
    folder = sandbox / "inside"
    folder.mkdir(parents=True)
    total, began = Row(name), time.monotonic()
    at = mmap.mmap(-1, 8)
    context = multiprocessing.get_context("fork")
    while (left := seconds - (time.monotonic() - began)) > 0 and first < count:
        receive, send = context.Pipe(duplex=False)
        process = context.Process(target=_work, args=(name, kind, folder, seed, first, count - first, left, at, send))
        process.start()
        send.close()
        seen, since = -1, time.monotonic()
        while not receive.poll(0.2) and process.is_alive():
            now = struct.unpack("<q", at[:8])[0]
            if now != seen:
                seen, since = now, time.monotonic()
            elif time.monotonic() - since > STUCK:
                process.kill()
        process.join(1)
        try:
            row: Row = receive.recv()
        except EOFError:  # the process died
            died = struct.unpack("<q", at[:8])[0]
            row = Row(name, inputs=died - first + 1)
            row.add(f"the process ended with {process.exitcode}", died)  # -9: it hung, and did not listen
        process.join()
        total.inputs += row.inputs
        total.refused += row.refused
        total.problems += row.problems
        total.first = row.first | total.first
        first += row.inputs
        if strange := {each.name for each in sandbox.iterdir()} - {"inside"}:
            total.add(f"a file outside its folder: {sorted(strange)}", first)
    total.seconds = time.monotonic() - began
    return total


def main() -> int:
    """Print the table; exit code 1 if there is any problem."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=300, help="in all, shared by the kinds")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="one kind")
    parser.add_argument("--first", type=int, default=0, help="number of the first input of each kind")
    parser.add_argument("--count", type=int, default=1 << 40, help="inputs of each kind at most")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="protcli-fuzz-") as place:
        root = Path(place)
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{root}/mlflow.db"
        all_kinds = kinds(root)
        # MLflow takes seconds to make its database, and its connection must not be inherited
        maker = multiprocessing.get_context("fork").Process(target=make_runs)
        maker.start()
        maker.join()
        chosen = {name: kind for name, kind in all_kinds.items() if options.only in (None, name)}
        if not chosen:
            parser.error(f"--only is one of {', '.join(all_kinds)}")
        print(f"{'kind':26} {'inputs':>9} {'refused':>9} {'per second':>11} {'problems':>9}")
        rows, share = [], options.seconds / len(chosen)
        for name, kind in chosen.items():
            row = fuzz(name, kind, root, options.seed, share, options.first, options.first + options.count)
            rows.append(row)
            speed, found = row.inputs / row.seconds, row.problems.total()
            print(f"{name:26} {row.inputs:9,} {row.refused:9,} {speed:11,.0f} {found:9}", flush=True)
            for problem, times in row.problems.most_common():
                print(f"    {times} times, first as number {row.first[problem]}: {problem}", flush=True)
    problems = sum(row.problems.total() for row in rows)
    print(f"{sum(row.inputs for row in rows):,} inputs, {problems} problems, seed {options.seed}")
    return int(problems > 0)


if __name__ == "__main__":
    sys.exit(main())
