"""Fresh pictures and questions, none of which training has seen, to judge the checkpoint by."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from training import drawing
from training.pairs import ask_of_two
from training.pool import sample_scene
from training.questions import Asker

if TYPE_CHECKING:
    from collections.abc import Iterator

    from PIL import Image

    from training.scenes import Scene

# How many of a hundred pictures each kind of question gets, and what is on them.
_SHARES = {
    "color": (8, "shapes", "color"),
    "shape": (8, "shapes", "shape"),
    "existence": (8, "shapes", "existence"),
    "count": (8, "shapes", "count"),
    "background": (6, "shapes", "background"),
    "caption": (8, "shapes", "caption"),
    "quadrant": (8, "shapes", "quadrant"),
    "relation": (8, "shapes", "relation"),
    "printed number": (8, "number", "read"),
    "word": (5, "word", "read"),
    "handwritten digit": (8, "handwritten", "read"),
    "nothing there": (4, "photograph", None),
    "off-topic": (6, None, "off-topic"),
    "two pictures": (5, "shapes", None),
    "split picture": (2, "shapes", None),
}
KINDS = tuple(_SHARES)
_ANY = ("shapes", "shapes", "shapes", "number", "word", "handwritten", "photograph", "plain")


@dataclass(frozen=True)
class Case:
    """One request, and what is right."""

    kind: str
    images: tuple[bytes, ...]
    """Files: PNG, JPEG, WEBP or GIF."""
    question: str
    answer: str
    split_images: bool
    is_unseen_wording: bool


def sample_cases(count: int, seed: int) -> Iterator[Case]:
    """Draw `count` cases, each hundred with all kinds in their shares; half in wordings never trained."""
    hundred = [kind for kind, (share, _, _) in _SHARES.items() for _ in range(share)]
    order = np.random.default_rng(seed).permutation(100)
    for number in range(count):
        yield _sample_case(hundred[order[number % 100]], np.random.default_rng([seed, number]))


def _sample_case(kind: str, rng: np.random.Generator) -> Case:
    _, scene_kind, question_kind = _SHARES[kind]
    unseen = bool(rng.random() < 0.5)
    while True:
        try:
            scene, picture = _draw(scene_kind or str(rng.choice(_ANY)), rng)
            if kind == "two pictures":
                other, second = _draw(scene_kind or "shapes", rng)
                question = ask_of_two(scene, other, rng, unseen=unseen)
                pictures = [picture, second]
            else:
                question = Asker(scene, rng, unseen=unseen).ask(question_kind)
                pictures = [picture]
        except LookupError:
            continue
        if question_kind is None and question.kind == "off-topic":
            continue
        files = tuple(_encode(picture, rng) for picture in pictures)
        return Case(kind, files, question.text, question.answer, kind == "split picture", unseen)


def _draw(kind: str, rng: np.random.Generator) -> tuple[Scene, Image.Image]:
    scene, digits = sample_scene(rng, kind, held_out=True)
    return scene, drawing.draw(scene, rng, digits=digits, held_out=True).picture


def _encode(picture: Image.Image, rng: np.random.Generator) -> bytes:
    file = io.BytesIO()
    kind = str(rng.choice(["PNG", "JPEG", "WEBP", "GIF"], p=[0.5, 0.25, 0.15, 0.1]))
    picture.save(file, kind, **({} if kind in {"PNG", "GIF"} else {"quality": int(rng.integers(60, 96))}))
    return file.getvalue()
