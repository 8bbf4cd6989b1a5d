"""Whose call goes to the server next."""

from __future__ import annotations

import asyncio
from collections import OrderedDict

from idefics2_service.shares import Shares

_Line = OrderedDict[asyncio.Future[None], None]


class Turns:
    """`num_turns` calls at a time, which those who call share, as `Shares` says, and take in turn.

    So whoever comes beside a flood finds a turn free, or waits for one call of each other one at most.
    """

    def __init__(self, num_turns: int) -> None:
        """Begin with all of them free."""
        self._shares = Shares(num_turns)
        self._lines: OrderedDict[str, _Line] = OrderedDict()  # who waits; first, whose turn is next
        self._are_all_free = asyncio.Event()
        self._are_all_free.set()

    async def take(self, share: str) -> None:
        """Wait for a turn of `share`, for which `give_back` must be called; who leaves has none."""
        turn = asyncio.get_running_loop().create_future()
        self._lines.setdefault(share, OrderedDict())[turn] = None
        self._give_out()
        try:
            await turn
        except asyncio.CancelledError:
            self._leave(share, turn)
            raise

    def _leave(self, share: str, turn: asyncio.Future[None]) -> None:
        """Wait no more, or give back the turn that came in the same moment."""
        if not turn.cancelled():
            self.give_back(share)
            return
        line = self._lines.get(share, OrderedDict())
        line.pop(turn, None)
        if not line:
            self._lines.pop(share, None)

    def give_back(self, share: str) -> None:
        """Let a turn of `share` be another's."""
        self._shares.give_back(share)
        self._give_out()
        if not self._shares.num_taken:
            self._are_all_free.set()

    def _give_out(self) -> None:
        """Give turns to those who may have one. Who may not has one already: they are few."""
        while self._shares.num_taken < self._shares.capacity:
            share = next(filter(self._shares.has_room, self._lines), None)
            if share is None:
                return
            line = self._lines.pop(share)
            turn, _ = line.popitem(last=False)
            if line:
                self._lines[share] = line  # behind all others
            if not turn.cancelled():
                self._shares.take(share)
                self._are_all_free.clear()
                turn.set_result(None)

    async def wait_until_all_are_free(self) -> None:
        """Return when nobody has a turn, nor waits for one."""
        await self._are_all_free.wait()
