"""Turns of the event loop."""

from __future__ import annotations

import asyncio

_NUM_TURNS = 5


async def let_others_run() -> None:
    """Return when all that is ready now has had its turn, and so has what came of it, a few times over."""
    for _ in range(_NUM_TURNS):
        passed = asyncio.Event()
        asyncio.get_running_loop().call_soon(passed.set)
        await passed.wait()
