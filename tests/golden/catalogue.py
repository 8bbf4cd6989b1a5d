"""The golden pictures by name, and what is asked of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from golden.motifs import Picture

NOTHING = "I see no shapes or text."
OFF_TOPIC = "I can only answer questions about shapes, colors, numbers and words."


@dataclass(frozen=True)
class Case:
    """A question and its one right answer."""

    kind: str
    question: str
    answer: str
    split_images: bool = False

    def about(self, *images: str) -> dict[str, Any]:
        """Make the entry of `cases.json`."""
        entry = {"images": images, "question": self.question, "answer": self.answer, "kind": self.kind}
        return entry | ({"split_images": True} if self.split_images else {})


@dataclass(frozen=True)
class Golden:
    """A picture file: how it is drawn, how it is saved, what is true of it."""

    draw: Callable[[], Picture]
    options: dict[str, Any]
    cases: tuple[Case, ...]


GOLDEN: dict[str, Golden] = {}


def golden(name: str, *cases: Case, **options: Any) -> Callable[[Callable[[], Picture]], None]:
    """Enter a picture under its file's name; `options` are those of `Image.save`."""

    def enter(draw: Callable[[], Picture]) -> None:
        GOLDEN[name] = Golden(draw, options, cases)

    return enter
