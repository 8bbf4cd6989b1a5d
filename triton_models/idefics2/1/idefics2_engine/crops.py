"""From the pixels of a picture to the crops that the vision tower reads.

Source: transformers' `Idefics2ImageProcessorPil`, whose pixels these are, to the bit. It has Pillow resize
each crop, which makes every row narrower, rounds to 8 bits, and then makes the columns shorter. So the rows
may come in strips. Of a tall crop the columns are made shorter first: they come in strips, too.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from idefics2_engine.images import Crop, is_shortened_first, plan_crops
from idefics2_engine.pictures import lay_image

if TYPE_CHECKING:
    from collections.abc import Iterator

    from idefics2_engine.images import Box, Size, Sizing
    from idefics2_engine.pictures import Picture

_STRIP_PIXELS = 1 << 19
"""For each strip Pillow computes a table as long as its rows; with few rows in each, that takes most time."""


def cut(picture: Picture, sizing: Sizing, *, split: bool) -> list[Crop]:
    """Make the crops of a picture, which cannot be read afterwards.

    Returns:
        The whole picture, after its four quarters if `split`.

    """
    plan = dict(enumerate(plan_crops(*picture.size, sizing, split=split)))
    tall = {number for number, (box, size) in plan.items() if is_shortened_first(box, size)}
    images = {number: _resize_tall(picture, *plan[number], sizing.resample) for number in tall}
    rest = {number: planned for number, planned in plan.items() if number not in tall}
    images |= _resize_rows(picture, rest, sizing.resample) if rest else {}
    return [_cut_patches(images.pop(number), sizing.patch_size) for number in range(len(plan))]


def _resize_rows(
    picture: Picture, plan: dict[int, tuple[Box, Size]], resample: int
) -> dict[int, Image.Image]:
    """Resize crops in one go through all rows, each of which is let go then."""
    narrowings: dict[int, _Narrowing] = {}
    images: dict[int, Image.Image] = {}
    for top, bottom in _split_rows(picture.size[0], [box for box, _ in plan.values()]):
        strip_box = (0, top, picture.size[0], bottom)
        strip = picture.read(strip_box)
        picture.release(strip_box)
        for number, (box, size) in plan.items():
            if box[1] == top:
                narrowings[number] = _Narrowing(box, size, resample)
            if box[1] <= top < box[3]:
                narrowings[number].add(strip, top)
            if box[3] == bottom:
                images[number] = narrowings.pop(number).shorten()
    return images


def _resize_tall(picture: Picture, box: Box, size: Size, resample: int) -> Image.Image:
    """Resize a crop whose columns are made shorter before its rows are made narrower."""
    left, top, right, bottom = box
    num_columns = max(1, _STRIP_PIXELS // (bottom - top))
    short = Image.new("RGB", (right - left, size[1]))
    for begin in range(left, right, num_columns):
        strip = picture.read((begin, top, min(begin + num_columns, right), bottom))
        short.paste(strip.resize((strip.width, size[1]), Image.Resampling(resample)), (begin - left, 0))
    return short.resize(size, Image.Resampling(resample))


def _split_rows(width: int, boxes: list[Box]) -> Iterator[tuple[int, int]]:
    """Yield begins and ends of strips, none of which a crop has only a part of."""
    num_rows = max(1, _STRIP_PIXELS // width)
    edges = sorted({edge for _, top, _, bottom in boxes for edge in (top, bottom)})
    for begin, end in pairwise(edges):
        for top in range(begin, end, num_rows):
            yield top, min(top + num_rows, end)


class _Narrowing:
    """A crop on its way from the picture's width to its own."""

    def __init__(self, box: Box, size: Size, resample: int) -> None:
        """Begin with memory that is taken row by row."""
        self._box, self._size = box, size
        self._resample = Image.Resampling(resample)
        width, height = size[0], box[3] - box[1]
        self._rows = lay_image("RGBX", (width, height), np.zeros(4 * width * height, np.uint8))

    def add(self, strip: Image.Image, top: int) -> None:
        """Narrow a strip of the picture, whose first row is `top`."""
        left, first, right, _ = self._box
        part = strip if right - left == strip.width else strip.crop((left, 0, right, strip.height))
        narrow = part.resize((self._size[0], strip.height), self._resample)
        begin = top - first
        # Image.paste would make a copy of memory that is not Pillow's.
        self._rows.im.paste(narrow.im, (0, begin, self._size[0], begin + strip.height))

    def shorten(self) -> Image.Image:
        """Return the crop in its own size, from all of its rows."""
        return self._rows.resize(self._size, self._resample)


def _cut_patches(image: Image.Image, patch: int) -> Crop:
    rows, columns = image.height // patch, image.width // patch
    pixels = np.asarray(image)[: rows * patch, : columns * patch, :3]
    patches = pixels.reshape(rows, patch, columns, patch, 3).transpose(0, 2, 4, 1, 3)
    return Crop((rows, columns), np.ascontiguousarray(patches.reshape(rows * columns, 3 * patch * patch)))
