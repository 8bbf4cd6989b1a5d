"""How people word a question: templates are chosen from, filled in, and typed as loosely as people do."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

_CHOICE = re.compile(r"\[([^\[\]]*)\]")
_TAG = "please|right|correct|yes or no|is that so|is that true|[a-z]+n't (there|it|I)"
_END = re.compile(rf"(, ({_TAG}))?[.?!]?$")
_INNER_END = re.compile(r"[.?!:] ")
_NOUNS = {
    "thing": ("shape", "shape", "shape", "object", "figure", "form", "thing"),
    "things": ("shapes", "shapes", "shapes", "objects", "figures", "things", "items"),
    "image": ("image", "picture", "image", "picture", "photo", "drawing", "pic"),
}


def _load(name: str) -> dict[str, tuple[str, ...]]:
    """Load the wordings of each kind; those of "read" are for numbers, words, digits and text alike."""
    kinds = {kind: tuple(sentences) for kind, sentences in _TEXTS[name].items()}
    shared = kinds.pop("read", ())
    for kind in kinds:
        if kind.startswith("read "):
            noun = kind.removeprefix("read ")
            kinds[kind] += tuple(sentence.replace("{noun}", noun) for sentence in shared)
    return kinds


_TEXTS = tomllib.loads(Path(__file__).with_name("wording.toml").read_text())
SEEN = _load("seen")
UNSEEN = _load("unseen")
"""Of the same kinds, for the evaluation: no training asks in these words."""
_OPENINGS = (
    "Please, ",
    "Please tell me: ",
    "Can you tell me: ",
    "Tell me, ",
    "Hi! ",
    "Hello, ",
    "Hey, ",
    "Question: ",
    "Look at the {image}. ",
    "Look at this {image}: ",
    "In this {image}, ",
    "In the {image}: ",
    "Here is my {image}. ",
    "Quick question: ",
    "I wonder, ",
    "OK, ",
    "So, ",
    "Now, ",
    "Well, ",
    "Be brief. ",
    "Answer briefly: ",
    "Please answer: ",
    "Given the {image}, ",
)
_CLOSINGS = (
    " Answer briefly.",
    " Please.",
    " Be brief.",
    " Answer in one word.",
    " Thanks!",
    " Thank you.",
    " Answer shortly.",
    " Keep it short.",
    " Just the answer.",
    " Give a short answer.",
    " Be short.",
    " Answer with a single word.",
    " Please answer.",
)
_PLACES = (" in the {place} {image}", " in the {place} one", " of the {place} {image}")


def fill(sentence: str, rng: np.random.Generator, **words: str) -> str:
    """Choose among the alternatives of a sentence and fill in its words."""
    while match := _CHOICE.search(sentence):
        options = match[1].split("|")
        sentence = sentence[: match.start()] + options[rng.integers(len(options))] + sentence[match.end() :]
    for name, value in words.items():
        sentence = sentence.replace("{" + name + "}", value)
    for name, nouns in _NOUNS.items():
        while "{" + name + "}" in sentence:
            sentence = sentence.replace("{" + name + "}", nouns[rng.integers(len(nouns))], 1)
    return sentence[0].upper() + sentence[1:]


def decorate(sentence: str, rng: np.random.Generator, *, place: str = "", clean: bool = False) -> str:
    """Word a question as loosely as people type."""
    if place:
        sentence = _place(sentence, rng, place)
    if clean:
        return sentence
    if rng.random() < 0.1:
        opening = fill(_OPENINGS[rng.integers(len(_OPENINGS))], rng)
        sentence = opening + (sentence if opening[-2] in ".!" else _lower(sentence))
    if rng.random() < 0.1:
        sentence += _CLOSINGS[rng.integers(len(_CLOSINGS))]
    if rng.random() < 0.12 and sentence[-1] in "?.":
        sentence = sentence[:-1]
    how = rng.random()
    if how < 0.15:
        sentence = sentence.lower()
    elif how < 0.18:
        sentence = sentence.upper()
    if rng.random() < 0.05 and len(sentence) > 12:
        sentence = _mistype(sentence, rng)
    return sentence


def _place(sentence: str, rng: np.random.Generator, place: str) -> str:
    """Say which of two pictures is meant."""
    for image in _NOUNS["image"]:
        for article in ("the", "this"):
            if f"{article} {image}" in sentence:
                return sentence.replace(f"{article} {image}", f"the {place} {image}")
    where = fill(_PLACES[rng.integers(2)].replace("{place}", place), rng)
    if rng.random() < 0.4 and not _INNER_END.search(sentence):
        return f"{where[1:].capitalize()}, {_lower(sentence)}"
    return _END.sub(lambda end: where + end[0], sentence, count=1)


def _lower(sentence: str) -> str:
    """Begin a sentence as it would go on after others."""
    return sentence if sentence.startswith(("I ", "I'")) else sentence[0].lower() + sentence[1:]


def _mistype(sentence: str, rng: np.random.Generator) -> str:
    """Forget, double or swap a letter."""
    at = int(rng.integers(1, len(sentence) - 2))
    how = rng.integers(3)
    if how == 0:
        return sentence[:at] + sentence[at + 1 :]
    if how == 1:
        return sentence[:at] + sentence[at] + sentence[at:]
    return sentence[:at] + sentence[at + 1] + sentence[at] + sentence[at + 2 :]
