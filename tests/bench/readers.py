"""Callers who ask for streams and do not read them, beside others who call as ever."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.crowds import run_crowd_front
from bench.memory import Growth
from bench.stopwatch import percentile

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from bench.crowds import Crowd, CrowdFront

NUM_READERS, NUM_CHANNELS = 200, 8
STALL_SECONDS = 30.0
NUM_OTHERS, OTHERS_TOKENS, OTHERS_PAUSE = 4, 2, 0.05
FILE_BYTES = 20_000_000
STALLED = "idefics2_stalled_streams_total"
SMALL_WINDOW = (("grpc.http2.lookahead_bytes", 1_000), ("grpc.http2.bdp_probe", 0))
"""Of a client that takes little until it reads: gRPC's own takes megabytes, and no answer is so long."""
_LOOK_SECONDS = 0.5


@dataclass(frozen=True)
class Stalled:
    """What callers were found to cost who do not read."""

    memory_bytes: int
    alone_milliseconds: float
    """What 99 of 100 calls of others took at most, before."""
    beside_milliseconds: float
    """What they took while nobody of the readers read."""
    drop_seconds: float
    """From the last reader's call until all of them were given up."""


async def stream(crowds: list[Crowd]) -> list[Any]:
    """Ask for answers that take longer than a reader may stall."""
    return [crowd.stream_slowly() for crowd in crowds]


async def watch(crowds: list[Crowd]) -> list[Any]:
    """Submit requests for such answers, and watch them."""
    names = [f"watched-{number}" for number in range(len(crowds))]
    for crowd, name in zip(crowds, names, strict=True):
        await crowd.submit_slow(name)
    return [crowd.watch(name) for crowd, name in zip(crowds, names, strict=True)]


async def download(crowds: list[Crowd]) -> list[Any]:
    """Upload a file, and download it."""
    file_id = await crowds[0].upload(FILE_BYTES)
    return [crowd.download(file_id) for crowd in crowds]


async def measure_readers(begin: Callable[[list[Crowd]], Awaitable[list[Any]]]) -> Stalled:
    """Let readers stall, each in a call that `begin` makes by the crowd of its own."""
    variables = {
        "IDEFICS2_QUEUE_MAX_RUNNING": str(2 * NUM_READERS),
        "IDEFICS2_GRPC_STALL_TIMEOUT_SECONDS": str(STALL_SECONDS),
    }
    async with (
        run_crowd_front(**variables) as front,
        front.connect() as others,
        AsyncExitStack() as stack,
    ):
        crowds = [await stack.enter_async_context(front.connect(*SMALL_WINDOW)) for _ in range(NUM_CHANNELS)]
        await call_for(others, STALL_SECONDS / 3)
        alone, _ = await asyncio.gather(call_for(others, STALL_SECONDS), wait_for_drop(front, 0))
        with Growth(front.process) as growth:
            calls = await begin([crowds[number % NUM_CHANNELS] for number in range(NUM_READERS)])
            started = time.perf_counter()
            beside, _ = await asyncio.gather(
                call_for(others, STALL_SECONDS), wait_for_drop(front, NUM_READERS)
            )
            drop_seconds = time.perf_counter() - started
        for call in calls:
            call.cancel()
        return Stalled(growth.num_bytes, percentile(alone, 99), percentile(beside, 99), drop_seconds)


async def call_for(crowd: Crowd, seconds: float) -> list[float]:
    """Let some call, each again and again; return the milliseconds of all calls."""
    end, milliseconds = time.perf_counter() + seconds, []

    async def go_on() -> None:
        while time.perf_counter() < end:
            milliseconds.append(1000 * await crowd.time(OTHERS_TOKENS))
            await asyncio.sleep(OTHERS_PAUSE)

    await asyncio.gather(*(go_on() for _ in range(NUM_OTHERS)))
    return milliseconds


async def wait_for_drop(front: CrowdFront, number: int) -> None:
    """Return when so many readers were given up; look as long as they may stall, for looking costs too."""
    end = time.perf_counter() + STALL_SECONDS
    async for _ in every(_LOOK_SECONDS):
        if await front.read_metric(STALLED) >= number and time.perf_counter() >= end:
            return


async def every(seconds: float) -> AsyncIterator[None]:
    """Come again and again."""
    while True:
        yield
        await asyncio.sleep(seconds)
