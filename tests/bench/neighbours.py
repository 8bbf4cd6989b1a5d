"""A key that calls now and then, beside another one that asks for more long answers than there are turns."""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bench.crowd_front import TOKEN_SECONDS
from bench.crowds import run_crowd_front

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from bench.crowds import Crowd

MAX_RUNNING, MAX_WAITING = 16, 80
NUM_HEAVY = 50
"""Callers of the heavy key, each of whom calls again when it has its answer."""
LEAST_TOKENS, MOST_TOKENS = 50, 150
"""Of their answers, so that turns end one by one."""
LONG_SECONDS = TOKEN_SECONDS * (LEAST_TOKENS + MOST_TOKENS) / 2
NUM_CALLS, NUM_TOKENS, PAUSE_SECONDS = 40, 10, 0.1
"""Of the light key, one call after the other."""


@dataclass
class Calls:
    """What the light key's calls took."""

    seconds: list[float] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)
    """Seconds in the line."""


async def measure_neighbours() -> tuple[Calls, Calls]:
    """Let the light key call alone, and then beside the heavy one."""
    settings = {"MAX_RUNNING": str(MAX_RUNNING), "MAX_WAITING": str(MAX_WAITING)}
    variables = {f"IDEFICS2_QUEUE_{name}": value for name, value in settings.items()}
    async with (
        run_crowd_front(**variables) as front,
        front.connect() as light,
        front.connect(api_key=front.other_key) as heavy,
    ):
        alone = await call_again_and_again(light)
        async with press(heavy):
            return alone, await call_again_and_again(light)


async def call_again_and_again(crowd: Crowd) -> Calls:
    """Call one time after the other."""
    calls = Calls()
    for _ in range(NUM_CALLS):
        started = time.perf_counter()
        answer = await crowd.ask(NUM_TOKENS)
        calls.seconds.append(time.perf_counter() - started)
        calls.waits.append(answer.stage_seconds.queued)
        await asyncio.sleep(PAUSE_SECONDS)
    return calls


@asynccontextmanager
async def press(crowd: Crowd) -> AsyncIterator[None]:
    """Let many call without end; begin once their turns have ended for a while."""
    draw = random.Random(0)  # noqa: S311  # not a secret

    async def call() -> None:
        while True:
            await crowd.ask(draw.randint(LEAST_TOKENS, MOST_TOKENS))

    async with asyncio.TaskGroup() as callers:
        calls = [callers.create_task(call()) for _ in range(NUM_HEAVY)]
        await asyncio.sleep(2 * LONG_SECONDS)
        yield
        for each in calls:
            each.cancel()
