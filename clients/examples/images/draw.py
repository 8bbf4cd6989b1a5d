"""Makes the pictures of this folder: `python clients/examples/images/draw.py`.

Flags, a sky and an enamel plate are drawn here. The digit on the note is from Alpaydin and Kaynak, "Optical
Recognition of Handwritten Digits", UCI, CC BY 4.0, as in scikit-learn; the cat is Chelsea, photographed by
Stéfan van der Walt, CC0, as in scikit-image.
"""

from __future__ import annotations

import math
from pathlib import Path

import matplotlib as mpl
from PIL import Image, ImageDraw, ImageFont
from skimage import data
from sklearn.datasets import load_digits

HERE = Path(__file__).parent
SCALE = 4  # drawn larger, then made smaller: smooth edges
FONT = Path(mpl.get_data_path(), "fonts/ttf/DejaVuSans-Bold.ttf")

Color = str
Point = tuple[float, float]


def page(width: int, height: int, color: Color) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    """Make a page, SCALE times as large as it will be, and a pen for it."""
    picture = Image.new("RGB", (width * SCALE, height * SCALE), color)
    return picture, ImageDraw.Draw(picture)


def save(picture: Image.Image, name: str) -> None:
    """Write a page in its own size."""
    smooth = picture.resize((picture.width // SCALE, picture.height // SCALE), Image.Resampling.LANCZOS)
    smooth.save(HERE / name, optimize=True)


def star(x: float, y: float, radius: float) -> list[Point]:
    """Return the corners of a five-pointed star."""
    turns = [(n * math.pi / 5, radius if n % 2 == 0 else radius * 0.382) for n in range(10)]
    return [((x + r * math.sin(angle)) * SCALE, (y - r * math.cos(angle)) * SCALE) for angle, r in turns]


def draw_japan() -> None:
    """Draw a disc of three fifths of the height."""
    picture, pen = page(450, 300, "#ffffff")
    pen.circle((225 * SCALE, 150 * SCALE), 90 * SCALE, "#bc002d")
    save(picture, "japan.png")


def draw_switzerland() -> None:
    """Draw a cross with arms a sixth longer than broad."""
    picture, pen = page(320, 320, "#da291c")
    for box in ((60, 130, 260, 190), (130, 60, 190, 260)):
        pen.rectangle([side * SCALE for side in box], "#ffffff")
    save(picture, "switzerland.png")


def draw_vietnam() -> None:
    """Draw a star of three fifths of the height."""
    picture, pen = page(450, 300, "#da251d")
    pen.polygon(star(225, 150, 90), "#ffff00")
    save(picture, "vietnam.png")


def draw_stars() -> None:
    """Draw three stars at night."""
    picture, pen = page(480, 360, "#121212")
    for x in (100, 240, 380):
        pen.polygon(star(x, 180, 60), "#fad732")
    save(picture, "stars.png")


def draw_door() -> None:
    """Draw the plate beside a door."""
    picture, pen = page(360, 270, "#1e4bb8")
    font = ImageFont.truetype(FONT, 150 * SCALE)
    pen.text((180 * SCALE, 135 * SCALE), "42", "#ffffff", font, anchor="mm")
    save(picture, "door.png")


def draw_note() -> None:
    """Write down number 1,498 of the handwritten digits that come with scikit-learn."""
    digit = Image.fromarray((load_digits().images[1498] / 16 * 255).astype("uint8"))
    ink = digit.resize((200, 200), Image.Resampling.BICUBIC)
    picture = Image.new("RGB", (280, 280), "#fff6c2")
    picture.paste("#23337a", (40, 40), ink)
    picture.save(HERE / "note.png", optimize=True)


def draw_cat() -> None:
    """Copy a photograph."""
    picture = Image.fromarray(data.chelsea())
    picture.save(HERE / "cat.jpg", quality=85, optimize=True)


if __name__ == "__main__":
    for draw in (draw_japan, draw_switzerland, draw_vietnam, draw_stars, draw_door, draw_note, draw_cat):
        draw()
