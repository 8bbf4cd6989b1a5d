"""The addresses of names, asked for in threads that keys share: a caller's name server may never answer."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING

from idefics2_service.shares import Shares

if TYPE_CHECKING:
    from collections.abc import Callable

_NUM_THREADS = 32

_Answer = asyncio.Future[list[str]]


class LookUps:
    """Who asks for what name. A thread is its key's until the system answers, also where its caller has left.

    What a key may not have a thread for waits, of each key in the order in which it asked.
    """

    def __init__(self, look_up: Callable[[str], list[str]]) -> None:
        """Ask `look_up`, which maps a name to its addresses, and blocks."""
        self._look_up = look_up
        self._shares = Shares(_NUM_THREADS)
        self._lines: dict[str, deque[tuple[str, _Answer]]] = {}

    async def find(self, key_id: str, name: str) -> list[str]:
        """Return the addresses of `name`, for a key. Cancelling it leaves the thread to the system.

        Raises:
            OSError: there are none.

        """
        answer: _Answer = asyncio.get_running_loop().create_future()
        self._lines.setdefault(key_id, deque()).append((name, answer))
        self._begin()
        return await answer

    def close(self) -> None:
        """Cancel all who wait; threads end when the system answers, or with the process."""
        for line in self._lines.values():
            for _, answer in line:
                answer.cancel()
        self._lines.clear()

    def _begin(self) -> None:
        """Ask for all names that there is room for."""
        for key_id, line in list(self._lines.items()):
            while line and self._shares.has_room(key_id):
                name, answer = line.popleft()
                if not answer.cancelled():
                    self._ask(key_id, name, answer)
            if not line:
                del self._lines[key_id]

    def _ask(self, key_id: str, name: str, answer: _Answer) -> None:
        self._shares.take(key_id)
        told: Future[list[str]] = Future()
        asyncio.wrap_future(told).add_done_callback(partial(self._end, key_id, answer))
        # The interpreter waits for the threads of a pool at its end, however long a name server is silent.
        thread = threading.Thread(target=self._tell, args=(name, told), name="look-up", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            told.set_exception(OSError(f"the system has no thread to look it up: {error}"))

    def _tell(self, name: str, told: Future[list[str]]) -> None:
        """Run in a thread of its own."""
        try:
            told.set_result(self._look_up(name))
        except Exception as error:  # noqa: BLE001  # it is whoever waits that has to hear it
            told.set_exception(error)

    def _end(self, key_id: str, answer: _Answer, asked: _Answer) -> None:
        self._shares.give_back(key_id)
        _pass_on(asked, answer)
        self._begin()


def _pass_on(asked: _Answer, answer: _Answer) -> None:
    if asked.cancelled():
        answer.cancel()
        return
    error = asked.exception()  # heard, even where nobody waits
    if answer.cancelled():
        return
    if error is None:
        answer.set_result(asked.result())
    else:
        answer.set_exception(error)
