"""Messages to callers who may stop to read, and from those who may stop to send, or go on."""

from __future__ import annotations

import asyncio
import math
from contextlib import asynccontextmanager, contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Any, cast

import grpc

from idefics2_service.errors import ReaderStalled, RequestMalformed, SenderStalled, ServiceError
from idefics2_service.rpc.status import abort

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from contextlib import AbstractContextManager

    from idefics2_service.rpc.status import ServicerContext

_END = grpc.aio.EOF  # type: ignore[attr-defined]  # the stubs lack it
WINDOW_BYTES = 4 * 2**20
"""So much of each call may come before we read it; of a message that is being read, all of it.

Left alone, grpc guesses from what is on its way: this at least, and tens of megabytes when we are busy. With
less, an upload waits for its caller. A caller far away gets this and one message into each round trip.
"""
_HEAR_OUT_SECONDS = 5.0
"""No longer: what comes meanwhile counts as nobody's. Clients other than that one hear an answer even so."""
_SAY_SECONDS = 0.5
"""How long a caller that does not read may take to be told so."""
_AT_ONCE_SECONDS = 5.0
"""What comes within this time is hardly held before it is counted; also where we are the slow ones."""


class Sender:
    """Writes the messages of a stream, each of which its caller has room for in time.

    One timer for the stream, not one for each message, which would cost a fifth of the writing.
    """

    def __init__(self, context: ServicerContext, stall_seconds: float, limit: asyncio.Timeout) -> None:
        """Write to `context`; let `limit` expire when a message takes longer than `stall_seconds`."""
        self._context = context
        self._seconds = stall_seconds
        self._limit = limit
        self._loop = asyncio.get_running_loop()
        self._began = math.inf
        """When the message that is being written was begun; infinity: none is."""
        self._timer = self._loop.call_later(stall_seconds, self._look)

    async def write(self, message: Any) -> None:  # of the method's type
        """Write one message: done when the caller has room for it.

        Raises:
            asyncio.CancelledError: there is no caller any more.

        """
        self._began = self._loop.time()
        # To its end, which is near where the caller has left: what belongs to a message whose writer is
        # cancelled, grpc.aio never frees, 300 bytes for each caller who hangs up (grpc/grpc#43360).
        writing = asyncio.ensure_future(self._context.write(message))
        try:
            await asyncio.shield(writing)
        except grpc.aio.BaseError as error:
            raise asyncio.CancelledError from error
        except asyncio.CancelledError:
            writing.add_done_callback(_expect_failure)
            raise
        self._began = math.inf

    def stop(self) -> None:
        """Look no more."""
        self._timer.cancel()

    def _look(self) -> None:
        now, end = self._loop.time(), self._began + self._seconds
        if now < end:
            self._timer = self._loop.call_at(min(end, now + self._seconds), self._look)
        else:
            self._limit.reschedule(now)


@asynccontextmanager
async def sending(context: ServicerContext, stall_seconds: float) -> AsyncIterator[Sender]:
    """Yield what writes to `context`; whatever goes on inside is cancelled when the caller stalls.

    Raises:
        ReaderStalled: there was no room for a message for `stall_seconds`.

    """
    limit = asyncio.timeout(None)
    sender = Sender(context, stall_seconds, limit)
    try:
        async with limit:
            yield sender
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise ReaderStalled(f"nothing of the stream was read for {stall_seconds:g} s") from error
    finally:
        sender.stop()


def _expect_failure(message: asyncio.Future[Any]) -> None:
    """Let nobody be told that a message failed whose caller has left, or was given up."""
    if not message.cancelled():
        message.exception()


async def receive_one(
    context: ServicerContext, seconds: float, hold: Callable[[], AbstractContextManager[object]]
) -> bytes:
    """Read the only message of a call.

    gRPC keeps what is there of it, and does not say how much: one that is slow to come counts as the largest.

    Args:
        context: of the call.
        seconds: how long it may take to be whole.
        hold: what it returns is entered while the message is slow to come.

    Raises:
        RequestMalformed: there is none.
        SenderStalled: it is not whole in time.
        MemoryFull: it is slow, and there is no room for it.

    """
    # Not by the iterator, which would hold it until the call's end.
    data = await _receive(context.read(), seconds, hold)
    if data is _END:
        raise RequestMalformed("the call has no message")
    return cast("bytes", data)


async def receive_next(
    stream: AsyncIterator[bytes],
    seconds: float,
    hold: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> bytes | None:
    """Read the next message of a stream; None: there is none.

    Args:
        stream: the messages.
        seconds: how long the next one may take to be whole.
        hold: what it returns is entered while the message is slow to come.

    Raises:
        SenderStalled: it is not whole in time.
        MemoryFull: it is slow, and there is no room for it.

    """
    message: bytes | None = await _receive(anext(stream, None), seconds, hold)
    return message


async def _receive(
    message: Awaitable[Any], seconds: float, hold: Callable[[], AbstractContextManager[object]]
) -> Any:
    reading = asyncio.ensure_future(message)
    at_once = min(_AT_ONCE_SECONDS, seconds)
    if not await _await(reading, at_once):
        with _leaving_alone(reading), hold():
            if not await _await(reading, seconds - at_once):
                raise SenderStalled(f"a message of the call was not whole after {seconds:g} s")
    return reading.result()


async def _await(reading: asyncio.Future[Any], seconds: float) -> bool:
    """Wait for a message, and tell whether it came; whoever is cancelled meanwhile waits no more."""
    try:
        await asyncio.wait((reading,), timeout=seconds)
    except asyncio.CancelledError:
        reading.cancel()
        raise
    return reading.done()


@contextmanager
def _leaving_alone(reading: asyncio.Future[Any]) -> Iterator[None]:
    """Leave a message alone where it is awaited no more: cancelling it would end the call unanswered."""
    try:
        yield
    except ServiceError:
        reading.add_done_callback(_expect_failure)
        raise


async def hear_out(stream: AsyncIterator[bytes]) -> None:
    """Read what a caller still sends, for a while: grpc.aio's client loses an answer that comes meanwhile."""

    async def read() -> None:
        with suppress(Exception):  # whatever ends the stream: there is nobody left to hear out
            async for _ in stream:
                pass

    # The reading is not cancelled, which would end the call unanswered: it ends with the call.
    await asyncio.wait((asyncio.create_task(read()),), timeout=_HEAR_OUT_SECONDS)


async def leave(context: ServicerContext, error: ServiceError, request_id: str = "") -> None:
    """End a call with `error`, which its caller may never read; never returns normally.

    The status is sent behind what was not read, so that whoever waited for it would wait for the caller.
    """
    try:
        async with asyncio.timeout(_SAY_SECONDS):
            await abort(context, error, request_id)
    except grpc.aio.AbortError:
        raise
    except (TimeoutError, grpc.aio.BaseError):  # it still does not read, or has hung up
        raise asyncio.CancelledError from error
