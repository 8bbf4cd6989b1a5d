"""The ten colors that the checkpoint can name, each with the range in which people call it so."""

from __future__ import annotations

import colorsys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

RGB = tuple[int, int, int]
Range = tuple[float, float]
Box = tuple[Range, Range, Range]

# Boxes in hue (degrees), saturation and value; a color takes its boxes in turn.
_BOXES: dict[str, tuple[Box, ...]] = {
    "red": (((-8, 8), (0.72, 1), (0.6, 1)),),
    "orange": (((20, 38), (0.75, 1), (0.86, 1)),),
    "yellow": (((47, 62), (0.62, 1), (0.86, 1)),),
    "green": (((90, 150), (0.5, 1), (0.36, 0.95)), ((112, 125), (0.8, 1), (0.45, 1))),
    "blue": (((206, 244), (0.6, 1), (0.45, 1)), ((198, 215), (0.42, 0.7), (0.85, 1))),
    "purple": (((264, 290), (0.5, 1), (0.42, 0.9)), ((288, 302), (0.7, 1), (0.38, 0.62))),
    "pink": (((322, 342), (0.4, 0.92), (0.94, 1)), ((340, 354), (0.2, 0.36), (0.96, 1))),
    "gray": (((0, 360), (0, 0.05), (0.38, 0.8)),),
    "black": (((0, 360), (0, 0.3), (0, 0.13)),),
    "white": (((0, 360), (0, 0.03), (0.95, 1)),),
}
COLORS = tuple(_BOXES)


def sample(name: str, rng: np.random.Generator) -> RGB:
    """Draw a shade that people call `name`; its channels are 0 to 255."""
    boxes = _BOXES[name]
    hue, saturation, value = (rng.uniform(low, high) for low, high in boxes[rng.integers(len(boxes))])
    red, green, blue = colorsys.hsv_to_rgb(hue % 360 / 360, saturation, value)
    return (round(red * 255), round(green * 255), round(blue * 255))
