"""A thousand watchers of one front: what they cost it, and how late they hear."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
from bench.programs import run_script
from harness import describe_red_circle
from idefics2.v1 import generation_pb2, requests_pb2, requests_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import psutil
    from bench.stores import Place

NUM_WATCHERS = 1_000
NUM_RUNNING = 64
WATCH_SECONDS = 15.0
MAX_SECONDS = 170.0
FRONT = Path(__file__).with_name("front.py")


@dataclass(frozen=True)
class Watched:
    """What watchers were found to cost."""

    bytes_each: float
    """Of the front's memory."""
    milliseconds: list[float]
    """From an event's writing to its arrival, by the clock of the machine that both share."""


class Front:
    """A front that somebody calls."""

    def __init__(self, process: psutil.Process, channel: grpc.aio.Channel, api_key: str) -> None:
        self._process = process
        self._stub: Any = requests_pb2_grpc.RequestServiceStub(channel)
        self._metadata = (("authorization", f"Key {api_key}"),)

    @property
    def num_bytes(self) -> int:
        """Its memory."""
        num_bytes: int = self._process.memory_info().rss
        return num_bytes

    async def submit(self, request_id: str) -> None:
        """Submit a request of that name."""
        message = requests_pb2.SubmitRequest(request_id=request_id, input=describe_red_circle())
        await self._stub.Submit(message, metadata=self._metadata)

    def watch(self, request_id: str) -> Any:
        """Watch a request."""
        message = requests_pb2.WatchRequestRequest(request_id=request_id)
        return self._stub.WatchRequest(message, metadata=self._metadata)

    async def wait_until_begun(self, request_id: str) -> None:
        """Return when the model is at work on a request."""
        call = self.watch(request_id)
        while (await call.read()).stage_entered.stage != generation_pb2.STAGE_DECODE:
            pass
        call.cancel()

    async def cancel(self, request_id: str) -> None:
        """Cancel a request."""
        message = requests_pb2.CancelRequestRequest(request_id=request_id)
        await self._stub.CancelRequest(message, metadata=self._metadata)


@asynccontextmanager
async def run_front(place: Place) -> AsyncIterator[Front]:
    """Run a front over `place`, and let nothing of it survive the block."""
    variables = {
        "IDEFICS2_DATA_FOLDER": str(place.folder),
        "IDEFICS2_STORE_URL": place.url,
        "IDEFICS2_GRPC_PORT": "0",
        "IDEFICS2_HTTP_PORT": "0",
        "IDEFICS2_QUEUE_MAX_RUNNING": str(NUM_RUNNING),
        "IDEFICS2_LOG_LEVEL": "warning",
    }
    async with run_script(FRONT, variables) as (process, line):
        ready = json.loads(line)
        async with grpc.aio.insecure_channel(ready["address"]) as channel:
            yield Front(process, channel, ready["api_key"])


async def watch_many(place: Place) -> Watched:
    """Let all watchers come while their requests wait, then let some of these run."""
    async with asyncio.timeout(MAX_SECONDS), run_front(place) as front:
        holders = [f"holder-{number}" for number in range(NUM_RUNNING)]
        watched = [f"watched-{number}" for number in range(NUM_WATCHERS)]
        await asyncio.gather(*map(front.submit, holders))
        await asyncio.gather(*map(front.wait_until_begun, holders))
        await asyncio.gather(*map(front.submit, watched))
        num_bytes_before = front.num_bytes
        calls = [front.watch(request_id) for request_id in watched]
        await asyncio.gather(*(call.read() for call in calls))
        bytes_each = (front.num_bytes - num_bytes_before) / NUM_WATCHERS
        await asyncio.gather(*map(front.cancel, holders))
        return Watched(bytes_each, await listen(calls))


async def listen(calls: list[Any]) -> list[float]:
    """Read all calls for a while; return how late, in milliseconds, each event came that was written then."""
    lates: list[float] = []
    begin = time.time()

    async def read(call: Any) -> None:
        while event := await call.read():
            written = event.time.ToNanoseconds() / 1e9
            if event.sequence and written > begin:
                lates.append((time.time() - written) * 1000)

    with suppress(TimeoutError):
        async with asyncio.timeout(WATCH_SECONDS):
            await asyncio.gather(*map(read, calls))
    return lates
