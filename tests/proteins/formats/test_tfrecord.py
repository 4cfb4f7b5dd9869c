"""TFRecord: messages encoded by protobuf itself and framed with a bitwise CRC32C, and the genuine sample."""

import gzip
import os
import re
import struct
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from hypothesis import given, settings
from hypothesis import strategies as st

from protcli.errors import ProtcliError
from protcli.proteins.formats.proteinnet import read_proteinnet
from protcli.proteins.formats.tfrecord import read_tfrecord, sniff
from protcli.proteins.residues import AMINO_ACIDS, sequence_profile

REAL = os.environ.get("PROTCLI_REAL_DATA")
real_data = pytest.mark.skipif(not REAL, reason="PROTCLI_REAL_DATA names no folder")
FIELD = descriptor_pb2.FieldDescriptorProto
Arrays = dict[str, list[Any] | np.ndarray]


MESSAGES = {  # of example.proto and feature.proto: the fields of each, from number 1 on; * is repeated
    "BytesList": "value BYTES*", "FloatList": "value FLOAT*", "Int64List": "value INT64*",
    "Feature": "bytes_list BytesList, float_list FloatList, int64_list Int64List",
    "FeatureList": "feature Feature*",
    "FeatureEntry": "key STRING, value Feature",  # what a map has on the wire
    "FeatureListEntry": "key STRING, value FeatureList",
    "Features": "feature FeatureEntry*", "FeatureLists": "feature_list FeatureListEntry*",
    "Example": "features Features", "SequenceExample": "context Features, feature_lists FeatureLists",
}  # fmt: skip


@cache
def messages(packed: bool) -> dict[str, Any]:
    """The message classes, by protobuf itself."""
    file = descriptor_pb2.FileDescriptorProto(name="example.proto", package="t", syntax="proto3")
    for name, fields in MESSAGES.items():
        made = file.message_type.add(name=name)
        for number, (field, kind) in enumerate((each.split() for each in fields.split(", ")), start=1):
            label = FIELD.LABEL_REPEATED if kind.endswith("*") else FIELD.LABEL_OPTIONAL
            added = made.field.add(name=field, json_name=field, number=number, label=label)
            if (of := kind.rstrip("*")) in MESSAGES:
                added.type, added.type_name = FIELD.TYPE_MESSAGE, f".t.{of}"
            else:
                added.type = FIELD.Type.Value(f"TYPE_{of}")
            if of in ("FLOAT", "INT64"):
                added.options.packed = packed
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"t.{name}")) for name in MESSAGES}


def put(feature: Any, values: Any) -> None:
    array = np.asarray(values).ravel()
    target = feature.int64_list if array.dtype.kind == "i" else feature.float_list
    target.value.extend(array.tolist())


def sequence_example(lists: Arrays, id: str = "TBM#1ABC_1_A", packed: bool = True) -> bytes:
    made = messages(packed)["SequenceExample"]()
    if id:
        made.context.feature.add(key="id").value.bytes_list.value.append(id.encode())
    for name, steps in lists.items():
        entry = made.feature_lists.feature_list.add(key=name)
        for step in steps:
            put(entry.value.feature.add(), step)
    return made.SerializeToString(deterministic=True)


def flat_example(arrays: Arrays, id: str = "1ABC_1_A", packed: bool = True) -> bytes:
    made = messages(packed)["Example"]()
    made.features.feature.add(key="id").value.bytes_list.value.append(id.encode())
    for name, values in arrays.items():
        put(made.features.feature.add(key=name).value, values)
    return made.SerializeToString(deterministic=True)


def bitwise_crc(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def frame(data: bytes) -> bytes:
    def masked(part: bytes) -> bytes:
        crc = bitwise_crc(part)
        return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)

    length = struct.pack("<Q", len(data))
    return length + masked(length) + data + masked(data)


def chain(length: int = 4) -> Arrays:
    """A chain of the first residues in alphabetical order; its second residue has no CA."""
    xyz = np.arange(1, 9 * length + 1, dtype=np.float32).reshape(-1, 3) * 25
    xyz[4] = 0
    profile = np.arange(21 * length, dtype=np.float32).reshape(-1, 21) / 1024
    mask = np.array([[1.0]] * (length - 1) + [[0.0]])
    return {"primary": [[i] for i in range(length)], "evolutionary": profile, "tertiary": xyz, "mask": mask}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "1"


def read_error(file: Path, content: bytes) -> str:
    file.write_bytes(content)
    with pytest.raises(ProtcliError) as caught:
        list(read_tfrecord(file))
    return str(caught.value)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=3000))
def test_a_frame_of_any_bytes_is_intact(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    """The CRC32C is the bitwise one: what is wrong with such a record is its message alone."""
    file = tmp_path_factory.mktemp("frames") / "1"
    file.write_bytes(frame(data))
    errors: list[ProtcliError] = []
    assert list(read_tfrecord(file, on_bad=errors.append)) == []
    assert "CRC32C" not in str(errors[0])


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_sequence_example(file: Path, packed: bool, pack: Any) -> None:
    content = pack(frame(sequence_example(chain(), packed=packed)) + frame(sequence_example(chain(7), "x", packed)))
    file.write_bytes(content)
    assert sniff(file) == "proteinnet-tfrecord"
    seen: list[bytes] = []
    first, second = read_tfrecord(file, on_bytes=seen.append)
    assert b"".join(seen) == content
    assert (first.id, first.sequence, first.category, first.has_profile) == ("TBM#1ABC_1_A", "ACDE", "TBM", True)
    assert (second.id, second.sequence) == ("x", AMINO_ACIDS[:7])
    np.testing.assert_array_equal(first.profile, chain()["evolutionary"])
    expected = np.arange(1, 37, dtype=np.float32).reshape(4, 3, 3) / 4
    expected[1, 1] = np.nan
    np.testing.assert_array_equal(first.coords, expected)
    assert first.mask.tolist() == [True, True, True, False]
    assert first.coords.dtype == first.profile.dtype == np.float32


def test_all_but_primary_may_be_missing_and_twenty_columns_get_their_information_content(file: Path) -> None:
    lists = chain()
    columns = np.zeros((4, 20), dtype=np.float32)
    columns[0, 3] = 1  # one residue alone: all the information there is
    columns[1] = 0.05  # all alike: none
    columns[2, :2] = 0.5  # one bit of log2 20
    without_mask = {name: values for name, values in lists.items() if name != "mask"}
    given = ({"primary": lists["primary"]}, without_mask, lists | {"evolutionary": columns})
    file.write_bytes(b"".join(frame(sequence_example(each)) for each in given))
    bare, unmasked, narrow = read_tfrecord(file)
    assert not bare.has_profile
    np.testing.assert_array_equal(bare.profile, sequence_profile("ACDE"))
    assert np.isnan(bare.coords).all()
    assert not bare.mask.any()
    assert unmasked.mask.all()
    np.testing.assert_array_equal(narrow.profile[:, :20], columns)
    np.testing.assert_allclose(narrow.profile[:, 20], [1, 0, 1 - 1 / np.log2(20), 0], atol=1e-6)
    assert "'primary', found none" in read_error(file, frame(sequence_example({"mask": lists["mask"]})))


def flat(length: int) -> Arrays:
    primary = np.zeros(256, dtype=np.int64)
    primary[:length] = np.arange(length) % 20
    profile = np.zeros((256, 21), dtype=np.float32)
    profile[:length] = np.arange(1, 22) / 32
    points = np.zeros((256, 3), dtype=np.float32)
    points[: 3 * length] = np.arange(1, 769, dtype=np.float32).reshape(256, 3)[: 3 * length] * 25
    return {"primary": primary, "tertiary": points, "evolutionary": profile}


@pytest.mark.parametrize("packed", [True, False])
def test_a_flat_example_of_a_long_chain(file: Path, packed: bool) -> None:
    file.write_bytes(frame(flat_example(flat(256), packed=packed)))
    assert sniff(file) == "studies-tfrecord"
    [protein] = read_tfrecord(file)
    assert (protein.id, len(protein), protein.sequence[:21]) == ("1ABC_1_A", 256, AMINO_ACIDS + "A")
    expected = np.arange(1, 766, dtype=np.float32).reshape(85, 3, 3) / 4  # the 256th point is dropped
    np.testing.assert_array_equal(protein.coords[:85], expected)
    assert np.isnan(protein.coords[85:]).all()
    assert protein.mask.tolist() == [True] * 85 + [False] * 171
    assert (protein.profile == np.arange(1, 22, dtype=np.float32) / 32).all()


def test_the_length_of_a_flat_example(file: Path) -> None:
    """A last alanine is number 0: its profile row tells, or its points do."""
    zeros = {name: np.zeros_like(values) for name, values in flat(1).items()}
    empty = ({"tertiary"}, {"evolutionary"}, {"tertiary", "evolutionary"})
    arrays = [flat(41) | {name: zeros[name] for name in names} for names in empty]
    file.write_bytes(b"".join(frame(flat_example(each)) for each in arrays))
    assert [(len(protein), int(protein.mask.sum())) for protein in read_tfrecord(file)] == [(41, 0), (41, 41), (40, 0)]
    assert "found only zeros" in read_error(file, frame(flat_example(zeros)))
    short = frame(flat_example(flat(41) | {"tertiary": np.zeros(765, dtype=np.float32)}))
    assert "record 1ABC_1_A: expected 768 numbers in 'tertiary', found 765" in read_error(file, short)


def test_values_at_the_limits_are_read_and_those_beyond_are_not(file: Path) -> None:
    for example, make in ((sequence_example, chain), (flat_example, lambda: flat(41))):

        def changed(name: str, value: float, make: Any = make) -> Arrays:
            arrays = make()
            arrays[name].reshape(-1)[0] = value  # type: ignore[union-attr]
            return arrays

        file.write_bytes(frame(example(changed("tertiary", -1e6))) + frame(example(changed("evolutionary", 1.001))))
        far, profile = read_tfrecord(file)
        assert far.coords[0, 0, 0] == -10_000
        assert profile.profile[0, 0] == np.float32(1.001)
        for name, value, said in (
            ("tertiary", -1_000_100, "a coordinate of -10001 A: expected at most 10,000 A from zero"),
            ("tertiary", 1e30, r"a coordinate of 1e\+28 A"),
            ("evolutionary", 1.002, r"1\.002 in a profile: expected"),
            ("evolutionary", -0.002, r"-0\.002 in a profile: expected"),
        ):
            error = read_error(file, frame(example(changed(name, value))))
            assert re.search(f"record 1, byte 0, record (TBM#)?1ABC_1_A: {said}", error), error
        error = read_error(file, frame(example(make(), id="a\0b")))
        assert r"record a\x00b: the ID 'a\x00b' holds '\x00'" in error


def test_a_damaged_length_is_called_one(file: Path) -> None:
    for at in (0, 1, 8):
        damaged = bytearray(frame(sequence_example(chain())))
        damaged[at] ^= 1
        error = read_error(file, bytes(damaged))
        assert "record 1, byte 0: the record's length does not match its CRC32C; the file is damaged" in error
        assert sniff(file) == "proteinnet-tfrecord"


CHANGED = {
    "letters": ({"primary": [[0], [21], [2], [3]]}, "found 21 at position 2"),
    "negative": ({"primary": [[0], [-1], [2], [3]]}, "found -1 at position 2"),
    "profile": ({"evolutionary": np.ones((3, 21))}, "4 steps of 21.*found 3 steps of 21"),
    "columns": ({"tertiary": np.ones((12, 2))}, "12 steps of 3.*found 12 steps of 2"),
    "mask": ({"mask": np.ones((5, 1))}, "4 steps of 1 in 'mask', found 5"),
    "ragged": ({"tertiary": [[1.0, 2.0, 3.0]] * 11 + [[1.0, 2.0]]}, "every step of 'tertiary', found steps that dif"),
    "infinite": ({"tertiary": np.full((12, 3), np.inf)}, "finite numbers in 'tertiary'"),
    "nan profile": ({"evolutionary": np.full((4, 21), np.nan)}, "in 'evolutionary'"),
}
MALFORMED = {name: (sequence_example(chain() | change), message) for name, (change, message) in CHANGED.items()} | {
    "no id": (sequence_example(chain(), id=""), "a record without an ID: expected one string 'id'"),
    "no protein": (b"\x0a\x00", "expected one string 'id'"),
    "no message": (b"just text", "expected a"),
    "half": (sequence_example(chain())[:-9], "expected a field of"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_a_broken_message_is_named_and_can_be_skipped(file: Path, case: str) -> None:
    data, message = MALFORMED[case]
    good = frame(sequence_example(chain()))
    file.write_bytes(good + frame(data) + good)
    with pytest.raises(ProtcliError, match=message) as caught:
        list(read_tfrecord(file))
    assert str(caught.value).startswith(f"{file}, record 2, byte {len(good)}, ")
    errors: list[ProtcliError] = []
    assert len(list(read_tfrecord(file, on_bad=errors.append))) == 2
    assert [str(error) for error in errors] == [str(caught.value)]


@settings(max_examples=100, deadline=None)
@given(
    packed=st.booleans(),
    edits=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=4),
)
def test_a_damaged_message_is_read_or_said(tmp_path_factory: pytest.TempPathFactory, packed: bool, edits: list) -> None:
    content = bytearray(sequence_example(chain(), packed=packed))
    for place, byte in edits:
        content[place % len(content)] = byte
    file = tmp_path_factory.mktemp("damaged") / "1"
    file.write_bytes(frame(bytes(content)))
    errors: list[ProtcliError] = []
    read = list(read_tfrecord(file, on_bad=errors.append))
    assert len(read) + len(errors) == 1
    for protein in read:
        assert not (np.abs(protein.coords) > 10_000).any()
        assert ((protein.profile >= -0.001) & (protein.profile <= 1.001)).all()
    assert all(len(str(error)) <= 600 and str(error).isprintable() for error in errors)


def test_damage_to_the_file(file: Path) -> None:
    good = frame(sequence_example(chain()))
    damaged = bytearray(good)
    damaged[40] ^= 1
    errors: list[ProtcliError] = []
    file.write_bytes(good + bytes(damaged) + good)
    assert len(list(read_tfrecord(file, on_bad=errors.append))) == 2
    assert f"{file}, record 2, byte {len(good)}: the data do not match their CRC32C" in str(errors[0])
    damaged[3] ^= 1  # a length: nothing after it can be found
    assert "length does not match its CRC32C" in read_error(file, good + bytes(damaged) + good)
    seen: list[bytes] = []
    assert len(list(read_tfrecord(file, on_bad=errors.append, on_bytes=seen.append))) == 1
    assert b"".join(seen) == file.read_bytes()
    assert "is empty" in read_error(file, b"")
    assert "is not a TFRecord file" in read_error(file, b"[ID]\n1ABC_1_A\n[PRIMARY]\n")
    for cut in (len(good) + 5, len(good) + 12, 2 * len(good) - 1):
        assert "is truncated" in read_error(file, (2 * good)[:cut])
        assert len(list(read_tfrecord(file, on_bad=errors.append))) == 1
    assert "gzip stream is truncated" in read_error(file, gzip.compress(good)[:-9])
    packed = gzip.compress(b"\n[ID]\nx\n")
    for content in (b"", b"HEADER    HYDROLASE", b"data_1ABC\n", bytes(64), packed):
        file.write_bytes(content)
        assert sniff(file) == ("proteinnet-text" if content is packed else "unknown")
    with pytest.raises(ProtcliError, match="cannot read"):
        sniff(file.with_name("missing"))


@real_data
def test_the_genuine_sample_agrees_with_its_text() -> None:
    genuine = Path(REAL or "") / "genuine_proteinnet"
    assert sniff(genuine / "tf_sample") == "proteinnet-tfrecord"
    assert sniff(genuine / "text_sample") == "proteinnet-text"
    [ours], [text] = read_tfrecord(genuine / "tf_sample"), read_proteinnet(genuine / "text_sample")
    assert (ours.id, ours.sequence) == (text.id, text.sequence)
    np.testing.assert_array_equal(ours.mask, text.mask)
    np.testing.assert_array_equal(ours.profile[:, :20], text.profile[:, :20])
    np.testing.assert_allclose(ours.profile[:, 20], text.profile[:, 20], atol=5e-4)  # computed; the text's is rounder
    np.testing.assert_array_max_ulp(np.nan_to_num(ours.coords), np.nan_to_num(text.coords), maxulp=1)
    np.testing.assert_array_equal(np.isnan(ours.coords), np.isnan(text.coords))
