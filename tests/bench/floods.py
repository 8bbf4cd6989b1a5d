"""Ten times as many calls as the model can answer, for a minute."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import grpc
from bench.crowd_front import TOKEN_SECONDS
from bench.crowds import run_crowd_front
from bench.memory import Growth
from harness import read_refusal
from idefics2_service.store.signals import wait_for

if TYPE_CHECKING:
    from bench.crowds import Crowd, CrowdFront

MAX_RUNNING, MAX_WAITING = 16, 80
NUM_TOKENS = 20
CAPACITY = MAX_RUNNING / (NUM_TOKENS * TOKEN_SECONDS)
"""Answers a second."""
RATE = 10 * CAPACITY
FLOOD_SECONDS = 60.0
WARM_SECONDS = 10.0
CALM_FACTOR = 1.2
"""An answer that takes no longer than so many times the usual is a normal one again."""
_TICK_SECONDS = 0.01
_LOOK_SECONDS = 1.0
_PROBE_SECONDS = 0.25


@dataclass
class Flood:
    """What became of the calls of a flood."""

    outcomes: Counter[str] = field(default_factory=Counter)
    """By the refusal's reason, OK, or what should not be."""
    refusal_seconds: list[float] = field(default_factory=list)
    deepest: float = 0
    memory_bytes: int = 0
    calm_seconds: float = 0
    """From the last call of the flood to the end of the first answer in the usual time."""
    num_cpu_seconds: float = 0
    """Of the front, by each second of the flood."""


async def measure_flood() -> Flood:
    """Let a flood come over a front of its own."""
    settings = {"MAX_RUNNING": str(MAX_RUNNING), "MAX_WAITING": str(MAX_WAITING)}
    variables = {f"IDEFICS2_QUEUE_{name}": value for name, value in settings.items()}
    async with run_crowd_front(**variables) as front, front.connect() as crowd:
        await rain(crowd, Flood(), CAPACITY / 2, WARM_SECONDS)
        usual = min([await crowd.time(NUM_TOKENS) for _ in range(5)])
        flood = Flood()
        cpu_seconds = sum(front.process.cpu_times()[:2])
        with Growth(front.process) as growth:
            looking = asyncio.create_task(look(front, flood))
            calls = await begin_rain(crowd, flood, RATE, FLOOD_SECONDS)
            flood.num_cpu_seconds = (sum(front.process.cpu_times()[:2]) - cpu_seconds) / FLOOD_SECONDS
            flood.calm_seconds = await wait_until_calm(crowd, CALM_FACTOR * usual)
            await asyncio.gather(*calls)
            looking.cancel()
            await asyncio.wait((looking,))
        flood.memory_bytes = growth.num_bytes
        return flood


async def rain(crowd: Crowd, flood: Flood, rate: float, seconds: float) -> None:
    """Call at a rate, whatever becomes of the calls; return when all have ended."""
    await asyncio.gather(*await begin_rain(crowd, flood, rate, seconds))


async def begin_rain(crowd: Crowd, flood: Flood, rate: float, seconds: float) -> list[asyncio.Task[None]]:
    """Call at a rate, whatever becomes of the calls; return those that have not ended."""
    begin, num_begun, calls = time.perf_counter(), 0, set[asyncio.Task[None]]()
    while (elapsed := time.perf_counter() - begin) < seconds:
        for _ in range(int(elapsed * rate) - num_begun):
            call = asyncio.create_task(call_once(crowd, flood))
            calls.add(call)
            call.add_done_callback(calls.discard)
            num_begun += 1
        await asyncio.sleep(_TICK_SECONDS)
    return list(calls)


async def call_once(crowd: Crowd, flood: Flood) -> None:
    """Call, and note what became of it."""
    started = time.perf_counter()
    try:
        await crowd.ask(NUM_TOKENS)
    except grpc.aio.AioRpcError as error:
        flood.refusal_seconds.append(time.perf_counter() - started)
        flood.outcomes[describe(error)] += 1
    else:
        flood.outcomes["OK"] += 1


def describe(error: grpc.aio.AioRpcError) -> str:
    """Name a refusal; one that does not say all that it must is named otherwise."""
    metadata: Any = error.trailing_metadata()
    trailing = dict(metadata)
    if "grpc-status-details-bin" not in trailing:
        return f"{error.code().name} without details"
    refusal = read_refusal(error)
    is_whole = refusal.num_error_infos == 1 and refusal.retry_seconds and "grpc-retry-pushback-ms" in trailing
    return refusal.reason if is_whole else f"{refusal.reason} without details"


async def look(front: CrowdFront, flood: Flood) -> None:
    """Look again and again how many wait."""
    with contextlib.suppress(asyncio.CancelledError):
        while True:
            depth = await front.read_metric("idefics2_num_requests_waiting")
            flood.deepest = max(flood.deepest, depth)
            await asyncio.sleep(_LOOK_SECONDS)


async def wait_until_calm(crowd: Crowd, seconds: float) -> float:
    """Call now and then until an answer has come within `seconds`; return how long that took."""
    begin, is_calm = time.perf_counter(), asyncio.Event()

    async def probe() -> None:
        with contextlib.suppress(grpc.aio.AioRpcError):
            if await crowd.time(NUM_TOKENS) <= seconds:
                is_calm.set()

    probes = []
    while not is_calm.is_set():
        probes.append(asyncio.create_task(probe()))
        await wait_for(is_calm, _PROBE_SECONDS)
    calm_seconds = time.perf_counter() - begin
    await asyncio.gather(*probes)
    return calm_seconds
