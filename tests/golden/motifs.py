"""What is painted: shapes, print and handwritten digits, each cutting a stencil."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont, ImageOps

Picture = Image.Image
Size = tuple[int, int]
Point = tuple[float, float]
Floats = NDArray[np.float64]


class Motif(Protocol):
    """Something to be painted."""

    def cut(self, size: Size) -> Picture:
        """Cut the motif's stencil, white where it is open, out of a black sheet of `size`."""


def spokes(count: int, radius: float = 1, turn: float = 0) -> list[Point]:
    """Return points evenly around the middle, the first above it."""
    angles = [turn + 2 * math.pi * n / count for n in range(count)]
    return [(radius * math.sin(angle), -radius * math.cos(angle)) for angle in angles]


BAR = 0.32  # half the width of a cross's bars
OUTLINES: dict[str, list[list[Point]]] = {  # within a circle of radius 1; a second outline is a hole
    "circle": [spokes(120)],
    "ring": [spokes(120), spokes(120, 0.55)],
    "square": [spokes(4, math.sqrt(2), math.pi / 4)],
    "triangle": [spokes(3)],
    "star": [[p for pair in zip(spokes(5), spokes(5, 0.42, math.pi / 5), strict=True) for p in pair]],
    "cross": [
        [
            *((-BAR, -1), (BAR, -1), (BAR, -BAR), (1, -BAR), (1, BAR), (BAR, BAR)),
            *((BAR, 1), (-BAR, 1), (-BAR, BAR), (-1, BAR), (-1, -BAR), (-BAR, -BAR)),
        ]
    ],
}


@dataclass(frozen=True)
class Shape:
    """One of the six shapes, `turn` degrees clockwise, by a hand that strays by up to `wobble` pixels."""

    kind: str
    x: float
    y: float
    radius: float
    turn: float = 0
    wobble: float = 0
    round: float = 0  # pixels taken off the corners
    smooth: int = 4  # drawn so many times larger; 1 leaves steps at the edges

    def cut(self, size: Size) -> Picture:
        """Cut the shape."""
        stencil = Image.new("L", (size[0] * self.smooth, size[1] * self.smooth))
        for fill, outline in zip((255, 0), OUTLINES[self.kind], strict=False):
            ImageDraw.Draw(stencil).polygon(self._trace(outline), fill=fill)
        stencil = stencil.reduce(self.smooth)
        if not self.round:
            return stencil
        return stencil.filter(ImageFilter.GaussianBlur(self.round)).point(lambda v: (v - 112) * 8)

    def _trace(self, outline: list[Point]) -> list[Point]:
        """Walk along an outline in many small steps."""
        corners = np.array([*outline, outline[0]])
        walk = np.concatenate([np.linspace(a, b, 24, endpoint=False) for a, b in pairwise(corners)])
        turn = math.radians(self.turn)
        rotation = [[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]]
        steady = walk @ np.array(rotation) * self.radius + (self.x, self.y)
        return [(float(x), float(y)) for x, y in (steady + self._strays(len(walk))) * self.smooth]

    def _strays(self, steps: int) -> Floats:
        """Return how far the hand is off its way at each step: slow waves, other ones for each place."""
        waves = np.arange(2, 7)[:, None]
        phases = np.random.default_rng([int(self.x), int(self.y)]).uniform(0, 2 * math.pi, (2, 5, 1))
        around = np.linspace(0, 2 * math.pi, steps, endpoint=False)
        strays: Floats = (np.sin(waves * around + phases) / waves).sum(axis=1).T
        return self.wobble * strays


@dataclass(frozen=True)
class Print:
    """Printed letters or figures around a point, in a font of matplotlib's wheel or in Pillow's own."""

    text: str
    x: float
    y: float
    height: float
    font: str = ""
    weight: int = 0  # pixels by which strokes are thickened
    turn: float = 0  # degrees counterclockwise

    def cut(self, size: Size) -> Picture:
        """Cut the text."""
        font: Any = ImageFont.load_default(self.height)
        if self.font:
            font = ImageFont.truetype(wheel("matplotlib", f"mpl-data/fonts/ttf/{self.font}.ttf"), self.height)
        stencil, middle = Image.new("L", size), (self.x, self.y)
        ImageDraw.Draw(stencil).text(middle, self.text, 255, font, "mm", stroke_width=self.weight)
        return stencil.rotate(self.turn, Image.Resampling.BICUBIC, center=middle)


@dataclass(frozen=True)
class Digit:
    """A handwritten digit, by its number in scikit-learn's collection, in a square around a point."""

    number: int
    x: int
    y: int
    side: int
    smooth: bool = True

    def cut(self, size: Size) -> Picture:
        """Cut the digit: as a pen's even line, or as the 8x8 blocks that were scanned."""
        by = Image.Resampling.BICUBIC if self.smooth else Image.Resampling.NEAREST
        scan = ImageOps.expand(scanned_digit(self.number), 1).resize((self.side, self.side), by)
        if self.smooth:
            scan = scan.filter(ImageFilter.GaussianBlur(self.side / 50)).point(lambda v: (v - 110) * 9)
        stencil = Image.new("L", size)
        stencil.paste(scan, (self.x - self.side // 2, self.y - self.side // 2))
        return stencil


def wheel(package: str, path: str) -> Path:
    """Find a file that came with a package."""
    return Path(str(files(package))) / path


@functools.cache
def scanned_digits() -> Floats:
    """Read the collection: rows of 64 shades of ink, 0 to 16, and the digit."""
    return np.loadtxt(wheel("sklearn", "datasets/data/digits.csv.gz"), delimiter=",")


def scanned_digit(number: int) -> Picture:
    """Return a digit's 8x8 pixels, light on black."""
    return Image.fromarray((scanned_digits()[number, :64].reshape(8, 8) * 255 / 16).astype(np.uint8))
