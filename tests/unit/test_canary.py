"""The canary: what counts as the model's silence, and what does not."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from fakes.cable import lay_cable
from fakes.script import Script
from fakes.triton import FakeTriton
from idefics2_service.errors import BackendUnavailable
from idefics2_service.metrics import Metrics
from idefics2_service.requests import RequestName, ResolvedRequest
from idefics2_service.settings import TritonSettings
from idefics2_service.triton.backend import TritonBackend
from store.submissions import make_request
from tritonclient.grpc import service_pb2

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import grpc

TIMEOUT_SECONDS = 0.4
NUM_PINGS = 5


class SlowTriton(FakeTriton):
    """A Triton that does something before it answers a ping."""

    def __init__(self) -> None:
        super().__init__(Script())
        self.num_pings = 0
        self.pinged_often = asyncio.Event()
        self.pauses = False
        self.is_silent = False
        self.is_broken = False

    async def ModelStreamInfer(  # noqa: N802  # Triton's name
        self, requests: AsyncIterator[Any], context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[Any]:
        self.num_pings += 1
        if self.num_pings > NUM_PINGS:
            self.pinged_often.set()
        if self.is_silent:
            await asyncio.Event().wait()
        if self.is_broken:
            yield service_pb2.ModelStreamInferResponse(error_message="Stub process is not healthy.")
            return
        if self.pauses:
            time.sleep(2 * TIMEOUT_SECONDS)  # noqa: ASYNC251  # all of this process stands still, its front too
        async for response in super().ModelStreamInfer(requests, context):
            yield response


@asynccontextmanager
async def connect(url: str) -> AsyncIterator[TritonBackend]:
    """Connect a backend that pings often, and wait until it is healthy."""
    settings = TritonSettings(canary_interval_seconds=0.01, canary_timeout_seconds=TIMEOUT_SECONDS)
    backend = TritonBackend(settings, Metrics())
    await backend.connect(url)
    try:
        await backend.wait_until_healthy()
        yield backend
    finally:
        await backend.close()


@asynccontextmanager
async def watched() -> AsyncIterator[tuple[TritonBackend, SlowTriton]]:
    """Connect a backend to a Triton of its own."""
    async with SlowTriton() as triton, connect(triton.url) as backend:
        yield backend, triton


async def test_a_model_that_keeps_silent_is_lost() -> None:
    async with watched() as (backend, triton):
        triton.is_silent = True
        await backend.wait_until_healthy(healthy=False)
        triton.is_silent = False
        await backend.wait_until_healthy()


async def test_a_pause_of_the_front_itself_is_no_loss() -> None:
    async with watched() as (backend, triton):
        lost = asyncio.create_task(backend.wait_until_healthy(healthy=False))
        triton.pauses = True
        await triton.pinged_often.wait()
        assert not lost.done()
        lost.cancel()


async def test_a_connection_that_died_without_a_word_is_replaced() -> None:
    async with (
        SlowTriton() as triton,
        lay_cable(triton.url) as (cable, address),
        connect(address) as backend,
    ):
        cable.strand()
        await backend.wait_until_healthy(healthy=False)
        await backend.wait_until_healthy()
        assert cable.num_connections >= 2


async def test_where_the_address_leads_to_another_triton_by_now_a_broken_one_is_left() -> None:
    async with (
        SlowTriton() as broken,
        SlowTriton() as good,
        lay_cable(broken.url) as (cable, address),
        connect(address) as backend,
    ):
        cable.address, broken.is_broken = good.url, True
        await backend.wait_until_healthy(healthy=False)
        await backend.wait_until_healthy()
        assert cable.num_connections >= 2


async def test_a_model_that_is_known_to_be_lost_is_sent_nothing_and_the_error_says_so() -> None:
    backend = TritonBackend(TritonSettings(), Metrics())
    with pytest.raises(BackendUnavailable) as caught:
        await anext(backend.generate(ResolvedRequest(RequestName("key", "one"), make_request(), ())))
    assert not caught.value.was_sent
