"""Who watches the health of the service hears of each change, whoever else watches."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from idefics2_service.rpc.health import HealthServicer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

Response = health_pb2.HealthCheckResponse
NAME = "idefics2.v1.GenerationService"


@asynccontextmanager
async def serving(health: HealthServicer) -> AsyncIterator[Any]:
    """Serve `health`, and yield a stub that asks for it."""
    server = grpc.aio.server()
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield health_pb2_grpc.HealthStub(channel)
    finally:
        await server.stop(0)


def ask(name: str = NAME) -> health_pb2.HealthCheckRequest:
    return health_pb2.HealthCheckRequest(service=name)


async def test_one_who_leaves_does_not_leave_the_others_deaf() -> None:
    health = HealthServicer([NAME])
    async with serving(health) as stub:
        first, second = stub.Watch(ask()), stub.Watch(ask())
        for watch in (first, second):
            assert (await watch.read()).status == Response.NOT_SERVING
        first.cancel()
        health.set(serving=True)
        assert (await second.read()).status == Response.SERVING
        health.set(serving=False)
        assert (await second.read()).status == Response.NOT_SERVING


@pytest.mark.parametrize("name", ["", NAME])
async def test_the_server_and_its_services_have_one_health(name: str) -> None:
    health = HealthServicer([NAME])
    async with serving(health) as stub:
        assert (await stub.Check(ask(name))).status == Response.NOT_SERVING
        health.set(serving=True)
        assert (await stub.Check(ask(name))).status == Response.SERVING


async def test_a_service_that_is_not_here_is_unknown() -> None:
    async with serving(HealthServicer([NAME])) as stub:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Check(ask("another"))
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        assert (await stub.Watch(ask("another")).read()).status == Response.SERVICE_UNKNOWN


async def test_watches_end_when_the_service_does() -> None:
    health = HealthServicer([NAME])
    async with serving(health) as stub:
        watch = stub.Watch(ask())
        answers = aiter(watch)
        assert (await anext(answers)).status == Response.NOT_SERVING
        health.end()
        assert [answer async for answer in answers] == []
        assert await watch.code() is grpc.StatusCode.OK
