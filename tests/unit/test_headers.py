"""Headers: sizes as decoders read them, in a bounded number of steps, whatever the file says of itself."""

from __future__ import annotations

import io
import struct
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from idefics2_service.formats import FORMATS, sniff
from idefics2_service.headers import HeaderDamaged, read_size
from pictures import draw_red_circle, encode
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Callable

SIZE = (20, 10)
JPEG, GIF, BMP, TIFF, WEBP = (
    encode(draw_red_circle(SIZE), kind) for kind in ("JPEG", "GIF", "BMP", "TIFF", "WEBP")
)
GIF_BLOCKS = 13 + (3 << (GIF[10] & 7) + 1)
"""Where the blocks of GIF begin."""
HUGE = 20_000_000
"""The largest file that is taken."""


def segment(marker: int, data: bytes = b"") -> bytes:
    """Make a segment of a JPEG."""
    return struct.pack(">BBH", 0xFF, marker, 2 + len(data)) + data


def in_jpeg(*before: bytes) -> bytes:
    """Make a JPEG of SIZE that has something before its first segment."""
    return JPEG[:2] + b"".join(before) + JPEG[2:]


def in_gif(blocks: bytes) -> bytes:
    """Make a GIF of SIZE with more blocks before its frame."""
    return GIF[:GIF_BLOCKS] + blocks + GIF[GIF_BLOCKS:]


def tiff(tags: dict[int, tuple[int, int]], order: str = "<") -> bytes:
    """Make a TIFF of nothing but tags, each of a kind and a value."""
    written = b"".join(
        struct.pack(f"{order}HHI", tag, kind, 1)
        + struct.pack(f"{order}{'H' if kind == 3 else 'I'}", value).ljust(4, b"\0")
        for tag, (kind, value) in tags.items()
    )
    start = b"II*\0" if order == "<" else b"MM\0*"
    return start + struct.pack(f"{order}IH", 8, len(tags)) + written + bytes(4)


def read(data: bytes) -> tuple[int, int]:
    """Read the size of a file of a known format."""
    kind = sniff(data)
    assert kind is not None
    return read_size(data, kind)


@pytest.mark.parametrize("size", [(1, 1), (2, 700), (700, 2), (255, 257), (4000, 3), (3, 16_000)])
@pytest.mark.parametrize("kind", FORMATS)
def test_a_size_is_read_as_a_decoder_reads_it(kind: str, size: tuple[int, int]) -> None:
    assert read(encode(Image.new("RGB", size), kind)) == size


@pytest.mark.parametrize(
    ("mode", "kind", "options"),
    [
        ("L", "JPEG", {}),
        ("CMYK", "JPEG", {}),
        ("RGB", "JPEG", {"progressive": True, "icc_profile": bytes(500_000), "comment": "x"}),
        ("1", "PNG", {}),
        ("P", "PNG", {"transparency": 0}),
        ("I;16", "PNG", {}),
        ("RGBA", "PNG", {"icc_profile": bytes(500_000)}),
        ("RGBA", "WEBP", {"lossless": True, "icc_profile": bytes(500_000)}),
        ("RGB", "WEBP", {"lossless": True}),
        ("RGBA", "WEBP", {"quality": 5}),
        ("P", "GIF", {"comment": "x" * 5000, "transparency": 1}),
        ("L", "GIF", {"interlace": 0}),
        ("1", "BMP", {}),
        ("P", "BMP", {}),
        ("RGBA", "BMP", {}),
        ("1", "TIFF", {"compression": "group4"}),
        ("CMYK", "TIFF", {"compression": "tiff_lzw"}),
        ("I;16", "TIFF", {"big_endian": True}),
        ("F", "TIFF", {"icc_profile": bytes(500_000)}),
    ],
)
def test_so_it_is_of_every_mode_and_with_all_that_may_stand_before_it(
    mode: str, kind: str, options: dict[str, object]
) -> None:
    noise = np.random.default_rng(3).integers(0, 256, (30, 50, 3), np.uint8)
    image = Image.fromarray(noise)
    image = image.convert("L").convert("I").convert("I;16") if mode == "I;16" else image.convert(mode)
    assert read(encode(image, kind, **options)) == (50, 30)


def test_so_it_is_of_all_frames_of_an_animation() -> None:
    frames = [Image.new("RGB", (9, 7), color) for color in ("red", "blue", "white")]
    for kind in ("GIF", "PNG", "WEBP", "TIFF"):
        assert read(encode(frames[0], kind, save_all=True, append_images=frames[1:])) == (9, 7)


@pytest.mark.parametrize(
    "data",
    [
        in_jpeg(b"\xff" * 100),
        in_jpeg(segment(0xFE), b"junk"),
        in_jpeg(b"\xff\x00", b"\xff\xd8"),
        in_jpeg(segment(0xC4, bytes(30)), segment(0xFE, b"\xff\xc0\xff\xc0")),
        in_jpeg(segment(0xE2, bytes(65_533)) * 300),
        in_gif(b"\x21\xfe" + b"\x01x" * 40_000 + b"\0"),
        in_gif(b"\x21\xf9\x04\0\0\0\0\0" * 10_000),
        BMP[:14] + struct.pack("<IHHHH", 12, *SIZE, 1, 24) + BMP[26:],
        BMP[:22] + struct.pack("<i", -SIZE[1]) + BMP[26:],
    ],
    ids=["fill", "junk", "lone markers", "tables", "profiles", "comments", "blocks", "OS/2", "from the top"],
)
def test_what_decoders_skip_is_skipped(data: bytes) -> None:
    assert read(data) == SIZE
    with Image.open(io.BytesIO(data)) as image:
        assert image.size == SIZE


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", [3, 4])
def test_a_tiff_may_have_either_order_of_bytes_and_either_kind_of_number(order: str, kind: int) -> None:
    assert read(tiff({254: (4, 0), 256: (kind, 50), 257: (kind, 30)}, order)) == (50, 30)


def test_a_frame_that_stands_out_of_its_screen_counts() -> None:
    screen = GIF[:6] + struct.pack("<HH", 1, 1) + GIF[10:]
    frame = screen.index(b",", GIF_BLOCKS) + 1
    shown = screen[:frame] + struct.pack("<HHHH", 3, 1000, 65_535, 60_000) + screen[frame + 8 :]
    assert read(shown) == (65_538, 61_000)


def fill(unit: bytes) -> bytes:
    """Repeat it until the file is as large as can be."""
    return unit * (HUGE // len(unit))


@pytest.mark.parametrize(
    "make",
    [
        lambda: in_jpeg(fill(segment(0xE0))),
        lambda: in_jpeg(fill(segment(0xE1, b"Exif\0\0MM"))),
        lambda: in_jpeg(fill(b"\xff\x00")),
        lambda: in_jpeg(fill(b"\xff\xd0")),
        lambda: in_jpeg(fill(b"\xff")),
        lambda: JPEG[:2] + b"\xff\xe0" + fill(b"\x00"),
        lambda: in_gif(b"\x21\xfe" + fill(b"\x01x") + b"\0"),
        lambda: in_gif(fill(b"\x21\xf9\0")),
        lambda: in_gif(fill(b"\0")),
    ],
    ids=[
        "segments",
        "metadata",
        "nothing",
        "markers",
        "fill",
        "no lengths",
        "comments",
        "extensions",
        "zeros",
    ],
)
def test_a_header_that_would_take_a_decoder_long_is_given_up(make: Callable[[], bytes]) -> None:
    data = Counted(make())
    with pytest.raises(HeaderDamaged):
        read(data)
    assert data.num_looks < 250_000  # of twenty million bytes


class Counted(bytes):
    """Counts how often somebody looks."""

    num_looks = 0

    def __getitem__(self, where: Any) -> Any:
        self.num_looks += 1
        return super().__getitem__(where)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_header_that_ends_anywhere_is_a_damaged_one_or_whole(kind: str) -> None:
    whole = encode(draw_red_circle(SIZE), kind)
    for length in range(12, len(whole)):
        part = whole[:length]
        if sniff(part) is None:
            continue
        try:
            size = read(part)
        except HeaderDamaged:
            continue
        assert size == SIZE


@pytest.mark.parametrize(
    "data",
    [
        JPEG[:2] + b"\xff\xd9",
        JPEG[:2] + segment(0xC0, struct.pack(">BHH", 8, 0, 10)),
        JPEG[:3] + bytes(100),
        b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", 0, 10),
        b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IDAT", 10, 10),
        b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 12, b"IHDR", 10, 10),
        BMP[:14] + struct.pack("<I", 66) + BMP[18:],
        BMP[:18] + struct.pack("<i", -20) + BMP[22:],
        BMP[:22] + struct.pack("<i", 0) + BMP[26:],
        tiff({}),
        tiff({256: (3, 20)}),
        tiff({256: (3, 20), 257: (4, 0)}),
        TIFF[:4] + struct.pack("<I", 2**32 - 1) + TIFF[8:],
        WEBP[:12] + b"XMP " + WEBP[16:],
        WEBP[:-1],
    ],
)
def test_a_header_that_makes_no_sense_is_a_damaged_one(data: bytes) -> None:
    with pytest.raises(HeaderDamaged):
        read(data)
