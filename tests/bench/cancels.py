"""How soon a cancelled request lets go of the real engine, which runs one sequence at a time here.

The next request waits inside the engine, its picture read: its PREFILL is what tells that the slot is free.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
from harness import describe_red_circle, talk_without_end
from idefics2.v1 import generation_pb2, generation_pb2_grpc, requests_pb2, requests_pb2_grpc
from pictures import red_circle
from processes import running_service

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

NUM_CANCELS = 15
NUM_STEPS = 100
NUM_DELTAS = 10
"""That the running one says while the next one gets ready."""
MAX_SECONDS = 20.0
HOST = "127.0.0.1"
NUM_PICTURES = 8


class WrongEnd(Exception):
    """What was cancelled went on."""


@dataclass
class Cancels:
    """Milliseconds of each attempt, but for the counts."""

    step: float = 0
    """Of one sequence, on the average."""
    prefill: list[float] = field(default_factory=list)
    """Of the long prompt, from PREFILL to DECODE: an upper bound of its longest step."""
    dropped: list[float] = field(default_factory=list)
    """From a call that is dropped in DECODE to the next one's PREFILL."""
    cancelled: list[float] = field(default_factory=list)
    """The same by CancelRequest."""
    dropped_in_prefill: list[float] = field(default_factory=list)
    """From a call that is dropped in PREFILL to the next one's PREFILL."""
    resolving: list[float] = field(default_factory=list)
    """From a call that is dropped while its picture is fetched until its host hears of it."""
    num_begun: int = 0
    """Of requests that were cancelled while they waited, in the line or in the engine."""


class Engine:
    """A service whose engine runs one sequence at a time."""

    def __init__(self, channel: grpc.aio.Channel, api_key: str) -> None:
        self._metadata = (("authorization", f"Key {api_key}"),)
        self._generation: Any = generation_pb2_grpc.GenerationServiceStub(channel)
        self._requests: Any = requests_pb2_grpc.RequestServiceStub(channel)
        self._num_asked = 0

    def stream(self, message: generation_pb2.GenerateRequest) -> Any:
        """Call GenerateStream, about pictures that nobody has shown before."""
        self._num_asked += 1
        for image in message.images:
            if image.data:
                image.data += self._num_asked.to_bytes(4, "big")
        return self._generation.GenerateStream(message, metadata=self._metadata)

    async def submit(self, request_id: str) -> Any:
        """Submit an endless request; watch it."""
        submission = requests_pb2.SubmitRequest(request_id=request_id, input=talk_without_end())
        await self._requests.Submit(submission, metadata=self._metadata)
        message = requests_pb2.WatchRequestRequest(request_id=request_id)
        return self._requests.WatchRequest(message, metadata=self._metadata)

    async def cancel(self, request_id: str) -> None:
        """Cancel a submitted request."""
        message = requests_pb2.CancelRequestRequest(request_id=request_id)
        await self._requests.CancelRequest(message, metadata=self._metadata)


@asynccontextmanager
async def run_engine(port: int) -> AsyncIterator[Engine]:
    """Run the whole service, which may fetch from a port of this machine."""
    variables = {
        "IDEFICS2_MODEL_MAX_RUNNING": "1",
        "IDEFICS2_QUEUE_MAX_RUNNING": "3",
        "IDEFICS2_FETCH_ALLOWED_NETWORKS": HOST,
        "IDEFICS2_FETCH_PORTS": str(port),
        "IDEFICS2_LOG_LEVEL": "error",
    }
    with (
        tempfile.TemporaryDirectory(prefix="idefics2-bench-") as folder,
        running_service(Path(folder), **variables) as service,
    ):
        ready = await asyncio.to_thread(service.wait_until_ready)
        async with grpc.aio.insecure_channel(ready.grpc) as channel:
            yield Engine(channel, ready.api_key)


class SlowHost:
    """A host of pictures that never answers."""

    def __init__(self) -> None:
        self.is_asked, self.is_left = asyncio.Event(), asyncio.Event()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Note when somebody asks, and when it waits no more."""
        self.is_asked.set()
        while await reader.read(65_536):
            pass
        self.is_left.set()
        writer.close()


async def measure_cancels() -> Cancels:
    """Cancel in each stage, again and again."""
    host, found = SlowHost(), Cancels()
    async with await asyncio.start_server(host.answer, HOST) as server:
        port = server.sockets[0].getsockname()[1]
        async with run_engine(port) as engine:
            await measure_step(engine, found)
            for number in range(NUM_CANCELS):
                async with asyncio.timeout(6 * MAX_SECONDS):
                    found.dropped.append(await drop_in_decode(engine))
                    found.cancelled.append(await cancel_in_decode(engine, f"cancelled-{number}"))
                    found.dropped_in_prefill.append(await drop_in_prefill(engine))
                    found.resolving.append(await drop_in_resolving(engine, host, port))
                    found.num_begun += await cancel_what_waits(engine, number)
    return found


async def measure_step(engine: Engine, found: Cancels) -> None:
    """Watch one sequence alone, and the prefill of a long one."""
    call = engine.stream(talk_without_end())
    await wait_for_text(call)
    started = time.perf_counter()
    for _ in range(NUM_STEPS):
        await wait_for_text(call)
    found.step = 1000 * (time.perf_counter() - started) / NUM_STEPS
    call.cancel()
    for _ in range(5):
        call = engine.stream(make_long())
        await wait_for_stage(call, generation_pb2.STAGE_PREFILL)
        started = time.perf_counter()
        await wait_for_stage(call, generation_pb2.STAGE_DECODE)
        found.prefill.append(1000 * (time.perf_counter() - started))
        call.cancel()


def make_long() -> generation_pb2.GenerateRequest:
    """Ask about many pictures, for an answer that does not end before it is cancelled."""
    images = [generation_pb2.Image(data=red_circle() + bytes([number])) for number in range(NUM_PICTURES)]
    return talk_without_end(images=images, max_new_tokens=500, min_new_tokens=500)


async def begin_next(engine: Engine, running: Any) -> Any:
    """Let another request wait in the engine, until its picture is surely read."""
    waiting = engine.stream(describe_red_circle())
    await wait_for_stage(waiting, generation_pb2.STAGE_QUEUED)
    for _ in range(NUM_DELTAS):
        await wait_for_text(running)
    return waiting


async def drop_in_decode(engine: Engine) -> float:
    """Drop a call in mid-answer; return the milliseconds until the next one is begun."""
    running = engine.stream(talk_without_end())
    await wait_for_text(running)
    waiting = await begin_next(engine, running)
    started = time.perf_counter()
    running.cancel()
    return await time_begin(waiting, started)


async def cancel_in_decode(engine: Engine, request_id: str) -> float:
    """Cancel a submitted request in mid-answer; return the milliseconds until the next one is begun."""
    running = await engine.submit(request_id)
    await wait_for_text(running)
    waiting = engine.stream(describe_red_circle())
    await wait_for_stage(waiting, generation_pb2.STAGE_QUEUED)
    for _ in range(3):  # of text that is written four times a second
        await wait_for_text(running)
    started = time.perf_counter()
    await engine.cancel(request_id)
    return await time_begin(waiting, started)


async def drop_in_prefill(engine: Engine) -> float:
    """Drop a call whose many pictures are being read; return the milliseconds until the next one is begun."""
    holder = engine.stream(talk_without_end())
    await wait_for_text(holder)
    running = engine.stream(make_long())
    await wait_for_stage(running, generation_pb2.STAGE_QUEUED)
    waiting = await begin_next(engine, holder)
    holder.cancel()
    await wait_for_stage(running, generation_pb2.STAGE_PREFILL)
    started = time.perf_counter()
    running.cancel()
    return await time_begin(waiting, started)


async def drop_in_resolving(engine: Engine, host: SlowHost, port: int) -> float:
    """Drop a call whose picture does not come; return the milliseconds until its host hears of it."""
    host.is_asked.clear()
    host.is_left.clear()
    call = engine.stream(describe_red_circle(images=[], image_url=f"http://{HOST}:{port}/cat.png"))
    reading = asyncio.create_task(wait_for_stage(call, generation_pb2.STAGE_RESOLVING))
    await host.is_asked.wait()
    await reading
    started = time.perf_counter()
    call.cancel()
    await host.is_left.wait()
    return 1000 * (time.perf_counter() - started)


async def cancel_what_waits(engine: Engine, number: int) -> int:
    """Cancel one request that waits in the engine and one in the line; return how many were begun."""
    running = engine.stream(talk_without_end())
    await wait_for_text(running)
    names = [f"waits-{number}-{place}" for place in range(3)]
    watched = [await engine.submit(name) for name in names]
    await asyncio.gather(*(wait_for_stage(call, generation_pb2.STAGE_QUEUED) for call in watched))
    await asyncio.gather(*map(engine.cancel, names))
    ends = [await read_to_end(call) for call in watched]
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


async def wait_for_text(call: Any) -> None:
    """Read until text comes."""
    async with asyncio.timeout(MAX_SECONDS):
        while not (await call.read()).HasField("text_delta"):
            pass
