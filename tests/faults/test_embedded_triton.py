"""What dies is started again, what ends leaves nothing, and nobody waits for ever."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from harness import describe_red_circle, read_refusal, talk_without_end
from idefics2.v1 import generation_pb2_grpc
from pictures import RED_CIRCLE
from processes import Started, patience, running_service, wait_until_gone
from streams import read_to_end

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING

HURRY = {"IDEFICS2_GRPC_DRAIN_TIMEOUT_SECONDS": "0.5"}
"""No machine ends an answer of `talk_without_end` in that time; a fast one does in three seconds."""

# How fast all this is stands in the benchmarks (`make bench`); here nothing may hang.


class Caller:
    """Somebody who calls a started service."""

    def __init__(self, started: Started, channel: grpc.aio.Channel) -> None:
        """Call over `channel`."""
        self._channel = channel
        self._stub: Any = generation_pb2_grpc.GenerationServiceStub(channel)
        self._metadata = (("authorization", f"Key {started.ready.api_key}"),)

    async def begin_endless(self) -> Any:
        """Begin an answer that does not end, and return once it is being written."""
        call = self._stub.GenerateStream(talk_without_end(), metadata=self._metadata)
        while not (await call.read()).HasField("text_delta"):
            pass
        return call

    async def ask(self) -> str:
        """Ask what a red circle is."""
        response = await self._stub.Generate(describe_red_circle(), metadata=self._metadata)
        return str(response.output)

    async def statuses(self) -> AsyncIterator[int]:
        """Yield each health status as it changes."""
        stub: Any = health_pb2_grpc.HealthStub(self._channel)
        async for answer in stub.Watch(health_pb2.HealthCheckRequest()):
            yield answer.status


@pytest.fixture
async def started(tmp_path: Path) -> AsyncIterator[Started]:
    """A service of its own for each test."""
    with running_service(tmp_path, **HURRY) as service:
        yield Started(service, await asyncio.to_thread(service.wait_until_ready))


@pytest.fixture
async def caller(started: Started) -> AsyncIterator[Caller]:
    """Connected to it."""
    async with grpc.aio.insecure_channel(started.ready.grpc) as channel:
        yield Caller(started, channel)


@pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGSTOP])
async def test_a_stub_that_dies_or_hangs_in_mid_answer_is_told_and_replaced(
    started: Started, caller: Caller, fault: signal.Signals
) -> None:
    statuses = caller.statuses()
    while await anext(statuses) != SERVING:
        pass
    calls = [await caller.begin_endless() for _ in range(4)]
    stub = started.service.stub()
    stub.send_signal(fault)
    for call in calls:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await read_to_end(call)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert read_refusal(caught.value).reason == "BACKEND_UNAVAILABLE"
    assert await anext(statuses) == NOT_SERVING
    assert await anext(statuses) == SERVING
    assert await caller.ask() == RED_CIRCLE
    wait_until_gone([stub])
    assert len(started.tritons) == 2
    assert len(started.service.shared_memory()) == 1  # the new one's


async def test_a_server_that_dies_is_replaced(started: Started, caller: Caller) -> None:
    before = started.service.tree()
    (server,) = started.service.named("tritonserver")
    server.kill()
    statuses = caller.statuses()
    seen = [await anext(statuses)]
    while seen[-2:] != [NOT_SERVING, SERVING]:
        seen.append(await anext(statuses))
    assert await caller.ask() == RED_CIRCLE
    wait_until_gone(before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
async def test_stopping_ends_everything_even_in_mid_answer(
    started: Started, caller: Caller, number: signal.Signals
) -> None:
    call = await caller.begin_endless()
    tree = started.service.tree()
    status = await asyncio.to_thread(started.service.stop, number)
    assert status == (-number if number is signal.SIGKILL else 0)
    wait_until_gone(tree)
    for _ in patience("shared memory and folders to be removed"):
        if not started.service.leftovers():
            break
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await read_to_end(call)
    if number is not signal.SIGKILL:
        assert read_refusal(caught.value).reason == "SERVICE_STOPPING"


async def test_a_guard_that_dies_is_stood_in_for_by_the_service(started: Started) -> None:
    tree = started.service.tree()
    next(process for process in tree if "guard" in " ".join(process.cmdline())).kill()
    assert await asyncio.to_thread(started.service.stop) == 0
    wait_until_gone(tree)
    assert started.service.leftovers() == []


async def test_ctrl_c_while_starting_leaves_nothing(tmp_path: Path) -> None:
    with running_service(tmp_path) as service:
        for _ in patience("the stub to be started"):
            if service.named("stub"):
                break
        tree = service.tree()
        assert await asyncio.to_thread(service.stop) == 0
        wait_until_gone(tree)
        assert service.leftovers() == []


async def test_a_second_service_beside_the_first_does_not_disturb_it(
    started: Started, caller: Caller, tmp_path_factory: pytest.TempPathFactory
) -> None:
    stub = started.service.stub()
    with running_service(tmp_path_factory.mktemp("second")) as second:
        await asyncio.to_thread(second.wait_until_ready)
    assert await caller.ask() == RED_CIRCLE
    assert started.service.stub() == stub
