"""The recipe's answers are true, and its questions are those that people ask."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from training import scenes, wording
from training.descriptions import NOTHING_KNOWN, PLURALS, describe
from training.pairs import ask_of_two
from training.questions import REFUSAL, Asker, Question
from training.scenes import SHAPES, Scene, Thing

RED_CIRCLE = Thing("circle", "red", 0.25, 0.25, 0.2)
BLUE_STAR = Thing("star", "blue", 0.75, 0.75, 0.2)
PAIR = Scene("shapes", 200, 200, "white", (RED_CIRCLE, BLUE_STAR))
PLAIN = {
    "caption": "caption",
    "caption of two": "captions",
    "number of pictures": "pictures",
    "which picture": "which has {what}",
    "background": "background",
    "color": "color of {what}",
    "colors": "colors of {what}",
    "shape": "shape",
    "shapes": "shapes",
    "shape of color": "what is {color}",
    "exists": "is there {what}",
    "exists color": "is anything {color}",
    "count": "how many {many}",
    "quadrant": "quadrant of {what}",
    "where": "where is {what}",
    "shape at side": "shape at {side}",
    "color at side": "color at {side}",
    "is related": "is {a} {relation} {b}",
    "what is related": "what is {relation} {b}",
    "relation": "where is {a} from {b}",
    "read number": "number",
    "read word": "word",
    "read digit": "digit",
    "read text": "text",
}
"""A wording of each kind by which its questions are known."""
CLUSTER = replace(PAIR, things=(RED_CIRCLE, replace(BLUE_STAR, x=0.3), replace(RED_CIRCLE, x=0.35)))
"""Neither a row nor a column: no one could say which comes first."""


@pytest.fixture(autouse=True)
def plain_wordings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Word questions so that a test knows them."""
    monkeypatch.setattr(wording, "SEEN", {kind: (sentence,) for kind, sentence in PLAIN.items()})
    monkeypatch.setattr(wording, "_NOUNS", {"thing": ("thing",), "things": ("things",), "image": ("image",)})
    monkeypatch.setattr(wording, "decorate", lambda text, *_, place="", **__: f"{text} {place}".strip())


def ask_often(scene: Scene, kind: str, times: int = 300) -> list[Question]:
    rng = np.random.default_rng(4)
    return [Asker(scene, rng, clean=True).ask(kind) for _ in range(times)]


def answer_of(scene: Scene, kind: str, text: str) -> str:
    """Return the one answer to a question."""
    answers = {question.answer for question in ask_often(scene, kind, 900) if question.text.lower() == text}
    assert len(answers) == 1, (text, answers)
    return answers.pop()


@pytest.mark.parametrize(
    ("kind", "text", "answer"),
    [
        ("existence", "is there a red circle", "Yes."),
        ("existence", "is there a blue circle", "No."),
        ("existence", "is there a triangle", "No."),
        ("existence", "is there a red thing", "Yes."),
        ("existence", "is anything blue", "Yes."),
        ("existence", "is anything green", "No."),
        ("color", "color of circle", "Red."),
        ("color", "color of ring", "There is no ring."),
        ("color", "colors of things", "Red and blue."),
        ("shape", "what is blue", "Star."),
        ("shape", "what is green", "There is no green shape."),
        ("shape", "shapes", "Circle and star."),
        ("background", "background", "White."),
        ("quadrant", "quadrant of circle", "Top left."),
        ("quadrant", "quadrant of blue thing", "Bottom right."),
        ("quadrant", "where is red circle", "Top left."),
        ("relation", "is circle to the left of star", "Yes."),
        ("relation", "is star to the left of circle", "No."),
        ("relation", "is circle above star", "Yes."),
        ("relation", "what is above star", "A red circle."),
        ("relation", "what is below star", "Nothing."),
        ("relation", "shape at left", "Circle."),
        ("relation", "color at bottom", "Blue."),
    ],
)
def test_an_answer_is_true_of_the_picture(kind: str, text: str, answer: str) -> None:
    assert answer_of(PAIR, kind, text) == answer


def test_the_greater_distance_tells_where_a_thing_is() -> None:
    wide = replace(PAIR, things=(RED_CIRCLE, replace(BLUE_STAR, y=0.35)))
    assert answer_of(wide, "relation", "where is star from circle") == "To the right."
    assert answer_of(wide, "relation", "where is circle from star") == "To the left."
    high = replace(PAIR, things=(RED_CIRCLE, replace(BLUE_STAR, x=0.35)))
    assert answer_of(high, "relation", "where is star from circle") == "Below."


@pytest.mark.parametrize(
    ("many", "answer"),
    [("red circles", "2."), ("circles", "2."), ("stars", "1."), ("crosses", "0."), ("red stars", "0.")],
)
def test_counting_counts_what_is_meant(many: str, answer: str) -> None:
    twice = replace(PAIR, things=(*PAIR.things, replace(RED_CIRCLE, x=0.8, y=0.2)))
    assert answer_of(twice, "count", f"how many {many}") == answer


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
    answers = {(question.text.lower(), question.answer) for question in asked}
    expected = {
        "which has a star": "The second.",
        "which has a red circle": "The first.",
        "background first": "White.",
        "background second": "Black.",
        "how many things second": "1.",
        "color of star second": "Blue.",
        "pictures": "2.",
        "captions": "A red circle on a white background. A blue star on a black background.",
    }
    for text, answer in expected.items():
        assert {said for words, said in answers if words == text} == {answer}, text


def test_every_off_topic_text_has_the_same_answer() -> None:
    assert {q.answer for q in ask_often(PAIR, "off-topic")} == {REFUSAL}


def test_a_question_that_does_not_suit_the_picture_is_an_error() -> None:
    with pytest.raises(LookupError, match="caption"):
        Asker(CLUSTER, np.random.default_rng(0)).ask("caption")


def test_plurals_are_known_for_all_shapes() -> None:
    assert {shape: f"{shape}s" for shape in SHAPES} | {"cross": "crosses"} == PLURALS
    assert len(scenes.WORDS) == len(set(scenes.WORDS))
