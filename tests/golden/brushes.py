"""How is painted: evenly, with chalk or crayon, outlined, glossy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from golden.pages import cloudy, hatched
from PIL import Image, ImageChops, ImageColor, ImageFilter, ImageOps

if TYPE_CHECKING:
    from golden.motifs import Motif, Picture


def fill(page: Picture, motif: Motif, color: str) -> None:
    """Paint evenly."""
    page.paste(color, None, motif.cut(page.size))


def rub(page: Picture, motif: Motif, color: str, texture: Picture) -> None:
    """Paint where a texture takes the color: chalk, crayon, a stamp's ink."""
    page.paste(color, None, ImageChops.multiply(motif.cut(page.size), texture))


def grown(stencil: Picture, width: float) -> Picture:
    """Widen a stencil on all sides."""
    return stencil.filter(ImageFilter.GaussianBlur(width)).point(lambda v: (v - 30) * 12)


def trace(page: Picture, motif: Motif, color: str, width: float) -> None:
    """Draw a thick line around, and leave the inside as it is."""
    stencil = motif.cut(page.size)
    page.paste(color, None, ImageChops.subtract(grown(stencil, width), stencil))


def outlined(page: Picture, motif: Motif, color: str, ink: str = "black", width: float = 6) -> None:
    """Paint evenly, with a thick line around."""
    page.paste(ink, None, grown(motif.cut(page.size), width))
    fill(page, motif, color)


def shadowed(page: Picture, motif: Motif, color: str, depth: int = 10) -> None:
    """Lay cut paper, or a slide's icon, upon the page: its shadow falls to the lower right."""
    shadow = ImageChops.offset(motif.cut(page.size), depth, depth).filter(
        ImageFilter.GaussianBlur(depth * 0.7)
    )
    page.paste("black", None, shadow.point(lambda v: v * 0.4))
    fill(page, motif, color)


def glossy(page: Picture, motif: Motif, color: str) -> None:
    """Paint lighter at the top and darker at the bottom."""
    stencil = motif.cut(page.size)
    left, top, right, bottom = box = stencil.getbbox() or (0, 0, *page.size)
    slope = Image.linear_gradient("L").resize((right - left, bottom - top))
    light, dark = blend(color, "white", 0.35), blend(color, "black", 0.25)
    page.paste(ImageOps.colorize(slope, light, dark, color), box, stencil.crop(box))


def blend(color: str, other: str, share: float) -> tuple[int, ...]:
    """Mix a share of another color into one."""
    pairs = zip(ImageColor.getrgb(color), ImageColor.getrgb(other), strict=True)
    return tuple(round(a + (b - a) * share) for a, b in pairs)


def crayon(page: Picture, motif: Motif, color: str) -> None:
    """Paint as a child does: the line around first, then to and fro."""
    rub(page, motif, color, hatched(page.size, 13, 8))
    rub(page, motif, color, cloudy(page.size, 2, 60))
    trace(page, motif, color, 3)


def watercolor(page: Picture, motif: Motif, color: str) -> None:
    """Paint with much water: uneven, darker at the rim."""
    rub(page, motif, color, cloudy(page.size, 36, 175))
    stencil = motif.cut(page.size)
    rim = ImageChops.subtract(stencil, stencil.filter(ImageFilter.GaussianBlur(5)))
    page.paste(blend(color, "black", 0.3), None, rim)
