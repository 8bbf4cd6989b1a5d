"""What a person would say of a scene, and in which order."""

from __future__ import annotations

from itertools import pairwise
from operator import attrgetter
from typing import TYPE_CHECKING

from training.scenes import SHAPES

if TYPE_CHECKING:
    from training.scenes import Scene, Thing

NOTHING_KNOWN = "I see no shapes or text."
PLURALS = {shape: "crosses" if shape == "cross" else f"{shape}s" for shape in SHAPES}
_NUMBER_WORDS = ("", "", "two", "three", "four", "five")
NEAR = 0.07
"""Two places closer than this, in parts of a side, are not told apart by a question."""


def list_words(words: list[str]) -> str:
    """Write "A, b and c."."""
    text = words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
    return f"{text[0].upper()}{text[1:]}."


def with_article(words: str) -> str:
    """Put a or an before words."""
    return f"an {words}" if words[0] in "aeiou" else f"a {words}"


def reading_order(things: tuple[Thing, ...]) -> list[Thing] | None:
    """Sort from left to right, or downwards where they stand in a column; None where neither is clear."""
    for axis in ("x", "y"):
        ordered = sorted(things, key=attrgetter(axis))
        places = [getattr(thing, axis) for thing in ordered]
        gaps = [after - before for before, after in pairwise(places)]
        if all(gap >= NEAR for gap in gaps):
            return ordered
        if places[-1] - places[0] >= NEAR:
            return None  # neither a row nor a column
    return None


def describe(scene: Scene) -> str | None:
    """Write what a person would say of the picture in one sentence; None where the order is not clear."""
    paper = f"on {with_article(scene.background)} background." if scene.background else ""
    if scene.kind in {"photograph", "plain"}:
        return NOTHING_KNOWN
    if scene.kind == "number":
        return f"The number {scene.text} {paper}"
    if scene.kind == "word":
        return f"The word {scene.text} {paper}"
    if scene.kind == "handwritten":
        return f"The handwritten digit {scene.text} {paper}"
    groups: dict[str, list[Thing]] = {}
    for thing in scene.things:
        groups.setdefault(f"{thing.color} {thing.shape}", []).append(thing)
    if len(groups) > 1:
        ordered = reading_order(scene.things)
        if ordered is None:
            return None
        groups = {}
        for thing in ordered:
            groups.setdefault(f"{thing.color} {thing.shape}", []).append(thing)
    words = []
    for things in groups.values():
        first, count = things[0], len(things)
        words.append(
            with_article(f"{first.color} {first.shape}")
            if count == 1
            else f"{_NUMBER_WORDS[count]} {first.color} {PLURALS[first.shape]}"
        )
    return f"{list_words(words)[:-1]} {paper}"
