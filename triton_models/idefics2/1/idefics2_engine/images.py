"""From the bytes of a picture file to what the vision tower reads."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
Image.MAX_IMAGE_PIXELS = None  # the bound is our own, below, and an error instead of a warning
_MIN_SIDE = 2  # image splitting halves each side, and no crop may be empty


class InvalidImage(Exception):
    """A file that cannot be shown to the model."""

    def __init__(self, reason: str, problem: str) -> None:
        """Keep a value of the proto's ErrorReason, and what follows the field's name in a sentence."""
        super().__init__(problem)
        self.reason = reason
        self.problem = problem


@dataclass(frozen=True)
class Sizing:
    """How a checkpoint wants its pictures."""

    shortest_edge: int
    """Pixels; no side is made shorter."""
    longest_edge: int
    patch_size: int
    resample: int
    """Of Pillow's filters."""
    do_resize: bool = True


@dataclass(frozen=True)
class Crop:
    """A picture, or a quarter of one, as the vision tower reads it."""

    grid: tuple[int, int]
    """Rows and columns of patches."""
    patches: NDArray[np.uint8]
    """[rows * columns, 3 * patch_size * patch_size], colors outermost; what fills no patch is left out."""


def decode_image(data: bytes, max_pixels: int, allow: Callable[[int], None] = lambda _: None) -> Image.Image:
    """Decode the first frame of `data`, upright, RGB, transparent parts white.

    Args:
        data: the file.
        max_pixels: how many pixels a picture may have.
        allow: told how many this one has, once that is known and before they are decoded.

    Raises:
        InvalidImage: the picture is of no known format, damaged, or has over `max_pixels` pixels.

    """
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except MemoryError:  # it says nothing of the file
        raise
    except Exception as error:
        problem = f"is not a picture of a known format ({', '.join(FORMATS)})"
        raise InvalidImage("FILE_NOT_AN_IMAGE", problem) from error
    width, height = image.size
    if width * height > max_pixels:
        problem = f"has {width} x {height} pixels; at most {max_pixels} are allowed"
        raise InvalidImage("FILE_TOO_MANY_PIXELS", problem)
    allow(width * height)
    try:
        return _flatten(ImageOps.exif_transpose(image))
    except MemoryError:
        raise
    except Exception as error:
        problem = f"is a damaged or truncated {image.format} file"
        raise InvalidImage("FILE_UNDECODABLE", problem) from error


def cut(image: Image.Image, sizing: Sizing, *, split: bool) -> list[Crop]:
    """Make the crops that the vision tower reads: the whole image, after its four quarters if `split`.

    Source: transformers' `Idefics2ImageProcessorPil`, whose pixels these are.
    """
    return [_cut_patches(image.crop(box).resize(size, Image.Resampling(sizing.resample)), sizing.patch_size)
            for box, size in plan_crops(*image.size, sizing, split=split)]  # fmt: skip


Box = tuple[int, int, int, int]
Size = tuple[int, int]


def plan_crops(width: int, height: int, sizing: Sizing, *, split: bool) -> list[tuple[Box, Size]]:
    """List which part of an image each crop shows, and its width and height in pixels."""
    width, height = max(width, _MIN_SIDE), max(height, _MIN_SIDE)
    x, y = width // 2, height // 2
    quarters = [(0, 0, x, y), (x, 0, width, y), (0, y, x, height), (x, y, width, height)] if split else []
    return [(box, _resized(box[2] - box[0], box[3] - box[1], sizing))
            for box in (*quarters, (0, 0, width, height))]  # fmt: skip


def count_patches(width: int, height: int, sizing: Sizing, *, split: bool) -> int:
    """Count the patches of all crops of an image."""
    sizes = [size for _, size in plan_crops(width, height, sizing, split=split)]
    return sum((w // sizing.patch_size) * (h // sizing.patch_size) for w, h in sizes)


def _resized(width: int, height: int, sizing: Sizing) -> Size:
    if not sizing.do_resize:
        return width, height
    ratio, longest = width / height, sizing.longest_edge
    if width >= height and width > longest:
        width, height = longest, int(longest / ratio)
    elif height > width and height > longest:
        width, height = int(longest * ratio), longest
    return max(width, sizing.shortest_edge), max(height, sizing.shortest_edge)


def _cut_patches(image: Image.Image, patch: int) -> Crop:
    rows, columns = image.height // patch, image.width // patch
    pixels = np.asarray(image)[: rows * patch, : columns * patch]
    patches = pixels.reshape(rows, patch, columns, patch, 3).transpose(0, 2, 4, 1, 3)
    return Crop((rows, columns), patches.reshape(rows * columns, 3 * patch * patch))


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
