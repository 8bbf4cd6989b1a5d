"""Pictures on which the model knows nothing: photographs, plain pages, noise."""

from __future__ import annotations

import numpy as np
from golden.catalogue import NOTHING, Case, golden
from golden.motifs import Picture, wheel
from golden.pages import plain
from PIL import Image


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
