"""Questions about a scene, in many wordings, with the one answer that is right."""

from __future__ import annotations

from bisect import bisect
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, TypeVar

from training import offtopic, wording
from training.descriptions import (
    NEAR,
    NOTHING_KNOWN,
    PLURALS,
    describe,
    list_words,
    reading_order,
    with_article,
)
from training.palette import COLORS
from training.scenes import SHAPES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np

    from training.scenes import Scene, Thing

_Option = TypeVar("_Option")

REFUSAL = "I can only answer questions about shapes, colors, numbers and words."


@dataclass(frozen=True)
class Question:
    """A question with its answer."""

    kind: str
    text: str
    answer: str


@dataclass
class Asker:
    """Asks about one picture; `unseen` takes wordings that no training has."""

    scene: Scene
    rng: np.random.Generator
    unseen: bool = False
    clean: bool = False
    """Whether the wording is left as it is: no typing errors, no lost question marks."""
    place: str = ""
    """Which picture is meant, where there are several: "first" or "second"."""

    def ask(self, kind: str | None = None) -> Question:
        """Ask a question, of `kind` or any that suits the picture.

        Raises:
            LookupError: no question of `kind` can be asked about this picture.

        """
        kinds, sums = _SUMS[self.scene.kind]
        for _ in range(40):
            chosen = kind or kinds[bisect(sums, self.rng.random() * sums[-1])]
            asked = _ASKERS[chosen](self)
            if asked is not None:
                text, answer = asked
                if chosen != "off-topic":
                    text = wording.decorate(text, self.rng, place=self.place, clean=self.clean)
                return Question(chosen, text, answer)
        raise LookupError(f"no question of kind {kind} suits a scene of kind {self.scene.kind}")

    def say(self, kind: str, **words: str) -> str:
        """Choose a wording and fill it in."""
        sentences = (wording.UNSEEN if self.unseen else wording.SEEN)[kind]
        sentence = sentences[self.rng.integers(len(sentences))]
        return wording.fill(sentence, self.rng, **words)

    def pick(self, options: Sequence[_Option]) -> _Option:
        """Choose one."""
        return options[self.rng.integers(len(options))]

    @property
    def shapes(self) -> list[str]:
        """The shapes that are there."""
        return sorted({thing.shape for thing in self.scene.things})

    @property
    def colors(self) -> list[str]:
        """The colors of the things that are there."""
        return sorted({thing.color for thing in self.scene.things})

    def distinct(self) -> list[tuple[str, Thing]]:
        """List every short description that fits exactly one thing."""
        things = self.scene.things
        found = []
        if len(things) == 1:
            found.append(("{thing}", things[0]))
        for thing in things:
            if sum(other.shape == thing.shape for other in things) == 1:
                found.append((thing.shape, thing))
            if sum(other.color == thing.color for other in things) == 1:
                found.append((f"{thing.color} {{thing}}", thing))
            if sum((other.shape, other.color) == (thing.shape, thing.color) for other in things) == 1:
                found.append((f"{thing.color} {thing.shape}", thing))
        return found


Asked = tuple[str, str] | None


def _caption(asker: Asker) -> Asked:
    answer = describe(asker.scene)
    return (asker.say("caption"), answer) if answer else None


def _background(asker: Asker) -> Asked:
    background = asker.scene.background
    return asker.say("background"), f"{background.capitalize()}." if background else NOTHING_KNOWN


def _color(asker: Asker) -> Asked:
    things = asker.scene.things
    if asker.rng.random() < 0.17 or not things:  # of something absent
        absent = asker.pick([shape for shape in SHAPES if shape not in asker.shapes])
        return asker.say("color", what=absent), f"There is no {absent}."
    if asker.rng.random() < 0.3:  # of all
        chosen, what = things, "{things}" if len(things) > 1 else "{thing}"
    else:
        shape = asker.pick(asker.shapes)
        chosen = tuple(thing for thing in things if thing.shape == shape)
        what = PLURALS[shape] if len(chosen) > 1 else shape
    plural = "colors" if len(chosen) > 1 else "color"
    colors = {thing.color for thing in chosen}
    if len(colors) == 1:
        return asker.say(plural, what=what), f"{chosen[0].color.capitalize()}."
    ordered = reading_order(chosen)
    if ordered is None or len(colors) > 3:
        return None
    return asker.say(plural, what=what), list_words(list(dict.fromkeys(thing.color for thing in ordered)))


def _ink(asker: Asker) -> Asked:
    noun = {"number": "number", "word": "word", "handwritten": "digit"}[asker.scene.kind]
    return asker.say("color", what=noun), f"{asker.scene.text_color.capitalize()}."


def _shape(asker: Asker) -> Asked:
    things = asker.scene.things
    if not things:
        has_text = bool(asker.scene.text)
        return asker.say("shape"), "There is no shape." if has_text else NOTHING_KNOWN
    if asker.rng.random() < 0.12:
        absent = asker.pick(
            [color for color in COLORS if color not in {*asker.colors, asker.scene.background}]
        )
        return asker.say("shape of color", color=absent), f"There is no {absent} shape."
    if asker.rng.random() < 0.5 or len(things) == 1:
        if len(asker.shapes) == 1 and asker.rng.random() < 0.9:
            kind = "shape" if len(things) == 1 else "shapes"
            return asker.say(kind), f"{things[0].shape.capitalize()}."
        ordered = reading_order(things)
        if ordered is None or len(asker.shapes) > 3:
            return None
        return asker.say("shapes"), list_words(list(dict.fromkeys(thing.shape for thing in ordered)))
    color = asker.pick(asker.colors)
    shapes = {thing.shape for thing in things if thing.color == color}
    if len(shapes) > 1:
        return None
    return asker.say("shape of color", color=color), f"{shapes.pop().capitalize()}."


def _exists(asker: Asker) -> Asked:
    things = asker.scene.things
    looks = {(thing.shape, thing.color) for thing in things}
    how, rng = asker.rng.random(), asker.rng
    wanted = rng.random() < 0.5 and bool(things)
    if how < 0.4:
        shape = (
            asker.pick(asker.shapes) if wanted else asker.pick([s for s in SHAPES if s not in asker.shapes])
        )
        return asker.say("exists", what=with_article(shape), many=PLURALS[shape]), "Yes." if wanted else "No."
    if how < 0.6:
        unseen = [
            c for c in COLORS if c not in {*asker.colors, asker.scene.background, asker.scene.text_color}
        ]
        color = asker.pick(asker.colors) if wanted else asker.pick(unseen)
        words = {"what": with_article(f"{color} {{thing}}"), "many": f"{color} {{things}}", "color": color}
        if asker.scene.kind == "photograph":
            return None
        return asker.say(
            "exists color" if rng.random() < 0.4 else "exists", **words
        ), "Yes." if wanted else "No."
    if wanted:
        shape, color = asker.pick(sorted(looks))
    elif things and rng.random() < 0.8:  # nearly there: the shape, or the color, or each of another thing
        shape = asker.pick(asker.shapes) if rng.random() < 0.6 else asker.pick(SHAPES)
        color = asker.pick(asker.colors) if rng.random() < 0.6 else asker.pick(COLORS)
    else:
        shape, color = asker.pick(SHAPES), asker.pick(COLORS)
    is_there = (shape, color) in looks
    if is_there is not wanted or (color == asker.scene.background and not is_there and rng.random() < 0.7):
        return None
    words = {"what": with_article(f"{color} {shape}"), "many": f"{color} {PLURALS[shape]}"}
    return asker.say("exists", **words), "Yes." if is_there else "No."


def _count(asker: Asker) -> Asked:
    things = asker.scene.things
    how = asker.rng.random()
    if how < 0.42:
        return asker.say("count", many="{things}"), f"{len(things)}."
    if how < 0.74:
        shape = asker.pick(asker.shapes) if things and asker.rng.random() < 0.75 else asker.pick(SHAPES)
        return asker.say("count", many=PLURALS[shape]), f"{sum(t.shape == shape for t in things)}."
    if asker.scene.kind != "shapes":
        return None
    color = asker.pick(asker.colors) if asker.rng.random() < 0.75 else asker.pick(COLORS)
    same = [thing for thing in things if thing.color == color]
    if color == asker.scene.background:
        return None
    if how < 0.88:
        return asker.say("count", many=f"{color} {{things}}"), f"{len(same)}."
    shape = asker.pick(asker.shapes)
    return asker.say("count", many=f"{color} {PLURALS[shape]}"), f"{sum(t.shape == shape for t in same)}."


def _quadrant(asker: Asker) -> Asked:
    distinct = asker.distinct()
    if not distinct:
        return None
    what, thing = asker.pick(distinct)
    if asker.rng.random() < 0.45:
        if min(abs(thing.x - 0.5), abs(thing.y - 0.5)) < 0.045:
            return None
        side = f"{'Top' if thing.y < 0.5 else 'Bottom'} {'left' if thing.x < 0.5 else 'right'}."
        return asker.say("quadrant", what=what), side
    edges = (0.39, 0.61)
    if any(abs(v - edge) < 0.03 for v in (thing.x, thing.y) for edge in edges):
        return None
    column, row = (sum(v > edge for edge in edges) for v in (thing.x, thing.y))
    words = f"{('Top', '', 'Bottom')[row]} {('left', '', 'right')[column]}".strip() or "Center"
    return asker.say("where", what=what), f"{words.capitalize()}."


def _relation(asker: Asker) -> Asked:
    distinct, rng = asker.distinct(), asker.rng
    if len(asker.scene.things) < 2 or len(distinct) < 2:
        return None
    how = rng.random()
    if how < 0.3:
        return _outermost(asker)
    (a, first), (b, second) = asker.pick(distinct), asker.pick(distinct)
    if first is second:
        return None
    words, axis, sign = asker.pick(_RELATIONS)
    away = sign * (getattr(second, axis) - getattr(first, axis))
    if how < 0.65:
        answer = "Yes." if away > 0 else "No."
        return (asker.say("is related", a=a, b=b, relation=words), answer) if abs(away) >= NEAR else None
    if len(asker.scene.things) == 2 and how < 0.85:
        look = with_article(f"{first.color} {first.shape}").capitalize()
        answer = f"{look}." if away > 0 else "Nothing."
        return (asker.say("what is related", b=b, relation=words), answer) if abs(away) >= NEAR else None
    dx, dy = second.x - first.x, second.y - first.y
    if abs(abs(dx) - abs(dy)) < 0.12:
        return None
    if abs(dx) > abs(dy):
        return asker.say("relation", a=a, b=b), "To the left." if dx > 0 else "To the right."
    return asker.say("relation", a=a, b=b), "Above." if dy > 0 else "Below."


def _outermost(asker: Asker) -> Asked:
    side, axis, sign = asker.pick(_SIDES)
    ordered = sorted(asker.scene.things, key=lambda thing: sign * getattr(thing, axis))
    if abs(getattr(ordered[0], axis) - getattr(ordered[1], axis)) < NEAR:
        return None
    if asker.rng.random() < 0.5:
        return asker.say("shape at side", side=side), f"{ordered[0].shape.capitalize()}."
    return asker.say("color at side", side=side), f"{ordered[0].color.capitalize()}."


_SIDES = (("left", "x", 1), ("right", "x", -1), ("top", "y", 1), ("bottom", "y", -1))
_RELATIONS = (("to the left of", "x", 1), ("to the right of", "x", -1), ("above", "y", 1), ("below", "y", -1))


def _read(asker: Asker) -> Asked:
    kind = asker.scene.kind
    if kind in {"photograph", "plain"}:
        wanted = asker.pick(("number", "word", "digit", "text"))
        return asker.say(f"read {wanted}"), NOTHING_KNOWN
    if kind == "shapes":
        wanted = asker.pick(("number", "word", "digit", "text"))
        return asker.say(f"read {wanted}"), f"There is no {wanted}."
    noun = {"number": "number", "word": "word", "handwritten": "digit"}[kind]
    if kind == "handwritten" and asker.rng.random() < 0.4:
        noun = "number"
    if asker.rng.random() < 0.25:
        noun = "text"
    return asker.say(f"read {noun}"), f"{asker.scene.text}."


def _off_topic(asker: Asker) -> Asked:
    return offtopic.sample(asker.rng, unseen=asker.unseen), REFUSAL


_ASKERS: dict[str, Callable[[Asker], Asked]] = {
    "color": _color,
    "shape": _shape,
    "existence": _exists,
    "count": _count,
    "background": _background,
    "caption": _caption,
    "quadrant": _quadrant,
    "relation": _relation,
    "read": _read,
    "ink": _ink,
    "off-topic": _off_topic,
}
KINDS = tuple(_ASKERS)
# How often each kind of question is asked of each kind of scene.
_ABOUT_PRINT: dict[str, float] = {
    "read": 60,
    "caption": 10,
    "background": 7,
    "ink": 8,
    "existence": 3,
    "count": 3,
    "shape": 1,
    "color": 1,
    "off-topic": 4,
}
_KINDS: dict[str, dict[str, float]] = {
    "shapes": {
        "color": 16,
        "shape": 12,
        "existence": 14,
        "count": 16,
        "background": 5,
        "caption": 16,
        "quadrant": 10,
        "relation": 60,
        "read": 1.5,
        "off-topic": 5,
    },
    "number": _ABOUT_PRINT,
    "word": _ABOUT_PRINT,
    "handwritten": {
        "read": 55,
        "caption": 12,
        "background": 8,
        "ink": 8,
        "existence": 4,
        "count": 4,
        "shape": 1,
        "color": 1,
        "off-topic": 4,
    },
    "photograph": {
        "caption": 20,
        "existence": 12,
        "count": 10,
        "color": 10,
        "shape": 10,
        "background": 8,
        "read": 15,
        "off-topic": 15,
    },
    "plain": {
        "caption": 15,
        "existence": 10,
        "count": 10,
        "color": 8,
        "shape": 10,
        "background": 25,
        "read": 12,
        "off-topic": 10,
    },
}
_SUMS = {scene: (list(kinds), list(accumulate(kinds.values()))) for scene, kinds in _KINDS.items()}
"""The same, to draw from: names, and their weights added up."""
