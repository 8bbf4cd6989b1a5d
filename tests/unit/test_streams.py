"""Messages of a stream, to callers who leave."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

import pytest
from idefics2_service.rpc.streams import sending

if TYPE_CHECKING:
    from idefics2_service.rpc.status import ServicerContext


class SlowCall:
    """A call whose messages take until they are let through."""

    def __init__(self) -> None:
        self.began, self.may_end, self.ended = (asyncio.Event() for _ in range(3))
        self.written: list[str] = []

    async def write(self, message: str) -> None:
        self.began.set()
        await self.may_end.wait()
        self.written.append(message)
        self.ended.set()


async def test_a_message_that_is_on_its_way_when_the_caller_leaves_is_written_to_its_end() -> None:
    call = SlowCall()
    async with sending(cast("ServicerContext", call), 60) as sender:
        writing = asyncio.create_task(sender.write("a message"))
        await call.began.wait()
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
    assert call.written == []
    call.may_end.set()
    await call.ended.wait()
    assert call.written == ["a message"]
