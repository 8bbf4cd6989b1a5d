"""What decoding a picture takes, by what its header says: so that too much is refused before it is taken.

Decoders differ: most write pixels row by row, but libjpeg keeps all coefficients of a picture that comes in
several passes, libtiff whole strips, and libwebp two canvases, where the caller has one already.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from idefics2_engine.images import is_shortened_first, plan_crops

if TYPE_CHECKING:
    import io
    from collections.abc import Callable

    from PIL import Image

    from idefics2_engine.images import Size, Sizing

_MARGIN_BYTES = 8_000_000
"""Strips, rows, tables, and pages of libraries that are used for the first time."""
_PIXEL_BYTES = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2, "I;16N": 2}
"""In Pillow's memory; of all other modes 4."""
_WEBP_PIXEL_BYTES = 12
"""libwebp's two canvases, and what it hands out, or keeps of a lossless picture meanwhile."""
_WEBP_FILES = 3
"""Copies of the file."""
_START_OF_SCAN, _END_OF_IMAGE = b"\xff\xda", b"\xff\xd9"
_ROWS_PER_STRIP, _TILE_WIDTH, _TILE_HEIGHT = 278, 322, 323  # tags of TIFF


def count_decoding_bytes(image: Image.Image, file: io.BytesIO) -> int:
    """Estimate what a picture takes while it is decoded, the file and all pixels included.

    Args:
        image: as Pillow opened it, not loaded.
        file: which it was opened from.

    """
    count_more = _MORE_BYTES.get(image.format or "")
    more = count_more(image, file) if count_more else 0
    return _count_file_bytes(file) + count_pixel_bytes(image) + more + _MARGIN_BYTES


def count_webp_bytes(size: Size, file: io.BytesIO) -> int:
    """Estimate the same of a WebP, before it is opened."""
    return _WEBP_PIXEL_BYTES * size[0] * size[1] + _WEBP_FILES * _count_file_bytes(file) + _MARGIN_BYTES


def count_pixel_bytes(image: Image.Image) -> int:
    """Count the bytes of all pixels as Pillow keeps them, and of its list of rows."""
    width, height = image.size
    return (_PIXEL_BYTES.get(image.mode, 4) * width + struct.calcsize("P")) * height


def count_cutting_bytes(size: Size, num_pixel_bytes: int, sizing: Sizing, *, is_released: bool) -> int:
    """Estimate what a decoded picture takes while it is cut in five crops, its pixels included.

    Args:
        size: width and height in pixels, upright.
        num_pixel_bytes: of all pixels.
        sizing: how it is cut.
        is_released: whether its rows are let go one after the other.

    """
    width, height = size
    plan = plan_crops(width, height, sizing, split=True)
    crops = sum(3 * w * h for _, (w, h) in plan) + max(12 * w * h for _, (w, h) in plan)
    tall = [4 * (box[2] - box[0]) * h for box, (w, h) in plan if is_shortened_first(box, (w, h))]
    between = [0, *tall]
    if len(tall) < len(plan):
        quarter, whole = plan[0][1][0], plan[-1][1][0]
        released = num_pixel_bytes // height if is_released else 0
        between.append((4 * (whole + 2 * quarter) - released) * height // 2)
        between.append((4 * (whole + quarter) - released) * height)
    filters = 16 * max(size)
    return num_pixel_bytes + max(between) + crops + filters + _MARGIN_BYTES


def read_webp_size(file: io.BytesIO) -> Size | None:
    """Read width and height of a WebP without opening it; None: it is none, or damaged."""
    head = file.getvalue()[:30].ljust(30, b"\0")
    if head[:4] != b"RIFF" or head[8:12] != b"WEBP":
        return None
    match head[12:16]:
        case b"VP8 ":
            width, height = struct.unpack_from("<HH", head, 26)
            return width & 0x3FFF, height & 0x3FFF
        case b"VP8L":
            (bits,) = struct.unpack_from("<I", head, 21)
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        case b"VP8X":
            return int.from_bytes(head[24:27], "little") + 1, int.from_bytes(head[27:30], "little") + 1
    return None


def _count_file_bytes(file: io.BytesIO) -> int:
    return file.getbuffer().nbytes


def _count_jpeg_bytes(image: Image.Image, file: io.BytesIO) -> int:
    """Count two bytes for each coefficient, where libjpeg keeps them."""
    if not image.info.get("progressive") and not _has_more_scans(file):
        return 0
    layers: list[tuple[int, int, int, int]] = image.layer  # type: ignore[attr-defined]  # JPEG's
    sides = max(across for _, across, _, _ in layers), max(down for _, _, down, _ in layers)
    num_samples = sum(across * down for _, across, down, _ in layers)
    width, height = image.size
    return 2 * width * height * num_samples // max(1, sides[0] * sides[1])


def _has_more_scans(file: io.BytesIO) -> bool:
    """Tell whether another scan begins before the picture ends; the file stands behind its first head."""
    data, position = file.getvalue(), file.tell()
    begin, end = data.find(_START_OF_SCAN, position), data.find(_END_OF_IMAGE, position)
    return begin >= 0 and (end < 0 or begin < end)


def _count_tiff_bytes(image: Image.Image, _: io.BytesIO) -> int:
    """Count a strip or tile, as stored and as libtiff may convert it, where it is compressed."""
    if not image.use_load_libtiff:  # type: ignore[attr-defined]  # of a TIFF
        return 0
    tags = image.tag_v2  # type: ignore[attr-defined]  # the same
    width, height = image.size
    rows = tags.get(_TILE_HEIGHT, tags.get(_ROWS_PER_STRIP, height))
    columns = tags.get(_TILE_WIDTH, width)
    if not isinstance(rows, int) or not isinstance(columns, int):
        return 0  # no decoder takes it
    return 8 * min(rows, height) * columns


def _count_bmp_bytes(image: Image.Image, _: io.BytesIO) -> int:
    """Count the two copies that Pillow makes of what was run-length encoded."""
    tile: list[Any] = image.tile  # type: ignore[attr-defined]  # of a file
    return 2 * image.width * image.height if tile and tile[0].codec_name == "bmp_rle" else 0


_MORE_BYTES: dict[str, Callable[[Image.Image, io.BytesIO], int]] = {
    "JPEG": _count_jpeg_bytes,
    "MPO": _count_jpeg_bytes,
    "TIFF": _count_tiff_bytes,
    "BMP": _count_bmp_bytes,
}
"""What decoders of a format take beside pixels and file."""
