"""From the bytes of a picture file to RGB pixels."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageOps

from idefics2_engine.errors import InvalidRequest

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
Image.MAX_IMAGE_PIXELS = None  # the bound is our own, below, and an error instead of a warning
_MIN_SIDE = 2  # image splitting halves each side, and no crop may be empty


def decode_image(data: bytes, max_pixels: int, field: str) -> Image.Image:
    """Decode the first frame of `data`, upright, RGB, transparent parts white.

    Raises:
        InvalidRequest: the picture is of no known format, damaged, or has over `max_pixels` pixels.

    """
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except Exception as error:
        message = f"{field} is not a picture of a known format ({', '.join(FORMATS)})"
        raise InvalidRequest("FILE_NOT_AN_IMAGE", message, field) from error
    width, height = image.size
    if width * height > max_pixels:
        message = f"{field} has {width} x {height} pixels; at most {max_pixels} are allowed"
        raise InvalidRequest("FILE_TOO_MANY_PIXELS", message, field)
    try:
        return _flatten(ImageOps.exif_transpose(image))
    except Exception as error:
        message = f"{field} is a damaged or truncated {image.format} file"
        raise InvalidRequest("FILE_UNDECODABLE", message, field) from error


def _flatten(image: Image.Image) -> Image.Image:
    """Make 8-bit RGB, on white where the picture is transparent."""
    image.load()
    if image.mode in {"I;16", "I;16B", "I;16L", "I"}:  # Pillow would clip 16 bits to white
        image = _halve_depth(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    image = image.convert("RGB")
    if min(image.size) < _MIN_SIDE:
        width, height = (max(side, _MIN_SIDE) for side in image.size)
        image = image.resize((width, height), Image.Resampling.NEAREST)
    return image


def _halve_depth(image: Image.Image) -> Image.Image:
    """Make 8-bit grey of 16-bit grey, with its transparent colour as an alpha channel."""
    levels = np.asarray(image).clip(0, 65535)
    halved = Image.fromarray((levels // 257).astype(np.uint8))
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        halved.putalpha(Image.fromarray(np.where(levels == transparent, 0, 255).astype(np.uint8)))
    return halved
