"""The recipe's answers are true, and its questions are those that people ask."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from training import offtopic, scenes, wording
from training.descriptions import NOTHING_KNOWN, PLURALS, describe
from training.pairs import ask_of_two
from training.questions import REFUSAL, Asker, Question
from training.scenes import SHAPES, Scene, Thing

RED_CIRCLE = Thing("circle", "red", 0.25, 0.25, 0.2)
BLUE_STAR = Thing("star", "blue", 0.75, 0.75, 0.2)
PAIR = Scene("shapes", 200, 200, "white", (RED_CIRCLE, BLUE_STAR))
CLUSTER = replace(PAIR, things=(RED_CIRCLE, replace(BLUE_STAR, x=0.3), replace(RED_CIRCLE, x=0.35)))
"""Neither a row nor a column: no one could say which comes first."""


def ask_often(scene: Scene, kind: str, times: int = 300) -> list[Question]:
    rng = np.random.default_rng(4)
    return [Asker(scene, rng, clean=True).ask(kind) for _ in range(times)]


def answer_of(scene: Scene, kind: str, *words: str) -> set[str]:
    """Return the answers to those questions that have all of `words` in them."""
    asked = [q for q in ask_often(scene, kind, 600) if all(word in q.text.lower() for word in words)]
    assert asked, words
    return {question.answer for question in asked}


def test_what_is_there_is_told_and_what_is_not_is_denied() -> None:
    assert answer_of(PAIR, "existence", "red circle") == {"Yes."}
    assert answer_of(PAIR, "existence", "blue circle") == {"No."}
    assert answer_of(PAIR, "existence", "triangle") == {"No."}


def test_colors_and_shapes_are_those_of_the_thing_that_is_meant() -> None:
    assert answer_of(PAIR, "color", "circle") == {"Red."}
    assert answer_of(PAIR, "color", "ring") == {"There is no ring."}
    assert "Red and blue." in answer_of(PAIR, "color")
    assert answer_of(PAIR, "shape", "blue") == {"Star."}
    assert "Circle and star." in answer_of(PAIR, "shape")


def test_counting_counts_what_is_meant() -> None:
    twice = replace(PAIR, things=(*PAIR.things, replace(RED_CIRCLE, x=0.8, y=0.2)))
    assert answer_of(twice, "count", "red circles") == {"2."}
    assert answer_of(twice, "count", "blue stars") == {"1."}
    assert answer_of(twice, "count", "crosses") == {"0."}
    assert answer_of(twice, "count", "blue circles") == {"0."}


def test_places_are_those_of_the_picture() -> None:
    assert answer_of(PAIR, "quadrant", "circle") == {"Top left."}
    assert answer_of(PAIR, "quadrant", "blue") == {"Bottom right."}


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (("is the circle to the left of the star",), "Yes."),
        (("is the star to the left of the circle",), "No."),
        (("the circle is above the star",), "Yes."),
        (("what is above the star",), "A red circle."),
        (("what is below the star",), "Nothing."),
        (("shape is leftmost",), "Circle."),
    ],
)
def test_relations_are_those_of_the_picture(words: tuple[str, ...], answer: str) -> None:
    asked = [q for seed in range(8) for q in _ask_relations(seed) if all(w in q.text.lower() for w in words)]
    assert {question.answer for question in asked} == {answer}


def _ask_relations(seed: int) -> list[Question]:
    rng = np.random.default_rng(seed)
    return [Asker(PAIR, rng, clean=True).ask("relation") for _ in range(400)]


@pytest.mark.parametrize(
    ("scene", "caption"),
    [
        (PAIR, "A red circle and a blue star on a white background."),
        (replace(PAIR, things=(RED_CIRCLE,), background="orange"), "A red circle on an orange background."),
        (
            replace(PAIR, things=(BLUE_STAR, replace(BLUE_STAR, x=0.2), replace(RED_CIRCLE, x=0.5))),
            "Two blue stars and a red circle on a white background.",
        ),
        (
            replace(PAIR, things=(replace(RED_CIRCLE, x=0.74), BLUE_STAR)),
            "A red circle and a blue star on a white background.",
        ),
        (CLUSTER, None),
        (Scene("number", 100, 50, "white", (), "42", "black"), "The number 42 on a white background."),
        (Scene("word", 100, 50, "red", (), "CAT", "black"), "The word CAT on a red background."),
        (Scene("photograph", 100, 50, None), NOTHING_KNOWN),
    ],
)
def test_a_caption_reads_from_left_to_right_or_downwards(scene: Scene, caption: str | None) -> None:
    assert describe(scene) == caption


def test_what_is_written_is_read_and_nothing_is_read_into_shapes() -> None:
    number = Scene("number", 100, 50, "white", (), "305", "black")
    assert {q.answer for q in ask_often(number, "read")} == {"305."}
    assert {q.answer for q in ask_often(PAIR, "read")} <= {
        f"There is no {noun}." for noun in ("number", "word", "digit", "text")
    }


def test_a_photograph_has_nothing_in_it() -> None:
    photograph = Scene("photograph", 100, 100, None)
    for kind in ("caption", "shape", "read", "background"):
        assert {q.answer for q in ask_often(photograph, kind)} == {NOTHING_KNOWN}
    assert {q.answer for q in ask_often(photograph, "existence")} == {"No."}
    assert {q.answer for q in ask_often(photograph, "count")} == {"0."}


def test_of_two_pictures_the_one_that_is_meant_is_answered() -> None:
    first, second = (
        replace(PAIR, things=(RED_CIRCLE,)),
        replace(PAIR, things=(BLUE_STAR,), background="black"),
    )
    rng = np.random.default_rng(0)
    asked = [ask_of_two(first, second, rng) for _ in range(1500)]
    which = [
        q for q in asked if "which" in q.text.lower() and q.text.lower().rstrip("?. ").endswith("a star")
    ]
    assert which
    assert {q.answer for q in which} == {"The second."}
    backgrounds = [q for q in asked if "background" in q.text.lower() and "first" in q.text.lower()]
    assert {q.answer for q in backgrounds} == {"White."}


def test_every_off_topic_text_has_the_same_answer() -> None:
    assert {q.answer for q in ask_often(PAIR, "off-topic")} == {REFUSAL}
    rng = np.random.default_rng(0)
    texts = {offtopic.sample(rng) for _ in range(500)}
    assert len(texts) > 400
    assert all(text.strip() for text in texts)


def test_wordings_of_the_evaluation_are_not_learned() -> None:
    for kind, sentences in wording.UNSEEN.items():
        assert not set(sentences) & set(wording.SEEN[kind])


@pytest.mark.parametrize("kind", sorted(wording.SEEN))
def test_every_wording_can_be_filled_in(kind: str) -> None:
    rng = np.random.default_rng(0)
    names = ("what", "many", "color", "a", "b", "relation", "side")
    words = dict.fromkeys(names, "x")
    for sentence in (*wording.SEEN[kind], *wording.UNSEEN.get(kind, ())):
        for _ in range(5):
            text = wording.fill(sentence, rng, **words)
            assert not set("[]{}|") & set(text), text


def test_a_question_that_does_not_suit_the_picture_is_an_error() -> None:
    with pytest.raises(LookupError, match="caption"):
        Asker(CLUSTER, np.random.default_rng(0)).ask("caption")


def test_plurals_are_known_for_all_shapes() -> None:
    assert {shape: f"{shape}s" for shape in SHAPES} | {"cross": "crosses"} == PLURALS
    assert len(scenes.WORDS) == len(set(scenes.WORDS))
