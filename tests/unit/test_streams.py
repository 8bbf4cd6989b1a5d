"""Messages to callers who leave, and from those who are slow."""

from __future__ import annotations

import asyncio
import gc
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import grpc
import pytest
from idefics2_service.errors import SenderStalled
from idefics2_service.rpc.streams import receive_one, sending

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from idefics2_service.rpc.status import ServicerContext


class SlowCall:
    """A call whose messages take until they are let through."""

    def __init__(self) -> None:
        self.began, self.may_end, self.ended = (asyncio.Event() for _ in range(3))
        self.written: list[str] = []
        self.failure: Exception | None = None

    async def write(self, message: str) -> None:
        self.began.set()
        await self.may_end.wait()
        self.ended.set()
        if self.failure is not None:
            raise self.failure
        self.written.append(message)


async def leave_while_it_is_sent(call: SlowCall) -> None:
    """Begin to send a message, whose caller leaves."""
    async with sending(cast("ServicerContext", call), 60) as sender:
        writing = asyncio.create_task(sender.write("a message"))
        await call.began.wait()
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing


async def test_a_message_that_is_on_its_way_when_the_caller_leaves_is_written_to_its_end() -> None:
    call = SlowCall()
    await leave_while_it_is_sent(call)
    assert call.written == []
    call.may_end.set()
    await call.ended.wait()
    assert call.written == ["a message"]


@pytest.fixture
async def told() -> AsyncIterator[list[dict[str, Any]]]:
    """Faults that nobody took, as the loop tells of them."""
    told: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    before = loop.get_exception_handler()
    loop.set_exception_handler(lambda _, fault: told.append(fault))
    yield told
    loop.set_exception_handler(before)


async def test_nobody_is_told_that_a_message_failed_whose_caller_had_left(told: list[dict[str, Any]]) -> None:
    call = SlowCall()
    call.failure = grpc.aio.UsageError("the call has ended")
    await leave_while_it_is_sent(call)
    call.may_end.set()
    await call.ended.wait()
    await asyncio.sleep(0)  # the write ends in this turn of the loop, and is forgotten in the next
    gc.collect()
    assert told == []


class SilentCall:
    """A call whose message does not come until it is let through."""

    def __init__(self) -> None:
        self.may_come, self.came = asyncio.Event(), asyncio.Event()

    async def read(self) -> bytes:
        await self.may_come.wait()
        self.came.set()
        return b"a message"


@pytest.mark.parametrize(("seconds", "at_once"), [(120.0, 5.0), (5.0, 5.0), (0.5, 0.5)])
async def test_a_message_is_awaited_as_long_as_it_is_told_and_counted_from_when_it_is_slow(
    monkeypatch: pytest.MonkeyPatch, seconds: float, at_once: float
) -> None:
    call, now, held_at = SilentCall(), 0.0, []

    async def pass_time(*_: object, timeout: float) -> None:  # noqa: ASYNC109  # as asyncio.wait has it
        nonlocal now
        now += timeout

    @contextmanager
    def hold() -> Iterator[None]:
        held_at.append(now)
        yield

    with monkeypatch.context() as patch:
        patch.setattr(asyncio, "wait", pass_time)
        with pytest.raises(SenderStalled, match=f"not whole after {seconds:g} s"):
            await receive_one(cast("ServicerContext", call), seconds, hold)
    assert (held_at, now) == ([at_once], seconds)
    call.may_come.set()
    await call.came.wait()
