"""A conversation with Triton ends when it is cut, whatever gRPC makes of its call."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from idefics2_service.errors import BackendUnavailable
from idefics2_service.triton.conversation import Conversation
from tritonclient.grpc import service_pb2

PATIENCE_SECONDS = 20


class StuckCall:
    """As a call of grpc.aio that was cancelled at the wrong moment: nothing comes of it any more."""

    def __init__(self) -> None:
        self.is_written_to = asyncio.Event()

    def ModelStreamInfer(self, **_: Any) -> StuckCall:  # noqa: N802  # Triton's name
        return self

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
        with pytest.raises(BackendUnavailable, match="was lost"):
            await anext(conversation.responses())
        await conversation.wait_until_ended()
    assert conversation.has_ended
