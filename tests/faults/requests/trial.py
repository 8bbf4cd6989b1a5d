"""One trial: clients and a monkey at the same time, then quiet, then everything is looked at again."""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from faults.requests.caller import connect
from faults.requests.client import Client, Wish
from faults.requests.cluster import run_cluster
from faults.requests.hook import run_hook
from faults.requests.monkey import Monkey
from faults.requests.record import Record

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from faults.requests.caller import Caller
    from faults.requests.hook import Hook

LEAST_RATE = 50.0
_RATE = 60.0
"""Requests per second; above the least, for a busy machine is late."""
_WATCHED_SHARE = 0.3
"""Of the requests: to watch costs more than to answer, and clients share the machine with the cluster."""
_SLOW_SHARE = 0.1
_CANCELLED_SHARE, _CANCEL_SECONDS = 0.1, 0.5
_WEBHOOK_SHARE = 0.1
_LOOKS_AT_ONCE = 64


@dataclass(frozen=True)
class Plan:
    """What a trial does; the same plan does the same, as far as the machine's own timing allows."""

    engine: str
    seed: int
    seconds: float
    """How long requests are submitted and processes struck."""
    quiet_seconds: float
    """After that: how long watchers may take to hear of the end, and then how long it may take to look, and
    webhooks to be told."""


async def run_trial(plan: Plan, folder: Path) -> Record:
    """Run a cluster in `folder` and let it suffer; return what clients saw."""
    record = Record(plan.seconds, LEAST_RATE)
    async with (
        run_hook(_make_dice(plan, "hook")) as hook,
        run_cluster(plan.engine, folder, None, **hook.variables) as cluster,
        connect(cluster.addresses, _make_dice(plan, "caller")) as caller,
    ):
        started = time.monotonic()
        clients = _make_clients(plan, caller, hook, lambda: time.monotonic() - started)
        monkey = Monkey(cluster, _make_dice(plan, "monkey"), lambda: time.monotonic() - started)
        with suppress(TimeoutError):
            async with asyncio.timeout(plan.seconds + plan.quiet_seconds), asyncio.TaskGroup() as group:
                group.create_task(monkey.rage(plan.seconds))
                group.create_task(_live(clients))
        await cluster.wait_until_up()
        with suppress(TimeoutError):
            async with asyncio.timeout(plan.quiet_seconds):
                await _look(clients)
                await hook.wait_until_heard()
        record.crashes = [program.name for program in cluster.programs for _ in range(program.crashes)]
    record.strikes = monkey.strikes
    record.stories = [client.story for client in clients]
    return record


def _make_dice(plan: Plan, whose: str) -> random.Random:
    return random.Random(f"{whose} {plan.seed}")  # noqa: S311  # no secret


def _make_clients(plan: Plan, caller: Caller, hook: Hook, clock: Callable[[], float]) -> list[Client]:
    dice = _make_dice(plan, "clients")

    def make_wish() -> Wish:
        cancels_after = dice.uniform(0, _CANCEL_SECONDS) if dice.random() < _CANCELLED_SHARE else None
        watches, is_slow = dice.random() < _WATCHED_SHARE, dice.random() < _SLOW_SHARE
        return Wish(watches, is_slow, cancels_after, hook if dice.random() < _WEBHOOK_SHARE else None)

    return [Client(number, caller, clock, make_wish()) for number in range(round(plan.seconds * _RATE))]


async def _live(clients: list[Client]) -> None:
    """Let them begin one after the other, at the rate; return when all have what they wish."""
    started = asyncio.get_running_loop().time()
    async with asyncio.TaskGroup() as group:
        for number, client in enumerate(clients):
            await asyncio.sleep(started + number / _RATE - asyncio.get_running_loop().time())
            group.create_task(client.live())


async def _look(clients: list[Client]) -> None:
    """Look at everything, some at a time."""
    at_once = asyncio.Semaphore(_LOOKS_AT_ONCE)

    async def look(client: Client) -> None:
        async with at_once:
            await client.look()

    async with asyncio.TaskGroup() as group:
        for client in clients:
            group.create_task(look(client))
