"""Turns of calls to a store: whoever comes beside a flood has one soon."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from idefics2_service.store.turns import Turns

if TYPE_CHECKING:
    from collections.abc import Sequence

PATIENCE_SECONDS = 20
NUM_TURNS = 8


class Calls:
    """Calls that take turns, each until it is cancelled."""

    def __init__(self, num_turns: int = NUM_TURNS) -> None:
        """Begin with none."""
        self.turns = Turns(num_turns)
        self.begun: list[str] = []

    async def _call(self, share: str) -> None:
        await self.turns.take(share)
        self.begun.append(share)
        try:
            await asyncio.Event().wait()
        finally:
            self.turns.give_back(share)

    async def come(self, *shares: str) -> list[asyncio.Task[None]]:
        """Let calls of these shares come in this order."""
        calls = [asyncio.create_task(self._call(share)) for share in shares]
        await settle()
        return calls

    async def end(self, calls: Sequence[asyncio.Task[None]]) -> None:
        """Let some calls end, and return when others have their turns."""
        for call in calls:
            call.cancel()
        await asyncio.wait(calls)
        await settle()


async def settle() -> None:
    """Let all go as far as they come."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_who_comes_beside_a_flood_has_a_turn_at_once() -> None:
    calls = Calls()
    await calls.come(*["flood"] * 100)
    assert calls.begun == ["flood"] * (NUM_TURNS // 2)
    await calls.come("bert", "carl")
    assert calls.begun[NUM_TURNS // 2 :] == ["bert", "carl"]


async def test_those_who_wait_are_served_in_turns_and_within_a_share_as_they_came() -> None:
    calls = Calls(1)
    (first,) = await calls.come("anna")
    waiting = await calls.come("anna", "anna", "bert", "anna", "bert", "carl")
    for call in (first, waiting[0], waiting[2], waiting[5], waiting[1], waiting[4]):
        await calls.end([call])
    assert calls.begun == ["anna", "anna", "bert", "carl", "anna", "bert", "anna"]


async def test_who_leaves_takes_nobodys_turn_also_where_it_comes_in_the_same_moment() -> None:
    calls = Calls(1)
    (first,) = await calls.come("anna")
    left, late, stays = await calls.come("bert", "carl", "anna")
    await calls.end([left])
    first.cancel()
    await asyncio.sleep(0)  # by now the turn is carl's, who does not know yet
    await calls.end([late])
    assert calls.begun == ["anna", "anna"]
    await calls.end([first, stays])
    async with asyncio.timeout(PATIENCE_SECONDS):
        await calls.turns.wait_until_all_are_free()
    await calls.come("dora")
    assert calls.begun[2:] == ["dora"]


async def test_all_are_free_only_when_nobody_waits() -> None:
    calls = Calls(1)
    first, second = await calls.come("anna", "anna")
    waiting = asyncio.create_task(calls.turns.wait_until_all_are_free())
    await calls.end([first])
    assert not waiting.done()
    await calls.end([second])
    await asyncio.wait_for(waiting, PATIENCE_SECONDS)
