"""Pictures that tests draw for themselves, and whose truth they know."""

from __future__ import annotations

import io
import struct
import zlib

from PIL import Image, ImageDraw

# What the embedded checkpoint says of `red_circle()`, asked DESCRIBE without randomness.
DESCRIBE = "Describe the image."
RED_CIRCLE = "A red circle on a white background."
NUM_PROMPT_TOKENS, NUM_IMAGE_TOKENS, NUM_PATCHES = 49, 38, 48
"""What DESCRIBE and `red_circle()` cost with it."""
NUM_SPLIT_IMAGE_TOKENS = 5 * 36 + 6
"""Five pieces, and the boundaries around them."""
MAX_CONTEXT_TOKENS = 2048
PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
RED_CIRCLE_PIECES = ("A", " red", " circle", " on", " a", " white", " background", ".")


def draw_red_circle(size: tuple[int, int] = (200, 150)) -> Image.Image:
    """Draw a red disc in the middle of a white page of `size` (width, height) pixels."""
    width, height = size
    image = Image.new("RGB", size, "white")
    radius = min(size) * 0.27
    box = (width / 2 - radius, height / 2 - radius, width / 2 + radius, height / 2 + radius)
    ImageDraw.Draw(image).ellipse(box, fill=(220, 30, 30))
    return image


def encode(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    """Write `image` as a file of `kind`."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def red_circle() -> bytes:
    """Make the PNG file of a red circle."""
    return encode(draw_red_circle())


def make_empty_png(width: int, height: int) -> bytes:
    """Make a PNG that promises `width` x `height` pixels and holds none."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"".join((PNG_MAGIC, png_chunk(b"IHDR", header), png_chunk(b"IDAT", b""), png_chunk(b"IEND", b"")))


def png_chunk(kind: bytes, data: bytes, length: int | None = None) -> bytes:
    """Make a chunk of a PNG, which may say another length than it has."""
    size = struct.pack(">I", len(data) if length is None else length)
    return size + kind + data + struct.pack(">I", zlib.crc32(kind + data))
