"""Turns on the model: who waits for one, whose the next is, and how many are before whom."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from idefics2_service.errors import QueueFull
from idefics2_service.line import Line, Place
from idefics2_service.shares import Shares

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


@dataclass(eq=False)
class _Waiter(Place):
    """One request in the line."""

    tell_position: Callable[[int], None]
    turn: asyncio.Future[int]
    position: int = -1


class Turns:
    """`max_running` turns at a time, given as `Line` says: keys take turns."""

    def __init__(self, max_running: int, max_waiting: int) -> None:
        """Begin with an empty line."""
        self._places = Shares(max_waiting)
        self._line: Line[_Waiter] = Line(max_running)
        self._telling: asyncio.Handle | None = None

    @property
    def num_running(self) -> int:
        """How many turns are held."""
        return self._line.num_held

    @property
    def num_waiting(self) -> int:
        """How many are in the line."""
        return self._line.num_waiting

    @property
    def oldest_seconds(self) -> float:
        """How long the one has waited who waits longest; 0 where nobody does."""
        oldest = self._line.oldest
        return time.monotonic() - oldest.since if oldest else 0.0

    def check_room(self, key_id: str) -> None:
        """Refuse at once what could not wait either.

        Raises:
            QueueFull: the line is full, or has as many of the key as places that are free.

        """
        if self._line.has_turn or self._places.has_room(key_id):
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
            tell_position: hears how many get turns before this one, if nobody else comes and turns end as
                they were given; again on each change, for others may come in between.
            is_accepted: whether the request was accepted before, so that it waits however many do.

        Raises:
            QueueFull: as `check_room`.

        """
        turn = await self._wait(key_id, tell_position, is_accepted=is_accepted)
        try:
            yield
        finally:
            self._give_back(turn)

    async def _wait(self, key_id: str, tell_position: Callable[[int], None], *, is_accepted: bool) -> int:
        """Return the number of the turn."""
        if self._line.has_turn:
            tell_position(0)
            return self._line.give(key_id)
        if not is_accepted:
            self.check_room(key_id)
        waiter = _Waiter(key_id, tell_position, asyncio.get_running_loop().create_future())
        self._line.join(waiter)
        self._places.take(key_id)
        self._tell_soon()
        try:
            return await waiter.turn
        except asyncio.CancelledError:
            self._leave(waiter)
            raise

    def _leave(self, waiter: _Waiter) -> None:
        """Take back the place, or the turn that was given in the same moment."""
        if self._take_out(waiter):
            self._tell_soon()
        elif not waiter.turn.cancelled():
            self._give_back(waiter.turn.result())

    def _take_out(self, waiter: _Waiter) -> bool:
        """Take back the place; tell whether there was one."""
        had_place = self._line.leave(waiter)
        if had_place:
            self._places.give_back(waiter.key_id)
        return had_place

    def _give_back(self, turn: int) -> None:
        """Pass a turn on to the next in the line who still waits."""
        self._line.end(turn)
        while (waiter := self._line.next) is not None:
            self._take_out(waiter)
            if not waiter.turn.cancelled():
                waiter.turn.set_result(self._line.give(waiter.key_id))
                break
        self._tell_soon()

    def _tell_soon(self) -> None:
        """Tell positions once for all that happens now: at a shutdown everybody leaves at the same time."""
        if self._telling is None and self.num_waiting:
            self._telling = asyncio.get_running_loop().call_soon(self._tell_positions)

    def _tell_positions(self) -> None:
        self._telling = None
        for position, waiter in enumerate(self._line.in_order()):
            if waiter.position != position:
                waiter.position = position
                waiter.tell_position(position)
