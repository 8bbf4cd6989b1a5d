"""From a scene to its picture, in many styles, and to the labels of its pixels."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from training import lettering, palette, photographs
from training.shapes import sample_outlines

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from training.scenes import Scene, Thing

    _Draw = Callable[[Image.Image, Image.Image], list[tuple[float, float]]]
    """Draws onto a picture and its labels; returns the centers of it all, as parts of width and height."""

MIN_PITCH = 0.102
"""From one character to the next, of the long side: some 13 pixels when the model sees it."""
_SHEET_COLUMNS = 3
"""Of the digits of many hands."""
_SMOOTH = 3  # how much larger a mask is drawn, to be made smaller: smooth edges


@dataclass(frozen=True)
class Drawn:
    """A picture, and what lies where on it."""

    picture: Image.Image
    labels: Image.Image
    """Mode L, of the picture's size: 0 is background, n is the n-th thing or character."""
    places: tuple[tuple[float, float], ...]
    """The center of each thing or character, x and y as parts of width and height."""


def draw(
    scene: Scene, rng: np.random.Generator, *, digits: Sequence[Image.Image] = (), held_out: bool = False
) -> Drawn:
    """Draw a scene; `digits` are the handwritten ones' 8 x 8 pixels each."""
    size = (scene.width, scene.height)
    labels = Image.new("L", size)
    places: list[tuple[float, float]] = []
    if scene.kind == "photograph":
        picture = photographs.sample(*size, rng, held_out=held_out)
    else:
        picture = _draw_background(scene, rng)
        if scene.things:
            style = _Style(rng)
            for number, thing in enumerate(scene.things, 1):
                _draw_thing(picture, labels, number, thing, style, rng)
                places.append((thing.x, thing.y))
        elif digits:
            draws = [partial(_draw_handwritten, scene=scene, digit=digit, rng=rng) for digit in digits]
            places += _draw_apart(picture, labels, draws, 1 if len(digits) == 1 else _SHEET_COLUMNS)
        elif scene.text:
            draws = [partial(_draw_text, scene=scene, text=line, rng=rng) for line in scene.text.split("\n")]
            places += _draw_apart(picture, labels, draws, 1)
    return Drawn(_wear(picture, rng), labels, tuple(places))


class _Style:
    """How the things of one picture are drawn."""

    def __init__(self, rng: np.random.Generator) -> None:
        how = rng.random()
        self.mixed = rng.random() < 0.15
        self.fill = (
            "plain"
            if how < 0.66
            else "gradient"
            if how < 0.76
            else "grain"
            if how < 0.84
            else "stripes"
            if how < 0.89
            else "outline"
        )
        self.border = rng.random() < 0.22
        self.shadow = rng.random() < 0.1
        self.smooth = rng.random() < 0.75


def _draw_background(scene: Scene, rng: np.random.Generator) -> Image.Image:
    name = scene.background or "white"
    size = (scene.width, scene.height)
    first = palette.sample(name, rng)
    if rng.random() < 0.3:
        exact = {"white": (255, 255, 255), "black": (0, 0, 0)}
        first = exact.get(name, first)
    how = rng.random()
    if how < 0.68:
        return Image.new("RGB", size, first)
    second = np.array(palette.sample(name, rng))
    near = (
        np.array(first) * 0.45 + second * 0.55
        if name in {"green", "blue", "pink", "purple", "red"}
        else second
    )
    if how < 0.85:  # from one shade to another
        angle = rng.uniform(0, math.tau)
        x = np.arange(scene.width)[None, :] / scene.width - 0.5
        y = np.arange(scene.height)[:, None] / scene.height - 0.5
        part = (x * math.cos(angle) + y * math.sin(angle) + 0.71) / 1.42  # 0 to 1
        rest = 1 - part
        return photographs.join([a * rest + b * part for a, b in zip(first, near, strict=True)])
    picture = Image.new("RGB", size, first)
    pen = ImageDraw.Draw(picture)
    line = tuple(int(v) for v in np.array(first) * 0.82 + (0.18 * (255 if max(first) < 90 else 40)))
    step = int(rng.integers(max(6, min(size) // 16), max(10, min(size) // 4)))
    if how < 0.91:  # squared or ruled paper
        for place in range(step // 2, scene.height, step):
            pen.line((0, place, scene.width, place), line)
        if rng.random() < 0.6:
            for place in range(step // 2, scene.width, step):
                pen.line((place, 0, place, scene.height), line)
        return picture
    grain = rng.normal(0, rng.uniform(2, 9), (scene.height, scene.width))
    return photographs.join([(level + grain).clip(0, 255) for level in first])


def _draw_thing(
    picture: Image.Image,
    labels: Image.Image,
    number: int,
    thing: Thing,
    style: _Style,
    rng: np.random.Generator,
) -> None:
    radius = thing.radius * min(picture.size)
    center = np.array([thing.x * picture.width, thing.y * picture.height])
    left, top = (int(v) for v in np.floor(center - radius - 1))
    side = math.ceil(2 * radius) + 3
    outlines = [outline * radius + (center - (left, top)) for outline in sample_outlines(thing.shape, rng)]
    mask = _fill(outlines, side, smooth=style.smooth)
    is_inside = mask.convert("1", dither=Image.Dither.NONE)  # what is above 127
    labels.paste(number, (left, top), is_inside)
    color = palette.sample(thing.color, rng)
    if style.mixed:
        style = _Style(rng)
    if style.shadow:
        off = max(1, round(radius * 0.1))
        dark = tuple(int(v * 0.55) for v in picture.getpixel((0, 0)))  # type: ignore[union-attr]
        picture.paste(dark, (left + off, top + off), mask.filter(ImageFilter.GaussianBlur(off / 2)))
    width = max(1.5, radius * rng.uniform(0.12, 0.24))
    if style.fill == "outline" and thing.shape in {"square", "triangle", "star"} and radius > 12:
        mask = _stroke(outlines[0], side, max(width, 3))
        picture.paste(color, (left, top), mask)
        return
    picture.paste(_paint(color, thing.color, side, style.fill, rng), (left, top), mask)
    if style.border:
        darker = tuple(int(v * 0.5) for v in color)
        line = (0, 0, 0) if rng.random() < 0.5 else darker if max(color) > 60 else (90, 90, 90)
        for outline in outlines:
            picture.paste(
                line, (left, top), _stroke(outline, side, max(1.2, radius * rng.uniform(0.03, 0.09)))
            )


def _fill(outlines: list[NDArray[np.float64]], side: int, *, smooth: bool) -> Image.Image:
    scale = _SMOOTH if smooth else 1
    mask = Image.new("L", (side * scale, side * scale))
    pen = ImageDraw.Draw(mask)
    for level, outline in zip((255, 0), outlines, strict=False):
        pen.polygon((outline * scale).ravel().tolist(), fill=level)
    return mask.reduce(scale) if smooth else mask


def _stroke(outline: NDArray[np.float64], side: int, width: float) -> Image.Image:
    mask = Image.new("L", (side * _SMOOTH, side * _SMOOTH))
    points = [(x, y) for x, y in (outline * _SMOOTH).tolist()]
    ImageDraw.Draw(mask).line([*points, *points[:2]], 255, round(width * _SMOOTH), "curve")
    return mask.reduce(_SMOOTH)


def _paint(color: palette.RGB, name: str, side: int, fill: str, rng: np.random.Generator) -> Image.Image:
    if fill in {"plain", "outline"}:
        return Image.new("RGB", (side, side), color)
    base = np.array(color, np.float64)
    if fill == "gradient":
        other = base * 0.4 + np.array(palette.sample(name, rng)) * 0.6
        part = np.linspace(0, 1, side)[:, None, None]
        tile = base * (1 - part) + other * part + np.zeros((side, side, 1))
        if rng.random() < 0.5:
            tile = tile.transpose(1, 0, 2)
    elif fill == "grain":
        tile = base + rng.normal(0, rng.uniform(4, 14), (side, side, 1))
    else:
        x = np.arange(side)
        wave = (x[:, None] * rng.uniform(-1, 1) + x[None, :]) // max(2, side // int(rng.integers(6, 14))) % 2
        tile = base * (0.84 + 0.16 * wave[..., None])
    return Image.fromarray(tile.clip(0, 255).astype(np.uint8))


def _draw_apart(
    picture: Image.Image, labels: Image.Image, draws: Sequence[_Draw], num_columns: int
) -> list[tuple[float, float]]:
    """Draw each into a cell of its own, row by row; return where all that is drawn has its center."""
    num_rows = -(-len(draws) // num_columns)
    width, height = picture.width / num_columns, picture.height / num_rows
    places: list[tuple[float, float]] = []
    for number, draw_one in enumerate(draws):
        row, column = divmod(number, num_columns)
        left, top = round(column * width), round(row * height)
        box = (left, top, round((column + 1) * width), round((row + 1) * height))
        part, marks = picture.crop(box), Image.new("L", (box[2] - left, box[3] - top))
        found = draw_one(part, marks)
        picture.paste(part, box)
        labels.paste(marks.point([level and level + len(places) for level in range(256)]), box)
        places += [
            ((left + x * part.width) / picture.width, (top + y * part.height) / picture.height)
            for x, y in found
        ]
    return places


def _draw_text(
    picture: Image.Image, labels: Image.Image, scene: Scene, text: str, rng: np.random.Generator
) -> list[tuple[float, float]]:
    mask, extents = lettering.draw_text(text, rng)
    num_characters = len(text)
    numbers = np.zeros((mask.height, mask.width), np.uint8)
    for number, (start, end) in enumerate(extents, 1):
        numbers[:, max(0, round(start * mask.width)) : round(end * mask.width)] = number
    boxes = Image.fromarray(numbers)
    smallest = MIN_PITCH * num_characters * max(picture.size) / picture.width
    largest = min(0.92, 0.84 * picture.height / picture.width * mask.width / mask.height)
    share = rng.uniform(min(max(smallest, 0.35 * largest), largest), largest)
    width = max(4, round(share * picture.width))
    height = max(4, round(width * mask.height / mask.width))
    turn = rng.uniform(-12, 12) if rng.random() < 0.4 else 0
    x = rng.uniform(0, picture.width - width) if rng.random() < 0.6 else (picture.width - width) / 2
    y = (
        rng.uniform(0, max(1, picture.height - height))
        if rng.random() < 0.6
        else (picture.height - height) / 2
    )
    mask, boxes = (
        mask.resize((width, height), Image.Resampling.BOX),
        boxes.resize((width, height), Image.Resampling.NEAREST),
    )
    cosine, sine = math.cos(math.radians(turn)), math.sin(math.radians(turn))
    if turn:
        mask = mask.rotate(turn, Image.Resampling.BILINEAR, expand=True)
        boxes = boxes.rotate(turn, Image.Resampling.NEAREST, expand=True)
        x, y = x - (mask.width - width) / 2, y - (mask.height - height) / 2
    corner = (
        round(min(max(x, 0), max(0, picture.width - mask.width))),
        round(min(max(y, 0), max(0, picture.height - mask.height))),
    )
    picture.paste(palette.sample(scene.text_color, rng), corner, mask)
    labels.paste(boxes, corner)
    places = []
    for start, end in extents:
        off = ((start + end) / 2 - 0.5) * width
        middle = (corner[0] + mask.width / 2 + off * cosine, corner[1] + mask.height / 2 - off * sine)
        places.append((middle[0] / picture.width, middle[1] / picture.height))
    return places


def _draw_handwritten(
    picture: Image.Image, labels: Image.Image, scene: Scene, digit: Image.Image, rng: np.random.Generator
) -> list[tuple[float, float]]:
    short = min(picture.size)
    side = max(12, round(short * rng.uniform(0.45, 1)))
    how = rng.random()
    smooth = (
        Image.Resampling.BICUBIC
        if how < 0.4
        else Image.Resampling.BILINEAR
        if how < 0.75
        else Image.Resampling.NEAREST
    )
    mask = digit
    if rng.random() < 0.6:  # lean, turn, stretch
        turn, lean = math.radians(rng.uniform(-14, 14)), rng.uniform(-0.2, 0.2)
        stretch_x, stretch_y = rng.uniform(0.88, 1.15, 2)
        matrix = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
        matrix = (
            matrix @ np.array([[stretch_x, lean], [0, stretch_y]]) * (10 / side if how < 0.75 else 10 / 40)
        )
        large = side if how < 0.75 else 40
        off = 4 - matrix @ np.array([large / 2, large / 2])
        data = (*matrix[0], off[0], *matrix[1], off[1])
        mask = digit.transform((large, large), Image.Transform.AFFINE, data, Image.Resampling.BICUBIC)
        if how >= 0.75:
            mask = mask.resize((10, 10), Image.Resampling.BOX)
    mask = mask.resize((side, side), smooth)
    if rng.random() < 0.3:  # a pen's hard edge instead of a soft one
        edge = rng.uniform(80, 130)
        mask = mask.point([int(min(255, max(0, (level - edge) * 5 + 128))) for level in range(256)])
    x = round(rng.uniform(0, picture.width - side))
    y = round(rng.uniform(0, picture.height - side))
    if rng.random() < 0.5:
        x, y = (picture.width - side) // 2, (picture.height - side) // 2
    labels.paste(1, (x, y), mask.point([255 if level > 60 else 0 for level in range(256)]))
    picture.paste(palette.sample(scene.text_color, rng), (x, y), mask)
    return [((x + side / 2) / picture.width, (y + side / 2) / picture.height)]


def _wear(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Let a picture have been blurred, photographed in bad light, and saved too small."""
    if rng.random() < 0.1:
        picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.4, 0.006 * max(picture.size) + 0.4)))
    if rng.random() < 0.15:
        noise = rng.normal(0, rng.uniform(2, 10), (picture.height, picture.width, 3))
        noise += np.asarray(picture)
        picture = Image.fromarray(noise.clip(0, 255, out=noise).astype(np.uint8))
    if rng.random() < 0.35:
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=int(rng.integers(45, 96)))
        picture = Image.open(file, formats=["JPEG"]).convert("RGB")
    return picture
