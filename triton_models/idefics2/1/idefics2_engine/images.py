"""Pictures as the vision tower reads them: how large their crops are, and why some are refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MIN_SIDE = 2
"""Pixels; image splitting halves each side, and no crop may be empty."""


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


Box = tuple[int, int, int, int]
Size = tuple[int, int]


def plan_crops(width: int, height: int, sizing: Sizing, *, split: bool) -> list[tuple[Box, Size]]:
    """List which part of an image each crop shows, and its width and height in pixels."""
    width, height = max(width, MIN_SIDE), max(height, MIN_SIDE)
    x, y = width // 2, height // 2
    quarters = [(0, 0, x, y), (x, 0, width, y), (0, y, x, height), (x, y, width, height)] if split else []
    return [(box, _resized(box[2] - box[0], box[3] - box[1], sizing))
            for box in (*quarters, (0, 0, width, height))]  # fmt: skip


def is_shortened_first(box: Box, size: Size) -> bool:
    """Tell whether Pillow's resampling makes the columns of a crop shorter before it makes the rows narrower.

    Each of both rounds to 8 bits, so their order shows.

    Source: `ImagingResample` of Pillow 13.0.
    """
    left, top, right, bottom = box
    cut_off = bottom - top - size[1]
    return cut_off > 0 and cut_off > 2 * (right - left - size[0])


def count_patches(width: int, height: int, sizing: Sizing, *, split: bool) -> int:
    """Count the patches of all crops of an image."""
    sizes = [size for _, size in plan_crops(width, height, sizing, split=split)]
    return sum((w // sizing.patch_size) * (h // sizing.patch_size) for w, h in sizes)


def count_crop_bytes(sizing: Sizing, max_pixels: int) -> int:
    """Count the bytes of the largest crop that a picture of up to `max_pixels` may have."""
    return 3 * (sizing.longest_edge**2 if sizing.do_resize else max_pixels)


def _resized(width: int, height: int, sizing: Sizing) -> Size:
    if not sizing.do_resize:
        return width, height
    ratio, longest = width / height, sizing.longest_edge
    if width >= height and width > longest:
        width, height = longest, int(longest / ratio)
    elif height > width and height > longest:
        width, height = int(longest * ratio), longest
    return max(width, sizing.shortest_edge), max(height, sizing.shortest_edge)
