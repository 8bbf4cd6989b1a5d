"""Printed and handwritten characters, as masks."""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from numpy.typing import NDArray

NUM_HELD_OUT_DIGITS = 397
# Packages whose fonts are used, with the files that draw plain letters.
_FONT_FILES = {
    "matplotlib": (
        "mpl-data/fonts/ttf/DejaVu*.ttf",
        "mpl-data/fonts/ttf/STIXGeneral*.ttf",
        "mpl-data/fonts/ttf/cm[brst][1st0]*10.ttf",
    ),
    "font_hanken_grotesk": ("**/HankenGrotesk-*.otf",),
    "font_source_sans_pro": ("**/SourceSansPro-*.ttf",),
    "font_source_serif_pro": ("**/SourceSerifPro-*.ttf",),
    "font_caladea": ("**/Caladea-*.ttf",),
    "font_fredoka_one": ("**/*.ttf",),
    "font_roboto": ("**/Roboto-*.ttf",),
}
_SIZE = 64
_UNFIT = ("Display", "ExtraLight", "Thin", "cmsy", "cmmi", "cmex")


@functools.cache
def font_files() -> tuple[str, ...]:
    """List the fonts of the installed packages, always in the same order; an empty name is Pillow's own."""
    found = [""]
    for package, patterns in _FONT_FILES.items():
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            continue
        folder = Path(spec.origin).parent
        files = {file for pattern in patterns for file in folder.glob(pattern)}
        found += [str(file) for file in sorted(files) if not any(word in file.name for word in _UNFIT)]
    return tuple(found)


@functools.cache
def _load_font(file: str) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(file, _SIZE) if file else ImageFont.load_default(_SIZE)  # type: ignore[return-value]


@functools.cache
def _measure(file: str, character: str) -> float:
    return _load_font(file).getlength(character)


def draw_text(text: str, rng: np.random.Generator) -> tuple[Image.Image, list[tuple[float, float]]]:
    """Draw a line of characters, white on black, cut to its edges.

    Returns:
        The mask, some 60 pixels high, and the horizontal extent of each character in parts of its width.

    """
    files = font_files()
    file = files[0] if rng.random() < 0.06 else files[rng.integers(len(files))]
    if rng.random() < 0.25:  # what most people have
        usual = [name for name in files if "DejaVuSans" in name and "Oblique" not in name]
        file = usual[rng.integers(len(usual))]
    font = _load_font(file)
    spacing = rng.uniform(0, 22) if rng.random() < 0.2 else 0.0
    mask = Image.new("L", (int(font.getlength(text) + spacing * len(text)) + 60, 110))
    pen = ImageDraw.Draw(mask)
    extents, x = [], 20.0
    stroke = int(rng.integers(1, 3)) if rng.random() < 0.12 else 0
    for character in text:
        pen.text((x, 15), character, 255, font, stroke_width=stroke)
        width = _measure(file, character)
        extents.append((x, x + width))
        x += width + spacing
    left, top, right, bottom = mask.getbbox() or (0, 0, *mask.size)
    mask = mask.crop((left, top, right, bottom))
    return mask, [((a - left) / mask.width, (b - left) / mask.width) for a, b in extents]


@functools.cache
def _digits() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    spec = importlib.util.find_spec("sklearn")
    if spec is None or spec.origin is None:
        msg = "the handwritten digits come with scikit-learn, which is not installed"
        raise ModuleNotFoundError(msg, name="sklearn")
    # Not with load_digits: each process that draws would import all of scipy for it.
    table = np.loadtxt(Path(spec.origin).parent / "datasets/data/digits.csv.gz", delimiter=",")
    return (table[:, :-1].reshape(-1, 8, 8) * 15.9375).astype(np.uint8), table[:, -1].astype(np.int64)


def num_digits(*, held_out: bool) -> int:
    """Count the handwritten digits at hand: the first 1,400 to learn, the last 397 that no training sees."""
    return NUM_HELD_OUT_DIGITS if held_out else len(_digits()[0]) - NUM_HELD_OUT_DIGITS


def handwritten(index: int, *, held_out: bool) -> tuple[Image.Image, int]:
    """Return a digit that somebody wrote, 8 x 8 pixels white on black, and which it is."""
    images, labels = _digits()
    if held_out:
        index += num_digits(held_out=False)
    return Image.fromarray(images[index]), int(labels[index])
