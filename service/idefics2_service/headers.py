"""How large a picture is, by the first bytes of its file alone.

No decoder is asked: of a crafted header they read millions of segments, for a minute and more. Each reader
here takes a bounded number of steps and keeps nothing. Whether the rest can be decoded shows where the model
runs.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from idefics2_service.formats import PNG_SIGNATURE

if TYPE_CHECKING:
    from collections.abc import Callable

Size = tuple[int, int]
"""Width and height in pixels."""

_MAX_SEGMENTS = 4_096
"""Of a JPEG before its size; 20 MB of colour profile and metadata have 300."""
_MAX_FILL_BYTES = 4_096
"""Before a segment."""
_MAX_BLOCKS = 100_000
"""Of a GIF before its first frame; 20 MB of comments have 80,000."""
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_ALONE = frozenset({0x00, 0x01, *range(0xD0, 0xDA)})
"""Markers without a length, and the zero that is none."""
_BMP_HEADERS = frozenset({40, 52, 56, 64, 108, 124})
_TIFF_WIDTH, _TIFF_HEIGHT = 256, 257
_GIF_FRAME, _GIF_EXTENSION = 0x2C, 0x21


class HeaderDamaged(Exception):
    """It does not say how large the picture is, or not within reason."""


def read_size(data: bytes, kind: str) -> Size:
    """Read the size of a picture of a format of `formats.FORMATS`, as `sniff` found it.

    Raises:
        HeaderDamaged: it ends too early, or holds what no writer writes.

    """
    try:
        width, height = _READERS[kind](data)
    except (struct.error, IndexError) as error:
        raise HeaderDamaged("the header ends too early") from error
    if width < 1 or height < 1:
        raise HeaderDamaged(f"the header promises {width} x {height} pixels")
    return width, height


def _read_jpeg(data: bytes) -> Size:
    position = 2
    for _ in range(_MAX_SEGMENTS):
        position = _find_marker(data, position)
        marker = data[position]
        if marker in _START_OF_FRAME:
            height, width = struct.unpack_from(">HH", data, position + 4)
            return width, height
        position += 1
        if marker not in _ALONE:
            (length,) = struct.unpack_from(">H", data, position)
            position += max(length, 2)
    raise HeaderDamaged(f"the size does not stand within {_MAX_SEGMENTS} segments")


def _find_marker(data: bytes, position: int) -> int:
    """Return where the kind of the next marker stands; decoders skip what is before it, fill too."""
    position = data.find(b"\xff", position)
    if position < 0:
        raise HeaderDamaged("no segment holds the size")
    filled = data[position : position + _MAX_FILL_BYTES]
    kind = filled.lstrip(b"\xff")
    if not kind:
        raise HeaderDamaged("a segment does not begin, or not within reason")
    return position + len(filled) - len(kind)


def _read_png(data: bytes) -> Size:
    length, name, width, height = struct.unpack_from(">I4sII", data, len(PNG_SIGNATURE))
    if (length, name) != (13, b"IHDR"):
        raise HeaderDamaged("the first chunk is not the header")
    return width, height


def _read_gif(data: bytes) -> Size:
    """Read the size of the screen, made larger where the first frame stands out, as decoders do."""
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    left, top, frame_width, frame_height = struct.unpack_from("<HHHH", data, _find_frame(data, flags))
    return max(width, left + frame_width), max(height, top + frame_height)


def _find_frame(data: bytes, flags: int) -> int:
    """Return where the first frame's place and size stand."""
    position = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    is_inside = False  # of an extension, whose blocks end with an empty one
    for _ in range(_MAX_BLOCKS):
        block = data[position]
        position += 1
        if is_inside:
            position += block
            is_inside = block > 0
        elif block == _GIF_EXTENSION:
            position += 1
            is_inside = True
        elif block == _GIF_FRAME:
            return position
    raise HeaderDamaged(f"no frame begins within {_MAX_BLOCKS} blocks")


def _read_bmp(data: bytes) -> Size:
    (num_header_bytes,) = struct.unpack_from("<I", data, 14)
    if num_header_bytes == 12:  # noqa: PLR2004  # OS/2's
        width, height = struct.unpack_from("<HH", data, 18)
        return width, height
    if num_header_bytes not in _BMP_HEADERS:
        raise HeaderDamaged(f"the header has {num_header_bytes} bytes")
    width, height = struct.unpack_from("<ii", data, 18)
    return width, abs(height)  # below 0: the first row is the uppermost


def _read_tiff(data: bytes) -> Size:
    order = "<" if data.startswith(b"II") else ">"
    (offset,) = struct.unpack_from(f"{order}I", data, 4)
    (num_tags,) = struct.unpack_from(f"{order}H", data, offset)
    found = {}
    for number in range(num_tags):
        position = offset + 2 + 12 * number
        tag, kind = struct.unpack_from(f"{order}HH", data, position)
        if tag in {_TIFF_WIDTH, _TIFF_HEIGHT}:
            number_format = "H" if kind == 3 else "I"  # noqa: PLR2004  # SHORT; else LONG
            (found[tag],) = struct.unpack_from(f"{order}{number_format}", data, position + 8)
    return found.get(_TIFF_WIDTH, 0), found.get(_TIFF_HEIGHT, 0)


def _read_webp(data: bytes) -> Size:
    (num_bytes,) = struct.unpack_from("<I", data, 4)
    if num_bytes + 8 > len(data):
        raise HeaderDamaged("the file has fewer bytes than it says")
    match data[12:16]:
        case b"VP8 ":
            width, height = struct.unpack_from("<HH", data, 26)
            return width & 0x3FFF, height & 0x3FFF
        case b"VP8L":
            (bits,) = struct.unpack_from("<I", data, 21)
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        case b"VP8X":
            (canvas,) = struct.unpack_from("<Q", data[24:30] + bytes(2))
            return (canvas & 0xFF_FFFF) + 1, (canvas >> 24 & 0xFF_FFFF) + 1
    raise HeaderDamaged("the first chunk is none of a picture")


_READERS: dict[str, Callable[[bytes], Size]] = {
    "JPEG": _read_jpeg,
    "PNG": _read_png,
    "GIF": _read_gif,
    "BMP": _read_bmp,
    "TIFF": _read_tiff,
    "WEBP": _read_webp,
}
