"""Files: known by their first bytes alone, measured by their headers, refused by name."""

from __future__ import annotations

import base64
import struct
import tracemalloc
from typing import Any
from urllib.parse import quote_from_bytes, unquote_to_bytes

import pytest
from harness import make_files
from idefics2_service import files
from idefics2_service.errors import (
    FileDataUriInvalid,
    FileEmpty,
    FileNotAnImage,
    FileTooLarge,
    FileTooManyPixels,
    FileUndecodable,
    FileUrlUnsupported,
    InvalidInput,
)
from idefics2_service.formats import FORMATS
from idefics2_service.requests import ImageFile, ImageSource
from idefics2_service.settings import LimitSettings
from pictures import draw_red_circle, encode, make_empty_png, red_circle

PNG = red_circle()
LIMITS = LimitSettings()


async def resolve(source: ImageSource, limits: LimitSettings, max_image_bytes: int) -> ImageFile:
    """Resolve an image that is fetched from nowhere."""
    files = make_files(limits)
    return await files.resolve(source, "anna", max_image_bytes)


async def resolve_bytes(data: bytes, max_image_bytes: int = LIMITS.max_image_bytes) -> ImageFile:
    """Resolve inline bytes."""
    return await resolve(ImageSource("images[0].data", data=data), LIMITS, max_image_bytes)


async def resolve_url(url: str, max_image_bytes: int = LIMITS.max_image_bytes) -> ImageFile:
    """Resolve an image_url."""
    return await resolve(ImageSource("image_url", url=url), LIMITS, max_image_bytes)


def base64_uri(data: bytes, media_type: str = "image/png") -> str:
    """Write a data URI the usual way."""
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def big_endian_tiff() -> bytes:
    """Make a TIFF of one grey pixel, the way that Motorola's processors write it."""
    tags = {256: 1, 257: 1, 258: 8, 259: 1, 262: 1, 273: 0, 278: 1, 279: 1}
    entries = b"".join(struct.pack(">HHIHH", tag, 3, 1, value, 0) for tag, value in tags.items())
    return b"MM\x00*" + struct.pack(">IH", 8, len(tags)) + entries + bytes(4)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("media_type", ["image/jpeg", "image/png", "text/html", "", "nonsense"])
async def test_a_picture_is_what_its_first_bytes_say_whatever_it_is_called(
    kind: str, media_type: str
) -> None:
    data = encode(draw_red_circle((20, 10)), kind)
    expected = ImageFile("image_url", data, kind, 20, 10)
    assert await resolve_url(base64_uri(data, media_type)) == expected


@pytest.mark.parametrize("kind", FORMATS)
async def test_bytes_are_taken_as_they_are(kind: str) -> None:
    data = encode(draw_red_circle((20, 10)), kind)
    assert await resolve_bytes(data) == ImageFile("images[0].data", data, kind, 20, 10)


async def test_a_tiff_may_begin_with_its_highest_byte() -> None:
    assert (await resolve_bytes(big_endian_tiff())).format == "TIFF"


async def test_the_bytes_of_a_picture_are_not_shown() -> None:
    assert "PNG\\r" not in repr(await resolve_bytes(PNG))


@pytest.mark.parametrize(
    "url",
    [
        base64_uri(PNG).replace("data:", "DATA:").replace("base64", "BASE64"),
        base64_uri(PNG, "image/png;name=x.png"),
        base64_uri(PNG).replace("+", "%2B").replace("/", "%2F").replace("=", "%3D"),
        "data:image/png," + quote_from_bytes(PNG),
        "data:," + quote_from_bytes(PNG, safe=""),
        "data:image/png;charset=utf-8," + "".join(f"%{byte:02x}" for byte in PNG),
    ],
    ids=["upper case", "parameters", "base64 in percents", "percents", "no type", "percents alone"],
)
async def test_a_data_uri_may_be_written_in_every_way_that_its_rfc_allows(url: str) -> None:
    assert (await resolve_url(url)).data == PNG


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("data:image/png;base64", FileDataUriInvalid),
        ("data:", FileDataUriInvalid),
        ("data:image/png;base64,!!!!", FileDataUriInvalid),
        ("data:image/png;base64,iVBORw0KG", FileDataUriInvalid),
        ("data:image/png;base64,iVBO\nRw0K", FileDataUriInvalid),
        ("data:image/png;base64,iVBO Rw0K", FileDataUriInvalid),
        ("data:image/png;base64,iVBORw==AAAA", FileDataUriInvalid),
        ("data:image/png;base64,iVBO%FFw0K", FileDataUriInvalid),
        ("data:image/png;base64,-_-_", FileDataUriInvalid),
        ("data:image/png;base64,iVBOé===", FileDataUriInvalid),
        ("data:image/png;base64,", FileEmpty),
        ("data:,", FileEmpty),
        ("data:,plain%20text", FileNotAnImage),
        ("ftp://host/cat.png?signature=abc", FileUrlUnsupported),
        ("file:///etc/passwd", FileUrlUnsupported),
        ("/etc/passwd", FileUrlUnsupported),
        ("cat.png", FileUrlUnsupported),
        ("data", FileUrlUnsupported),
        (" " + base64_uri(PNG), FileUrlUnsupported),
    ],
)
async def test_a_url_that_cannot_be_read_is_refused_by_name(url: str, kind: type[InvalidInput]) -> None:
    with pytest.raises(InvalidInput) as caught:
        await resolve_url(url)
    assert type(caught.value) is kind
    assert caught.value.field == "image_url"
    assert caught.value.message.startswith("image_url ")
    assert "signature" not in caught.value.message
    caught.value.message.encode()


@pytest.mark.parametrize(
    "data",
    [
        b"I am no picture.",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"%PDF-1.7\n",
        b"%!PS-Adobe-3.0 EPSF-3.0",
        b"\x00\x00\x01\x00",
        b"RIFF\x00\x00\x00\x00WAVEfmt ",
        b"RIFF",
        b"\x00\x00\x00\x1cftypavif",
        b"8BPS\x00\x01",
        b" " + PNG,
        PNG[1:],
        PNG[:7],
        b"GIF88a",
    ],
)
async def test_what_does_not_begin_like_a_picture_is_read_no_further(
    data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_size(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(files, "read_size", read_size)
    with pytest.raises(FileNotAnImage) as caught:
        await resolve_bytes(data)
    assert caught.value.field == "images[0].data"
    assert all(kind in caught.value.message for kind in FORMATS)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"])
async def test_a_damaged_header_is_refused_by_name_and_format(kind: str) -> None:
    data = encode(draw_red_circle((20, 10)), kind)[:12]
    with pytest.raises(FileUndecodable) as caught:
        await resolve_bytes(data)
    assert caught.value.field == "images[0].data"
    assert kind in caught.value.message


async def test_no_bytes_are_an_empty_file() -> None:
    with pytest.raises(FileEmpty) as caught:
        await resolve_bytes(b"")
    assert caught.value.field == "images[0].data"


@pytest.mark.parametrize("data", [PNG, PNG + b"x", PNG + b"xy"])
async def test_a_file_may_be_as_large_as_allowed_and_no_larger(data: bytes) -> None:
    for resolving, source in (
        (resolve_bytes, data),
        (resolve_url, base64_uri(data)),
        (resolve_url, "data:," + quote_from_bytes(data)),
    ):
        resolve_any: Any = resolving
        assert (await resolve_any(source, len(data))).data == data
        with pytest.raises(FileTooLarge) as caught:
            await resolve_any(source, len(data) - 1)
        assert caught.value.metadata["bound"] == str(len(data) - 1)
        assert caught.value.metadata["value"] == str(len(data))


async def test_base64_of_too_large_a_file_is_refused_before_it_is_decoded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Decoder:
        @staticmethod
        def b64decode(*_: object, **__: object) -> bytes:
            raise AssertionError

    monkeypatch.setattr(files, "base64", Decoder)
    with pytest.raises(FileTooLarge) as caught:
        await resolve_url("data:image/png;base64," + "A" * 4_000_000, 2_900_000)
    assert caught.value.field == "image_url"


@pytest.mark.parametrize(
    "payload",
    ["%41%42%43", "a%41bc", "%%41", "%4%41", "%zz%4", "%", "100%", "é%C3%A9é", "%%%%%%", "abcdefgh"],
)
async def test_a_data_uri_is_read_in_slices_as_it_would_be_as_a_whole(
    payload: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"data:,{quote_from_bytes(PNG)}{payload}"
    for size in range(3, 9):
        monkeypatch.setattr(files, "_MAX_UNQUOTED", size)
        assert (await resolve_url(url)).data == PNG + unquote_to_bytes(payload)


@pytest.mark.parametrize("header", ["", "image/png;base64"])
async def test_a_data_uri_of_escapes_alone_takes_a_few_times_its_size(header: str) -> None:
    url = f"data:{header}," + "%41" * 1_000_000
    tracemalloc.start()
    try:
        with pytest.raises(InvalidInput):
            await resolve_url(url)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * len(url)


@pytest.mark.parametrize("header", ["", "image/png;base64"])
async def test_escapes_of_too_large_a_file_are_refused_before_they_are_unquoted(
    header: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    unquoted: list[str] = []
    monkeypatch.setattr(files, "unquote_to_bytes", unquoted.append)
    with pytest.raises(FileTooLarge) as caught:
        await resolve_url(f"data:{header}," + "%41" * 1_000_000, 700_000)
    assert caught.value.metadata["value"] == ("749998" if header else "1000000")
    assert not unquoted


async def test_pixels_are_counted_by_the_header_alone() -> None:
    largest = await resolve_bytes(make_empty_png(8000, 5000))
    assert (largest.width, largest.height) == (8000, 5000)
    with pytest.raises(FileTooManyPixels) as caught:
        await resolve_bytes(make_empty_png(8000, 5001))
    assert caught.value.metadata == {"field": "images[0].data", "bound": "40000000", "value": "40008000"}


@pytest.mark.parametrize("size", [(40_000_001, 1), (1, 40_000_001), (10_000, 10_000), (30_000, 30_000)])
async def test_a_picture_that_would_fill_the_memory_is_refused_without_a_warning(
    size: tuple[int, int],
) -> None:
    with pytest.raises(FileTooManyPixels) as caught:
        await resolve_bytes(make_empty_png(*size))
    assert caught.value.field == "images[0].data"
    assert "40000000" in caught.value.message


async def test_an_operator_sets_how_many_pixels_are_allowed() -> None:
    source = ImageSource("image_url", data=PNG)  # 200 x 150
    limits = LimitSettings(max_image_pixels=200 * 150)
    assert (await resolve(source, limits, 10**6)).width == 200
    with pytest.raises(FileTooManyPixels):
        await resolve(source, LimitSettings(max_image_pixels=200 * 150 - 1), 10**6)


async def test_surplus_padding_of_base64_is_refused() -> None:
    with pytest.raises(FileDataUriInvalid):
        await resolve(ImageSource("image_url", url="data:;base64,iVBORw0K===="), LimitSettings(), 1000)
