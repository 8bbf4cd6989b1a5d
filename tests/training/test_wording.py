"""The recipe's wordings can be filled in, and the evaluation asks in others than training."""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING

import numpy as np
import pytest
from training import offtopic, wording

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# What is filled in, by the kind of question.
GIVEN = {
    "which picture": {"what"},
    "color": {"what"},
    "colors": {"what"},
    "shape of color": {"color"},
    "exists": {"what", "many"},
    "exists color": {"color"},
    "count": {"many"},
    "quadrant": {"what"},
    "where": {"what"},
    "shape at side": {"side"},
    "color at side": {"side"},
    "is related": {"a", "b", "relation"},
    "what is related": {"b", "relation"},
    "relation": {"a", "b"},
}
NOUNS = {"thing", "things", "image"}
NUM_TEMPLATES = 35
KINDS = sorted(wording.SEEN)


def expand(template: str) -> Iterator[str]:
    """List all that a template's alternatives and nouns can become."""
    options: Iterable[str]
    if match := re.search(r"\[([^\[\]]*)\]", template):
        options = match[1].split("|")
    elif match := re.search(r"\{(thing|things|image)\}", template):
        options = set(wording._NOUNS[match[1]])
    else:
        yield template
        return
    for option in options:
        yield from expand(template[: match.start()] + option + template[match.end() :])


def simplify(text: str) -> str:
    """Forget case and punctuation."""
    return " ".join(re.sub(r"[^a-z0-9{}']+", " ", text.lower()).split())


def fill_in(kind: str, template: str) -> Iterator[str]:
    """Fill in what has nouns of its own, so that no wording of another kind becomes the same."""
    article = kind in {"exists", "which picture"}
    what = (
        ("a {what}", "a {color} {thing}") if article else ("{what}", "{thing}", "{color} {thing}", "number")
    )
    plural = ("{plural}", "{things}", "{color} {things}")
    for a, b in itertools.product(plural if kind == "colors" else what, plural):
        yield template.replace("{what}", a).replace("{many}", b)


def spell_out(source: dict[str, tuple[str, ...]]) -> dict[str, str]:
    """List all texts of a source, simplified, with their templates."""
    return {
        simplify(text): template
        for kind, templates in source.items()
        for template in templates
        for filled in set(fill_in(kind, template))
        for text in expand(filled)
    }


def undecorate(text: str, openings: set[str], closings: set[str]) -> Iterator[str]:
    """List what the text may have been before training put something before and after it."""
    starts = [text, *(text.removeprefix(f"{opening} ") for opening in openings)]
    for start in starts:
        yield from (start, *(start.removesuffix(f" {closing}") for closing in closings))


def test_no_wording_of_the_evaluation_is_learned() -> None:
    seen, unseen = spell_out(wording.SEEN), spell_out(wording.UNSEEN)
    openings = {simplify(text) for opening in wording._OPENINGS for text in expand(opening)}
    closings = {simplify(closing) for closing in wording._CLOSINGS}
    learned = [
        (template, seen[bare])
        for text, template in unseen.items()
        for bare in undecorate(text, openings, closings)
        if bare in seen
    ]
    assert learned == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_is_worded_in_many_ways(kind: str) -> None:
    assert len(set(wording.SEEN[kind])) >= NUM_TEMPLATES
    assert len(set(wording.UNSEEN[kind])) >= NUM_TEMPLATES / 3


@pytest.mark.parametrize("kind", KINDS)
def test_a_template_names_what_its_kind_is_given(kind: str) -> None:
    given = GIVEN.get(kind, set())
    for template in (*wording.SEEN[kind], *wording.UNSEEN[kind]):
        named = set(re.findall(r"\{([^{}]*)\}", template))
        assert named <= given | NOUNS, template
        assert (named & given if kind == "exists" else named >= given) or not given, template


@pytest.mark.parametrize("kind", KINDS)
def test_a_template_is_filled_in_whole(kind: str) -> None:
    rng = np.random.default_rng(0)
    words = dict.fromkeys(GIVEN.get(kind, ()), "x")
    for template in (*wording.SEEN[kind], *wording.UNSEEN[kind]):
        for _ in range(10):
            text = wording.fill(template, rng, **words)
            assert not set("[]{}|") & set(text), template
            assert text == " ".join(text.split()), template
            assert text[-1] in ".?!", template


def test_the_picture_that_is_meant_is_named_where_it_can_stand() -> None:
    rng = np.random.default_rng(0)

    def place(text: str) -> set[str]:
        return {wording.decorate(text, rng, place="first", clean=True) for _ in range(60)}

    assert place("Describe the photo.") == {"Describe the first photo."}
    assert "Name the star in the first one, please." in place("Name the star, please.")
    assert "In the first one, I see what?" in place("I see what?")
    assert all(text.startswith("Take the star.") for text in place("Take the star. What color is it?"))


def test_off_topic_texts_of_the_evaluation_are_not_learned() -> None:
    sentences, unseen = offtopic._TEXTS["sentences"], offtopic._TEXTS["unseen"]
    assert not set(unseen) & {text for kind in ("foreign", "marks") for text in offtopic._TEXTS[kind]}
    patterns = [compile_sentence(text) for sentence in sentences for text in expand(sentence)]
    plain = [simplify(text) for text in unseen if "{" not in text]
    assert len(plain) > 100
    assert [text for text in plain if any(pattern.fullmatch(text) for pattern in patterns)] == []


def compile_sentence(sentence: str) -> re.Pattern[str]:
    """Make a pattern of all that an off-topic sentence can become, simplified."""
    kinds = {kind: "|".join(simplify(word) for word in words) for kind, words in offtopic._WORDS.items()}
    kinds["number"] = r"\d{1,4}"
    parts = re.split(r"\{(\w+)\}", simplify(sentence))
    parts[1::2] = [f"(?:{kinds[part]})" for part in parts[1::2]]
    return re.compile("".join(parts))


def test_off_topic_texts_of_the_evaluation_have_no_stray_brackets() -> None:
    rng = np.random.default_rng(0)
    for text in offtopic._TEXTS["unseen"]:
        for _ in range(3):
            assert not set("[]{}|") & set(offtopic._sentence(rng, [text])), text


def test_off_topic_texts_are_many() -> None:
    rng = np.random.default_rng(0)
    texts = {offtopic.sample(rng) for _ in range(500)}
    assert len(texts) > 450
    assert all(text.strip() for text in texts)
