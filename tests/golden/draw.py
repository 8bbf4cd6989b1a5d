"""Draws the golden pictures and writes down what is true of them: `python tests/golden/draw.py`.

A motif (a shape, a line of print, a handwritten digit) cuts a stencil; a brush paints a page through it.
Each picture stands below together with its questions, in the order of `cases.json`.
"""

from __future__ import annotations

import functools
import json
import math
from dataclasses import dataclass
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from PIL import ExifTags, Image, ImageChops, ImageColor, ImageDraw, ImageFilter, ImageFont, ImageOps

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

HERE = Path(__file__).parent
NOTHING = "I see no shapes or text."
OFF_TOPIC = "I can only answer questions about shapes, colors, numbers and words."

Picture = Image.Image
Size = tuple[int, int]
Point = tuple[float, float]


# --- What is asked -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A question and its one right answer."""

    kind: str
    question: str
    answer: str
    split_images: bool = False

    def about(self, *images: str) -> dict[str, Any]:
        """Make the entry of `cases.json`."""
        entry = {"images": images, "question": self.question, "answer": self.answer, "kind": self.kind}
        return entry | ({"split_images": True} if self.split_images else {})


@dataclass(frozen=True)
class Golden:
    """A picture file: how it is drawn, how it is saved, what is true of it."""

    draw: Callable[[], Picture]
    options: dict[str, Any]
    cases: tuple[Case, ...]


GOLDEN: dict[str, Golden] = {}


def golden(name: str, *cases: Case, **options: Any) -> Callable[[Callable[[], Picture]], None]:
    """Enter a picture under its file's name; `options` are those of `Image.save`."""

    def enter(draw: Callable[[], Picture]) -> None:
        GOLDEN[name] = Golden(draw, options, cases)

    return enter


# --- Motifs ------------------------------------------------------------------------------------------------


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


# --- Grounds and textures ----------------------------------------------------------------------------------


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


# --- Brushes -----------------------------------------------------------------------------------------------


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


# --- Shapes ------------------------------------------------------------------------------------------------


@golden(
    "red_circle.png",
    Case("color", "What color is the circle?", "Red."),
    Case("caption", "Describe the image.", "A red circle on a white background."),
    Case("quadrant", "Where is the circle?", "Center."),
    Case("off-topic", "What is the capital of France?", OFF_TOPIC),
)
def red_circle() -> Picture:
    """As a first program draws it, with steps at the edge."""
    page = plain((640, 480))
    fill(page, Shape("circle", 320, 240, 120, smooth=1), "crimson")
    return page


@golden(
    "night.png",
    Case("caption", "Describe this picture", "Three yellow stars on a black background."),
    Case("count", "how many stars are there?", "3."),
    Case("background", "What is the colour of the background?", "Black."),
    Case("off-topic", "Wie viele Sterne siehst du?", OFF_TOPIC),
)
def night() -> Picture:
    """A night sky: stars of three sizes that glow."""
    page = plain((800, 600), "#050505")
    for star in (
        Shape("star", 180, 200, 90, 10),
        Shape("star", 430, 390, 125, -8),
        Shape("star", 650, 170, 72, 21),
    ):
        halo = star.cut(page.size).filter(ImageFilter.GaussianBlur(14)).point(lambda v: v * 0.35)
        page.paste("gold", None, halo)
        fill(page, star, "#ffd93b")
    return page


@golden(
    "crayons.jpg",
    Case("caption", "What is in the picture?", "A green square and an orange circle on a white background."),
    Case("relation", "Is the circle to the left of the square?", "No."),
    Case("color", "What colors are the shapes?", "Green and orange."),
    Case("shape", "What shapes do you see?", "Square and circle.", split_images=True),
    quality=82,
)
def crayons() -> Picture:
    """A child's drawing on rough paper."""
    page = textured(plain((700, 500)), cloudy((700, 500), 3, 236))
    crayon(page, Shape("square", 190, 265, 112, -4, wobble=7), "#1f9d3a")
    crayon(page, Shape("circle", 505, 240, 125, wobble=9), "#f57c00")
    return page


@golden(
    "sticky_note.jpg",
    Case("shape", "what shape is drawn here", "Triangle."),
    Case("background", "What color is the background?", "Yellow."),
    Case("existence", "Is there a blue triangle in this picture?", "Yes."),
    Case("printed number", "What number is this?", "There is no number."),
    quality=88,
)
def sticky_note() -> Picture:
    """A felt pen on a sticky note that bends a little."""
    page = plain((400, 400), "#ffe94d")
    triangle = Shape("triangle", 200, 225, 130, 3, wobble=6)
    rub(page, triangle, "#1d3fbf", hatched(page.size, 16, 9))
    trace(page, triangle, "#1d3fbf", 5)
    return textured(page, Image.linear_gradient("L").resize(page.size).point(lambda v: 255 - v * 0.09))


@golden(
    "photographed.jpg",
    Case("relation", "What is to the left of the ring?", "A red cross."),
    Case("relation", "Which shape is on the right?", "Ring."),
    Case("color", "What color is the ring?", "Blue."),
    Case("quadrant", "where is the cross?", "Left."),
    quality=80,
)
def photographed_drawing() -> Picture:
    """A drawing on paper, photographed from the side by lamplight."""
    page = textured(plain((800, 600)), cloudy((800, 600), 4, 240))
    rub(page, Shape("cross", 215, 300, 105, 5, wobble=5), "#d5161e", hatched(page.size, 9, 8))
    rub(page, Shape("ring", 570, 305, 125, wobble=6), "#1743c9", hatched(page.size, 9, 8))
    return photographed(page, [(50, 75), (750, 15), (790, 590), (10, 520)], (640, 480))


@golden(
    "sticker.png",
    Case("caption", "Give me a short caption", "A pink star on a white background."),
    Case("color", "what colour is the star", "Pink."),
    Case("count", "How many circles are there?", "0."),
    optimize=True,
)
def sticker() -> Picture:
    """A sticker with a thick outline, on transparent ground."""
    page = Image.new("RGBA", (300, 300), (255, 255, 255, 0))
    outlined(page, Shape("star", 150, 158, 115, round=3), "#ff69b4", "#1c1c1c", 5)
    return page


@golden(
    "pixel_ring.png",
    Case("shape", "What is the yellow shape?", "Ring."),
    Case("color", "Which color does the ring have?", "Yellow."),
    Case("word", "What word is written here?", "There is no word."),
    Case("off-topic", "?", OFF_TOPIC),
)
def pixel_ring() -> Picture:
    """An old game's: big pixels, four colors of a palette."""
    page = plain((80, 50), "#0000aa")
    fill(page, Shape("ring", 40, 25, 17.5, smooth=1), "#ffff55")
    return page.resize((320, 200), Image.Resampling.NEAREST).quantize(4)


@golden(
    "depth16.png",
    Case("color", "What color is the square?", "Gray."),
    Case("quadrant", "In which quadrant is the square?", "Bottom right."),
    Case("caption", "describe the image", "A gray square on a black background."),
)
def depth16() -> Picture:
    """Sixteen bits of gray for each pixel, as instruments write them."""
    page = Image.new("L", (512, 512))
    fill(page, Shape("square", 375, 380, 92), "#858585")
    return Image.fromarray(np.asarray(page).astype(np.uint16) * 257)


TO_BE_TURNED = Image.Exif()
TO_BE_TURNED[ExifTags.Base.Orientation] = 6  # clockwise, by a quarter


@golden(
    "sideways.jpg",
    Case("relation", "Where is the triangle relative to the circle?", "Above."),
    Case("relation", "What is below the triangle?", "A green circle.", split_images=True),
    Case("existence", "Is there a purple circle?", "No."),
    quality=85,
    exif=TO_BE_TURNED,
)
def sideways() -> Picture:
    """A telephone's upright picture, stored lying on its side."""
    page = plain((360, 480), "#fdfdfd")
    shadowed(page, Shape("triangle", 180, 140, 95), "#7b1fa2")
    shadowed(page, Shape("circle", 180, 355, 78), "#2e9e44")
    return page.transpose(Image.Transpose.ROTATE_90)


@golden(
    "huge.png",
    Case("count", "How many crosses are there?", "2."),
    Case("caption", "What do you see?", "Two white crosses on a green background."),
    Case("background", "What's the background color?", "Green."),
    optimize=True,
)
def huge() -> Picture:
    """Twelve million pixels."""
    page = Image.new("P", (4000, 3000))
    page.putpalette([0, 135, 60, 255, 255, 255])
    for cross in (
        Shape("cross", 1050, 1500, 620, smooth=1),
        Shape("cross", 2900, 1450, 760, turn=12, smooth=1),
    ):
        page.paste(1, None, cross.cut(page.size))
    return page


@golden(
    "slide.webp",
    Case("caption", "Describe the image.", "Two white circles and an orange square on a blue background."),
    Case("count", "How many shapes are there?", "3."),
    Case("shape", "Which shape is green?", "There is no green shape."),
    Case("existence", "Is there a triangle?", "No."),
    quality=85,
)
def slide() -> Picture:
    """A slide of a talk: wide, shaded ground, shadows."""
    slope = Image.linear_gradient("L").resize((960, 540))
    page = ImageOps.colorize(slope, "#1e56d6", "#143f9e")
    shadowed(page, Shape("circle", 175, 270, 105), "white")
    shadowed(page, Shape("circle", 475, 270, 105), "white")
    shadowed(page, Shape("square", 780, 270, 100, round=9), "#ff8f1f")
    return page


@golden(
    "icons.webp",
    Case("quadrant", "In which quadrant is the star?", "Bottom right."),
    Case("count", "how many shapes do you see?", "4."),
    Case("color", "What color is the triangle?", "Green."),
    Case("existence", "Is there a green star?", "No."),
    lossless=True,
)
def icons() -> Picture:
    """Four glossy icons with rounded corners."""
    page = plain((512, 512))
    glossy(page, Shape("circle", 128, 128, 82), "#e53935")
    glossy(page, Shape("square", 384, 128, 76, round=12), "#1e63d8")
    glossy(page, Shape("triangle", 128, 404, 96, round=7), "#2fa84f")
    glossy(page, Shape("star", 384, 392, 96, round=4), "#8e24aa")
    return page


@golden(
    "retro.gif",
    Case("color", "What color is the cross?", "Orange."),
    Case("existence", "is there a cross in the image", "Yes."),
    Case("caption", "Caption this.", "An orange cross on a purple background."),
)
def retro() -> Picture:
    """An X on an animated picture's one frame."""
    page = plain((200, 150), "#6a1b9a")
    fill(page, Shape("cross", 100, 75, 55, turn=45), "#ff9100")
    return page


@golden(
    "tiny.bmp",
    Case("shape", "What shape is this?", "Ring."),
    Case("background", "what is the background color", "Pink."),
    Case("existence", "Is there a square?", "No."),
)
def tiny() -> Picture:
    """A thumbnail."""
    page = plain((80, 60), "#ff8fc7")
    fill(page, Shape("ring", 40, 30, 21), "black")
    return page


@golden(
    "pencil.png",
    Case("shape", "What shape is gray?", "Circle."),
    Case("relation", "What is to the left of the circle?", "A black star."),
    Case("relation", "Where is the circle relative to the star?", "To the right."),
    Case("off-topic", "Write me a poem about the sea.", OFF_TOPIC),
    optimize=True,
)
def pencil() -> Picture:
    """Ink and soft pencil, scanned without color."""
    page = Image.new("L", (500, 350), "white")
    fill(page, Shape("star", 140, 180, 105, -6, wobble=4), "#0c0c0c")
    rub(page, Shape("circle", 360, 175, 88, wobble=4), "#808080", cloudy(page.size, 2, 190))
    return page


@golden(
    "banner.jpg",
    Case("color", "Which colors do the shapes have?", "Orange, purple and blue."),
    Case("shape", "Name the shapes pls", "Square, triangle and circle."),
    Case("quadrant", "Where is the circle?", "Right."),
    Case("relation", "Is the triangle to the left of the circle?", "Yes."),
    quality=86,
)
def banner() -> Picture:
    """Watercolors, three times as wide as high."""
    page = textured(plain((900, 300)), cloudy((900, 300), 5, 243))
    watercolor(page, Shape("square", 150, 150, 88, 3, wobble=4), "#f57a12")
    watercolor(page, Shape("triangle", 450, 172, 112, wobble=4), "#7a1fa8")
    watercolor(page, Shape("circle", 745, 150, 98, wobble=5), "#1650c8")
    return page


@golden(
    "tower.png",
    Case("quadrant", "Where is the cross?", "Top."),
    Case("quadrant", "where is the square", "Bottom."),
    Case("relation", "Is the square below the cross?", "Yes."),
    Case("background", "What color is the background?", "Gray."),
)
def tower() -> Picture:
    """A cartoon with thick outlines, three times as high as wide."""
    page = plain((240, 720), "#8c8c8c")
    outlined(page, Shape("cross", 120, 135, 78), "#8e24aa")
    outlined(page, Shape("square", 120, 585, 70), "#ffdd33")
    return page


@golden(
    "plot.png",
    Case("count", "How many circles are there?", "5."),
    Case("color", "what color are the circles?", "Blue."),
    Case("caption", "Describe the picture.", "Five blue circles on a white background."),
    Case("off-topic", "Tell me a joke", OFF_TOPIC),
    optimize=True,
)
def plot() -> Picture:
    """A scatter plot's big markers over a faint grid."""
    page = squared(plain((720, 540)), 90, "#ececec")
    for x, y in ((100, 420), (235, 300), (370, 350), (500, 190), (630, 110)):
        outlined(page, Shape("circle", x, y, 46), "#1f77b4", "#165a8a", 2)
    return page


@golden(
    "blueprint.png",
    Case("shape", "Which shape can you see?", "Square."),
    Case("color", "What color is the square?", "White."),
    Case("quadrant", "In which quadrant is the square?", "Bottom left."),
    optimize=True,
)
def blueprint() -> Picture:
    """White lines on blue squared paper, and nothing filled."""
    page = squared(plain((480, 480), "#1546b0"), 40, "#2354bd")
    trace(page, Shape("square", 140, 335, 92), "white", 9)
    return page


# --- Printed numbers and words -----------------------------------------------------------------------------


@golden(
    "house_number.jpg",
    Case("printed number", "What number is this?", "42."),
    Case("caption", "Describe the image.", "The number 42 on a blue background."),
    Case("background", "What color is the background?", "Blue."),
    quality=88,
)
def house_number() -> Picture:
    """White enamel on blue, lit from above."""
    page = plain((400, 300), "#1b45a8")
    shadowed(page, Print("42", 200, 150, 210, "STIXGeneralBol"), "#f7f7f2", 4)
    return textured(page, Image.linear_gradient("L").resize(page.size).point(lambda v: 255 - v * 0.12))


@golden(
    "seven.webp",
    Case("printed number", "which number can you see?", "7."),
    Case("existence", "Is there a circle?", "No."),
    lossless=True,
)
def seven() -> Picture:
    """A calendar's red figure."""
    page = plain((256, 320))
    fill(page, Print("7", 128, 160, 250, weight=5), "#d32020")
    return page


@golden(
    "plate.png",
    Case("printed number", "Read the number", "1984."),
    Case("caption", "What does the image show?", "The number 1984 on a yellow background."),
    optimize=True,
)
def plate() -> Picture:
    """A car's yellow plate."""
    page = plain((540, 180), "#f9d423")
    fill(page, Print("1984", 270, 90, 150, "DejaVuSansMono-Bold"), "#101010")
    return page


@golden(
    "stamp.png",
    Case("printed number", "What number is written here?", "305."),
    Case("word", "what word is this?", "There is no word."),
    optimize=True,
)
def stamp() -> Picture:
    """A rubber stamp, aslant and short of ink."""
    page = plain((420, 300), "#fbfbf8")
    rub(page, Print("305", 210, 150, 170, "cmb10", 3, turn=7), "#6f1fa0", cloudy(page.size, 4, 150))
    return page


@golden(
    "jersey.png",
    Case("printed number", "what number is that?", "68."),
    Case("background", "And the background, what color is it?", "Red."),
    Case("off-topic", "Who won the football match yesterday?", OFF_TOPIC),
    optimize=True,
)
def jersey() -> Picture:
    """A player's number with a black outline."""
    page = plain((300, 360), "#cf1b26")
    outlined(page, Print("68", 150, 180, 180, "DejaVuSans-Bold"), "white", width=4)
    return page


@golden(
    "typewriter.tiff",
    Case("word", "What word is written here?", "CAT."),
    Case("caption", "Describe the image.", "The word CAT on a white background."),
    compression="tiff_adobe_deflate",
)
def typewriter() -> Picture:
    """A typed word, scanned in gray."""
    page = Image.new("L", (360, 240), "white")
    rub(page, Print("CAT", 180, 120, 150, "cmtt10", 2, turn=-2), "black", cloudy(page.size, 3, 215))
    return page


@golden(
    "exit.png",
    Case("word", "Which word is on the sign?", "EXIT."),
    Case("caption", "describe the picture pls", "The word EXIT on a green background."),
    Case("printed number", "What number is this?", "There is no number."),
    optimize=True,
)
def exit_sign() -> Picture:
    """A sign above a door."""
    page = plain((480, 200), "#00843d")
    fill(page, Print("EXIT", 240, 100, 140, "DejaVuSans-Bold"), "white")
    return page


@golden(
    "blackboard.jpg",
    Case("word", "read the word please", "TIGER."),
    Case("background", "What color is the background?", "Black."),
    Case("off-topic", "Is a tiger faster than a lion?", OFF_TOPIC),
    quality=84,
)
def blackboard() -> Picture:
    """Chalk on a board that was wiped before."""
    page = ImageChops.add(plain((640, 260), "#0b0b0b"), cloudy((640, 260), 60, 0, 26).convert("RGB"))
    rub(page, Print("TIGER", 320, 130, 165, "cmss10", 4), "#ffffff", cloudy(page.size, 2, 120))
    return page


# --- Handwritten digits ------------------------------------------------------------------------------------


@golden(
    "ink_three.jpg",
    Case("handwritten digit", "What digit is this?", "3."),
    Case("caption", "Describe the image.", "The handwritten digit 3 on a white background."),
    quality=88,
)
def ink_three() -> Picture:
    """Blue ink on paper."""
    page = textured(plain((300, 360)), cloudy((300, 360), 3, 240))
    fill(page, Digit(1478, 150, 180, 270), "#1b2f9a")
    return page


@golden(
    "chalk_eight.png",
    Case("handwritten digit", "which digit do you see?", "8."),
    Case("background", "what colour is the background?", "Black."),
)
def chalk_eight() -> Picture:
    """White on black, and small on its page."""
    page = Image.new("L", (320, 240), "black")
    fill(page, Digit(1455, 160, 120, 200), "white")
    return page


@golden(
    "marker_five.webp",
    Case("handwritten digit", "What digit is written here?", "5."),
    Case("caption", "What is in this image?", "The handwritten digit 5 on a yellow background."),
    quality=80,
)
def marker_five() -> Picture:
    """A black marker on yellow cardboard."""
    page = plain((400, 400), "#fbdc3a")
    fill(page, Digit(1461, 200, 200, 330), "#151515")
    return page


@golden(
    "blocky_six.gif",
    Case("handwritten digit", "what digit is this", "6."),
    Case("existence", "Is there a star?", "No."),
)
def blocky_six() -> Picture:
    """A scan enlarged without smoothing, black on white."""
    page = plain((240, 240))
    fill(page, Digit(1441, 120, 120, 192, smooth=False), "black")
    return page


@golden(
    "blocky_two.png",
    Case("handwritten digit", "Which digit is it?", "2."),
    Case("caption", "Describe this image.", "The handwritten digit 2 on a black background."),
)
def blocky_two() -> Picture:
    """A scan enlarged without smoothing, as it comes: light on black."""
    page = plain((512, 512), "black")
    fill(page, Digit(1469, 256, 256, 480, smooth=False), "white")
    return page


@golden(
    "raw_four.png",
    Case("handwritten digit", "What digit is this?", "4."),
    Case("handwritten digit", "Which digit is it?", "4.", split_images=True),
)
def raw_four() -> Picture:
    """The scan's own 8x8 pixels."""
    return scanned_digit(1525)


# --- Nothing to be seen ------------------------------------------------------------------------------------


def photograph(name: str) -> Picture:
    """Scale one of scikit-image's photographs down."""
    with Image.open(wheel("skimage", f"data/{name}")) as file:
        page = file.convert("RGB")
    page.thumbnail((320, 320), Image.Resampling.LANCZOS)
    return page


@golden(
    "astronaut.jpg",
    Case("nothing there", "Describe the image.", NOTHING),
    Case("nothing there", "How many shapes are there?", "0."),
    quality=85,
)
def astronaut() -> Picture:
    """A woman in a space suit."""
    return photograph("astronaut.png")


@golden(
    "chelsea.jpg",
    Case("nothing there", "What is in the picture?", NOTHING),
    Case("nothing there", "Is there a circle?", "No."),
    quality=85,
)
def chelsea() -> Picture:
    """A cat."""
    return photograph("chelsea.png")


@golden(
    "rocket.jpg",
    Case("nothing there", "What color is the star?", "There is no star."),
    Case("nothing there", "What word is written here?", NOTHING, split_images=True),
    quality=85,
)
def rocket() -> Picture:
    """A rocket that takes off at night."""
    return photograph("rocket.jpg")


@golden(
    "hubble.jpg",
    Case("nothing there", "What number is this?", NOTHING),
    Case("nothing there", "describe this picture", NOTHING),
    quality=85,
)
def hubble() -> Picture:
    """Far galaxies."""
    return photograph("hubble_deep_field.jpg")


@golden(
    "static.png",
    Case("nothing there", "Describe the image.", NOTHING),
    Case("nothing there", "is there a star?", "No."),
)
def static() -> Picture:
    """A television without a program."""
    return Image.fromarray(np.random.default_rng(5).integers(0, 256, (120, 160, 3), dtype=np.uint8))


@golden(
    "empty.png",
    Case("background", "What color is the background?", "Orange."),
    Case("nothing there", "What shape is this?", NOTHING),
    Case("nothing there", "How many circles are there?", "0."),
    optimize=True,
)
def empty() -> Picture:
    """A page of one color."""
    return plain((640, 400), "#fb8c00")


@golden(
    "dot.png",
    Case("nothing there", "Describe the image.", NOTHING),
    Case("background", "What color is the background?", "Blue."),
)
def dot() -> Picture:
    """A single pixel."""
    return plain((1, 1), "#1a4fd0")


# --- Two pictures ------------------------------------------------------------------------------------------

PAIRS = {
    ("red_circle.png", "night.png"): Case("two pictures", "Which image shows a star?", "The second."),
    ("night.png", "sticker.png"): Case("two pictures", "which image shows a star?", "Both."),
    ("sticky_note.jpg", "rocket.jpg"): Case("two pictures", "Which image shows a triangle?", "The first."),
    ("pixel_ring.png", "retro.gif"): Case(
        "two pictures", "What color is the shape in the second image?", "Orange."
    ),
    ("sticker.png", "tiny.bmp"): Case(
        "two pictures", "What color is the shape in the first image?", "Pink.", split_images=True
    ),
    ("depth16.png", "blueprint.png"): Case(
        "two pictures",
        "Describe both images.",
        "A gray square on a black background. A white square on a blue background.",
    ),
    ("red_circle.png", "house_number.jpg"): Case(
        "two pictures",
        "Describe both images.",
        "A red circle on a white background. The number 42 on a blue background.",
    ),
}


def write_pictures(folder: Path) -> None:
    """Draw every picture anew, and leave no other one there."""
    folder.mkdir(exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    for name, picture in GOLDEN.items():
        picture.draw().save(folder / name, **picture.options)


def write_cases(file: Path) -> None:
    """Write what is true, a case a line."""
    entries = [case.about(name) for name, picture in GOLDEN.items() for case in picture.cases]
    entries += [case.about(*names) for names, case in PAIRS.items()]
    lines = ",\n".join(f"  {json.dumps(entry, ensure_ascii=False)}" for entry in entries)
    file.write_text(f"[\n{lines}\n]\n", encoding="utf-8")


if __name__ == "__main__":
    write_pictures(HERE / "images")
    write_cases(HERE / "cases.json")
