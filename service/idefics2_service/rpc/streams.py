"""Messages to callers who may stop to read, and from those who go on sending."""

from __future__ import annotations

import asyncio
import math
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import grpc

from idefics2_service.errors import ReaderStalled, RequestMalformed
from idefics2_service.rpc.status import abort

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from idefics2_service.errors import ServiceError
    from idefics2_service.rpc.status import ServicerContext

_HEAR_OUT_SECONDS = 5.0
_SAY_SECONDS = 0.5
"""How long a caller that does not read may take to be told so."""


class Sender:
    """Writes the messages of a stream, each of which its caller takes in time.

    One timer for the stream, not one for each message, which would cost a fifth of the writing.
    """

    def __init__(self, context: ServicerContext) -> None:
        """Write to `context`."""
        self._context = context
        self.began = math.inf
        """When the message that is being written was begun, on the event loop's clock; infinity: none is."""

    async def write(self, message: Any) -> None:  # of the method's type
        """Write one message: done when the caller has room for it.

        Raises:
            asyncio.CancelledError: there is no caller any more.

        """
        self.began = asyncio.get_running_loop().time()
        try:
            await self._context.write(message)
        except grpc.aio.BaseError as error:
            raise asyncio.CancelledError from error
        self.began = math.inf


@asynccontextmanager
async def sending(context: ServicerContext, stall_seconds: float) -> AsyncIterator[Sender]:
    """Yield what writes to `context`; whatever goes on inside is cancelled when the caller stalls.

    Raises:
        ReaderStalled: there was no room for a message for `stall_seconds`.

    """
    loop, sender, limit = asyncio.get_running_loop(), Sender(context), asyncio.timeout(None)
    timer: asyncio.TimerHandle

    def look() -> None:
        nonlocal timer
        now, end = loop.time(), sender.began + stall_seconds
        if now < end:
            timer = loop.call_at(min(end, now + stall_seconds), look)
        else:
            limit.reschedule(now)

    look()
    try:
        async with limit:
            yield sender
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise ReaderStalled(f"nothing of the stream was read for {stall_seconds:g} s") from error
    finally:
        timer.cancel()


async def receive_one(messages: AsyncIterator[bytes]) -> bytes:
    """Read the only message of a call.

    Raises:
        RequestMalformed: there is none.

    """
    data = await anext(messages, None)
    if data is None:
        raise RequestMalformed("the call has no message")
    return data


async def hear_out(stream: AsyncIterator[bytes]) -> None:
    """Read what a caller still sends, for a while: grpc.aio's client loses an answer that comes meanwhile."""

    async def read() -> None:
        with suppress(Exception):  # whatever ends the stream: there is nobody left to hear out
            async for _ in stream:
                pass

    # The reading is not cancelled, which would end the call unanswered: it ends with the call.
    await asyncio.wait((asyncio.create_task(read()),), timeout=_HEAR_OUT_SECONDS)


async def leave(context: ServicerContext, error: ServiceError) -> None:
    """End a call with `error`, which its caller may never read; never returns normally.

    The status is sent behind what was not read, so that whoever waited for it would wait for the caller.
    """
    try:
        async with asyncio.timeout(_SAY_SECONDS):
            await abort(context, error)
    except grpc.aio.AbortError:
        raise
    except (TimeoutError, grpc.aio.BaseError):  # it still does not read, or has hung up
        raise asyncio.CancelledError from error
