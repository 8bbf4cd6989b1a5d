"""The bytes of files that are held in memory at a time, and who waits until there is room for more."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Self

from idefics2_service.errors import MemoryFull
from idefics2_service.shares import Shares

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

SMALL_BYTES = 65_536
"""What has no more is not counted: a call without a file is never refused for the files of others."""

_PATIENCE_SECONDS = 5.0
"""How long those of other keys who need less may pass one who waits."""
_PRECEDENCE_SECONDS = 30.0
"""How long they may not, then: meanwhile what requests hold goes, and what uploads hold may not for hours."""
_PERIOD_SECONDS = 300.0
"""After which both begin anew: nobody is held up for most of the time."""


@dataclass(eq=False)
class _Waiter:
    """Somebody who holds nothing yet, so that all who hold something can go on, and give it back."""

    key_id: str
    num_bytes: int
    turn: asyncio.Future[None]
    came_at: float


class Budget:
    """Bytes that keys share. What is held is given back when its context is left."""

    def __init__(
        self,
        max_bytes: int,
        clock: Callable[[], float] = time.monotonic,
        tell_refusal: Callable[[MemoryFull], None] = lambda _: None,
    ) -> None:
        """Begin with nothing held. `clock` tells seconds; `tell_refusal` hears of each refusal."""
        self._shares = Shares(max_bytes)
        self._clock = clock
        self._tell_refusal = tell_refusal
        self._line: list[_Waiter] = []
        self._given_back = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def capacity(self) -> int:
        """How many may be held."""
        return self._shares.capacity

    @property
    def num_bytes(self) -> int:
        """How many are held."""
        return self._shares.num_taken

    def has_room(self, key_id: str) -> bool:
        """Tell whether a key has less than is free for it, or nothing is held at all."""
        return self._has_room(key_id, 1)

    async def wait_until_free(self) -> None:
        """Return when not all is held, to which what was accepted may have led."""
        while self.num_bytes >= self.capacity:
            self._given_back.clear()
            await self._given_back.wait()

    @contextmanager
    def hold(self, key_id: str, num_bytes: int, *, is_accepted: bool = False) -> Iterator[Reservation]:
        """Hold bytes that are here, or announced, and yield what holds them; never waits.

        Args:
            key_id: Whose they are.
            num_bytes: How many.
            is_accepted: Whether they were accepted before, so that they are counted and never refused.

        Raises:
            MemoryFull: the key may not hold so many now; nobody passes those of its key who wait, nor who has
                waited for long.

        """
        if num_bytes <= SMALL_BYTES:
            num_bytes = 0
        elif not is_accepted:
            self._check_room(key_id, num_bytes)
        self._shares.take(key_id, num_bytes)
        with self._reservation(key_id, num_bytes) as reservation:
            yield reservation

    @asynccontextmanager
    async def reserve(self, key_id: str, num_bytes: int) -> AsyncIterator[Reservation]:
        """Wait for room for at most so many bytes that are not here yet, and hold it.

        Who waits must hold nothing else of this budget. More than all is let in when nothing else is held.
        Others may find room first, but only for some seconds where the key holds nothing: then it is let in
        as soon as those go who hold something by then, unless that takes long. So it is each five minutes.
        """
        await self._wait(key_id, num_bytes)
        with self._reservation(key_id, num_bytes) as reservation:
            yield reservation

    def _reservation(self, key_id: str, num_bytes: int) -> Reservation:
        return Reservation(num_bytes, partial(self._take_more, key_id), partial(self._give_back, key_id))

    def _check_room(self, key_id: str, num_bytes: int) -> None:
        if not self._is_free(key_id, num_bytes):
            message = f"{num_bytes} bytes of files are too many now: {self._shares.describe(key_id)}"
            error = MemoryFull(message, bound=str(self._shares.capacity), value=str(num_bytes))
            self._tell_refusal(error)
            raise error

    def _take_more(self, key_id: str, num_bytes: int) -> bool:
        is_free = self._is_free(key_id, num_bytes)
        if is_free:
            self._shares.take(key_id, num_bytes)
        return is_free

    def _is_free(self, key_id: str, num_bytes: int) -> bool:
        """Tell whether there is room, and nobody waits for it who may not be passed."""
        return self._has_room(key_id, num_bytes) and not any(
            waiter.key_id == key_id or self._is_overdue(waiter) for waiter in self._line
        )

    def _is_overdue(self, waiter: _Waiter) -> bool:
        """Tell whether one has waited for long for other keys; who waits for its own holds up nobody."""
        return self._seconds_of_precedence(waiter) > 0 and not self._shares.of(waiter.key_id)

    def _seconds_of_precedence(self, waiter: _Waiter) -> float:
        """Return for how long nobody may pass one who waits; 0 where it may be passed now."""
        since = (self._clock() - waiter.came_at) % _PERIOD_SECONDS
        is_due = _PATIENCE_SECONDS <= since < _PATIENCE_SECONDS + _PRECEDENCE_SECONDS
        return _PATIENCE_SECONDS + _PRECEDENCE_SECONDS - since if is_due else 0

    def _has_room(self, key_id: str, num_bytes: int) -> bool:
        return not self._shares.num_taken or self._shares.has_room(key_id, num_bytes)

    async def _wait(self, key_id: str, num_bytes: int) -> None:
        waiter = _Waiter(key_id, num_bytes, asyncio.get_running_loop().create_future(), self._clock())
        self._line.append(waiter)
        self._let_in()
        try:
            await waiter.turn
        except asyncio.CancelledError:
            self._leave(waiter)
            raise

    def _leave(self, waiter: _Waiter) -> None:
        """Take back the place, or what was given in the same moment."""
        if waiter in self._line:
            self._line.remove(waiter)
            self._let_in()
        elif not waiter.turn.cancelled():
            self._give_back(waiter.key_id, waiter.num_bytes)

    def _give_back(self, key_id: str, num_bytes: int) -> None:
        self._shares.give_back(key_id, num_bytes)
        self._let_in()
        self._given_back.set()

    def _let_in(self) -> None:
        """Let in who has room, of each key in the order in which they came; nobody passes who is overdue."""
        passed: set[str] = set()
        for waiter in self._line.copy():
            if waiter.turn.cancelled():
                self._line.remove(waiter)
            elif waiter.key_id not in passed and self._has_room(waiter.key_id, waiter.num_bytes):
                self._line.remove(waiter)
                self._shares.take(waiter.key_id, waiter.num_bytes)
                waiter.turn.set_result(None)
            elif self._is_overdue(waiter):
                self._look_again_in(self._seconds_of_precedence(waiter))
                return
            else:
                passed.add(waiter.key_id)

    def _look_again_in(self, seconds: float) -> None:
        """Let in who stands behind one who is overdue as soon as it may be passed again."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._let_in)


class Reservation:
    """Room that somebody holds, as a context."""

    def __init__(self, num_bytes: int, take: Callable[[int], bool], give_back: Callable[[int], None]) -> None:
        """Hold it from now on; `take` says whether there is more, `give_back` takes what is not needed."""
        self._num_bytes = num_bytes
        self._take = take
        self._give_back = give_back

    def __enter__(self) -> Self:
        """Hold it."""
        return self

    def __exit__(self, *_: object) -> None:
        """Give it back."""
        self.shrink(0)

    def resize(self, num_bytes: int) -> bool:
        """Hold so many, if there is room now for those that are more; tell whether there is."""
        more = num_bytes - self._num_bytes
        if more > 0 and not self._take(more):
            return False
        self.shrink(num_bytes)
        self._num_bytes = num_bytes
        return True

    def shrink(self, num_bytes: int) -> None:
        """Keep only so many: that is all that came."""
        surplus = self._num_bytes - num_bytes
        if surplus > 0:
            self._num_bytes = num_bytes
            self._give_back(surplus)
