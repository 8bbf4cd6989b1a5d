"""A conversation with Triton ends when it is cut, whatever gRPC makes of its call."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from idefics2_service.errors import BackendUnavailable
from idefics2_service.triton.conversation import Conversation
from ports import HOST, free_port
from tritonclient.grpc import service_pb2, service_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PATIENCE_SECONDS = 20
PROMPT = b"What is this?"
HTTP2_SETTINGS = bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
"""What a server begins with: no setting."""


class StuckCall:
    """As a call of grpc.aio that was cancelled at the wrong moment: nothing comes of it any more."""

    def __init__(self) -> None:
        self.is_written_to = asyncio.Event()

    def ModelStreamInfer(self, **_: Any) -> StuckCall:  # noqa: N802  # Triton's name
        return self

    async def wait_for_connection(self) -> None:
        pass

    async def write(self, _: Any) -> None:
        self.is_written_to.set()
        await asyncio.Event().wait()

    def cancel(self) -> None:
        pass


@pytest.mark.parametrize("has_begun", [True, False])
async def test_a_conversation_that_is_cut_ends_though_its_call_does_not(*, has_begun: bool) -> None:
    call = StuckCall()
    conversation = Conversation(call, service_pb2.ModelInferRequest())
    async with asyncio.timeout(PATIENCE_SECONDS):
        if has_begun:
            await call.is_written_to.wait()
        conversation.cut()
        with pytest.raises(BackendUnavailable, match="was lost") as caught:
            await anext(conversation.responses())
        await conversation.wait_until_ended()
    assert conversation.has_ended
    assert caught.value.was_sent is has_begun


@asynccontextmanager
async def talking_to(port: int) -> AsyncIterator[Conversation]:
    """Send something to whoever is there, if anybody is."""
    async with grpc.aio.insecure_channel(f"{HOST}:{port}") as channel, asyncio.timeout(PATIENCE_SECONDS):
        message = service_pb2.ModelInferRequest(raw_input_contents=[PROMPT])
        yield Conversation(service_pb2_grpc.GRPCInferenceServiceStub(channel), message)


async def test_what_finds_no_connection_was_not_sent() -> None:
    async with talking_to(free_port()) as conversation:
        with pytest.raises(BackendUnavailable) as caught:
            await anext(conversation.responses())
    assert not caught.value.was_sent


async def test_what_a_connection_took_before_it_broke_may_have_been_heard() -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HTTP2_SETTINGS)
        heard = b""
        while PROMPT not in heard:
            heard += await reader.read(65_536)
        writer.close()

    server = await asyncio.start_server(hang_up, HOST)
    async with server, talking_to(server.sockets[0].getsockname()[1]) as conversation:
        with pytest.raises(BackendUnavailable) as caught:
            await anext(conversation.responses())
    assert caught.value.was_sent
