"""What needs no key takes no more than its share, and nothing from those who only ask, or have a key."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from fakes.backend import FakeBackend
from fakes.script import Script
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2
from harness import Harness, MakeSettings, describe_red_circle, red_circle_answer, refuse, run_harness
from idefics2_service.app import App
from idefics2_service.errors import CallsFull
from idefics2_service.rpc import open_calls, streams
from idefics2_service.shares import Shares
from pictures import RED_CIRCLE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PATIENCE_SECONDS = 30
SHORT_SECONDS = 0.2
WATCH = "/grpc.health.v1.Health/Watch"
REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
ASKED = health_pb2.HealthCheckRequest().SerializeToString()
LIST = reflection_pb2.ServerReflectionRequest(list_services="*").SerializeToString()
TINY_FIELDS = b"\x78\x00" * 2**19
"""A megabyte of fields that no message has."""
NO_WINDOW = (("grpc.http2.lookahead_bytes", 1), ("grpc.http2.bdp_probe", 0))
"""Of a client that takes nothing until it reads: gRPC's own would take megabytes."""
METHODS = [
    (WATCH, ASKED),
    ("/grpc.health.v1.Health/Check", ASKED),
    (REFLECTION, LIST),
]


@pytest.fixture
async def service(make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Harness]:
    """A service with room for four calls of each method that needs no key: two of one address."""
    monkeypatch.setattr(open_calls, "MAX_OPEN", 4)
    async with serve(make_settings) as harness:
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
            await call.done_writing()
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
    refusal = await refuse(stub.Watch(request).read())
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
    refusal = await refuse(call.read())
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "REQUEST_MALFORMED")
    assert refusal.metadata == {"bound": "4096", "value": str(len(message))}
    assert not parsed


async def patience() -> AsyncIterator[None]:
    """Look again and again, for a while."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            yield
            await asyncio.sleep(0.002)


async def wait_for_metric(service: Harness, value: float, name: str, **labels: str) -> None:
    """Return when a metric has a value."""
    async for _ in patience():
        if service.app.metrics.registry.get_sample_value(name, labels) == value:
            return


@asynccontextmanager
async def serve(make_settings: MakeSettings, **given: Any) -> AsyncIterator[Harness]:
    """Run a service with settings of its own."""
    script = Script()
    app = App(make_settings(**given), FakeBackend(script))
    async with run_harness(app, script, is_real=False) as harness:
        yield harness


@pytest.mark.parametrize("is_sending", [False, True])
@pytest.mark.parametrize(("method", "message"), METHODS)
async def test_a_caller_of_whom_no_message_comes_and_no_end_is_given_up(
    make_settings: MakeSettings, method: str, message: bytes, *, is_sending: bool
) -> None:
    async with serve(make_settings, grpc__message_timeout_seconds=SHORT_SECONDS) as service:
        call = begin(service, method)
        if is_sending:
            await call.write(message)
        if is_sending and method == REFLECTION:
            await call.read()
        refusal = await refuse(call.read())
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "SENDER_STALLED")
        assert refusal.message == f"a message of the call was not whole after {SHORT_SECONDS} s"


@pytest.mark.parametrize(("method", "message"), METHODS)
async def test_a_message_that_is_slow_to_come_counts_as_the_largest(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch, method: str, message: bytes
) -> None:
    monkeypatch.setattr(streams, "_AT_ONCE_SECONDS", SHORT_SECONDS)
    async with serve(make_settings) as service:
        call = begin(service, method)
        ahead_bytes = streams.WINDOW_BYTES if method == REFLECTION else 0
        await wait_for_metric(service, 28 * 2**20 + ahead_bytes, "idefics2_held_bytes")
        await call.write(message)
        await call.done_writing()
        assert await call.read() is not grpc.aio.EOF  # type: ignore[attr-defined]  # the stubs lack it
        await wait_for_metric(service, 0, "idefics2_held_bytes")
        call.cancel()


@pytest.mark.parametrize("num_messages", [0, 2])
@pytest.mark.parametrize(("method", "message"), METHODS[:2])
async def test_who_asks_for_health_sends_one_message_and_no_more(
    service: Harness, method: str, message: bytes, num_messages: int
) -> None:
    call = begin(service, method)
    for _ in range(num_messages):
        await call.write(message)
    await call.done_writing()
    assert (await refuse(call.read())).reason == "REQUEST_MALFORMED"


async def test_what_callers_of_reflection_may_send_ahead_counts_for_their_address(service: Harness) -> None:
    call = begin(service, REFLECTION)
    await call.write(LIST)
    assert await call.read() is not grpc.aio.EOF  # type: ignore[attr-defined]  # the stubs lack it
    await wait_for_metric(service, streams.WINDOW_BYTES, "idefics2_held_bytes")
    call.cancel()
    await wait_for_metric(service, 0, "idefics2_held_bytes")


async def test_a_caller_of_reflection_who_does_not_read_is_given_up(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_calls, "MAX_OPEN", 2)
    ask = reflection_pb2.ServerReflectionRequest(file_containing_symbol="idefics2.v1.GenerationService")
    async with (
        serve(make_settings, grpc__stall_timeout_seconds=SHORT_SECONDS) as service,
        grpc.aio.insecure_channel(service.app.grpc_address, options=NO_WINDOW) as channel,
    ):
        untyped: Any = channel  # the stubs want what may be left out
        call = untyped.stream_stream(REFLECTION)()

        async def ask_without_end() -> None:
            while True:
                await call.write(ask.SerializeToString())

        asking = asyncio.create_task(ask_without_end())
        await wait_for_metric(service, 1, "idefics2_stalled_streams_total", method="ServerReflectionInfo")
        await wait_until_taken(service, REFLECTION, LIST, taken=True)
        call.cancel()
        await asyncio.wait((asking,))
        assert asking.cancelled() or asking.exception()


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
    assert other == open_calls._find_address("ipv6:%5B2001:db8::2%25eth0%5D:2")
    with ExitStack() as held:
        for address in (one, two):
            held.enter_context(open_calls._place(places, address))
        with pytest.raises(CallsFull), open_calls._place(places, three):
            pass
        held.enter_context(open_calls._place(places, other))
    assert places.num_taken == 0
