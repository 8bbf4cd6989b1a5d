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
from ports import HOST, free_port
from store.submissions import make_request
from structlog.testing import capture_logs
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
async def watching(url: str, settings: TritonSettings) -> AsyncIterator[TritonBackend]:
    """Connect a backend to what is there, or is not."""
    backend = TritonBackend(settings, Metrics())
    await backend.connect(url)
    try:
        yield backend
    finally:
        await backend.close()


@asynccontextmanager
async def connect(url: str) -> AsyncIterator[TritonBackend]:
    """Connect a backend that pings often, and wait until it is healthy."""
    settings = TritonSettings(canary_interval_seconds=0.01, canary_timeout_seconds=TIMEOUT_SECONDS)
    async with watching(url, settings) as backend:
        await backend.wait_until_healthy()
        yield backend


def find_teller(backend: TritonBackend) -> asyncio.Task[None]:
    """Find what waits for the first canary, and tells where none comes."""
    (task,) = (each for each in backend._background if "_tell_silence" in repr(each))
    return task


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


@pytest.mark.parametrize("name", ["grpc_proxy", "https_proxy", "http_proxy"])
async def test_no_proxy_of_the_environment_stands_between_us_and_triton(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    async with SlowTriton() as triton:
        for unset in ("no_grpc_proxy", "no_proxy"):
            monkeypatch.delenv(unset, raising=False)
        monkeypatch.setenv(name, f"http://{HOST}:{free_port()}")
        async with asyncio.timeout(10), connect(triton.url):
            pass


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


async def test_a_triton_that_was_never_reached_is_told_of_with_its_address_and_why(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("idefics2_service.triton.backend.SECONDS_OF_SILENCE", 0.5)
    url = f"{HOST}:{free_port()}"
    with capture_logs() as lines:
        async with watching(url, TritonSettings(url=url)) as backend:
            await find_teller(backend)
    (line,) = (line for line in lines if line["log_level"] == "warning")
    assert "IDEFICS2_TRITON_URL" in line["event"]
    assert line["url"] == url
    assert url in line["error"]
    assert "refused" in line["error"]


async def test_a_silence_is_told_of_once_however_long_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("idefics2_service.triton.backend.SECONDS_OF_SILENCE", 3 * TIMEOUT_SECONDS)
    async with SlowTriton() as triton:
        triton.is_silent = True
        settings = TritonSettings(url=triton.url, canary_timeout_seconds=TIMEOUT_SECONDS)
        with capture_logs() as lines:
            async with watching(triton.url, settings) as backend:
                await find_teller(backend)
                await triton.pinged_often.wait()
                triton.is_silent = False
                await backend.wait_until_healthy()
    assert [line["error"] for line in lines if "IDEFICS2_TRITON_URL" in line["event"]] == [
        f"no answer within {TIMEOUT_SECONDS:g} s"
    ]


async def test_nothing_is_told_of_a_triton_that_answers_nor_of_the_embedded_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with SlowTriton() as triton:
        with capture_logs() as lines:
            async with watching(triton.url, TritonSettings(url=triton.url)) as backend:
                await find_teller(backend)
                assert backend.is_healthy
            monkeypatch.setattr("idefics2_service.triton.backend.SECONDS_OF_SILENCE", 0)
            triton.is_silent = True
            settings = TritonSettings(canary_timeout_seconds=TIMEOUT_SECONDS / NUM_PINGS)
            async with watching(triton.url, settings):
                await triton.pinged_often.wait()
    assert [line for line in lines if line["log_level"] == "warning"] == []


async def test_a_model_that_is_known_to_be_lost_is_sent_nothing_and_the_error_says_so() -> None:
    backend = TritonBackend(TritonSettings(), Metrics())
    with pytest.raises(BackendUnavailable) as caught:
        await anext(backend.generate(ResolvedRequest(RequestName("key", "one"), make_request(), ())))
    assert not caught.value.was_sent
