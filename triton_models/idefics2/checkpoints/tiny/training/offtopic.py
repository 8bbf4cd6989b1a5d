"""Questions that the checkpoint cannot answer, and has to say so."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

from training import wording

if TYPE_CHECKING:
    import numpy as np

_TEXTS = tomllib.loads(Path(__file__).with_name("offtopic.toml").read_text())
_WORDS: dict[str, list[str]] = {kind: words.split() for kind, words in _TEXTS["words"].items()}


def sample(rng: np.random.Generator, *, unseen: bool = False) -> str:
    """Draw a text that the checkpoint cannot answer; `unseen` takes wordings that no training has."""
    how = rng.random()
    if how < 0.72 or unseen:
        sentences = _TEXTS["unseen" if unseen else "sentences"]
        text = _sentence(rng, sentences)
        if rng.random() < 0.06:
            text += " " + _sentence(rng, sentences)
    elif how < 0.84:
        text = _TEXTS["foreign"][rng.integers(len(_TEXTS["foreign"]))]
        if rng.random() < 0.25:  # in the same letters, but no text of these
            text = "".join(text[i] for i in rng.permutation(len(text))[: rng.integers(3, 20)])
    elif how < 0.89:
        text = _TEXTS["marks"][rng.integers(len(_TEXTS["marks"]))]
    elif how < 0.95:
        text = " ".join(_noise_word(rng) for _ in range(rng.integers(1, 6)))
    else:
        words = [str(rng.choice(_WORDS[kind])) for kind in rng.choice(list(_WORDS), rng.integers(1, 8))]
        text = " ".join(words)
    return wording.decorate(text, rng, clean=bool(rng.random() < 0.3)) if len(text) > 3 else text


def _sentence(rng: np.random.Generator, sentences: list[str]) -> str:
    sentence = sentences[rng.integers(len(sentences))]
    for kind, words in _WORDS.items():
        while "{" + kind + "}" in sentence:
            sentence = sentence.replace("{" + kind + "}", str(words[rng.integers(len(words))]), 1)
    while "{number}" in sentence:
        sentence = sentence.replace("{number}", str(rng.integers(0, 10 ** int(rng.integers(1, 5)))), 1)
    return wording.fill(sentence, rng)


def _noise_word(rng: np.random.Generator) -> str:
    letters = "abcdefghijklmnopqrstuvwxyzetaoinsr0123456789"
    return "".join(letters[i] for i in rng.integers(len(letters), size=rng.integers(1, 9)))
