"""What the engines are given: the same questions about the same pictures, to each side."""

from __future__ import annotations

import io
import random

from idefics2_engine.requests import Request, SamplingParams
from pictures import DESCRIBE, encode
from PIL import Image, ImageDraw

COLORS = ("red", "blue", "green", "orange", "purple", "black")
NUM_MIXED = 64
MAX_MIXED_TOKENS = 256
_MEAN_LOG, _DEVIATION_LOG = 3.3, 1.0  # answers of some 27 tokens in the middle, and a long tail


def draw_pictures(number: int, size: tuple[int, int] = (640, 480)) -> list[bytes]:
    """Draw JPEG files, no two alike."""
    return [_draw(n, size) for n in range(number)]


def ask_alike(pictures: list[bytes], num_tokens: int) -> list[Request]:
    """Ask the same of each picture; every answer has so many tokens."""
    return [Request(f"{n}", DESCRIBE, (picture,), _force(num_tokens)) for n, picture in enumerate(pictures)]


def ask_mixed(pictures: list[bytes]) -> list[Request]:
    """Ask for answers of very different lengths, and with longer and shorter words."""
    draw = random.Random(11)  # noqa: S311  # not a secret
    lengths = [int(draw.lognormvariate(_MEAN_LOG, _DEVIATION_LOG)) for _ in pictures]
    return [
        Request(
            f"{n}",
            DESCRIBE + " Look closely." * draw.randrange(8),
            (picture,),
            _force(min(max(length, 1), MAX_MIXED_TOKENS)),
        )
        for n, (picture, length) in enumerate(zip(pictures, lengths, strict=True))
    ]


def _force(num_tokens: int) -> SamplingParams:
    return SamplingParams(
        max_new_tokens=num_tokens, min_new_tokens=num_tokens, temperature=0, repetition_penalty=1.2
    )


def _draw(number: int, size: tuple[int, int]) -> bytes:
    draw = random.Random(number)  # noqa: S311  # not a secret
    image = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(image)
    for _ in range(3):
        x, y = draw.randrange(size[0]), draw.randrange(size[1])
        pen.ellipse((x, y, x + 80, y + 80), fill=draw.choice(COLORS))
    return encode(image, "JPEG")


def open_pictures(requests: list[Request]) -> list[Image.Image]:
    """Decode the one picture of each request."""
    return [Image.open(io.BytesIO(request.images[0])).convert("RGB") for request in requests]
