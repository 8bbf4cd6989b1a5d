"""Turns on the model: who waits, in which order, and how many are before whom."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from idefics2_service.errors import QueueFull
from idefics2_service.shares import Shares

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


@dataclass(eq=False)
class _Waiter:
    """One request in the line."""

    key_id: str
    tell_position: Callable[[int], None]
    turn: asyncio.Future[None]
    position: int = -1
    since: float = field(default_factory=time.monotonic)


class Turns:
    """`max_running` turns at a time, first come, first served."""

    def __init__(self, max_running: int, max_waiting: int) -> None:
        """Begin with an empty line."""
        self._max_running = max_running
        self._places = Shares(max_waiting)
        self._line: deque[_Waiter] = deque()
        self.num_running = 0

    @property
    def num_waiting(self) -> int:
        """How many are in the line."""
        return len(self._line)

    @property
    def oldest_seconds(self) -> float:
        """How long the first in the line has waited; 0 where there is none."""
        return time.monotonic() - self._line[0].since if self._line else 0.0

    def check_room(self, key_id: str) -> None:
        """Refuse at once what could not wait either.

        Raises:
            QueueFull: the line is full, or has as many of the key as places that are free.

        """
        if self.num_running < self._max_running or self._places.has_room(key_id):
            return
        message = f"too many requests are waiting: {self._places.describe(key_id)}"
        raise QueueFull(message, bound=str(self._places.capacity), value=str(self.num_waiting))

    @asynccontextmanager
    async def take(
        self, key_id: str, tell_position: Callable[[int], None], *, is_accepted: bool = False
    ) -> AsyncIterator[None]:
        """Wait for a key's turn and hold it.

        Args:
            key_id: whose it is.
            tell_position: hears how many are before this one, on each change.
            is_accepted: whether the request was accepted before, so that it waits however many do.

        Raises:
            QueueFull: as `check_room`.

        """
        await self._wait(key_id, tell_position, is_accepted=is_accepted)
        try:
            yield
        finally:
            self._give_back()

    async def _wait(self, key_id: str, tell_position: Callable[[int], None], *, is_accepted: bool) -> None:
        if self.num_running < self._max_running:
            self.num_running += 1
            tell_position(0)
            return
        if not is_accepted:
            self.check_room(key_id)
        waiter = _Waiter(key_id, tell_position, asyncio.get_running_loop().create_future())
        self._line.append(waiter)
        self._places.take(key_id)
        self._tell_positions()
        try:
            await waiter.turn
        except asyncio.CancelledError:
            self._leave(waiter)
            raise

    def _leave(self, waiter: _Waiter) -> None:
        """Take back the place, or the turn that was given in the same moment."""
        if waiter in self._line:
            self._line.remove(waiter)
            self._places.give_back(waiter.key_id)
            self._tell_positions()
        elif not waiter.turn.cancelled():
            self._give_back()

    def _give_back(self) -> None:
        """Pass a turn on to the first in the line who still waits."""
        while self._line:
            waiter = self._line.popleft()
            self._places.give_back(waiter.key_id)
            if not waiter.turn.cancelled():
                waiter.turn.set_result(None)
                self._tell_positions()
                return
        self.num_running -= 1

    def _tell_positions(self) -> None:
        for position, waiter in enumerate(self._line):
            if waiter.position != position:
                waiter.position = position
                waiter.tell_position(position)
