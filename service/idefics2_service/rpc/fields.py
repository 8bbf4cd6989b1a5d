"""The fields of a message, read without parsing it, which makes an object of every two bytes.

Source: https://protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_VARINT, _FIXED_64, _BYTES, _GROUP, _GROUP_END, _FIXED_32 = range(6)
"""Kinds of fields."""
_SIZES = {_FIXED_64: 8, _FIXED_32: 4}
_DEPTHS = {_GROUP: 1, _GROUP_END: -1}
_MAX_VARINT_BYTES = 10


def read_fields(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yield number and content of each field, as far as they can be read: where they end, the parser fails.

    Nothing is copied. Only bytes, texts and messages have a content. Groups, which no message here has, and
    what is inside of them have the number 0.
    """
    place = depth = 0
    with suppress(ValueError):
        while place < len(data):
            tag, place = read_varint(data, place)
            kind, size = tag & 7, 0
            depth += _DEPTHS.get(kind, 0)
            if kind == _VARINT:
                _, place = read_varint(data, place)
            elif kind == _BYTES:
                size, place = read_varint(data, place)
            end = place + _SIZES.get(kind, size)
            if kind > _FIXED_32 or end > len(data):
                return
            yield 0 if depth else tag >> 3, data[place : place + size]
            place = end


def read_varint(data: bytes | memoryview, place: int) -> tuple[int, int]:
    """Return the number that begins at a place, and the place behind it.

    Raises:
        ValueError: it has no end.

    """
    number = 0
    for index, byte in enumerate(data[place : place + _MAX_VARINT_BYTES]):
        number |= (byte & 0x7F) << 7 * index
        if byte < 0x80:  # noqa: PLR2004  # its last one
            return number, place + index + 1
    raise ValueError("a number has no end")
