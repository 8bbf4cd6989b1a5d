"""Questions about two pictures that are shown together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from training import wording
from training.descriptions import describe, with_article
from training.questions import Asker, Question

if TYPE_CHECKING:
    import numpy as np

    from training.scenes import Scene


def ask_of_two(first: Scene, second: Scene, rng: np.random.Generator, *, unseen: bool = False) -> Question:
    """Ask about two pictures that are shown together."""
    how = rng.random()
    asker = Asker(first, rng, unseen=unseen)
    captions = [describe(scene) for scene in (first, second)]
    if how < 0.12 and all(captions):
        return Question(
            "two pictures", wording.decorate(asker.say("caption of two"), rng), " ".join(map(str, captions))
        )
    if how < 0.15:
        return Question("two pictures", wording.decorate(asker.say("number of pictures"), rng), "2.")
    if how < 0.32 and first.things and second.things:
        thing = asker.pick((*first.things, *second.things, *second.things))
        by_shape = rng.random() < 0.6
        what = thing.shape if by_shape else f"{thing.color} {thing.shape}"
        has = [
            any(t.shape == thing.shape and (by_shape or t.color == thing.color) for t in scene.things)
            for scene in (first, second)
        ]
        text = wording.decorate(asker.say("which picture", what=with_article(what)), rng)
        return Question(
            "two pictures", text, "Both." if all(has) else "The first." if has[0] else "The second."
        )
    place = int(rng.integers(2))
    meant = Asker((first, second)[place], rng, unseen=unseen, place=("first", "second")[place]).ask()
    return Question("off-topic" if meant.kind == "off-topic" else "two pictures", meant.text, meant.answer)
