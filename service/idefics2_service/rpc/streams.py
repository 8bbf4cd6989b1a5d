"""Messages to callers who may stop to read, and from those who go on sending."""

from __future__ import annotations

import asyncio
import math
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, cast

import grpc

from idefics2_service.errors import ReaderStalled, RequestMalformed
from idefics2_service.rpc.status import abort

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from idefics2_service.errors import ServiceError
    from idefics2_service.rpc.status import ServicerContext

_END = grpc.aio.EOF  # type: ignore[attr-defined]  # the stubs lack it
_HEAR_OUT_SECONDS = 5.0
_SAY_SECONDS = 0.5
"""How long a caller that does not read may take to be told so."""


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


def _expect_failure(writing: asyncio.Future[None]) -> None:
    """Let nobody be told that a message failed whose caller has left, or was given up."""
    if not writing.cancelled():
        writing.exception()


async def receive_one(context: ServicerContext) -> bytes:
    """Read the only message of a call.

    Raises:
        RequestMalformed: there is none.

    """
    data = await context.read()  # and not by the iterator, which would hold it until the call's end
    if data is _END:
        raise RequestMalformed("the call has no message")
    return cast("bytes", data)


async def hear_out(stream: AsyncIterator[bytes]) -> None:
    """Read what a caller still sends, for a while: grpc.aio's client loses an answer that comes meanwhile."""

    async def read() -> None:
        with suppress(Exception):  # whatever ends the stream: there is nobody left to hear out
            async for _ in stream:
                pass

    # The reading is not cancelled, which would end the call unanswered: it ends with the call.
    await asyncio.wait((asyncio.create_task(read()),), timeout=_HEAR_OUT_SECONDS)


async def leave(context: ServicerContext, error: ServiceError, request_id: str) -> None:
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
