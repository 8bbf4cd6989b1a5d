"""Pictures that are something else as well, or at the edge of their formats: what is answered of each."""

from __future__ import annotations

import base64
import io
import struct
import zipfile
import zlib
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
from harness import Harness, Refusal, describe_red_circle, read_refusal
from idefics2.v1 import generation_pb2
from pictures import PNG_MAGIC, RED_CIRCLE, draw_red_circle, encode, png_chunk, red_circle
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Callable

SCRIPT = b"<script>alert(document.domain)</script>"


def in_png(*chunks: bytes) -> bytes:
    """Make a PNG of a red circle with more chunks after its header."""
    picture = red_circle()
    return picture[:33] + b"".join(chunks) + picture[33:]


def in_jpeg(marker: int, data: bytes) -> bytes:
    """Make a JPEG of a red circle with one more segment."""
    picture = encode(draw_red_circle(), "JPEG", quality=95)
    return picture[:2] + struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data + picture[2:]


def in_gif(comment: bytes) -> bytes:
    """Make a GIF whose screen has the width `/*`, so that it begins a comment of a script."""
    picture = encode(draw_red_circle((0x2A2F, 8)), "GIF")
    return picture + b"*/=1;" + comment


def zip_after(picture: bytes) -> bytes:
    """Make a picture that is an archive, too."""
    file = io.BytesIO(picture)
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("x.js", SCRIPT)
    return file.getvalue()


def animate(kind: str, **options: Any) -> bytes:
    """Make an animation that begins with a red circle and goes on with nothing."""
    blank = Image.new("RGB", (200, 150), "blue")
    return encode(draw_red_circle(), kind, save_all=True, append_images=[blank, blank], **options)


def deepen() -> bytes:
    """Make a PNG of 16 bits a channel."""
    pixels = np.asarray(draw_red_circle()).astype(">u2") * 257
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", 200, 150, 16, 2, 0, 0, 0)
    chunks = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")
    return PNG_MAGIC + chunks


def with_palette(kind: str) -> bytes:
    """Make a picture of few colours whose ground is transparent and black, so that only white is right."""
    image = draw_red_circle().convert("P", palette=Image.Palette.ADAPTIVE, colors=4)
    ground = image.getpixel((0, 0))
    assert isinstance(ground, int)
    palette = image.getpalette() or []
    palette[3 * ground : 3 * ground + 3] = [0, 0, 0]
    image.putpalette(palette)
    return encode(image, kind, transparency=ground)


def through_alpha(kind: str) -> bytes:
    """Make a picture whose ground is transparent and black."""
    image = draw_red_circle().convert("RGBA")
    pixels = np.array(image)
    pixels[(pixels == 255).all(axis=2)] = 0
    return encode(Image.fromarray(pixels), kind, **({"lossless": True} if kind == "WEBP" else {}))


def rotate(orientation: int, kind: str = "JPEG") -> bytes:
    """Make a picture that lies on its side or its head, and says so."""
    back = {
        1: (),
        3: (Image.Transpose.ROTATE_180,),
        6: (Image.Transpose.ROTATE_90,),
        8: (Image.Transpose.ROTATE_270,),
    }
    image = draw_red_circle()
    for how in back[orientation]:
        image = image.transpose(how)
    exif = Image.Exif()
    exif[0x112] = orientation
    return encode(image, kind, exif=exif)


ANSWERED: dict[str, Callable[[], bytes]] = {
    "a PNG with a page behind it": lambda: red_circle() + SCRIPT,
    "a PNG with a page in its text": lambda: in_png(png_chunk(b"tEXt", b"Comment\0" + SCRIPT)),
    "a PNG with a program in a private chunk": lambda: in_png(
        png_chunk(b"prVt", b"<?php system($_GET[0]); ?>")
    ),
    "a PNG that is an archive, too": lambda: zip_after(red_circle()),
    "a JPEG with a page in its comment": lambda: in_jpeg(0xFE, SCRIPT),
    "a JPEG with a document in its comment": lambda: in_jpeg(
        0xFE, b"%PDF-1.7\n1 0 obj<<>>endobj\ntrailer<<>>"
    ),
    "a JPEG with a document behind it": lambda: encode(draw_red_circle(), "JPEG") + b"%PDF-1.7\n%%EOF",
    "a JPEG that is an archive, too": lambda: zip_after(encode(draw_red_circle(), "JPEG")),
    "a JPEG with a thumbnail of another picture": lambda: in_jpeg(
        0xE1, b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0"
    ),
    "a BMP with a page behind it": lambda: encode(draw_red_circle(), "BMP") + SCRIPT,
    "a GIF that moves": lambda: animate("GIF"),
    "a PNG that moves": lambda: animate("PNG"),
    "a WEBP that moves": lambda: animate("WEBP", lossless=True),
    "a TIFF of three pages": lambda: animate("TIFF"),
    "a PNG of 16 bits a colour": deepen,
    "a JPEG for printing": lambda: encode(draw_red_circle().convert("CMYK"), "JPEG", quality=95),
    "a TIFF for printing": lambda: encode(draw_red_circle().convert("CMYK"), "TIFF"),
    "a JPEG in many passes": lambda: encode(draw_red_circle(), "JPEG", progressive=True, quality=95),
    "a PNG with a palette and a transparent ground": lambda: with_palette("PNG"),
    "a GIF with a transparent ground": lambda: with_palette("GIF"),
    "a PNG with a transparent ground": lambda: through_alpha("PNG"),
    "a WEBP with a transparent ground": lambda: through_alpha("WEBP"),
    "a TIFF with a transparent ground": lambda: through_alpha("TIFF"),
    "a JPEG on its head": lambda: rotate(3),
    "a JPEG on its left side": lambda: rotate(6),
    "a JPEG on its right side": lambda: rotate(8),
    "a PNG on its side": lambda: rotate(6, "PNG"),
    "a WEBP on its side": lambda: rotate(6, "WEBP"),
    "a picture called another": lambda: encode(draw_red_circle(), "WEBP", lossless=True),
}
"""A red circle each, whatever else."""
STRANGE: dict[str, Callable[[], bytes]] = {
    "1 x 1": lambda: encode(Image.new("RGB", (1, 1), "red")),
    "1 x 1 in a GIF": lambda: encode(Image.new("P", (1, 1)), "GIF"),
    "20,000 x 1": lambda: encode(Image.new("RGB", (20_000, 1), "red")),
    "1 x 20,000": lambda: encode(Image.new("RGB", (1, 20_000), "red")),
    "20,000 x 1 in a JPEG": lambda: encode(Image.new("RGB", (20_000, 1), "red"), "JPEG"),
    "1 x 20,000 in a TIFF": lambda: encode(Image.new("CMYK", (1, 20_000)), "TIFF"),
    "2 x 16,383 in a WEBP": lambda: encode(Image.new("RGBA", (2, 16_383)), "WEBP"),
    "black and white": lambda: encode(draw_red_circle().convert("1"), "TIFF", compression="group4"),
    "16 bits of grey": lambda: encode(Image.fromarray(np.full((9, 9), 40_000, np.uint16))),
    "floats": lambda: encode(Image.fromarray(np.full((9, 9), 0.5, np.float32)), "TIFF"),
    "floats that are none": lambda: encode(Image.fromarray(np.full((9, 9), np.nan, np.float32)), "TIFF"),
    "LAB": lambda: encode(Image.new("LAB", (9, 9)), "TIFF"),
    "all transparent": lambda: encode(Image.new("RGBA", (9, 9))),
    "a script that begins as a GIF": lambda: in_gif(b"alert(1)"),
}
"""Pictures of which only that is promised, that something is answered."""
REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "a document with a picture in it": (
        lambda: b"%PDF-1.7\n" + encode(draw_red_circle(), "JPEG"),
        "FILE_NOT_AN_IMAGE",
    ),
    "a page with a picture in it": (lambda: b"<!doctype html>" + red_circle(), "FILE_NOT_AN_IMAGE"),
    "an SVG with a script": (
        lambda: b"<svg xmlns='http://www.w3.org/2000/svg'>" + SCRIPT + b"</svg>",
        "FILE_NOT_AN_IMAGE",
    ),
    "an SVG that names a file": (
        lambda: b"<?xml version='1.0'?><!DOCTYPE s [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><svg>&x;</svg>",
        "FILE_NOT_AN_IMAGE",
    ),
    "a packed SVG": (lambda: b"\x1f\x8b\x08" + bytes(50), "FILE_NOT_AN_IMAGE"),
    "PostScript": (lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n(/etc/passwd) (r) file", "FILE_NOT_AN_IMAGE"),
    "PostScript behind a preview": (lambda: b"\xc5\xd0\xd3\xc6" + bytes(30), "FILE_NOT_AN_IMAGE"),
    "commands for ImageMagick": (
        lambda: b"push graphic-context\nfill 'url(https://x/\"|id\")'\npop graphic-context",
        "FILE_NOT_AN_IMAGE",
    ),
    "a list of films": (lambda: b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1/\n", "FILE_NOT_AN_IMAGE"),
    "an AVIF": (lambda: b"\0\0\0\x1cftypavif" + bytes(90), "FILE_NOT_AN_IMAGE"),
    "a JPEG 2000": (lambda: b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(90), "FILE_NOT_AN_IMAGE"),
    "an icon": (lambda: b"\0\0\1\0\1\0" + bytes(90), "FILE_NOT_AN_IMAGE"),
    "a Photoshop file": (lambda: b"8BPS\0\1" + bytes(90), "FILE_NOT_AN_IMAGE"),
    "a BigTIFF": (lambda: b"II+\0\x08\0\0\0" + bytes(90), "FILE_NOT_AN_IMAGE"),
    "a sound": (lambda: b"RIFF\x24\0\0\0WAVEfmt " + bytes(90), "FILE_NOT_AN_IMAGE"),
    "a PNG of no pixels": (
        lambda: PNG_MAGIC + png_chunk(b"IHDR", struct.pack(">IIBBBBB", 0, 9, 8, 2, 0, 0, 0)),
        "FILE_UNDECODABLE",
    ),
    "a PNG of 0.2 gigapixels": (
        lambda: PNG_MAGIC + png_chunk(b"IHDR", struct.pack(">IIBBBBB", 20_000, 10_000, 1, 0, 0, 0, 0)),
        "FILE_TOO_MANY_PIXELS",
    ),
    "a GIF whose frame is larger than its screen": (
        lambda: b"GIF89a\1\0\1\0\0\0\0,\0\0\0\0\xff\xff\xff\xff\0\2\1\0\0;",
        "FILE_TOO_MANY_PIXELS",
    ),
    "a PNG chunk of a gigabyte": (lambda: in_png(png_chunk(b"IDAT", b"x", 2**30)), "FILE_UNDECODABLE"),
    "a PNG text of a thousand times its length": (
        lambda: in_png(png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(2**24), 9))),
        "FILE_NOT_AN_IMAGE",
    ),
    "a PNG whose pixels do not end": (
        lambda: (
            PNG_MAGIC
            + png_chunk(b"IHDR", struct.pack(">IIBBBBB", 9, 9, 8, 2, 0, 0, 0))
            + png_chunk(b"IDAT", zlib.compress(b"\5" * 2**24, 9))
            + png_chunk(b"IEND", b"")
        ),
        "FILE_UNDECODABLE",
    ),
    "a BMP of a gigabyte": (
        lambda: b"BM" + struct.pack("<IIIIiiHHI", 2**30, 0, 54, 40, 6_000, 6_000, 1, 24, 0) + bytes(40),
        "FILE_UNDECODABLE",
    ),
    "a JPEG of five million segments": (
        lambda: b"\xff\xd8" + b"\xff\xe0\x00\x02" * 4_900_000,
        "FILE_UNDECODABLE",
    ),
    "a PNG of a million chunks": (lambda: in_png(png_chunk(b"aaAa", b"") * 800_000), "FILE_UNDECODABLE"),
    "half a picture": (lambda: encode(draw_red_circle((600, 400)), "JPEG")[:5_000], "FILE_UNDECODABLE"),
}
URIS: dict[str, tuple[str, str]] = {
    "bad base64": ("data:image/png;base64,iVBORw0KGgo*", "FILE_DATA_URI_INVALID"),
    "base64 for URLs": ("data:image/png;base64,_9j_4AAQ", "FILE_DATA_URI_INVALID"),
    "base64 of base64": (
        "data:image/png;base64," + base64.b64encode(base64.b64encode(red_circle())).decode(),
        "FILE_NOT_AN_IMAGE",
    ),
    "base64 twice": ("data:image/png;base64;base64,", "FILE_EMPTY"),
    "a page": ("data:text/html;base64," + base64.b64encode(SCRIPT).decode(), "FILE_NOT_AN_IMAGE"),
    "a page called a picture": (
        "data:image/png;base64," + base64.b64encode(SCRIPT).decode(),
        "FILE_NOT_AN_IMAGE",
    ),
    "a gigabyte announced": ("data:image/png;length=1073741824;base64,", "FILE_EMPTY"),
    "21 MB": ("data:image/png;base64," + "A" * 28_000_004, "FILE_TOO_LARGE"),
    "in another": ("data:image/png,data:image/png;base64,iVBORw0KGgo=", "FILE_NOT_AN_IMAGE"),
}


async def describe(service: Harness, data: bytes) -> generation_pb2.GenerateResponse:
    """Ask what a picture shows."""
    return await service.generate(describe_red_circle(images=[generation_pb2.Image(data=data)]))


async def refuse(service: Harness, **fields: Any) -> Refusal:
    """Ask of a picture that must be refused."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await service.generate(describe_red_circle(**fields))
    refusal = read_refusal(caught.value)
    assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT
    return refusal


@pytest.mark.parametrize("case", ANSWERED)
async def test_a_picture_is_seen_whatever_else_it_is(real_service: Harness, case: str) -> None:
    assert (await describe(real_service, ANSWERED[case]())).output == RED_CIRCLE


@pytest.mark.parametrize("case", STRANGE)
async def test_a_picture_at_the_edge_is_answered(real_service: Harness, case: str) -> None:
    response = await describe(real_service, STRANGE[case]())
    assert response.output
    assert response.usage.num_image_tokens > 0


@pytest.mark.parametrize("case", REFUSED)
async def test_what_is_no_picture_or_too_much_of_one_is_refused(real_service: Harness, case: str) -> None:
    make, reason = REFUSED[case]
    refusal = await refuse(real_service, images=[generation_pb2.Image(data=make())])
    assert (refusal.reason, refusal.field) == (reason, "images[0].data")
    assert (await describe(real_service, red_circle())).output == RED_CIRCLE


@pytest.mark.parametrize("case", URIS)
async def test_a_data_uri_that_holds_no_picture_is_refused(real_service: Harness, case: str) -> None:
    uri, reason = URIS[case]
    refusal = await refuse(real_service, image_url=uri, images=[])
    assert (refusal.reason, refusal.field) == (reason, "image_url")
    assert (await describe(real_service, red_circle())).output == RED_CIRCLE


@pytest.mark.parametrize("media_type", ["text/html", "image/svg+xml", "application/pdf", "", "x" * 1_000])
async def test_what_a_data_uri_calls_its_picture_does_not_matter(
    real_service: Harness, media_type: str
) -> None:
    uri = f"data:{media_type};base64,{base64.b64encode(red_circle()).decode()}"
    response = await real_service.generate(describe_red_circle(image_url=uri, images=[]))
    assert response.output == RED_CIRCLE
