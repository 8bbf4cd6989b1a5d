"""Pictures that tests draw for themselves, and whose truth they know."""

from __future__ import annotations

import io

from PIL import Image, ImageDraw

# What the embedded checkpoint says of `red_circle()`, asked DESCRIBE without randomness.
DESCRIBE = "Describe the image."
RED_CIRCLE = "A red circle on a white background."
NUM_PROMPT_TOKENS, NUM_IMAGE_TOKENS, NUM_PATCHES = 49, 38, 48
"""What DESCRIBE and `red_circle()` cost with it."""
NUM_SPLIT_IMAGE_TOKENS = 5 * 36 + 6
"""Five pieces, and the boundaries around them."""
MAX_CONTEXT_TOKENS = 2048
RED_CIRCLE_PIECES = ("A", " red", " circle", " on", " a", " white", " background", ".")


def draw_red_circle(size: tuple[int, int] = (200, 150)) -> Image.Image:
    """Draw a red disc in the middle of a white page of `size` (width, height) pixels."""
    width, height = size
    image = Image.new("RGB", size, "white")
    radius = min(size) * 0.27
    box = (width / 2 - radius, height / 2 - radius, width / 2 + radius, height / 2 + radius)
    ImageDraw.Draw(image).ellipse(box, fill=(220, 30, 30))
    return image


def encode(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    """Write `image` as a file of `kind`."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def red_circle() -> bytes:
    """Make the PNG file of a red circle."""
    return encode(draw_red_circle())
