"""A fuzzer: pictures of every format, and the same pictures damaged, by a seed."""

from __future__ import annotations

import random
import struct
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
from pictures import draw_red_circle, encode
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NUM_PER_PICTURE = 12
"""Mutations of each picture, for each seed."""
_EXTREMES = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF)
_SIDES = (0, 1, 2, 3, 255, 256, 1_000, 4_096, 6_000, 6_400, 16_384, 30_000, 65_500, 65_535)
_HEADER_BYTES = 64
"""Where most of what is damaged stands."""


def make_pictures() -> dict[str, bytes]:
    """Make one picture for each way that a decoder may take."""
    image, small = draw_red_circle((97, 61)), draw_red_circle((33, 20))
    frames: dict[str, Any] = {"save_all": True, "append_images": [small.rotate(90), small]}
    exif = Image.Exif()
    exif[0x112], exif[0x10E] = 6, "a red circle"
    return {
        "JPEG": encode(image, "JPEG", exif=exif),
        "progressive JPEG": encode(image, "JPEG", progressive=True, subsampling=0),
        "CMYK JPEG": encode(image.convert("CMYK"), "JPEG", icc_profile=bytes(500)),
        "PNG": encode(image, exif=exif),
        "PNG with a palette": encode(image.convert("P"), transparency=3),
        "PNG of 16 bits": encode(Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)),
        "moving PNG": encode(small, **frames),
        "WEBP": encode(image, "WEBP", exif=exif),
        "lossless WEBP": encode(image.convert("RGBA"), "WEBP", lossless=True),
        "moving WEBP": encode(small, "WEBP", **frames),
        "GIF": encode(image.convert("P"), "GIF", transparency=0, comment="a red circle"),
        "moving GIF": encode(small, "GIF", **frames),
        "BMP": encode(image, "BMP"),
        "BMP with a palette": encode(image.convert("P"), "BMP"),
        "TIFF": encode(image, "TIFF"),
        "TIFF of pages": encode(small, "TIFF", **frames),
        "LZW TIFF": encode(image.convert("CMYK"), "TIFF", compression="tiff_lzw"),
        "deflate TIFF": encode(image.convert("F"), "TIFF", compression="tiff_deflate"),
        "JPEG TIFF": encode(image, "TIFF", compression="jpeg"),
        "fax TIFF": encode(image.convert("1"), "TIFF", compression="group4"),
    }


def mutate_all(seed: int) -> Iterator[tuple[str, bytes]]:
    """Yield the name and the bytes of each file that a seed makes."""
    pictures = make_pictures()
    for name, data in pictures.items():
        chance = random.Random(f"{seed} {name}")  # noqa: S311  # nothing secret
        for number in range(NUM_PER_PICTURE):
            mutant = bytearray(data)
            for _ in range(chance.randint(1, 3)):
                mutate = chance.choice(_MUTATIONS)
                mutate(mutant, chance)
            if chance.random() < 0.2:
                _splice(mutant, pictures[chance.choice(list(pictures))], chance)
            yield f"{name}, seed {seed}, number {number}", _mend(bytes(mutant))


def _place(data: bytearray, chance: random.Random) -> int:
    """Choose a byte, often one of the header."""
    end = min(_HEADER_BYTES, len(data)) if chance.random() < 0.5 else len(data)
    return chance.randrange(end)


def _flip_bits(data: bytearray, chance: random.Random) -> None:
    for _ in range(chance.choice((1, 2, 8, 64))):
        data[_place(data, chance)] ^= 1 << chance.randrange(8)


def _truncate(data: bytearray, chance: random.Random) -> None:
    del data[max(12, chance.randrange(len(data))) :]


def _overwrite(data: bytearray, chance: random.Random) -> None:
    """Put an extreme number somewhere, of some length and order."""
    written = struct.pack(chance.choice(("<H", ">H", "<I", ">I")), 0)
    order = chance.choice(("little", "big"))
    number = chance.choice(_EXTREMES) & (1 << 8 * len(written)) - 1
    place = _place(data, chance)
    data[place : place + len(written)] = number.to_bytes(len(written), order)  # type: ignore[arg-type]  # one of two


def _repeat(data: bytearray, chance: random.Random) -> None:
    """Write a piece of the file again and again, where it stands."""
    begin = _place(data, chance)
    piece = bytes(data[begin : begin + chance.randint(1, 400)])
    data[begin:begin] = piece * chance.choice((1, 3, 50, 2_000))


def _cut_out(data: bytearray, chance: random.Random) -> None:
    begin = _place(data, chance)
    del data[begin : begin + chance.randint(1, 100)]
    data.extend(bytes(max(0, 12 - len(data))))


def _inflate(data: bytearray, chance: random.Random) -> None:
    """Let the header promise other sides."""
    width, height = chance.choice(_SIDES), chance.choice(_SIDES)
    if data.startswith(b"\x89PNG"):
        _write(data, 16, struct.pack(">II", width, height))
    elif data.startswith(b"\xff\xd8"):
        frame = max(data.find(b"\xff\xc0"), data.find(b"\xff\xc2"))
        _write(data, frame + 5, struct.pack(">HH", height, width))
    elif data.startswith(b"GIF8"):
        _write(data, 6, struct.pack("<HH", width, height))
        _write(data, data.find(b",", 13) + 5, struct.pack("<HH", width, height))
    elif data.startswith(b"BM"):
        _write(data, 18, struct.pack("<ii", width, chance.choice((1, -1)) * height))
    elif data.startswith(b"II*"):
        for tag, side in ((256, width), (257, height)):
            _write(data, data.find(struct.pack("<HH", tag, 4)) + 8, struct.pack("<I", side))
    elif data[12:16] == b"VP8X":
        _write(data, 24, struct.pack("<I", width)[:3] + struct.pack("<I", height)[:3])


def _write(data: bytearray, place: int, value: bytes) -> None:
    if 0 < place <= len(data) - len(value):
        data[place : place + len(value)] = value


def _splice(data: bytearray, other: bytes, chance: random.Random) -> None:
    """Go on as another picture."""
    del data[12 + chance.randrange(max(1, len(data) - 12)) :]
    data += other[chance.randrange(len(other)) :]


def _mend(data: bytes) -> bytes:
    """Make the sums of a PNG right, so that its damage is looked at."""
    if not data.startswith(b"\x89PNG\r\n\x1a\n"):
        return data
    mended, place = data[:8], 8
    while place + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, place)
        end = place + 8 + length
        if end + 4 > len(data):
            break
        mended += data[place:end] + struct.pack(">I", zlib.crc32(data[place + 4 : end]))
        place = end + 4
    return mended + data[place:]


_MUTATIONS: tuple[Callable[[bytearray, random.Random], None], ...] = (
    _flip_bits,
    _truncate,
    _overwrite,
    _repeat,
    _cut_out,
    _inflate,
)
