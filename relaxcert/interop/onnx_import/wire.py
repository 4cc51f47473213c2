"""Counting what an ONNX file holds before it is parsed.

A protocol buffer can spend two bytes on a message that takes seventy-five times as much memory once
it is parsed, so the size of the file alone bounds nothing. This walks over the fields without
keeping them.

Source of the encoding: protobuf.dev, "Encoding"; of the field numbers: onnx.proto.
"""

from __future__ import annotations

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

# Which fields hold messages, and of which kind. All others are numbers, texts or raw data.
_MESSAGES: dict[str, dict[int, str]] = {
    "Model": {7: "Graph", 8: "Small", 14: "Small", 20: "Deep", 25: "Function", 26: "Deep"},
    "Graph": {
        1: "Node",
        5: "Tensor",
        11: "ValueInfo",
        12: "ValueInfo",
        13: "ValueInfo",
        14: "Deep",
        15: "Deep",
        16: "Small",
    },
    "Function": {7: "Node", 9: "Small", 11: "Attribute", 12: "ValueInfo", 14: "Small"},
    "Node": {5: "Attribute", 9: "Small", 10: "Deep"},
    "Attribute": {5: "Tensor", 6: "Graph", 10: "Tensor", 11: "Graph", 14: "Type", 15: "Type"},
    "Tensor": {13: "Small", 16: "Small"},
    "ValueInfo": {2: "Type", 4: "Small"},
    "Type": {1: "TensorType", 4: "Deep", 5: "Deep", 8: "TensorType", 9: "Deep"},
    "TensorType": {2: "Shape"},
    "Shape": {1: "Small"},
    "Small": {},
    # Kinds that no supported graph uses: refused if they hold more than a few bytes.
    "Deep": {},
}
_DEEP_LIMIT = 4096


class Malformed(Exception):
    """The bytes are no protocol buffer, or hold more than is allowed; says what is wrong."""


def count_fields(data: bytes, *, most: int, depth: int = 12) -> int:
    """How many fields the messages of an ONNX model have in all.

    Args:
        data: the file.
        most: give up beyond so many.
        depth: how deep messages may be nested.

    Raises:
        Malformed: too many fields, too deep, or not a protocol buffer.
    """
    count = 0
    waiting = [("Model", 0, len(data), 0)]
    while waiting:
        kind, place, end, level = waiting.pop()
        if level > depth:
            raise Malformed(f"messages are nested deeper than {depth} levels")
        inner = _MESSAGES[kind]
        while place < end:
            count += 1
            if count > most:
                raise Malformed(f"it holds more than {most} fields")
            key, place = _varint(data, place, end)
            start, place = _skip(data, key & 7, place, end)
            within = inner.get(key >> 3) if key & 7 == _BYTES else None
            if within == "Deep" and place - start > _DEEP_LIMIT:
                raise Malformed("it holds sparse tensors, training graphs or other rare parts")
            if within is not None:
                waiting.append((within, start, place, level + 1))
    return count


def _skip(data: bytes, wire_type: int, place: int, end: int) -> tuple[int, int]:
    """Where the content of a field begins and ends."""
    if wire_type == _VARINT:
        return place, _varint(data, place, end)[1]
    if wire_type == _BYTES:
        length, place = _varint(data, place, end)
    elif wire_type in (_FIXED64, _FIXED32):
        length = 8 if wire_type == _FIXED64 else 4
    else:
        raise Malformed("it is not an ONNX file")
    if length > end - place:
        raise Malformed("it ends in the middle of a field: it is cut off or not an ONNX file")
    return place, place + length


def _varint(data: bytes, place: int, end: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if place >= end:
            break
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
    raise Malformed("it ends in the middle of a number: it is cut off or not an ONNX file")
