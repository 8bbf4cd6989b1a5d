"""Steady load on all ways at once: calls of all kinds, and submitted requests that are watched."""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Self

import grpc
import httpx
from faults.requests.caller import Caller, reason_of
from faults.requests.client import Client, Wish, read_end, see
from faults.requests.record import Story
from faults.requests.triton import HOLD
from idefics2.v1 import generation_pb2, requests_pb2
from load.drain.calls import KINDS, WrongAnswer
from load.drain.record import DEAF, Call, Record
from load.drain.ways import METADATA, PATIENCE_SECONDS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from types import TracebackType

    from faults.requests.record import Seen
    from load.drain.ways import Way


class Strict(Caller):
    """Calls once. A watch goes on elsewhere only where it was told so."""

    def __init__(self, stub: Any, record: Record) -> None:
        """Call over `stub`."""
        super().__init__([stub], random.Random(0))  # noqa: S311  # no secret; there is no choice
        self._stub = stub
        self._record = record

    async def call(self, method: str, message: Any) -> Any:
        """Return the answer.

        Raises:
            grpc.aio.AioRpcError: there is none.

        """
        return await getattr(self._stub, method)(message, metadata=METADATA, timeout=PATIENCE_SECONDS)

    async def watch(self, request_id: str, after: int = 0) -> AsyncIterator[generation_pb2.Event]:
        """Yield each event, without places in the queue."""
        while True:
            message = requests_pb2.WatchRequestRequest(request_id=request_id, after=after)
            try:
                async for event in self._stub.WatchRequest(message, metadata=METADATA):
                    if event.sequence:
                        after = event.sequence
                        yield event
            except grpc.aio.AioRpcError as error:
                if reason_of(error) != "SERVICE_STOPPING":
                    raise
                self._record.num_resumed += 1
            else:
                return


class Traffic:
    """All that is called, as an async context, in which calls begin at a steady rate."""

    def __init__(self, ways: list[Way], record: Record, rate: float) -> None:
        """Call `ways` in turns, `rate` calls a second together."""
        self._ways = ways
        self._record = record
        self._rate = rate
        self._started = time.monotonic()
        self._clients: list[Client] = []
        self._is_over = asyncio.Event()

    def clock(self) -> float:
        """Return the seconds since the start."""
        return time.monotonic() - self._started

    async def __aenter__(self) -> Self:
        """Begin."""
        self._group = asyncio.TaskGroup()
        await self._group.__aenter__()
        self._group.create_task(self._begin_calls())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Begin no more, wait for all that were begun, and look at all that was submitted."""
        self._is_over.set()
        await self._group.__aexit__(kind, error, trace)
        self._record.seconds = self.clock()
        await asyncio.gather(*(client.look() for client in self._clients))
        self._record.stories += [client.story for client in self._clients]

    async def _begin_calls(self) -> None:
        number = 0
        while not self._is_over.is_set():
            way = self._ways[number % len(self._ways)]
            turn = number // len(self._ways)
            make = KINDS[turn % len(KINDS)]
            self._group.create_task(self._note(way, make, f"{way.name}-{number}"))
            if make is KINDS[0] and way.name != DEAF:
                self._submit(way)
            number += 1
            await _wait(self._is_over, number / self._rate - self.clock())

    def _submit(self, way: Way) -> None:
        caller = Strict(way.requests, self._record)
        is_slow = len(self._clients) % 2 == 0
        client = Client(len(self._clients), caller, self.clock, Wish(is_slow=is_slow))
        self._clients.append(client)
        self._group.create_task(client.live())

    @asynccontextmanager
    async def holding(self, number: int) -> AsyncIterator[None]:
        """Have one request run inside that no front is given the time to finish, and watch it."""
        story = Story(f"held-{number}", "", submitted_at=self.clock())
        self._record.stories.append(story)
        caller = Strict(self._ways[number % len(self._ways)].requests, self._record)
        await caller.submit(story.request_id, f"{HOLD}{number}")
        story.acknowledged_at = self.clock()
        watching = self._group.create_task(self._watch_held(caller, story))
        yield
        story.is_cancel_sent = True
        await caller.call("CancelRequest", requests_pb2.CancelRequestRequest(request_id=story.request_id))
        await watching

    async def _watch_held(self, caller: Strict, story: Story) -> None:
        watch: list[Seen] = []
        story.watches.append(watch)
        try:
            async for event in caller.watch(story.request_id):
                watch.append(see(event))
        except grpc.aio.AioRpcError as error:
            story.errors.append(f"{error.code().name} {reason_of(error)}: {error.details()}")
            return
        story.ends.append(read_end(event.finished))
        story.ended_at = self.clock()

    async def _note(self, way: Way, make: Callable[[Way, str], Awaitable[None]], name: str) -> None:
        began_at, problem = self.clock(), ""
        try:
            await make(way, name)
        except grpc.aio.AioRpcError as error:
            problem = f"{error.code().name} {reason_of(error)}: {error.details()}"
        except (httpx.HTTPError, WrongAnswer) as error:
            problem = repr(error)
        call = Call(way.name, make.__name__, began_at, self.clock() - began_at, problem)
        self._record.calls.append(call)


async def _wait(event: asyncio.Event, seconds: float) -> None:
    """Wait for `seconds`, or until the event is set."""
    try:
        async with asyncio.timeout(max(seconds, 0)):
            await event.wait()
    except TimeoutError:
        return
