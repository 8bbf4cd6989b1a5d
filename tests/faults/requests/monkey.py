"""Strikes processes at random, at its own pace."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from faults.requests.cluster import LEASE_SECONDS
from faults.requests.record import Strike

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from faults.requests.cluster import Cluster

_PACE_SECONDS = (0.2, 1.0)
_STOP_SECONDS = 2 * LEASE_SECONDS
_FIRST_STOP_SECONDS, _NEXT_STOP_SECONDS = (0.5, 2.5), (10.0, 20.0)


class Monkey:
    """Kills what is up, and now and then lets a front stand still for twice the lease."""

    def __init__(self, cluster: Cluster, dice: random.Random, clock: Callable[[], float]) -> None:
        """Strike `cluster` as `dice` say."""
        self._cluster = cluster
        self._dice = dice
        self._clock = clock
        self.strikes: list[Strike] = []

    async def rage(self, seconds: float) -> None:
        """Go on for so many seconds; all that stood still goes on at the end."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._stop_some(seconds))
            while self._clock() < seconds:
                await asyncio.sleep(self._dice.uniform(*_PACE_SECONDS))
                await self._kill_one()

    async def _kill_one(self) -> None:
        """Kill something that is up: what is killed at each start would never do anything."""
        if victims := [program for program in self._cluster.programs if program.is_up]:
            victim = self._dice.choice(victims)
            self._note(victim.name.rstrip("0123456789"))
            await victim.kill()

    async def _stop_some(self, seconds: float) -> None:
        pause = self._dice.uniform(*_FIRST_STOP_SECONDS)
        while self._clock() + pause < seconds:
            await asyncio.sleep(pause)
            victim = self._dice.choice(self._cluster.fronts).front
            await victim.wait_until_up()
            self._note("stopped")
            await victim.pause(_STOP_SECONDS)
            pause = self._dice.uniform(*_NEXT_STOP_SECONDS)

    def _note(self, kind: str) -> None:
        self.strikes.append(Strike(self._clock(), kind))
