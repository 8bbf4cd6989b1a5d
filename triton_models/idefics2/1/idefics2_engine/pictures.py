"""From the bytes of a picture file to its pixels: upright, RGB, transparent parts white.

They are given out in strips. Of what else would be a copy of the whole (turned, without its transparency, of
fewer bits) there is never more than a strip.
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import ExifTags, Image, WebPImagePlugin

from idefics2_engine.costs import (
    count_cutting_bytes,
    count_decoding_bytes,
    count_pixel_bytes,
    count_webp_bytes,
    read_webp_size,
)
from idefics2_engine.images import MIN_SIDE, Box, InvalidImage, Size

if TYPE_CHECKING:
    import io
    from collections.abc import Callable

    from numpy.typing import NDArray

    from idefics2_engine.images import Sizing

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
Image.MAX_IMAGE_PIXELS = None  # the bound is our own, below, and an error instead of a warning
_DEEP_MODES = {"I;16", "I;16B", "I;16L", "I"}
_MAPPED_MODES = {"RGB": "RGBX", "RGBA": "RGBA", "CMYK": "CMYK"}
"""Of those with four bytes a pixel, as Pillow calls them over memory of somebody else's."""
_OPAQUE = 255
_MAPPED_FORMATS = {"JPEG", "MPO", "PNG"}  # their decoders write pixels, and nothing else of an image


@dataclass(frozen=True)
class Bounds:
    """What a picture may be."""

    max_pixels: int
    max_bytes: int
    """What decoding and cutting it may take, the file and its crops included."""
    sizing: Sizing
    """How it will be cut."""


class _Turn(NamedTuple):
    """How a picture is made upright."""

    method: Image.Transpose | None
    is_mirrored: bool = False
    is_flipped: bool = False
    is_swapped: bool = False
    """Rows become columns, before the others."""


_TURNS = {
    2: _Turn(Image.Transpose.FLIP_LEFT_RIGHT, is_mirrored=True),
    3: _Turn(Image.Transpose.ROTATE_180, is_mirrored=True, is_flipped=True),
    4: _Turn(Image.Transpose.FLIP_TOP_BOTTOM, is_flipped=True),
    5: _Turn(Image.Transpose.TRANSPOSE, is_swapped=True),
    6: _Turn(Image.Transpose.ROTATE_270, is_mirrored=True, is_swapped=True),
    7: _Turn(Image.Transpose.TRANSVERSE, is_mirrored=True, is_flipped=True, is_swapped=True),
    8: _Turn(Image.Transpose.ROTATE_90, is_flipped=True, is_swapped=True),
}
"""By EXIF's orientation; all others are upright."""


class Picture:
    """Pixels as their decoder left them, and how to see them."""

    def __init__(self, image: Image.Image, orientation: int = 1, memory: mmap.mmap | None = None) -> None:
        """Take an image that is loaded; `memory` holds its pixels where they can be let go piece by piece."""
        self._image = image
        self._turn = _TURNS.get(orientation, _Turn(None))
        self._memory = memory
        width, height = image.im.size  # of a TIFF, `image.size` may be the upright one
        self.size: Size = (height, width) if self._turn.is_swapped else (width, height)
        """Width and height, upright."""

    def read(self, box: Box) -> Image.Image:
        """Return a part as RGB, white where the picture is transparent."""
        part = self._image.crop(self._turn_back(box))
        if part.mode == "RGBX":
            part = part.convert("RGB")  # first: of RGBX, Pillow knows no transparent colour
        part = _flatten(part)
        return part if self._turn.method is None else part.transpose(self._turn.method)

    def release(self, box: Box) -> None:
        """Let go of rows that will not be read again, where that is possible; `box` is of the whole width."""
        if self._memory is None or self._turn.is_swapped:
            return
        row_bytes = len(self._memory) // self.size[1]
        _, top, _, bottom = self._turn_back(box)
        begin = -(-top * row_bytes // mmap.PAGESIZE) * mmap.PAGESIZE
        end = bottom * row_bytes // mmap.PAGESIZE * mmap.PAGESIZE
        if begin < end:
            self._memory.madvise(mmap.MADV_DONTNEED, begin, end - begin)

    def count_cutting_bytes(self, sizing: Sizing) -> int:
        """Estimate what cutting it takes, its pixels included."""
        num_bytes = count_pixel_bytes(self._image)
        is_released = self._memory is not None and not self._turn.is_swapped
        return count_cutting_bytes(self.size, num_bytes, sizing, is_released=is_released)

    def _turn_back(self, box: Box) -> Box:
        """Return where a part stands in the file."""
        (left, top, right, bottom), (width, height) = box, self.size
        if self._turn.is_mirrored:
            left, right = width - right, width - left
        if self._turn.is_flipped:
            top, bottom = height - bottom, height - top
        return (top, left, bottom, right) if self._turn.is_swapped else (left, top, right, bottom)


def decode_picture(
    file: io.BytesIO,
    bounds: Bounds,
    allow: Callable[[int], None] = lambda _: None,
    finish: Callable[[], None] = lambda: None,
) -> Picture:
    """Decode the first frame of a file, which is closed.

    Args:
        file: at its begin.
        bounds: what is refused, nearly always before a pixel is decoded.
        allow: told how many pixels it has, before they are decoded.
        finish: called when no decoder will run any more.

    Raises:
        InvalidImage: the picture is of no known format, damaged, or passes a bound.

    """
    with file:
        picture = _decode(file, bounds, allow)
    finish()
    return picture


def lay_image(mode: str, size: Size, memory: mmap.mmap | bytes | NDArray[np.uint8]) -> Image.Image:
    """Lay an image of four bytes a pixel over memory that somebody else holds; none of it is touched.

    Args:
        mode: RGBX, RGBA or CMYK.
        size: width and height in pixels.
        memory: its rows.

    """
    return Image.frombuffer(mode, size, memory, "raw", mode, 0, 1)  # type: ignore[arg-type]  # any buffer


def _decode(file: io.BytesIO, bounds: Bounds, allow: Callable[[int], None]) -> Picture:
    image = _open_within(file, bounds)
    allow(image.width * image.height)
    try:
        picture = _enlarge(_load(image))
    except MemoryError:
        raise
    except Exception as error:
        problem = f"is a damaged or truncated {image.format} file"
        raise InvalidImage("FILE_UNDECODABLE", problem) from error
    _check(picture.size, picture.count_cutting_bytes(bounds.sizing), bounds)
    return picture


def _open_within(file: io.BytesIO, bounds: Bounds) -> Image.Image:
    webp_size = read_webp_size(file)
    if webp_size is not None:  # opening it takes what decoding it takes
        _check(webp_size, count_webp_bytes(webp_size, file), bounds)
    image = _open(file)
    if webp_size is None:
        _check(image.size, count_decoding_bytes(image, file), bounds)
    return image


def _open(file: io.BytesIO) -> Image.Image:
    try:
        return Image.open(file, formats=FORMATS)
    except MemoryError:  # it says nothing of the file
        raise
    except Exception as error:
        problem = f"is not a picture of a known format ({', '.join(FORMATS)})"
        raise InvalidImage("FILE_NOT_AN_IMAGE", problem) from error


def _check(size: Size, num_bytes: int, bounds: Bounds) -> None:
    width, height = size
    if width * height > bounds.max_pixels:
        problem = f"has {width} x {height} pixels; at most {bounds.max_pixels} are allowed"
        raise InvalidImage("FILE_TOO_MANY_PIXELS", problem)
    if num_bytes > bounds.max_bytes:
        problem = (
            f"has {width} x {height} pixels, which take {num_bytes} bytes of memory to decode in its format; "
            f"at most {bounds.max_bytes} are allowed"
        )
        raise InvalidImage("FILE_TOO_MANY_PIXELS", problem)


def _load(image: Image.Image) -> Picture:
    if isinstance(image, WebPImagePlugin.WebPImageFile):
        return _load_webp(image)
    if image.format == "TIFF":
        return _load_tiff(image)
    memory = _map_memory(image)
    image.load()
    if image.mode == "P" and "transparency" in image.info:
        _flatten_palette(image)
    return Picture(image, _read_orientation(image), memory)


def _load_webp(image: WebPImagePlugin.WebPImageFile) -> Picture:
    """Take the pixels as libwebp gives them; Pillow would copy them, and keep three canvases of libwebp's."""
    data, _, _ = image._get_next()  # noqa: SLF001  # there is no other way to them
    image._decoder = None  # noqa: SLF001  # the same
    return Picture(lay_image(image.rawmode, image.size, data), _read_orientation(image))


def _load_tiff(image: Image.Image) -> Picture:
    """Keep Pillow from turning the whole while it loads it."""
    orientation = _read_orientation(image)
    image.getexif()[ExifTags.Base.Orientation] = 1
    image.load()
    return Picture(image, orientation)


def _read_orientation(image: Image.Image) -> int:
    """Read how the camera was held; where that is damaged, take the picture as it is."""
    try:
        orientation: int = image.getexif().get(ExifTags.Base.Orientation, 1)
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001  # Pillow raises whatever its readers of TIFF and of text do
        return 1
    return orientation


def _map_memory(image: Image.Image) -> mmap.mmap | None:
    """Have an image of many bytes decoded into memory that can be let go piece by piece."""
    mode = _MAPPED_MODES.get(image.mode)
    if mode is None or image.format not in _MAPPED_FORMATS or not getattr(image, "tile", None):
        return None
    memory = mmap.mmap(-1, 4 * image.width * image.height, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    image.im = lay_image(mode, image.size, memory).im
    return memory


def _enlarge(picture: Picture) -> Picture:
    """Give a picture two pixels each way, so that it can be split."""
    width, height = picture.size
    if min(width, height) >= MIN_SIDE:
        return picture
    whole = picture.read((0, 0, width, height))
    size = max(width, MIN_SIDE), max(height, MIN_SIDE)
    return Picture(whole.resize(size, Image.Resampling.NEAREST))


def _flatten(image: Image.Image) -> Image.Image:
    """Make 8-bit RGB, on white where the picture is transparent."""
    if image.mode in _DEEP_MODES:  # Pillow would clip 16 bits to white
        image = halve_depth(image)
    if image.mode == "La":  # grey that is multiplied by its alpha; of it, Pillow converts to nothing else
        image = image.convert("LA")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if image.getchannel("A").getextrema() != (_OPAQUE, _OPAQUE):
            white = Image.new("RGBA", image.size, "white")
            image = Image.alpha_composite(white, image)
    return image if image.mode == "RGB" else image.convert("RGB")


def _flatten_palette(image: Image.Image) -> None:
    """Make the colours of a palette opaque: of 256 of them that is as good as of each pixel, and quick."""
    swatch = Image.frombytes("P", (256, 1), bytes(range(256)))
    swatch.putpalette(image.getpalette() or ())
    swatch.info["transparency"] = image.info.pop("transparency")
    image.putpalette(_flatten(swatch).tobytes())


def halve_depth(image: Image.Image) -> Image.Image:
    """Make 8-bit grey of 16-bit grey, 0 to 65,535, with its transparent colour as an alpha channel."""
    levels = np.asarray(image).clip(0, 65535)
    halved = Image.fromarray((levels // 257).astype(np.uint8))
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        halved.putalpha(Image.fromarray(np.where(levels == transparent, 0, 255).astype(np.uint8)))
    return halved
