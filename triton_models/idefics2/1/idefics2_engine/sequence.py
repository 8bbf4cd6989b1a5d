"""One request on its way through the engine."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from idefics2_engine.errors import EngineFault
from idefics2_engine.sampler import Row

if TYPE_CHECKING:
    from collections.abc import Iterator

    from idefics2_engine.detokenizer import Detokenizer
    from idefics2_engine.image_cache import SeenImage
    from idefics2_engine.images import Crop
    from idefics2_engine.processor import PreparedRequest


@dataclass(frozen=True)
class CropSpan:
    """The tokens of one crop in a prompt. Spans of the same crop of the same image are equal."""

    image: SeenImage
    number: int
    """Of the image's crops."""
    start: int
    """The position of the first token."""

    def __eq__(self, other: object) -> bool:
        """Tell whether both show the same."""
        return isinstance(other, CropSpan) and (self.image, self.number) == (other.image, other.number)

    def __hash__(self) -> int:
        """Agree with equality."""
        return hash((self.image, self.number))

    @property
    def crop(self) -> Crop:
        """Its pixels; only before it is encoded."""
        if self.image.decoding is None:
            raise LookupError(f"crop {self.number} has no pixels")
        return self.image.decoding.result()[self.number]

    @property
    def num_patches(self) -> int:
        """How much the vision tower has to read; 0 if it has done so."""
        return 0 if self.is_seen else len(self.crop.patches)

    @property
    def is_seen(self) -> bool:
        """Whether it is encoded."""
        return self.image.hidden_states[self.number] is not None


class Sequence:
    """Prompt, tokens generated so far, and what is needed to make the next one."""

    def __init__(self, prepared: PreparedRequest, number: int, detokenizer: Detokenizer) -> None:
        """Begin with the prompt alone; `number` grows from one sequence to the next."""
        self.request_id = prepared.request_id
        self.sampling = prepared.sampling
        self.number = number
        self.detokenizer = detokenizer
        self.token_ids = list(prepared.token_ids)
        self.num_prompt_tokens = prepared.num_prompt_tokens
        self.num_image_tokens = prepared.num_image_tokens
        self.num_cached_images = prepared.num_cached_images
        self._num_images = prepared.num_images
        self.num_cached_tokens = 0
        """How many of the prompt's came from the prefix cache."""
        self.num_read_tokens = 0
        """How many tokens have keys and values in the slot."""
        self.slot = -1
        self.spans = prepared.spans
        """Where crops stand in the prompt; none once it is read, so that images can be let go."""
        self.num_latents = prepared.num_latents
        self.prefix_keys = prepared.prefix_keys
        self.clock = Clock(prepared.seconds)

    @property
    def is_decoding(self) -> bool:
        """Whether all tokens but the last are read."""
        return self.num_read_tokens >= self.num_prompt_tokens

    @property
    def num_generated_tokens(self) -> int:
        """How many tokens the answer has."""
        return len(self.token_ids) - self.num_prompt_tokens

    @property
    def is_full(self) -> bool:
        """Whether the answer has as many tokens as it may have."""
        return self.num_generated_tokens >= self.sampling.max_new_tokens

    @property
    def shows_news(self) -> bool:
        """Whether its prompt, as long as it has no answer, shows what was not known when it came."""
        return bool(self.spans) and self.num_cached_images < self._num_images

    @property
    def row(self) -> Row:
        """How its next token is chosen."""
        return Row(self.slot, self.sampling, len(self.token_ids), self.num_generated_tokens)

    def find_unseen(self, end: int) -> Iterator[CropSpan]:
        """List the crops with unread tokens before `end` that are not encoded yet."""
        for span in self.spans:
            if not span.is_seen and self._shows(span, end):
                yield span

    def find_shown(self, end: int) -> Iterator[CropSpan]:
        """List the crops with unread tokens before `end`."""
        return (span for span in self.spans if self._shows(span, end))

    def check_sight(self) -> None:
        """Look whether all that was seen in its pictures are numbers, as long as it has no answer.

        Raises:
            EngineFault: some are not.

        """
        states = [span.image.hidden_states[span.number] for span in self.spans]
        if not all(part.isfinite().all() for part in states if part is not None):
            raise EngineFault("what was seen in a picture are no numbers")

    def _shows(self, span: CropSpan, end: int) -> bool:
        return span.start < end and span.start + self.num_latents > self.num_read_tokens


class Clock:
    """Seconds that a request spent in each stage, by the engine's own clock."""

    def __init__(self, seconds: dict[str, float]) -> None:
        """Go on from the seconds of the stages before."""
        self.seconds = dict(seconds)
        self._since = time.monotonic()

    def enter(self, ended: str) -> None:
        """End a stage; the next one begins."""
        now = time.monotonic()
        self.seconds[ended] = self.seconds.get(ended, 0.0) + now - self._since
        self._since = now
