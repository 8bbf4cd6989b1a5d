"""What needs no key takes no more than its share, and nothing from those who only ask, or have a key."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from fakes.backend import FakeBackend
from fakes.script import Script
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2
from harness import Harness, MakeSettings, describe_red_circle, read_refusal, red_circle_answer, run_harness
from idefics2_service.app import App
from idefics2_service.errors import CallsFull
from idefics2_service.rpc import open_calls
from idefics2_service.shares import Shares
from pictures import RED_CIRCLE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PATIENCE_SECONDS = 30
WATCH = "/grpc.health.v1.Health/Watch"
ASKED = health_pb2.HealthCheckRequest().SerializeToString()
LIST = reflection_pb2.ServerReflectionRequest(list_services="*").SerializeToString()
TINY_FIELDS = b"\x78\x00" * 2**19
"""A megabyte of fields that no message has."""
METHODS = [
    (WATCH, ASKED),
    ("/grpc.health.v1.Health/Check", ASKED),
    ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", LIST),
]


@pytest.fixture
async def service(make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Harness]:
    """A service with room for four calls of each method that needs no key: two of one address."""
    monkeypatch.setattr(open_calls, "MAX_OPEN", 4)
    script = Script()
    async with run_harness(App(make_settings(), FakeBackend(script)), script, is_real=False) as harness:
        yield harness


def begin(service: Harness, method: str) -> Any:
    """Begin a call, and send no message yet."""
    channel: Any = service.channel  # the stubs want what may be left out
    return channel.stream_stream(method)()


async def is_taken(service: Harness, method: str, message: bytes) -> bool:
    """Tell whether a call is answered, and leave."""
    call = begin(service, method)
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await call.write(message)
            return await call.read() is not grpc.aio.EOF  # type: ignore[attr-defined]  # the stubs lack it
    except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
        assert await call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        return False
    finally:
        call.cancel()


async def wait_until_taken(service: Harness, method: str, message: bytes, *, taken: bool) -> None:
    """Return when it is so: the service hears a little later who has come, and who has left."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while await is_taken(service, method, message) is not taken:
            pass


async def test_watches_of_health_leave_room_for_who_asks_and_for_who_has_a_key(service: Harness) -> None:
    stub: Any = health_pb2_grpc.HealthStub(service.channel)
    request = health_pb2.HealthCheckRequest()
    watches = [stub.Watch(request) for _ in range(2)]
    for watch in watches:
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Watch(request).read()
    refusal = read_refusal(caught.value)
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "CALLS_FULL")
    assert refusal.message == (
        "too many calls of this method, which needs no key, are open: "
        "of 4, this address has 2 and 2 are free; no address may have more than are free"
    )
    assert (await stub.Check(request)).status == health_pb2.HealthCheckResponse.SERVING
    service.expect(red_circle_answer())
    assert (await service.generate(describe_red_circle())).output == RED_CIRCLE
    watches[0].cancel()
    await wait_until_taken(service, WATCH, ASKED, taken=True)


@pytest.mark.parametrize(("method", "message"), METHODS)
async def test_a_call_whose_message_does_not_come_is_counted_too(
    service: Harness, method: str, message: bytes
) -> None:
    assert await is_taken(service, method, message)
    silent = [begin(service, method) for _ in range(2)]
    await wait_until_taken(service, method, message, taken=False)
    silent[0].cancel()
    await wait_until_taken(service, method, message, taken=True)


@pytest.mark.parametrize("method", [method for method, _ in METHODS])
@pytest.mark.parametrize("message", [TINY_FIELDS + b"\x0a\x01\xff", b"\x0a\x80\x80\x40" + b"x" * 2**20])
async def test_a_message_that_is_larger_than_any_name_is_refused_and_not_parsed(
    service: Harness, method: str, message: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed: list[bytes] = []
    monkeypatch.setattr(open_calls, "parse_message", lambda _, data: parsed.append(data))
    call = begin(service, method)
    await call.write(message)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    refusal = read_refusal(caught.value)
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "REQUEST_MALFORMED")
    assert refusal.metadata == {"bound": "4096", "value": str(len(message))}
    assert not parsed


async def test_a_method_that_does_not_exist_is_refused_before_its_message_comes(service: Harness) -> None:
    call = begin(service, "/idefics2.v1.GenerationService/Paint")
    async with asyncio.timeout(PATIENCE_SECONDS):
        assert await call.code() is grpc.StatusCode.UNIMPLEMENTED


def test_an_address_that_takes_its_share_leaves_room_for_others_whatever_its_ports_are() -> None:
    places = Shares(4)
    one, two, three, other = map(
        open_calls._find_address,
        (*(f"ipv4:192.0.2.1:{port}" for port in (1, 2, 3)), "ipv6:%5B2001:db8::1%5D:1"),
    )
    with ExitStack() as held:
        for address in (one, two):
            held.enter_context(open_calls._place(places, address))
        with pytest.raises(CallsFull), open_calls._place(places, three):
            pass
        held.enter_context(open_calls._place(places, other))
    assert places.num_taken == 0
