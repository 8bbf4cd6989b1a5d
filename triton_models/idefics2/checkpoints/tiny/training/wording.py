"""How people word a question. Alternatives stand in brackets, [a|b]; what is filled in, in braces."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

_CHOICE = re.compile(r"\[([^\[\]]*)\]")
_NOUNS = {
    "thing": ("shape", "shape", "shape", "object", "figure", "form", "thing"),
    "things": ("shapes", "shapes", "shapes", "objects", "figures", "things", "items"),
    "image": ("image", "picture", "image", "picture", "photo", "drawing", "pic"),
}

_READ_ANY = (
    "[Read|Transcribe|Type|Copy] the {noun}[| in the {image}| shown| you see].",
    "[Which|What] {noun} [is this|is it|do you see|is shown|is written here]?",
    "[Which|What] {noun} [is in the {image}|is there|can you see]?",
    "[What is|What's|Tell me|Give me|Say|Name] the {noun}[| in the {image}| written here| shown here]?",
    "What {noun} does the {image} show?",
    "What {noun} is [on|in] this {image}?",
    "{noun}?",
    "Can you read the {noun}?",
)


def _reads(noun: str, *more: str) -> tuple[str, ...]:
    return tuple(sentence.replace("{noun}", noun) for sentence in (*_READ_ANY, *more))


SEEN = {
    "caption": (
        "Describe the {image}.",
        "Describe the {image}.",
        "[Please describe|Describe] [this|the] {image}[| briefly| in one sentence| in a few words].",
        "[What do you see|What can you see|What's here|What is here|What do we see here]?",
        "[What is|What's] [in|on|shown in] [the|this] {image}?",
        "What does [the|this] {image} [show|depict|contain]?",
        "[Caption|Write a caption for|Give me a caption for] [this|the] {image}.",
        "What is this?",
        "What is [this|the|in this] {image}[| of| about]?",
        "[Tell me|Say] what [you see|is in the {image}|is on this {image}|the {image} shows].",
        "Describe what [you see|is there|is shown].",
        "Describe [it|this|everything|the scene].",
        "Give a [short|brief] description[| of the {image}].",
        "What is [depicted|drawn|shown|displayed|visible][| here]?",
    ),
    "caption of two": (
        "Describe [both|the|the two|these] [images|pictures].",
        "What do you see in [both|the two|the] [images|pictures]?",
        "What is in [each {image}|both images|the two pictures]?",
        "Describe each {image}.",
        "Describe the {image}.",
        "What do you see?",
        "What [is|do you see] in the first and the second {image}?",
    ),
    "number of pictures": (
        "How many [images|pictures] [are there|do you see|did I send]?",
        "Count the [images|pictures].",
    ),
    "which picture": (
        "[Which|What] {image} [shows|contains|has] {what}?",
        "Which of the [two |][images|pictures] [shows|contains|has] {what}?",
        "In which {image} is [there |]{what}?",
        "[Where|In which {image}] do you see {what}?",
    ),
    "background": (
        "What [color|colour] is the background?",
        "What is the [color|colour] of the background?",
        "[Which|What] [color|colour] does the background have?",
        "[Name|Tell me|Give me] the background [color|colour].",
        "Background [color|colour]?",
        "The background is [what|which] [color|colour]?",
        "What's the [background color|background colour|color of the background] [in|of] [this|the] {image}?",
        "[What color is|What colour is] [the paper|behind the {things}|the {image}'s background]?",
        "How would you name the color of the background?",
    ),
    "color": (
        "What [color|colour] is the {what}?",
        "What [color|colour] is the {what}?",
        "What [color|colour] is the {what} [in the {image}|here|shown]?",
        "[Which|What] [color|colour] does the {what} have?",
        "What is the [color|colour] of the {what}?",
        "What's the {what}'s [color|colour]?",
        "[Tell me|Name|Give me|Say] the [color|colour] of the {what}.",
        "The {what} is [what|which] [color|colour]?",
        "In [which|what] [color|colour] is the {what}[| drawn| painted]?",
        "[Color|Colour] of the {what}?",
        "Which colour is that {what}?",
    ),
    "colors": (
        "What [color|colour] are the {what}?",
        "What [color|colour] are the {what}?",
        "What [colors|colours] are the {what}[| in the {image}| here]?",
        "[Which|What] [color|colour|colors|colours] do the {what} have?",
        "What is the [color|colour] of the {what}?",
        "[Tell me|Name|Give me|List] the [colors|colours|color] of the {what}.",
        "The {what} are [what|which] [color|colour]?",
        "[Color|Colour|Colors] of the {what}?",
    ),
    "shape": (
        "What shape is [this|it|that|shown|in the {image}|here]?",
        "What shape is this?",
        "[Which|What] shape [do you see|can you see|is there|is drawn|does the {image} show]?",
        "What is the shape[| in the {image}| shown here]?",
        "[Name|Tell me|Identify|Give me] the shape[| in the {image}].",
        "What [kind|sort|type] of shape is [this|it|in the {image}]?",
        "Which [figure|form|geometric shape] is [this|shown|in the {image}]?",
        "What shape does the [object|figure|thing] have?",
        "What is the [object|figure|thing]?",
    ),
    "shapes": (
        "What shapes [are these|do you see|are in the {image}|are there|are shown|are here|can you see]?",
        "What shape [is this|is in the {image}|do you see|is it]?",
        "[Which|What] shapes does the {image} [show|contain]?",
        "What are the shapes[| in the {image}]?",
        "[Name|List|Tell me|Identify] the shapes[| in the {image}].",
        "What [kind|kinds|sort|type] of shapes are [these|in the {image}|there]?",
        "Which [figures|objects] are [shown|in the {image}|there]?",
    ),
    "shape of color": (
        "What shape is {color}?",
        "[Which|What] {thing} is {color}?",
        "What is the {color} [shape|object|thing|figure]?",
        "What shape is the {color} [one|object|thing|figure]?",
        "[Name|Tell me|Identify] the {color} shape.",
        "What {color} shape [is there|do you see|is in the {image}]?",
        "The {color} [one|shape|thing|object] is what shape?",
        "What shape does the {color} [thing|object|figure] have?",
        "What is {color}?",
    ),
    "exists": (
        "Is there {what}[| in the {image}| here| anywhere]?",
        "Is there {what}?",
        "Are there [any|some] {many}[| in the {image}| here]?",
        "Do you see {what}?",
        "Can you see {what}[| in the {image}| here]?",
        "Does [the|this] {image} [contain|show|have|include] {what}?",
        "Is {what} [in|on] [the|this] {image}?",
        "Do you see any {many}?",
        "Does {what} [appear|exist][| here| in the {image}]?",
        "Any {many}[| here| in the {image}]?",
        "Is {what} [shown|visible|present]?",
        "Are {many} [shown|visible|present|in the {image}]?",
        "[Answer yes or no: is|Yes or no: is|Tell me if|Say whether] there is {what}.",
    ),
    "exists color": (
        "Is there anything {color}[| in the {image}| here]?",
        "Is something {color}?",
        "Do you see [anything|something] {color}?",
        "Is any of the {things} {color}?",
        "Is there something {color}[| in the {image}]?",
        "Are any {things} {color}?",
    ),
    "count": (
        "How many {many} are there?",
        "How many {many} are there?",
        "How many {many} [do you see|can you see|are in the {image}|are shown|are here]?",
        "How many {many}?",
        "Count the {many}[| in the {image}].",
        "What is the number of {many}?",
        "[Tell me|Say] how many {many} [there are|you see|are in the {image}].",
        "Number of {many}?",
        "How many {many} [does the {image} contain|does the {image} show|have been drawn]?",
        "How many {many} [can be seen|are visible|are in this {image}]?",
        "[Please count|Can you count] the {many}.",
        "Give me the [number|count] of {many}.",
    ),
    "quadrant": (
        "In which [quadrant|corner] is the {what}?",
        "Which [quadrant|corner] is the {what} in?",
        "[Which|What] [quadrant|corner|quarter] [of the {image} |][contains|has] the {what}?",
        "In [what|which] quarter of the {image} is the {what}?",
        "[Name|Tell me|Give me] the [quadrant|corner] of the {what}.",
    ),
    "where": (
        "Where is the {what}?",
        "Where is the {what}[| in the {image}| located| placed]?",
        "Where [in|on] the {image} is the {what}?",
        "Where do you see the {what}?",
        "Where can [I|you|one] [find|see] the {what}?",
        "What is the [position|location|place] of the {what}?",
        "[Tell me|Say] where the {what} is.",
        "In [which|what] [part|area|region] of the {image} is the {what}?",
        "Position of the {what}?",
    ),
    "shape at side": (
        "[Which|What] shape is [on|at] the {side}?",
        "What shape is [furthest|nearest] to the {side}?",
        "What is the shape [on|at] the {side}?",
        "What is [on|at] the {side}? Name the shape.",
        "[Name|Tell me] the shape [on|at] the {side}.",
        "Which shape is {side}most?",
        "What is the {side}most shape?",
    ),
    "color at side": (
        "What [color|colour] is the {thing} [on|at] the {side}?",
        "What is the [color|colour] of the {side}most {thing}?",
        "What [color|colour] is the {side}most {thing}?",
        "[Name|Tell me] the [color|colour] of the {thing} [on|at] the {side}.",
        "Which [color|colour] does the {thing} [on|at] the {side} have?",
    ),
    "is related": (
        "Is the {a} {relation} the {b}?",
        "Is the {a} {relation} the {b}?",
        "Does the {a} [lie|stand|sit] {relation} the {b}?",
        "Is it true that the {a} is {relation} the {b}?",
        "The {a} is {relation} the {b}, [right|yes or no|is that true]?",
        "[Can|Do] you see the {a} {relation} the {b}?",
        "[Tell me if|Say whether] the {a} is {relation} the {b}.",
    ),
    "what is related": (
        "What is {relation} the {b}?",
        "What do you see {relation} the {b}?",
        "[Which {thing}|What {thing}|What] is {relation} the {b}?",
        "What [lies|stands|is there|can be seen] {relation} the {b}?",
        "[Tell me|Say] what is {relation} the {b}.",
    ),
    "relation": (
        "Where is the {a} relative to the {b}?",
        "Where is the {a} [compared|in relation] to the {b}?",
        "Where is the {a}, seen from the {b}?",
        "On which side of the {b} is the {a}?",
        "What is the position of the {a} relative to the {b}?",
        "How is the {a} placed relative to the {b}?",
    ),
    "read number": _reads(
        "number",
        "What number [is|was] [printed|written][| here| in the {image}]?",
        "Which number do you read?",
    ),
    "read word": _reads(
        "word",
        "What word [is|was] [printed|written][| here| in the {image}]?",
        "Which word do you read?",
        "Spell the word.",
    ),
    "read digit": _reads(
        "digit",
        "Which [handwritten digit|digit] [is this|do you see|is it]?",
        "What digit was [written|drawn|handwritten][| here]?",
        "Recognize the [digit|handwritten digit].",
    ),
    "read text": _reads(
        "text",
        "What does it say?",
        "What does [the|this] {image} say?",
        "What [is|was] written[| here| in the {image}| on it]?",
        "Read it.",
        "What does the [text|writing] say?",
        "Can you read [this|it|what is written]?",
    ),
}

# Kept for the evaluation: no training asks in these words.
UNSEEN = {
    "caption": (
        "Could you summarize what this {image} shows?",
        "What am I looking at?",
        "Explain what is visible in this {image}.",
    ),
    "background": ("The color behind everything is?", "What color fills the background of the {image}?"),
    "color": (
        "Could you say which color the {what} has?",
        "What color was used for the {what}?",
        "I want to know the color of the {what}.",
    ),
    "colors": ("Could you say which color the {what} have?", "What color was used for the {what}?"),
    "shape": ("What geometric figure do you see here?", "Could you name this shape?"),
    "shapes": ("Which kinds of shapes do you see here?", "Could you name these shapes?"),
    "shape of color": ("Could you name the shape that is {color}?", "Which shape has the color {color}?"),
    "exists": ("Would you say there is {what} in this {image}?", "Can {what} be found here?"),
    "exists color": ("Did you find anything {color} here?",),
    "count": (
        "How many {many} can you find?",
        "What's the total number of {many}?",
        "Please tell me how many {many} the {image} has.",
    ),
    "quadrant": ("The {what} is in which quadrant of the {image}?",),
    "where": ("Whereabouts is the {what}?", "Where exactly is the {what} in this {image}?"),
    "shape at side": ("Which shape do you see on the {side}?",),
    "color at side": ("Which color is the {thing} that is on the {side}?",),
    "is related": ("Would you say the {a} is {relation} the {b}?",),
    "what is related": ("Which shape can be found {relation} the {b}?",),
    "relation": ("Relative to the {b}, where is the {a}?",),
    "read number": ("Please tell me which number you see.", "What number appears here?"),
    "read word": ("Please tell me which word you see.", "What word appears here?"),
    "read digit": ("Please tell me which digit you see.", "What digit appears here?"),
    "read text": ("Please tell me what is written there.", "What text appears here?"),
}

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
    "Here is a {image}. ",
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
        sentence = opening + (sentence if opening[-2] in ".!" else sentence[0].lower() + sentence[1:])
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
    if rng.random() < 0.4:
        return f"{where[1:].capitalize()}, {sentence[0].lower()}{sentence[1:]}"
    return f"{sentence[:-1]}{where}{sentence[-1]}"


def _mistype(sentence: str, rng: np.random.Generator) -> str:
    """Forget, double or swap a letter."""
    at = int(rng.integers(1, len(sentence) - 2))
    how = rng.integers(3)
    if how == 0:
        return sentence[:at] + sentence[at + 1 :]
    if how == 1:
        return sentence[:at] + sentence[at] + sentence[at:]
    return sentence[:at] + sentence[at + 1] + sentence[at] + sentence[at + 2 :]
