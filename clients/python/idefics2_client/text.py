"""Text of others, on its way to a terminal."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import TextIO


def strip_controls(text: str) -> str:
    """Drop what a terminal would obey, newline and tab apart: nobody vouches for a model's text."""
    return "".join(letter for letter in text if letter in "\n\t" or unicodedata.category(letter) != "Cc")


def fit(text: str, out: TextIO) -> str:
    """Return what to write of a model's text: letter for letter, unless a terminal reads it."""
    return strip_controls(text) if out.isatty() else text
