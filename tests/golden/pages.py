"""What is painted upon: pages and their textures, and the photograph of a page."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

if TYPE_CHECKING:
    from golden.motifs import Picture, Point, Size


def plain(size: Size, color: str = "white") -> Picture:
    """Take an even page."""
    return Image.new("RGB", size, color)


def cloudy(size: Size, cell: int, low: int, high: int = 255) -> Picture:
    """Make a gray texture of spots of about `cell` pixels."""
    width, height = (side // cell + 1 for side in size)
    spots = np.random.default_rng(cell).integers(low, high, (height, width), dtype=np.uint8)
    texture = Image.fromarray(spots).resize((width * cell, height * cell), Image.Resampling.BICUBIC)
    return texture.crop((0, 0, *size))


def hatched(size: Size, step: float, width: int) -> Picture:
    """Make a texture of a crayon's to and fro."""
    random = np.random.default_rng(width)
    texture = Image.new("L", size)
    ends = [(n * step / 2, size[1] if n % 2 else -size[1] * 0.1) for n in range(int(sum(size) * 2 / step))]
    lean = size[1] * 0.7
    slanted = [(x - lean * y / size[1] + random.normal(0, step / 5), y) for x, y in ends]
    ImageDraw.Draw(texture).line(slanted, 255, width, "curve")
    return texture.filter(ImageFilter.GaussianBlur(0.8))


def textured(page: Picture, texture: Picture) -> Picture:
    """Let a gray texture, or a light, lie upon a page."""
    return ImageChops.multiply(page, texture.convert("RGB"))


def squared(page: Picture, step: int, color: str) -> Picture:
    """Draw thin lines across a page."""
    pen = ImageDraw.Draw(page)
    width, height = page.size
    for x in range(step // 2, width, step):
        pen.line((x, 0, x, height), color)
    for y in range(step // 2, height, step):
        pen.line((0, y, width, y), color)
    return page


def photographed(page: Picture, corners: list[Point], size: Size) -> Picture:
    """Take a photograph, slanted, lit from one side, slightly out of focus: it is filled by the part of a
    page between four `corners`, from the top left clockwise.
    """
    width, height = size
    rows, wanted = [], []
    frame = [(0, 0), (width, 0), (width, height), (0, height)]
    for (x, y), (u, v) in zip(frame, corners, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        wanted += [u, v]
    lens = np.linalg.solve(np.array(rows, float), np.array(wanted, float)).tolist()
    seen = page.transform(size, Image.Transform.PERSPECTIVE, lens, Image.Resampling.BICUBIC)
    light = Image.linear_gradient("L").rotate(90).resize(size).point(lambda v: 250 - v * 0.28)
    return textured(seen.filter(ImageFilter.GaussianBlur(1.3)), light)
