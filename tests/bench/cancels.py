"""How soon a cancelled request lets go of the real engine, which runs one sequence at a time here.

The next request waits inside the engine, its picture read: its PREFILL is what tells that the slot is free.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any

from bench.narrow import Front, run_front, run_pair
from fakes.slow_host import SlowHost, run_slow_host
from harness import describe_red_circle, talk_without_end
from idefics2.v1 import generation_pb2
from pictures import red_circle

if TYPE_CHECKING:
    from collections.abc import Mapping

NUM_CANCELS = 15
NUM_STEPS = 100
NUM_TOKENS = 100
"""That the running one says while the next one gets ready."""
MAX_SECONDS = 20.0
NUM_PICTURES = 8
NUM_WAITING = 3
DROPPED = "call dropped"
HERE, FAL, ELSEWHERE = "CancelRequest", "fal's cancel", "CancelRequest at another replica"

Cancel = Callable[[str], Awaitable[None]]
"""Cancels the request of that id."""
Times = defaultdict[str, list[float]]
"""Milliseconds of each attempt, by the way in which the request was ended."""


class WrongEnd(Exception):
    """What was cancelled went on."""


@dataclass
class Cancels:
    """Milliseconds of each attempt, but for the counts."""

    step: float = 0
    """Of one sequence, on the average."""
    prefill: list[float] = field(default_factory=list)
    """Of the long prompt, from PREFILL to DECODE: an upper bound of its longest step."""
    resolving: Times = field(default_factory=lambda: defaultdict(list))
    """From the end of a request whose picture is fetched until the picture's host hears of it."""
    reading: Times = field(default_factory=lambda: defaultdict(list))
    """From the end of a request in PREFILL to the next one's PREFILL."""
    decode: Times = field(default_factory=lambda: defaultdict(list))
    """From the end of a request in DECODE to the next one's PREFILL."""
    num_waited: int = 0
    """Requests that were cancelled while they waited, in the line or in the engine."""
    num_begun: int = 0
    """Of these."""


@dataclass(frozen=True)
class Asked:
    """A request on its way."""

    events: Any
    """A call that tells what happens to it."""
    end: Callable[[], Awaitable[None]]
    """Drops or cancels it."""


async def measure_cancels() -> Cancels:
    """End requests in each stage and in each way, again and again."""
    found = Cancels()
    async with run_slow_host() as host:
        async with run_front(host.port) as front:
            await measure_step(front, found)
            ways = {DROPPED: None, HERE: front.cancel, FAL: front.cancel_over_http}
            await measure_ways(front, ways, host, found)
        async with run_pair(host.port) as (front, another):
            await measure_ways(front, {ELSEWHERE: another.cancel}, host, found)
    return found


async def measure_step(front: Front, found: Cancels) -> None:
    """Watch one sequence alone, and the prefill of a long one."""
    call = front.stream(talk_without_end())
    await wait_for_text(call)
    started = time.perf_counter()
    for _ in range(NUM_STEPS):
        await wait_for_text(call)
    found.step = 1000 * (time.perf_counter() - started) / NUM_STEPS
    call.cancel()
    for _ in range(5):
        call = front.stream(make_long())
        await wait_for_stage(call, generation_pb2.STAGE_PREFILL)
        started = time.perf_counter()
        await wait_for_stage(call, generation_pb2.STAGE_DECODE)
        found.prefill.append(1000 * (time.perf_counter() - started))
        call.cancel()


async def measure_ways(
    front: Front, ways: Mapping[str, Cancel | None], host: SlowHost, found: Cancels
) -> None:
    """End requests that `front` runs; a way is how to cancel what was submitted, None to drop a call."""
    numbers = count()
    for _ in range(NUM_CANCELS):
        for way, cancel in ways.items():
            begin = partial(begin_to_end, front, cancel, numbers)
            async with asyncio.timeout(6 * MAX_SECONDS):
                found.decode[way].append(await end_in_decode(front, begin))
                found.reading[way].append(await end_in_prefill(front, begin))
                found.resolving[way].append(await end_in_resolving(host, begin))
                if cancel is not None:
                    found.num_begun += await cancel_what_waits(front, begin)
                    found.num_waited += NUM_WAITING


Begin = Callable[[generation_pb2.GenerateRequest], Awaitable[Asked]]
"""Lets a request be on its way that will be ended in a way."""


async def begin_to_end(
    front: Front, cancel: Cancel | None, numbers: count[int], message: generation_pb2.GenerateRequest
) -> Asked:
    """Begin a request that `cancel` will end."""
    if cancel is not None:
        request_id = f"request-{next(numbers)}"
        return Asked(await front.submit(request_id, message), partial(cancel, request_id))
    call = front.stream(message)

    async def drop() -> None:
        call.cancel()

    return Asked(call, drop)


def make_long() -> generation_pb2.GenerateRequest:
    """Ask about many pictures, for an answer that does not end before it is cancelled."""
    images = [generation_pb2.Image(data=red_circle() + bytes([number])) for number in range(NUM_PICTURES)]
    return talk_without_end(images=images, max_new_tokens=500, min_new_tokens=500)


async def begin_next(front: Front, running: Any) -> Any:
    """Let another request wait in the engine, until its picture is surely read."""
    waiting = front.stream(describe_red_circle())
    await wait_for_stage(waiting, generation_pb2.STAGE_QUEUED)
    await wait_for_tokens(running)
    return waiting


async def end_in_decode(front: Front, begin: Begin) -> float:
    """End a request in mid-answer; return the milliseconds until the next one is begun."""
    running = await begin(talk_without_end())
    await wait_for_text(running.events)
    waiting = await begin_next(front, running.events)
    started = time.perf_counter()
    await running.end()
    return await time_begin(waiting, started)


async def end_in_prefill(front: Front, begin: Begin) -> float:
    """End a request whose pictures are being read; return the milliseconds until the next one is begun."""
    holder = front.stream(talk_without_end())
    await wait_for_text(holder)
    running = await begin(make_long())
    await wait_for_stage(running.events, generation_pb2.STAGE_QUEUED)
    await wait_for_tokens(holder)
    waiting = await begin_next(front, holder)
    holder.cancel()
    await wait_for_stage(running.events, generation_pb2.STAGE_PREFILL)
    started = time.perf_counter()
    await running.end()
    return await time_begin(waiting, started)


async def end_in_resolving(host: SlowHost, begin: Begin) -> float:
    """End a request whose picture does not come; return the milliseconds until its host hears of it."""
    host.forget()
    asked = await begin(describe_red_circle(images=[], image_url=host.url))
    await wait_for_stage(asked.events, generation_pb2.STAGE_RESOLVING)
    await host.is_asked.wait()
    started = time.perf_counter()
    await asked.end()
    await host.is_left.wait()
    return 1000 * (time.perf_counter() - started)


async def cancel_what_waits(front: Front, begin: Begin) -> int:
    """Cancel requests that wait, two in the engine and one in the line; return how many were begun."""
    running = front.stream(talk_without_end())
    await wait_for_text(running)
    waiting = [await begin(talk_without_end()) for _ in range(NUM_WAITING)]
    await asyncio.gather(*(wait_for_stage(asked.events, generation_pb2.STAGE_QUEUED) for asked in waiting))
    await asyncio.gather(*(asked.end() for asked in waiting))
    ends = [await read_to_end(asked.events) for asked in waiting]
    running.cancel()
    if any(events[-1].finished.failure.message != "the request was cancelled" for events in ends):
        raise WrongEnd(str([events[-1] for events in ends]))
    return sum(any(event.HasField("stage_entered") for event in events) for events in ends)


async def read_to_end(call: Any) -> list[generation_pb2.Event]:
    """Return all events that come."""
    events = []
    while event := await call.read():
        events.append(event)
    return events


async def time_begin(waiting: Any, started: float) -> float:
    """Return the milliseconds from `started` until a request is begun, and read it to its end."""
    await wait_for_stage(waiting, generation_pb2.STAGE_PREFILL)
    milliseconds = 1000 * (time.perf_counter() - started)
    await read_to_end(waiting)
    return milliseconds


async def wait_for_stage(call: Any, stage: generation_pb2.Stage.ValueType) -> None:
    """Read until a stage is entered."""
    async with asyncio.timeout(MAX_SECONDS):
        while (await call.read()).stage_entered.stage != stage:
            pass


async def wait_for_text(call: Any) -> int:
    """Read until text comes; return of how many tokens all of it is."""
    async with asyncio.timeout(MAX_SECONDS):
        while not (event := await call.read()).HasField("text_delta"):
            pass
    num_generated_tokens: int = event.text_delta.num_generated_tokens
    return num_generated_tokens


async def wait_for_tokens(call: Any) -> None:
    """Read until there are some more tokens: what is submitted tells of many of them at once."""
    first = await wait_for_text(call)
    while await wait_for_text(call) < first + NUM_TOKENS:
        pass
