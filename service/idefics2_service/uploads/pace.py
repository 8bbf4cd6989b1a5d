"""How much of a file to read at a time for somebody who may stop to take it."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Protocol

from idefics2_service.uploads.pieces import PIECE_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

LEAST_BYTES = 16_384
"""What is read for everybody, whether there is room or not."""
_PROMPT_SECONDS = 0.5


class Room(Protocol):
    """Room for bytes, shared with others."""

    def resize(self, num_bytes: int) -> bool:
        """Hold so many in all, if there is room for them now."""
        ...


class Pace:
    """Twice as much each time for who keeps up, so that few calls bring a file; little again for who is slow.

    So callers who do not read at all cost little, however many they are.
    """

    def __init__(self, room: Room, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with little; more is held in `room`. `clock` tells seconds."""
        self._room = room
        self._clock = clock
        self._asked_at = -math.inf
        self._num_bytes = LEAST_BYTES

    def step(self) -> int:
        """Return how many bytes to read next, at most; those before are taken."""
        now, before = self._clock(), self._asked_at
        self._asked_at = now
        if now - before > _PROMPT_SECONDS:
            self._room.resize(0)
            self._num_bytes = LEAST_BYTES
        elif self._room.resize(min(2 * self._num_bytes, PIECE_BYTES)):
            self._num_bytes = min(2 * self._num_bytes, PIECE_BYTES)
        return self._num_bytes
