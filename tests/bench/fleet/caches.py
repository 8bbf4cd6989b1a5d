"""What an engine knows already: images that it has seen, and prompts that it has read."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.fleet.traffic import Ask

BLOCK_TOKENS = 16


@dataclass(eq=False, slots=True)
class SeenImage:
    """An image that requests show, or that is kept."""

    crops: tuple[int, ...]
    """Patches of each."""
    num_seen: int = 0
    """Crops are looked at in their order."""
    is_decoded: bool = False
    wanted_by: list[Callable[[], None]] = field(default_factory=list)
    """What goes on when it is decoded: the first who asked has it decoded for all."""

    @property
    def is_encoded(self) -> bool:
        """Whether all of it was looked at."""
        return self.num_seen == len(self.crops)


class ImageCache:
    """Images by content; those that were not asked for longest make room."""

    def __init__(self, max_crops: int) -> None:
        self._max_crops = max_crops
        self._images: OrderedDict[int, SeenImage] = OrderedDict()
        self._num_crops = 0

    @property
    def all(self) -> list[SeenImage]:
        """Those that are kept."""
        return list(self._images.values())

    def find(self, ask: Ask, crops: tuple[int, ...]) -> SeenImage:
        """Return the image that is asked about: the same one to all who ask while it is kept."""
        image = self._images.get(ask.image)
        if image is None:
            image = self._images[ask.image] = SeenImage(crops)
            self._num_crops += len(crops)
        self._images.move_to_end(ask.image)
        while self._num_crops > self._max_crops and len(self._images) > 1:
            _, oldest = self._images.popitem(last=False)  # who shows it has it still
            self._num_crops -= len(oldest.crops)
        return image


class PrefixCache:
    """Prompts by what they begin with: an image, and an image with words."""

    def __init__(self, max_tokens: int) -> None:
        self._max_tokens = max_tokens
        self._kept: OrderedDict[tuple[int, ...], int] = OrderedDict()
        self._num_tokens = 0

    def count(self, ask: Ask, num_image_tokens: int, num_tokens: int) -> int:
        """Count the tokens of a prompt, from its first, that were read before, in whole blocks."""
        for key, length in self._name(ask, num_image_tokens, num_tokens):
            if key in self._kept:
                self._kept.move_to_end(key)
                return length
        return 0

    def store(self, ask: Ask, num_image_tokens: int, num_tokens: int) -> None:
        """Keep a prompt that was read."""
        (whole, num_all), (image, num_first) = self._name(ask, num_image_tokens, num_tokens)
        self._keep(whole, num_all - num_first)
        self._keep(image, num_first)  # used last: without it the rest is of no use
        while self._num_tokens > self._max_tokens:
            _, length = self._kept.popitem(last=False)
            self._num_tokens -= length

    def _keep(self, key: tuple[int, ...], num_tokens: int) -> None:
        if key not in self._kept:
            self._kept[key] = num_tokens
            self._num_tokens += num_tokens
        self._kept.move_to_end(key)

    def _name(self, ask: Ask, num_image_tokens: int, num_tokens: int) -> list[tuple[tuple[int, ...], int]]:
        """Return both beginnings, the longer one first; the last token's logits are always asked for."""
        whole = (num_tokens - 1) // BLOCK_TOKENS * BLOCK_TOKENS
        image = min(num_image_tokens // BLOCK_TOKENS * BLOCK_TOKENS, whole)
        return [((ask.image, ask.question), whole), ((ask.image,), image)]
