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

    Ask = Callable[[Crowd, int], Any]
    """Makes the call of the reader of a number."""
    Call = Callable[[int], Awaitable[None]]
    """As Ask; a stack ends the call."""
    Prepare = Callable[[CrowdFront, AsyncExitStack], Awaitable[Call]]
    """Does what comes before the calls, and is not measured."""

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
    """Of the front, with what the system holds of its answers."""
    alone_milliseconds: float
    """What 99 of 100 calls of others took at most, before."""
    beside_milliseconds: float
    """What they took while nobody of the readers read."""
    drop_seconds: float
    """From the last reader's call until all of them were given up."""


async def stream(_: Crowd) -> Ask:
    """Ask for answers that take longer than a reader may stall."""
    return lambda crowd, _: crowd.stream_slowly()


async def watch(crowd: Crowd) -> Ask:
    """Submit requests for such answers, and watch them."""
    for number in range(NUM_READERS):
        await crowd.submit_slow(f"watched-{number}")
    return lambda crowd, number: crowd.watch(f"watched-{number}")


async def download(crowd: Crowd) -> Ask:
    """Upload a file, and download it."""
    file_id = await crowd.upload(FILE_BYTES)
    return lambda crowd, _: crowd.download(file_id)


def over_grpc(prepare: Callable[[Crowd], Awaitable[Ask]]) -> Prepare:
    """Let what `prepare` returns make all calls, over few connections."""

    async def prepare_all(front: CrowdFront, stack: AsyncExitStack) -> Call:
        crowds = [await stack.enter_async_context(front.connect(*SMALL_WINDOW)) for _ in range(NUM_CHANNELS)]
        ask = await prepare(crowds[0])

        async def call(number: int) -> None:
            stack.callback(ask(crowds[number % NUM_CHANNELS], number).cancel)

        return call

    return prepare_all


async def measure_readers(prepare: Prepare) -> Stalled:
    """Let readers stall, in calls by what `prepare` returns; the stack that it is given ends them."""
    variables = {
        "IDEFICS2_QUEUE_MAX_RUNNING": str(2 * NUM_READERS),
        "IDEFICS2_GRPC_STALL_TIMEOUT_SECONDS": str(STALL_SECONDS),
        "IDEFICS2_HTTP_STALL_TIMEOUT_SECONDS": str(STALL_SECONDS),
    }
    async with (
        run_crowd_front(**variables) as front,
        front.connect() as others,
        AsyncExitStack() as stack,
    ):
        await call_for(others, STALL_SECONDS / 3)
        alone, _ = await asyncio.gather(call_for(others, STALL_SECONDS), wait_for_drop(front, 0))
        call = await prepare(front, stack)
        with Growth(front.process) as growth:
            for number in range(NUM_READERS):
                await call(number)
            started = time.perf_counter()
            beside, num_unsent_bytes, _ = await asyncio.gather(
                call_for(others, STALL_SECONDS), count_unsent(front), wait_for_drop(front, NUM_READERS)
            )
            drop_seconds = time.perf_counter() - started
        return Stalled(
            growth.num_bytes + num_unsent_bytes, percentile(alone, 99), percentile(beside, 99), drop_seconds
        )


async def count_unsent(front: CrowdFront) -> int:
    """Return what the system holds of answers that nobody takes, once they have come as far as they can."""
    await asyncio.sleep(STALL_SECONDS / 2)
    return front.num_unsent_bytes


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
