"""The service that is attacked, and what its callers are told."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from harness import Harness, Refusal, describe_red_circle, read_refusal, red_circle_answer
from idefics2.v1 import requests_pb2, requests_pb2_grpc
from pictures import RED_CIRCLE

PATIENCE_SECONDS = 30

if TYPE_CHECKING:
    from security.canary import Canary, Speaker
    from security.names import NameServer


@dataclass(frozen=True)
class Target:
    """A service, who is inside, who is outside, and who tells what names mean."""

    harness: Harness
    canary: Canary
    outside: Speaker
    names: NameServer

    async def fetch(self, url: str) -> str:
        """Ask about the picture at a URL."""
        self.harness.script.add(red_circle_answer())
        return (await self.harness.generate(describe_red_circle(image_url=url, images=[]))).output

    async def refuse(self, url: str) -> Refusal:
        """Ask about a picture that must not be had."""
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self.harness.generate(describe_red_circle(image_url=url, images=[]))
        refusal = read_refusal(caught.value)
        assert (refusal.code, refusal.field) == (grpc.StatusCode.INVALID_ARGUMENT, "image_url")
        assert refusal.num_error_infos == 1
        return refusal

    async def tell(self, webhook_url: str) -> None:
        """Submit a question and return when its end was told, or that was given up."""
        self.harness.script.add(red_circle_answer())
        message = requests_pb2.SubmitRequest(input=describe_red_circle(), webhook_url=webhook_url)
        metadata = self.harness.metadata
        request = await self._stub.Submit(message, metadata=metadata)
        watched = requests_pb2.WatchRequestRequest(request_id=request.request_id)
        async for _ in self._stub.WatchRequest(watched, metadata=metadata):
            pass
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (await self.harness.app._store.statistics()).num_deliveries:
                pass

    async def refuse_hook(self, webhook_url: str) -> Refusal:
        """Submit a question whose end must not be told there."""
        message = requests_pb2.SubmitRequest(input=describe_red_circle(), webhook_url=webhook_url)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self._stub.Submit(message, metadata=self.harness.metadata)
        return read_refusal(caught.value)

    async def check_alive(self) -> None:
        """Ask something that works."""
        self.harness.script.add(red_circle_answer())
        assert (await self.harness.generate(describe_red_circle())).output == RED_CIRCLE

    @property
    def _stub(self) -> Any:
        return requests_pb2_grpc.RequestServiceStub(self.harness.channel)
