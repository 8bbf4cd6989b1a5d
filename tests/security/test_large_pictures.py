"""Pictures as large as they may be, of every kind: accepted or refused, none takes over 200 MB."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from pictures import draw_red_circle, encode
from PIL import Image
from security.decoding import MAX_BYTES, Decoder

if TYPE_CHECKING:
    from collections.abc import Iterator

PHOTO, LARGEST = (6000, 4000), (8000, 5000)
TALL, TALLEST, WIDEST = (1220, 32_780), (610, 65_000), (65_000, 610)
CASES: dict[str, tuple[str, str, tuple[int, int], dict[str, Any], bool]] = {
    "a photograph": ("RGB", "JPEG", PHOTO, {}, True),
    "a photograph on its side": ("RGB", "JPEG", PHOTO, {"orientation": 6}, True),
    "a photograph in many passes": ("RGB", "JPEG", PHOTO, {"progressive": True}, True),
    "a screen": ("RGB", "PNG", (4000, 3000), {}, True),
    "a WEBP of 12 megapixels": ("RGB", "WEBP", (4000, 3000), {"method": 0}, True),
    "a JPEG": ("RGB", "JPEG", LARGEST, {}, True),
    "a JPEG on its head": ("RGB", "JPEG", LARGEST, {"orientation": 3}, True),
    "a JPEG on its side": ("RGB", "JPEG", LARGEST, {"orientation": 8}, False),
    "a JPEG for printing": ("CMYK", "JPEG", LARGEST, {}, True),
    "a JPEG in many passes": ("RGB", "JPEG", LARGEST, {"progressive": True}, False),
    "a square JPEG": ("RGB", "JPEG", (6324, 6324), {}, True),
    "a tall JPEG": ("RGB", "JPEG", TALL, {}, True),
    "the tallest JPEG": ("RGB", "JPEG", TALLEST, {}, True),
    "the widest JPEG": ("RGB", "JPEG", WIDEST, {}, True),
    "a tall grey PNG": ("L", "PNG", TALLEST, {}, True),
    "a PNG": ("RGB", "PNG", LARGEST, {}, True),
    "a transparent PNG": ("RGBA", "PNG", LARGEST, {}, True),
    "a PNG with a palette": ("P", "PNG", LARGEST, {}, True),
    "a GIF": ("P", "GIF", LARGEST, {}, True),
    "a WEBP": ("RGB", "WEBP", LARGEST, {"method": 0}, False),
    "a BMP": ("1", "BMP", LARGEST, {}, True),
    "a packed TIFF": ("RGB", "TIFF", (6600, 5000), {"compression": "tiff_lzw"}, True),
    "a TIFF on its side": ("RGB", "TIFF", PHOTO, {"compression": "tiff_deflate", "orientation": 6}, True),
    "a JPEG in a TIFF": ("RGB", "TIFF", (6600, 5000), {"compression": "jpeg"}, True),
    "a fax": ("1", "TIFF", LARGEST, {"compression": "group4"}, True),
}
"""Mode, format, size, options, and whether it is accepted."""


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    """The way to the model, with time for a busy machine: memory is what is looked at."""
    decoder = Decoder(max_processor_seconds=60)
    yield decoder
    decoder.close()


def draw_large(case: str) -> bytes:
    """Make the file of a case."""
    mode, kind, size, options, _ = CASES[case]
    image = draw_red_circle().resize(size, Image.Resampling.NEAREST)
    image = image.quantize(16) if mode == "P" else image.convert(mode)
    if mode == "RGBA":
        image.putalpha(image.getchannel(0).point(lambda level: level // 2))
    exif = Image.Exif()
    exif[0x112] = options.get("orientation", 1)
    return encode(image, kind, exif=exif, **{key: options[key] for key in options if key != "orientation"})


@pytest.mark.long
@pytest.mark.parametrize("case", CASES)
async def test_a_picture_as_large_as_it_may_be_takes_no_more_memory_than_any(
    decoder: Decoder, case: str
) -> None:
    # Beside, since it takes seconds: the services of this process have watches to keep.
    data = await asyncio.to_thread(draw_large, case)
    outcome = await decoder.decode(case, data)
    assert outcome.worker == ("" if CASES[case][-1] else "FILE_TOO_MANY_PIXELS"), outcome
    assert outcome.worker_bytes <= MAX_BYTES, outcome
    decoder.check_known()
