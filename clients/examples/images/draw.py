"""Draws the pictures of this folder: `python clients/examples/images/draw.py`."""

from __future__ import annotations

import math
from pathlib import Path

from PIL import Image, ImageDraw

SIZE = (480, 360)
SCALE = 4  # drawn larger, then made smaller: smooth edges

Color = tuple[int, int, int]
Point = tuple[float, float]

WHITE, BLACK, YELLOW = (255, 255, 255), (18, 18, 18), (250, 215, 50)
RED, GREEN, BLUE, ORANGE = (214, 40, 40), (34, 140, 60), (40, 80, 200), (240, 140, 30)


def star(x: float, y: float, radius: float) -> list[Point]:
    """Return the corners of a five-pointed star."""
    turns = [(n * math.pi / 5, radius if n % 2 == 0 else radius * 0.42) for n in range(10)]
    return [(x + r * math.sin(angle), y - r * math.cos(angle)) for angle, r in turns]


def box(x: float, y: float, radius: float) -> tuple[float, float, float, float]:
    """Return the square around a point."""
    return (x - radius, y - radius, x + radius, y + radius)


def scale(points: list[Point]) -> list[Point]:
    """Bring points to the size at which is drawn."""
    return [(x * SCALE, y * SCALE) for x, y in points]


def draw(name: str, background: Color, *shapes: tuple[str, Color, list[Point]]) -> None:
    """Write one picture of discs, given by their box's corners, and polygons."""
    image = Image.new("RGB", (SIZE[0] * SCALE, SIZE[1] * SCALE), background)
    pen = ImageDraw.Draw(image)
    for kind, color, points in shapes:
        if kind == "disc":
            pen.ellipse([*scale(points)], fill=color)
        else:
            pen.polygon(scale(points), fill=color)
    image.resize(SIZE, Image.Resampling.LANCZOS).save(Path(__file__).parent / name, optimize=True)


def disc(x: float, y: float, radius: float, color: Color) -> tuple[str, Color, list[Point]]:
    """Make a disc."""
    left, top, right, bottom = box(x, y, radius)
    return ("disc", color, [(left, top), (right, bottom)])


def square(x: float, y: float, radius: float, color: Color) -> tuple[str, Color, list[Point]]:
    """Make a square of twice `radius`."""
    left, top, right, bottom = box(x, y, radius)
    return ("polygon", color, [(left, top), (right, top), (right, bottom), (left, bottom)])


if __name__ == "__main__":
    draw("circle.png", WHITE, disc(240, 180, 95, RED))
    draw("stars.png", BLACK, *(("polygon", YELLOW, star(x, 180, 60)) for x in (100, 240, 380)))
    draw("triangle.png", YELLOW, ("polygon", BLUE, [(240, 65), (370, 285), (110, 285)]))
    draw("pair.png", WHITE, square(130, 180, 75, GREEN), disc(345, 180, 75, ORANGE))
