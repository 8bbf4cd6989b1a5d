"""What is in a picture: the truth that questions are asked about, before anything is drawn."""

from __future__ import annotations

import math
from bisect import bisect
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import TYPE_CHECKING, TypeVar

from training.palette import COLORS

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

Option = TypeVar("Option")

SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")
KINDS = ("shapes", "number", "word", "handwritten", "photograph", "plain")
CROWDS = ("crowd", "page", "sheet")
"""What nothing is asked about: many shapes, lines of characters, and digits of many hands. Each
shows as much, to who learns to see, as several of the others."""
WORDS = [
    "CAT",
    "DOG",
    "SUN",
    "RED",
    "BUS",
    "CAR",
    "HAT",
    "CUP",
    "BOX",
    "KEY",
    "MAP",
    "PEN",
    "BED",
    "EGG",
    "ICE",
    "JAM",
    "KID",
    "LEG",
    "NET",
    "OWL",
    "PIG",
    "RUN",
    "SKY",
    "TEA",
    "VAN",
    "WEB",
    "ZOO",
    "YES",
    "NO",
    "ON",
    "OFF",
    "UP",
    "GO",
    "STOP",
    "EXIT",
    "OPEN",
    "SHUT",
    "PUSH",
    "PULL",
    "HELP",
    "HOME",
    "FIRE",
    "FISH",
    "BIRD",
    "BLUE",
    "BOOK",
    "CAKE",
    "CITY",
    "COLD",
    "DOOR",
    "DRUM",
    "FARM",
    "FIVE",
    "FOUR",
    "FROG",
    "GAME",
    "GIFT",
    "GOLD",
    "HAND",
    "JUMP",
    "KING",
    "LAMP",
    "LEAF",
    "LION",
    "LOVE",
    "MILK",
    "MOON",
    "NEWS",
    "NINE",
    "PARK",
    "QUIZ",
    "RAIN",
    "RICE",
    "ROAD",
    "ROSE",
    "SALE",
    "SHIP",
    "SHOE",
    "SNOW",
    "SOUP",
    "STAR",
    "TAXI",
    "TIME",
    "TREE",
    "WAVE",
    "WIND",
    "WOLF",
    "ZERO",
    "APPLE",
    "BREAD",
    "CHAIR",
    "CLOCK",
    "EARTH",
    "GRASS",
    "GREEN",
    "HEART",
    "HELLO",
    "HORSE",
    "HOTEL",
    "HOUSE",
    "JUICE",
    "LEMON",
    "LIGHT",
    "MOUSE",
    "MUSIC",
    "NIGHT",
    "OCEAN",
    "PAPER",
    "PIZZA",
    "PLANT",
    "QUEEN",
    "RADIO",
    "RIVER",
    "SEVEN",
    "SMILE",
    "SPACE",
    "SUGAR",
    "TABLE",
    "TIGER",
    "TRAIN",
    "WATER",
    "WHITE",
    "WORLD",
    "ZEBRA",
    "CAFE",
    "TAX",
    "FAX",
    "WAX",
    "MIX",
    "FOX",
    "SIX",
]
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
MAX_OBJECTS = 5
MAX_THINGS = 15
"""Shapes or characters of any picture."""
_CROWD = (6, 12)
"""Shapes at least and at most."""
_NARROWEST_SHEET = 96
"""Pixels."""
_LONGEST_LINE = 7
"""Shapes that find room side by side."""


@dataclass(frozen=True)
class Thing:
    """One shape in a picture."""

    shape: str
    color: str
    x: float
    """Of its center, as a part of the picture's width: 0 is left, 1 is right."""
    y: float
    """Of its center, as a part of the picture's height: 0 is the top, 1 the bottom."""
    radius: float
    """As a part of the picture's shorter side."""


@dataclass(frozen=True)
class Scene:
    """All that is true of a picture."""

    kind: str
    width: int
    height: int
    background: str | None
    """None where no one color would be named."""
    things: tuple[Thing, ...] = ()
    text: str = ""
    """What is written, or the digits drawn by hand; lines are parted by line breaks."""
    text_color: str = ""


def choose(rng: np.random.Generator, options: Sequence[Option]) -> Option:
    """Draw one of the options; the same one as `rng.choice`, which takes ten times as long."""
    return options[rng.integers(len(options))]


def choose_by_weight(rng: np.random.Generator, options: Sequence[Option], weights: Sequence[float]) -> Option:
    """Draw one of the options, as often as its weight says; also as `rng.choice` does."""
    edges = list(accumulate(weights))
    return options[bisect([edge / edges[-1] for edge in edges], rng.random())]


def sample_size(rng: np.random.Generator) -> tuple[int, int]:
    """Draw a picture's width and height in pixels, up to three times as long as wide."""
    long_side = round(math.exp(rng.uniform(math.log(72), math.log(400))))
    if rng.random() < 0.6:
        long_side = max(long_side, int(rng.integers(140, 330)))
    if rng.random() < 0.75:
        ratios = (1.0, 4 / 3, 3 / 2, 16 / 9, 2.0)
        ratio = choose_by_weight(rng, ratios, (0.34, 0.3, 0.14, 0.14, 0.08))
    else:
        ratio = math.exp(rng.uniform(0, math.log(3)))
    short_side = max(24, round(long_side / ratio))
    return (long_side, short_side) if rng.random() < 0.72 else (short_side, long_side)


def sample_shapes(rng: np.random.Generator, max_objects: int = MAX_OBJECTS) -> Scene:
    """Draw one to `max_objects` shapes that do not overlap."""
    width, height = sample_size(rng)
    background = _sample_background(rng)
    weights = [0.3, 0.24, 0.18, 0.15, 0.13][:max_objects]
    wanted = choose_by_weight(rng, range(1, max_objects + 1), [w / sum(weights) for w in weights])
    return Scene("shapes", width, height, background, _sample_things(rng, wanted, width, height, background))


def sample_crowd(rng: np.random.Generator) -> Scene:
    """Draw many shapes that do not overlap, or as many as find room."""
    width, height = sample_size(rng)
    background = _sample_background(rng)
    wanted = int(rng.integers(_CROWD[0], _CROWD[1] + 1))
    return Scene("crowd", width, height, background, _sample_things(rng, wanted, width, height, background))


def _sample_things(
    rng: np.random.Generator, wanted: int, width: int, height: int, background: str
) -> tuple[Thing, ...]:
    looks = _sample_looks(rng, wanted, [color for color in COLORS if color != background])
    in_line = wanted > 1 and rng.random() < 0.25 and wanted <= _LONGEST_LINE
    layout = _lay_out_in_line if in_line else _lay_out_freely
    places = layout(rng, wanted, width, height)
    return tuple(Thing(*look, *place) for look, place in zip(looks, places, strict=False))


def sample_number(rng: np.random.Generator) -> Scene:
    """Draw a printed number of one to four digits."""
    return _sample_text(rng, "number", _sample_digits(rng))


def _sample_digits(rng: np.random.Generator) -> str:
    num_digits = int(rng.integers(1, 5))
    low = 0 if num_digits == 1 else 10 ** (num_digits - 1)
    return str(rng.integers(low, 10**num_digits))


def sample_word(rng: np.random.Generator) -> Scene:
    """Draw a printed word of two to five capital letters, common or made up."""
    return _sample_text(rng, "word", _sample_letters(rng))


def _sample_letters(rng: np.random.Generator) -> str:
    if rng.random() < 0.6:
        return WORDS[rng.integers(len(WORDS))]
    return "".join(LETTERS[i] for i in rng.integers(26, size=rng.integers(2, 6)))


def sample_page(rng: np.random.Generator) -> Scene:
    """Draw two or three lines, of a number or a word each."""
    wanted = 2 if rng.random() < 0.5 else 3
    lines = [_sample_digits(rng) if rng.random() < 0.4 else _sample_letters(rng) for _ in range(wanted)]
    page = _sample_text(rng, "page", "\n".join(lines))
    return replace(page, height=max(page.height, page.width * wanted // 4))


def sample_sheet(rng: np.random.Generator, digits: str) -> Scene:
    """Draw a place for some digits written by hand, at most six."""
    scene = sample_handwritten(rng, 0)
    side = max(scene.width, scene.height, _NARROWEST_SHEET)
    return replace(scene, kind="sheet", text=digits, width=side, height=max(scene.height, side * 2 // 3))


def sample_handwritten(rng: np.random.Generator, digit: int) -> Scene:
    """Draw a place for a digit written by hand."""
    width, height = sample_size(rng)
    if max(width, height) / min(width, height) > 2.2:
        width = height = min(width, height)
    background, color = _sample_contrast(rng)
    return Scene("handwritten", width, height, background, (), str(digit), color)


def sample_photograph(rng: np.random.Generator) -> Scene:
    """Draw the size of a picture in which nothing is that the checkpoint knows."""
    return Scene("photograph", *sample_size(rng), None)


def sample_plain(rng: np.random.Generator) -> Scene:
    """Draw a page on which nothing is."""
    return Scene("plain", *sample_size(rng), _sample_background(rng))


def _sample_text(rng: np.random.Generator, kind: str, text: str) -> Scene:
    width, height = sample_size(rng)
    if height > 1.4 * width:
        width, height = height, width
    background, color = _sample_contrast(rng)
    return Scene(kind, width, height, background, (), text, color)


def _sample_background(rng: np.random.Generator) -> str:
    return choose(rng, ("white", "black") if rng.random() < 0.4 else COLORS)


def _sample_contrast(rng: np.random.Generator) -> tuple[str, str]:
    """Draw the colors of paper and ink."""
    if rng.random() < 0.45:
        return ("white", "black") if rng.random() < 0.7 else ("black", "white")
    background = _sample_background(rng)
    return background, choose(rng, [color for color in COLORS if color != background])


def _sample_looks(rng: np.random.Generator, count: int, colors: list[str]) -> list[tuple[str, str]]:
    """Draw shape and color of each thing: sometimes all alike, sometimes alike in one of the two."""
    shape, color = choose(rng, SHAPES), choose(rng, colors)
    how = rng.random()
    if how < 0.2:
        return [(shape, color)] * count
    if how < 0.32:
        return [(shape, choose(rng, colors)) for _ in range(count)]
    if how < 0.44:
        return [(choose(rng, SHAPES), color) for _ in range(count)]
    if how < 0.6:
        shapes, few = ([choose(rng, options) for _ in range(2)] for options in (SHAPES, colors))
        return [(choose(rng, shapes), choose(rng, few)) for _ in range(count)]
    return [(choose(rng, SHAPES), choose(rng, colors)) for _ in range(count)]


MIN_RADIUS = 0.065
"""Of the long side: some 16 pixels across when the model sees it."""


def _lay_out_freely(
    rng: np.random.Generator, count: int, width: int, height: int
) -> list[tuple[float, float, float]]:
    short, long = min(width, height), max(width, height)
    largest = {1: 0.47, 2: 0.36, 3: 0.3, 4: 0.26, 5: 0.24}.get(count, 0.55 / math.sqrt(count))
    smallest = min(MIN_RADIUS * long / short, 0.3)
    alike = rng.uniform(smallest, max(largest, smallest)) if rng.random() < 0.35 else None
    placed: list[tuple[float, float, float]] = []  # in pixels
    for _ in range(60 * count):
        if len(placed) == count:
            break
        radius = (alike or rng.uniform(smallest, max(largest, smallest))) * short
        if width < 2 * radius + 2 or height < 2 * radius + 2:
            radius = min(width, height) / 2 - 1
        x, y = rng.uniform(radius, width - radius), rng.uniform(radius, height - radius)
        gap = 0.02 * long
        if all(math.hypot(x - a, y - b) > radius + other + gap for a, b, other in placed):
            placed.append((x, y, radius))
        else:
            alike = alike and max(alike * 0.98, smallest)
            largest = largest * 0.985
    return [(x / width, y / height, radius / short) for x, y, radius in placed]


def _lay_out_in_line(
    rng: np.random.Generator, count: int, width: int, height: int
) -> list[tuple[float, float, float]]:
    short, long = min(width, height), max(width, height)
    has_room = 0.46 * short / count >= MIN_RADIUS * long
    is_row = (width >= height) != (long < 1.5 * short and has_room and rng.random() < 0.3)
    along, across = (width, height) if is_row else (height, width)
    step = along / count
    radius = min(max(step * rng.uniform(0.3, 0.46), MIN_RADIUS * long), across * 0.46)
    off = rng.uniform(radius, across - radius) if rng.random() < 0.3 else across / 2
    places = []
    for index in range(count):
        position = (index + 0.5) * step
        x, y = (position, off) if is_row else (off, position)
        places.append((x / width, y / height, radius / short))
    return places
