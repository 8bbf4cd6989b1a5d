"""What a picture is to the model: its crops' patches and its tokens, by the engine's own rules."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from idefics2_engine.images import Sizing, plan_crops

FULL_SIZING = Sizing(shortest_edge=378, longest_edge=980, patch_size=14, resample=2)
"""Idefics2-8B's."""
TINY_SIZING = Sizing(shortest_edge=64, longest_edge=128, patch_size=16, resample=2)
"""The embedded checkpoint's."""
TEMPLATE_TOKENS = 3
"""What stands before the first image: the beginning, and `User:`."""


@dataclass(frozen=True)
class Picture:
    """A file that somebody asks about."""

    width: int
    height: int
    split: bool
    num_bytes: int
    """Of the file, compressed as it is."""

    @property
    def megapixels(self) -> float:
        """What its decoding takes time by."""
        return self.width * self.height / 1e6


@lru_cache(maxsize=1024)
def count_crops(picture: Picture, sizing: Sizing) -> tuple[int, ...]:
    """Return the patches of each crop, in the order in which the prompt shows them."""
    sizes = plan_crops(picture.width, picture.height, sizing, split=picture.split)
    return tuple((width // sizing.patch_size) * (height // sizing.patch_size) for _, (width, height) in sizes)


def place_crops(num_crops: int, num_latents: int) -> tuple[int, ...]:
    """Return the position of each crop's first token in a prompt: a mark stands before each."""
    return tuple(TEMPLATE_TOKENS + 1 + number * (num_latents + 1) for number in range(num_crops))


def count_image_tokens(num_crops: int, num_latents: int) -> int:
    """Count the tokens of a picture: its crops' and the marks around them, which neighbours share."""
    return num_crops * num_latents + num_crops + 1
