"""Watching a request over connections that are lost and servers that come back."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import random
import sys
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from clients.python.callers import KINDS, make_caller
from fakes.file_server import FileServer
from fakes.generation_server import finished, make_response, queue_position, stage, text
from fakes.request_server import attempt, failed, make_request, number
from fakes.scripted_server import Hang, make_status
from fakes.vector_server import METHODS
from google.protobuf.timestamp_pb2 import Timestamp
from idefics2.v1.requests_pb2 import WatchRequestRequest
from idefics2_client import (
    AuthenticationFailed,
    Cancelled,
    Client,
    DeadlineExceeded,
    Idefics2Error,
    InvalidRequest,
    NotFound,
    Retry,
    ServiceFailed,
    ServiceUnavailable,
    SettingInvalid,
)
from idefics2_client.images import INLINE_BYTES
from idefics2_client.retry import Patience

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from fakes.request_server import RequestServer
    from fakes.scripted_server import Step
    from idefics2.v1.requests_pb2 import Request
    from idefics2_client import AsyncClient

STORY = number(attempt(1), stage("DECODE"), text("A "), text("cat."), finished("A cat."))
ENDED = make_request("SUCCEEDED", last_sequence=5, end_time=Timestamp(seconds=1))
LOST = [
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.INTERNAL,
    make_status("UNAVAILABLE", "SERVICE_STOPPING", "why", retry_after_seconds=60),
    make_status("UNAVAILABLE", "STORE_UNAVAILABLE", "why", retry_after_seconds=60),
]

REFUSALS: list[Step] = [grpc.StatusCode.UNAVAILABLE, make_status("UNAVAILABLE", "STORE_UNAVAILABLE", "why")]


def asked_after(server: RequestServer) -> list[int]:
    """Return from where on the server was asked to tell, each time."""
    assert server.requests == [WatchRequestRequest(request_id="r-1", after=q.after) for q in server.requests]
    return [question.after for question in server.requests]


async def test_watch_yields_the_whole_story(server: RequestServer, caller: AsyncClient) -> None:
    server.expect(*STORY)
    assert [event async for event in caller.watch("r-1")] == STORY
    assert asked_after(server) == [0]


async def test_watch_begins_where_it_is_told(server: RequestServer, caller: AsyncClient) -> None:
    server.expect(*STORY[3:])
    assert [event async for event in caller.watch("r-1", after=3)] == STORY[3:]
    assert asked_after(server) == [3]


async def test_watch_ends_where_there_is_no_more_to_tell(server: RequestServer, caller: AsyncClient) -> None:
    server.expect()
    server.expect(ENDED)
    assert [event async for event in caller.watch("r-1", after=5)] == []


@pytest.mark.parametrize("standing", [make_request("RUNNING", last_sequence=3), ENDED])
async def test_a_stream_that_ends_before_the_request_is_lost(
    server: RequestServer, caller: AsyncClient, losses: list[Idefics2Error], standing: Request
) -> None:
    server.expect(*STORY[:3])
    server.expect(standing)
    server.expect(*STORY[3:])
    assert [event async for event in caller.watch("r-1")] == STORY
    assert [type(loss) for loss in losses] == [ServiceUnavailable]


@pytest.mark.parametrize("loss", LOST)
async def test_watch_goes_on_after_a_stream_breaks(
    server: RequestServer, caller: AsyncClient, losses: list[Idefics2Error], loss: Step
) -> None:
    server.expect(*STORY[:2], loss)
    server.expect(loss)
    server.expect(STORY[2], loss)
    server.expect(*STORY[3:])
    assert [event async for event in caller.watch("r-1")] == STORY
    assert asked_after(server) == [0, 2, 2, 3]
    assert len(losses) == 3


async def test_watch_goes_on_when_the_server_was_started_anew(
    server: RequestServer, caller: AsyncClient
) -> None:
    server.expect(*STORY[:3], Hang())
    server.expect(*STORY[3:])
    events = caller.watch("r-1")
    seen = [await anext(events) for _ in range(3)]
    server.restart()
    assert seen + [event async for event in events] == STORY
    assert asked_after(server) == [0, 3]


@pytest.mark.parametrize("kind", KINDS)
async def test_watch_waits_for_a_server_that_is_not_there(server: RequestServer, kind: str) -> None:
    server.go_away()
    server.expect(*STORY)
    async with make_caller(kind, server.target, lambda _: server.come_back()) as caller:
        assert [event async for event in caller.watch("r-1")] == STORY


async def test_what_is_told_twice_is_yielded_once(server: RequestServer, caller: AsyncClient) -> None:
    places = [queue_position(3), queue_position(2)]
    server.expect(*places, grpc.StatusCode.UNAVAILABLE)
    server.expect(queue_position(2), *STORY[:3], grpc.StatusCode.UNAVAILABLE)
    server.expect(*STORY[1:])
    assert [event async for event in caller.watch("r-1")] == [*places, *STORY]


async def test_a_loss_after_the_last_event_is_none(
    server: RequestServer, caller: AsyncClient, losses: list[Idefics2Error]
) -> None:
    server.expect(*STORY, grpc.StatusCode.UNAVAILABLE)
    assert [event async for event in caller.watch("r-1")] == STORY
    assert losses == []


async def test_watch_yields_a_failure_and_does_not_raise_it(
    server: RequestServer, caller: AsyncClient
) -> None:
    story = number(attempt(1), failed("INTERNAL", "INTERNAL_ERROR"))
    server.expect(*story)
    assert [event async for event in caller.watch("r-1")] == story


@pytest.mark.parametrize(
    ("code", "reason", "kind"),
    [
        ("NOT_FOUND", "REQUEST_NOT_FOUND", NotFound),
        ("UNAUTHENTICATED", "API_KEY_INVALID", AuthenticationFailed),
        ("INTERNAL", "INTERNAL_ERROR", ServiceFailed),
    ],
)
async def test_watch_gives_up_where_trying_again_is_no_use(
    server: RequestServer, caller: AsyncClient, code: str, reason: str, kind: type[Idefics2Error]
) -> None:
    server.expect(STORY[0], grpc.StatusCode.UNAVAILABLE)
    server.expect(make_status(code, reason, "why"))
    events = caller.watch("r-1")
    assert await anext(events) == STORY[0]
    with pytest.raises(kind, match="why"):
        await anext(events)


async def test_the_timeout_bounds_all_connections_together(
    server: RequestServer, caller: AsyncClient
) -> None:
    server.expect(STORY[0], grpc.StatusCode.UNAVAILABLE)
    server.expect(Hang())
    with pytest.raises(DeadlineExceeded):
        assert [event async for event in caller.watch("r-1", timeout_seconds=0.3)] == []


@pytest.mark.parametrize("kind", KINDS)
async def test_the_timeout_ends_waiting_for_a_server(kind: str) -> None:
    async with make_caller(kind, "127.0.0.1:1") as caller:
        with pytest.raises(DeadlineExceeded):
            await anext(caller.watch("r-1", timeout_seconds=0.05))


async def test_leaving_a_watch_ends_the_call(server: RequestServer, caller: AsyncClient) -> None:
    server.expect(STORY[0], Hang())
    events = caller.watch("r-1")
    await anext(events)
    await events.aclose()
    await asyncio.to_thread(server.wait_until_cancelled)


@pytest.mark.parametrize("kind", KINDS)
async def test_closing_the_client_ends_a_watch(server: RequestServer, kind: str) -> None:
    server.expect(STORY[0], Hang())
    async with make_caller(kind, server.target) as caller:
        events = caller.watch("r-1")
        await anext(events)
    with pytest.raises(Cancelled):
        await anext(events)


async def test_a_cursor_that_the_wire_cannot_hold_is_refused(caller: AsyncClient) -> None:
    with pytest.raises(InvalidRequest, match="after"):
        await anext(caller.watch("r-1", after=2**63))


async def test_a_result_is_waited_for_over_lost_connections(
    server: RequestServer, caller: AsyncClient
) -> None:
    server.expect(*STORY[:3], Hang())
    server.expect(*STORY[3:])
    waiting = asyncio.create_task(caller.result("r-1", wait=True))
    await asyncio.to_thread(server.wait_until_called)
    server.restart()
    assert await waiting == make_response("A cat.")


async def test_a_result_that_is_waited_for_may_be_an_error(
    server: RequestServer, caller: AsyncClient
) -> None:
    server.expect(*number(attempt(1), failed("UNAVAILABLE", "ATTEMPTS_EXHAUSTED")))
    with pytest.raises(ServiceUnavailable, match="why") as caught:
        await caller.result("r-1", wait=True)
    assert (caught.value.reason, caught.value.request_id) == ("ATTEMPTS_EXHAUSTED", "r-1")


def test_pauses_double_up_to_a_limit_and_vary(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "uniform", lambda _, limit: limit)
    retry = Retry(first_seconds=0.5, max_seconds=3)
    assert [retry.pause_seconds(count, None) for count in (1, 2, 3, 4, 10_000)] == [0.5, 1, 2, 3, 3]
    assert [retry.pause_seconds(1, asked) for asked in (0.1, 2.5, 60)] == [0.5, 2.5, 3]
    monkeypatch.setattr(random, "uniform", lambda low, _: low)
    assert retry.pause_seconds(4, None) == 0


def test_a_pause_is_no_longer_than_the_time_that_is_left() -> None:
    lost = ServiceUnavailable("why", code="UNAVAILABLE", retry_after_seconds=3)
    patience = Patience(Retry(on_lost=str), timeout_seconds=0)
    assert (patience.pause_after(lost), patience.is_tried) == (0, True)
    patience.restore()
    assert not patience.is_tried


@pytest.mark.parametrize("seconds", [math.inf, 1e300, 10**12])
def test_a_pause_that_never_ends_is_a_day(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    monkeypatch.setattr(random, "uniform", lambda _, limit: limit)
    retry = Retry(first_seconds=seconds, max_seconds=seconds)
    assert [retry.pause_seconds(count, seconds) for count in (1, 10_000)] == [86_400, 86_400]
    options = dict(retry.channel_options)
    assert options["grpc.max_reconnect_backoff_ms"] == 86_400_000
    Client("127.0.0.1:1", retry=retry).close()


@pytest.mark.parametrize("name", ["first_seconds", "max_seconds"])
def test_a_pause_that_is_no_number_is_refused(name: str) -> None:
    pauses: Any = {name: math.nan}
    with pytest.raises(SettingInvalid, match=name) as caught:
        Retry(**pauses)
    assert caught.value.field == "retry"


@pytest.mark.parametrize(("seconds", "told"), [(math.nan, "nan"), (10**400, "1" + "0" * 79)])
async def test_a_timeout_that_is_no_number_is_refused_before_anybody_is_called(
    caller: AsyncClient, seconds: float, told: str
) -> None:
    bound = f"up to {sys.float_info.max} seconds, or infinity"
    with pytest.raises(InvalidRequest) as caught:
        await caller.get_request("r-1", timeout_seconds=seconds)
    assert str(caught.value) == f"timeout_seconds must be {bound}, not {told}"
    assert caught.value.metadata == {"field": "timeout_seconds", "bound": bound, "value": told}


@pytest.mark.parametrize(("seconds", "is_bounded"), [(1e10, True), (1e300, True), (math.inf, False)])
async def test_a_timeout_of_any_length_is_not_over_at_once(
    server: FileServer, caller: AsyncClient, *, seconds: float, is_bounded: bool
) -> None:
    server.expect(ENDED)
    server.expect(*STORY)
    assert await caller.get_request("r-1", timeout_seconds=seconds) == ENDED
    assert [event async for event in caller.watch("r-1", timeout_seconds=seconds)] == STORY
    assert [(left or math.inf) < 2 * 365 * 86_400 for left in server.seconds_left] == [is_bounded] * 2


@pytest.mark.parametrize(
    "call",
    [
        lambda caller: caller.get_request("r-1"),
        lambda caller: caller.cancel("r-1"),
        lambda caller: caller.result("r-1"),
        lambda caller: caller.get_file("f"),
        lambda caller: caller.count_tokens(b"", "What?"),
        lambda caller: anext(caller.list_requests()),
        lambda caller: anext(caller.list_files()),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("refusal", REFUSALS)
async def test_what_only_reads_is_asked_again(
    kind: str, call: Callable[[AsyncClient], Awaitable[Any]], refusal: Step
) -> None:
    with FileServer() as server:
        for _ in range(3):
            server.expect(refusal)
        async with make_caller(kind, server.target) as caller:
            with pytest.raises(ServiceUnavailable) as caught:
                await call(caller)
            assert caught.value.request_id == "r-1", caught.value.__cause__
            server.expect(make_status("INTERNAL", "INTERNAL_ERROR", "why"))
            with pytest.raises(ServiceFailed):
                await call(caller)
        attempts = [call.get("grpc-previous-rpc-attempts") for call in server.metadata]
        assert attempts == [None, "1", "2", None]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("num_bytes", [300_000, 2_000_000, INLINE_BYTES])
async def test_a_question_is_asked_again_however_large_its_pictures_are(kind: str, num_bytes: int) -> None:
    with FileServer() as server:
        for _ in range(3):
            server.expect(grpc.StatusCode.UNAVAILABLE)
        async with make_caller(kind, server.target) as caller:
            with pytest.raises(ServiceUnavailable):
                await caller.count_tokens(bytes(num_bytes), "What?")
        assert [len(question.images[0].data) for question in server.requests] == [num_bytes] * 3


def test_what_grpc_may_ask_again_is_in_the_contract_and_has_no_effect() -> None:
    options = dict(Retry().channel_options)
    (config,) = json.loads(str(options["grpc.service_config"]))["methodConfig"]
    names = {f"{name['service']}.{name['method']}" for name in config["name"]}
    assert names <= {method.full_name for method in METHODS.values()}
    with_effect = {"Generate", "GenerateStream", "Submit", "Upload", "DeleteFile"}
    assert not {METHODS[method].full_name for method in with_effect} & names


async def test_it_is_not_asked_again_before_the_service_wants_to_hear_of_it(
    server: FileServer, caller: AsyncClient
) -> None:
    server.expect(make_status("UNAVAILABLE", "STORE_UNAVAILABLE", "why", retry_after_seconds=0.2))
    server.expect(ENDED)
    assert await caller.get_request("r-1") == ENDED
    first, second = server.arrivals
    assert second - first >= 0.2


async def test_an_answer_that_will_stay_is_told_at_once(server: FileServer, caller: AsyncClient) -> None:
    server.expect(make_status("UNAVAILABLE", "ATTEMPTS_EXHAUSTED", "why", retry_after_seconds=0))
    with pytest.raises(ServiceUnavailable, match="why"):
        await caller.result("r-1")


@pytest.mark.parametrize(
    "call",
    [
        lambda caller: caller.generate(b"", "What?"),
        lambda caller: caller.submit(b"", "What?"),
        lambda caller: caller.delete_file("f"),
        lambda caller: anext(caller.stream(b"", "What?")),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("refusal", REFUSALS)
async def test_what_has_an_effect_is_sent_once(
    kind: str, call: Callable[[AsyncClient], Awaitable[Any]], refusal: Step
) -> None:
    with FileServer() as server:
        server.expect(refusal)
        async with make_caller(kind, server.target) as caller:
            with pytest.raises(ServiceUnavailable):
                await call(caller)


def test_nothing_is_asked_again_where_that_is_not_wanted() -> None:
    with FileServer(request_id="") as server, Client(server.target, retry=Retry(max_attempts=1)) as client:
        server.expect(grpc.StatusCode.UNAVAILABLE)
        with pytest.raises(ServiceUnavailable):
            client.get_request("r-1")


def test_a_loss_is_logged_unless_somebody_wants_to_hear_of_it(caplog: pytest.LogCaptureFixture) -> None:
    Patience(Retry(0, 0), None).pause_after(ServiceUnavailable("gone", code="UNAVAILABLE"))
    assert caplog.record_tuples == [("idefics2_client", logging.WARNING, "gone; trying again")]
