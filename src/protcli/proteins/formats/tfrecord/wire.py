"""Decodes TFRecord messages, tf.train's Example and SequenceExample, from protobuf's wire format into arrays.

Done by hand because the protobuf library creates an object for every step of a feature list: on ProteinNet's validation
chains, creating and unpacking them takes seven times as long as this.
All functions raise ValueError for invalid messages.
Source: tensorflow/core/example/{example,feature}.proto.
"""

from collections.abc import Iterator

import numpy as np

_FLOATS, _INTEGERS = 2, 3  # field numbers of a Feature's float_list and int64_list

Feature = list[bytes] | np.ndarray


def fields_of(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield number and value of each field of a message: an int for a varint, otherwise bytes."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        wire_type = key & 7
        if wire_type == 0:
            value, at = _varint(data, at)
            yield key >> 3, value
            continue
        if wire_type == 2:
            size, at = _varint(data, at)
        elif wire_type in (1, 5):
            size = 8 if wire_type == 1 else 4
        else:
            raise ValueError(f"expected a protobuf message, found wire type {wire_type}")
        if at + size > len(data):
            raise ValueError(f"expected a field of {size} bytes, found {len(data) - at}")
        yield key >> 3, data[at : at + size]
        at += size


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """The number at offset `at`, and the offset after it."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            break
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("expected a protobuf message, found an incomplete number")


def messages_in(data: memoryview, number: int) -> list[memoryview]:
    """The values of the repeated message field with this number."""
    return [value for field, value in fields_of(data) if field == number and isinstance(value, memoryview)]


def entries_of(parts: list[memoryview]) -> dict[str, memoryview]:
    """A map from name to message, field 1 of Features and FeatureLists; protobuf may split it into parts."""
    entries = {}
    for part in parts:
        for entry in messages_in(part, 1):
            names, values = messages_in(entry, 1), messages_in(entry, 2)
            if names and values:
                entries[bytes(names[-1]).decode("utf-8", "replace")] = values[-1]
    return entries


def feature_of(data: memoryview) -> Feature:
    """Decode a Feature: strings, float32 [n] or int64 [n], with packed or unpacked numbers."""
    feature: Feature = []
    for kind, values in fields_of(data):
        if not isinstance(values, memoryview):
            raise ValueError("expected a list in a feature, found a number")
        items = [value for number, value in fields_of(values) if number == 1]
        parts = [item for item in items if isinstance(item, memoryview)]
        if kind == _FLOATS:
            feature = np.frombuffer(b"".join(parts), dtype="<f4").astype(np.float32)
        elif kind == _INTEGERS:
            feature = _integers(items)
        else:
            feature = [bytes(part) for part in parts]
    return feature


def _integers(items: list[int | memoryview]) -> np.ndarray:
    numbers: list[int] = []
    for item in items:
        if isinstance(item, int):
            numbers.append(item)
            continue
        at = 0
        while at < len(item):
            number, at = _varint(item, at)
            numbers.append(number)
    return np.array([number & 0xFFFF_FFFF_FFFF_FFFF for number in numbers], dtype=np.uint64).astype(np.int64)


def steps_of(data: memoryview, name: str) -> np.ndarray:
    """Decode a FeatureList: float32 or int64 [steps, values per step].

    A list whose steps are all encoded alike, as most are, is read as one table; any other is read step by step.

    Args:
        data: the message.
        name: name of the list, for error messages.
    """
    if len(data) and data[0] == 0x0A:
        size, at = _varint(data, 1)
        table = np.frombuffer(data, dtype=np.uint8)
        if len(data) % (at + size) == 0:
            table = table.reshape(-1, at + size)
            for kind, width in ((_FLOATS, 4), (_INTEGERS, 1)):
                values = _table(table, kind, width)
                if values is not None:
                    return values
    steps = [feature_of(step) for step in messages_in(data, 1)]
    arrays = [step for step in steps if isinstance(step, np.ndarray)]
    if len(arrays) < len(steps) or len({len(step) for step in arrays}) > 1:
        raise ValueError(f"expected as many numbers in every step of '{name}', found steps that differ")
    return np.array(arrays) if arrays else np.empty((0, 0))


def _table(table: np.ndarray, kind: int, width: int) -> np.ndarray | None:
    """Decode steps uint8 [steps, bytes] if each is one packed list of `kind` with `width` bytes per number."""
    stride = table.shape[1]
    for size in range(
        max(width, stride - 18), stride
    ):  # 18: three one-byte keys and three lengths of at most five bytes
        prefix = _prefix(kind, size)
        if size % width == 0 and len(prefix) + size == stride:
            break
    else:
        return None
    if (table[:, : len(prefix)] != np.frombuffer(prefix, dtype=np.uint8)).any():
        return None
    payload = np.ascontiguousarray(table[:, len(prefix) :])
    if kind == _FLOATS:
        return payload.view("<f4").astype(np.float32)
    return payload.astype(np.int64) if (payload < 0x80).all() else None


def _prefix(kind: int, size: int) -> bytes:
    """The bytes before `size` bytes of packed numbers in a FeatureList's step: three nested keys and lengths."""
    prefix = b""
    for number in (1, kind, 1):  # from the innermost: value, float_list or int64_list, feature
        prefix = bytes([number << 3 | 2]) + _length(len(prefix) + size) + prefix
    return prefix


def _length(value: int) -> bytes:
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])
