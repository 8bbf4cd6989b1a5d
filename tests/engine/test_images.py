"""Whatever a picture file is made of, the model sees what a person would."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from idefics2_engine.images import InvalidImage, Sizing
from idefics2_engine.pictures import FORMATS, Bounds, decode_picture
from pictures import PNG_MAGIC, draw_red_circle, encode, png_chunk
from PIL import Image
from plain import decode_plainly

MAX_PIXELS, MAX_BYTES = 40_000_000, 200_000_000
SIZING = Sizing(shortest_edge=378, longest_edge=980, patch_size=14, resample=2)
RED, GREEN, BLUE, WHITE, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0)
Colour = tuple[int, ...]


def decode(data: bytes, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode a file."""
    picture = decode_picture(io.BytesIO(data), Bounds(max_pixels, MAX_BYTES, SIZING))
    return picture.read((0, 0, *picture.size))


def refuse(data: bytes, max_pixels: int = MAX_PIXELS) -> InvalidImage:
    """Decode a file that must be refused."""
    with pytest.raises(InvalidImage) as caught:
        decode(data, max_pixels)
    return caught.value


def pixels(image: Image.Image) -> list[list[Colour]]:
    """Read the rows of an RGB picture."""
    assert image.mode == "RGB"
    return [[tuple(pixel) for pixel in row] for row in np.asarray(image).tolist()]


def png(width: int, height: int, depth: int, colour_type: int, data: bytes = b"", **chunks: bytes) -> bytes:
    """Make a PNG file, chunk by chunk."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    between = b"".join(png_chunk(kind.encode(), content) for kind, content in chunks.items())
    return b"".join(
        (
            PNG_MAGIC,
            png_chunk(b"IHDR", header),
            between,
            png_chunk(b"IDAT", zlib.compress(data)),
            png_chunk(b"IEND", b""),
        )
    )


def quarters() -> Image.Image:
    """Draw four colours, so that every way to turn them is another picture."""
    image = Image.new("RGB", (32, 16), RED)
    image.paste(GREEN, (16, 0, 32, 8))
    image.paste(BLUE, (0, 8, 16, 16))
    image.paste(BLACK, (16, 8, 32, 16))
    return image


def corners(image: Image.Image) -> list[Colour]:
    """Name the pure colours nearest to the middles of the quarters."""
    width, height = image.size
    places = [(x, y) for y in (height // 4, height * 3 // 4) for x in (width // 4, width * 3 // 4)]
    found = [image.getpixel(place) for place in places]
    return [tuple(255 * (value > 127) for value in pixel) for pixel in found if isinstance(pixel, tuple)]


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_becomes_rgb_of_the_same_size(kind: str) -> None:
    image = decode(encode(quarters(), kind))
    assert (image.mode, image.size) == ("RGB", (32, 16))
    assert corners(image) == [RED, GREEN, BLUE, BLACK]


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bits_of_grey_become_8_and_not_white(kind: str) -> None:
    deep = np.array([[0, 257, 128 * 257], [200 * 257, 65_534, 65_535]], dtype=np.uint16)
    image = decode(encode(Image.fromarray(deep), kind))
    assert pixels(image) == [[(grey, grey, grey) for grey in row] for row in ([0, 1, 128], [200, 254, 255])]


def test_16_bits_of_colour_become_8() -> None:
    rows = b"".join(b"\0" + struct.pack(">6H", 65_535, 0, 128 * 257, 0, 65_535, 257) for _ in range(2))
    assert pixels(decode(png(2, 2, 16, 2, rows))) == [[(255, 0, 128), (0, 255, 1)]] * 2


@pytest.mark.parametrize(
    ("mode", "colours", "seen"),
    [
        ("RGBA", [(255, 0, 0, 0), (0, 0, 0, 0), (0, 0, 255, 255)], [WHITE, WHITE, BLUE]),
        ("LA", [(0, 0), (100, 0), (100, 255)], [WHITE, WHITE, (100, 100, 100)]),
    ],
)
def test_what_is_transparent_is_white(mode: str, colours: list[Colour], seen: list[Colour]) -> None:
    image = Image.new(mode, (3, 2))
    for x, colour in enumerate(colours):
        image.paste(colour, (x, 0, x + 1, 2))
    assert pixels(decode(encode(image))) == [seen] * 2


def test_what_is_half_transparent_is_half_white() -> None:
    image = Image.new("RGBA", (2, 2), (0, 0, 0, 127))
    assert pixels(decode(encode(image))) == [[(128, 128, 128)] * 2] * 2


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_colours_that_a_file_holds_multiplied_by_their_alpha_are_seen_on_white(mode: str) -> None:
    colours = [(0, 0, 0, 0), (50, 50, 50, 127), (100, 100, 100, 255)]
    image = Image.new(mode, (3, 2))
    for x, colour in enumerate(colours):
        image.paste(colour[-len(mode) :], (x, 0, x + 1, 2))
    extra_samples = struct.pack("<HHI", 338, 3, 1)  # one of them, a SHORT: 2 for an alpha, 1 for such a one
    plain = encode(image, "TIFF", compression=None)
    assert plain.count(extra_samples + b"\2") == 1
    multiplied = plain.replace(extra_samples + b"\2", extra_samples + b"\1")
    assert pixels(decode(multiplied)) == [[WHITE, (178, 178, 178), (100, 100, 100)]] * 2


def test_a_palette_with_transparent_colours_is_seen_on_white() -> None:
    rows = bytes([0, 0, 1, 2]) * 2
    palette = bytes([*RED, *GREEN, *BLUE])
    assert pixels(decode(png(3, 2, 8, 3, rows, PLTE=palette))) == [[RED, GREEN, BLUE]] * 2
    clear = png(3, 2, 8, 3, rows, PLTE=palette, tRNS=bytes([255, 0]))
    assert pixels(decode(clear)) == [[RED, WHITE, BLUE]] * 2
    half_clear = png(3, 2, 8, 3, rows, PLTE=palette, tRNS=bytes([0, 255, 127]))
    assert pixels(decode(half_clear)) == [[WHITE, GREEN, (128, 128, 255)]] * 2


@pytest.mark.parametrize("num_colours", [3, 256])
@pytest.mark.parametrize("alphas", [b"\0", bytes([0, 255, 127]), bytes(range(256))], ids=len)
def test_a_palette_is_seen_as_each_of_its_pixels_would_be(num_colours: int, alphas: bytes) -> None:
    rows = (b"\0" + bytes(range(256))) * 2  # colours that the palette lacks, too
    palette = bytes(41 * n % 256 for n in range(3 * num_colours))
    picture = png(256, 2, 8, 3, rows, PLTE=palette, tRNS=alphas)
    assert pixels(decode(picture)) == pixels(decode_plainly(picture))


@pytest.mark.parametrize(
    ("depth", "colour_type", "row", "key", "seen"),
    [
        (8, 0, bytes([0, 9]), struct.pack(">H", 0), [WHITE, (9, 9, 9)]),
        (8, 2, bytes([*RED, *BLUE]), struct.pack(">3H", *RED), [WHITE, BLUE]),
    ],
)
def test_a_single_transparent_colour_is_white(
    depth: int, colour_type: int, row: bytes, key: bytes, seen: list[Colour]
) -> None:
    assert pixels(decode(png(2, 2, depth, colour_type, (b"\0" + row) * 2, tRNS=key))) == [seen] * 2


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_stands_upright_however_the_camera_was_held(kind: str, orientation: int) -> None:
    turns = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    held = quarters().transpose(turns[orientation]) if orientation > 1 else quarters()
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = decode(encode(held, kind, exif=exif))
    assert image.size == (32, 16)
    assert corners(image) == [RED, GREEN, BLUE, BLACK]


def put_before_pixels(kind: bytes, content: bytes) -> bytes:
    """Make a PNG that has a chunk of this kind, too."""
    picture = encode(quarters())
    place = picture.index(b"IDAT") - 4
    return picture[:place] + png_chunk(kind, content) + picture[place:]


@pytest.mark.parametrize(
    "data",
    [
        put_before_pixels(b"eXIf", b"no TIFF at all"),
        put_before_pixels(b"eXIf", b"II*\0\x08\0\0\0\x01\0"),
        put_before_pixels(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(b"\nexif\n 8\nno digits")),
        put_before_pixels(b"tEXt", b"Raw profile type exif\0\nexif\n 8\n49492a0"),
        *(encode(quarters(), kind, exif=b"Exif\0\0no TIFF at all") for kind in ("PNG", "WEBP", "JPEG")),
    ],
)
def test_a_picture_whose_exif_is_damaged_is_seen_as_without_it(data: bytes) -> None:
    kind = Image.open(io.BytesIO(data)).format
    assert pixels(decode(data)) == pixels(decode(encode(quarters(), str(kind))))


def test_the_inks_of_a_cmyk_jpeg_become_the_colours_that_they_print() -> None:
    inks = {RED: (0, 255, 255, 0), GREEN: (255, 0, 255, 0), WHITE: (0, 0, 0, 0), BLACK: (0, 0, 0, 255)}
    for colour, ink in inks.items():
        image = decode(encode(Image.new("CMYK", (8, 8), ink), "JPEG"))
        assert corners(image) == [colour] * 4


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "TIFF", "PNG"])
def test_of_several_frames_the_first_is_seen(kind: str) -> None:
    file = io.BytesIO()
    frames = [Image.new("RGB", (16, 16), colour) for colour in (RED, GREEN, BLUE)]
    frames[0].save(file, kind, save_all=True, append_images=frames[1:])
    image = decode(file.getvalue())
    assert image.size == (16, 16)
    assert corners(image) == [RED] * 4


@pytest.mark.parametrize(("size", "expected"), [((1, 1), (2, 2)), ((1, 5), (2, 5)), ((5, 1), (5, 2))])
def test_a_picture_of_one_pixel_is_enlarged_so_that_it_can_be_split(
    size: tuple[int, int], expected: tuple[int, int]
) -> None:
    image = decode(encode(Image.new("RGB", size, RED)))
    assert image.size == expected
    assert {colour for row in pixels(image) for colour in row} == {RED}


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_one_bit_a_pixel_is_black_or_white(kind: str) -> None:
    image = Image.new("1", (8, 2))
    image.paste(1, (4, 0, 8, 2))
    assert pixels(decode(encode(image, kind))) == [[BLACK] * 4 + [WHITE] * 4] * 2


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"x",
        b"I am no picture.",
        b"<svg/>",
        b"%PDF-1.7",
        b"\x00\x00\x01\x00\x01\x00",
        b"RIFF\0\0\0\0WAVE",
    ],
)
def test_what_is_no_picture_is_refused_by_name(data: bytes) -> None:
    error = refuse(data)
    assert error.reason == "FILE_NOT_AN_IMAGE"
    assert all(kind in error.problem for kind in FORMATS)


@pytest.mark.parametrize("kind", ["ICO", "PPM", "TGA", "PCX", "ICNS", "EPS"])
def test_a_format_that_is_not_promised_is_refused_even_if_it_could_be_read(kind: str) -> None:
    assert refuse(encode(draw_red_circle((64, 64)), kind)).reason == "FILE_NOT_AN_IMAGE"


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP"])
def test_half_a_picture_is_refused_by_name_and_format(kind: str) -> None:
    whole = encode(draw_red_circle((300, 200)), kind)
    error = refuse(whole[: len(whole) // 2])
    assert error.reason == "FILE_UNDECODABLE"
    assert kind in error.problem


def test_a_picture_whose_pixels_are_damaged_is_refused_by_name() -> None:
    good = png(2, 2, 8, 0, bytes(6))
    assert decode(good).size == (2, 2)
    assert refuse(good.replace(zlib.compress(bytes(6)), b"\xff" * len(zlib.compress(bytes(6))))).reason == (
        "FILE_UNDECODABLE"
    )


def test_pixels_are_counted_before_any_is_decoded() -> None:
    error = refuse(png(8000, 5001, 8, 2))  # it promises them and has none
    assert error.reason == "FILE_TOO_MANY_PIXELS"
    assert "8000 x 5001" in error.problem
    assert str(MAX_PIXELS) in error.problem
    assert refuse(png(8000, 5000, 8, 2)).reason == "FILE_UNDECODABLE"


def test_more_pixels_than_pillow_warns_of_are_refused_without_a_warning() -> None:
    assert refuse(png(10_000, 10_000, 8, 2)).reason == "FILE_TOO_MANY_PIXELS"


def test_as_many_pixels_as_allowed_are_decoded_and_no_more() -> None:
    data = encode(Image.new("RGB", (30, 20), RED))
    assert decode(data, 600).size == (30, 20)
    assert refuse(data, 599).reason == "FILE_TOO_MANY_PIXELS"


def test_more_pixels_than_pillow_would_open_are_refused_by_our_own_bound() -> None:
    assert refuse(png(30_000, 30_000, 8, 2)).reason == "FILE_TOO_MANY_PIXELS"


def test_the_transparent_grey_of_16_bits_becomes_white() -> None:
    rows = b"".join(b"\0" + struct.pack(">2H", 0, 32767) for _ in range(2))
    picture = png(2, 2, 16, 0, rows, tRNS=struct.pack(">H", 0))
    assert pixels(decode(picture)) == [[(255, 255, 255), (127, 127, 127)]] * 2
