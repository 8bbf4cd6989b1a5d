"""Submitting a request and staying with it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import grpc
import pytest
from clients.python.callers import KINDS, make_caller
from fakes.file_server import make_file
from fakes.generation_server import finished, log_line, make_response, queue_position, stage, text
from fakes.request_server import attempt, failed, make_request, number
from fakes.scripted_server import PATIENCE_SECONDS, Hang, Take, make_status
from idefics2.v1.generation_pb2 import Event, TextDelta
from idefics2.v1.requests_pb2 import CancelRequestRequest, SubmitRequest, WatchRequestRequest
from idefics2_client import (
    AlreadyExists,
    Cancelled,
    DeadlineExceeded,
    Idefics2Error,
    Overloaded,
    QueueUpdate,
    ServiceFailed,
    TextUpdate,
)
from idefics2_client.images import INLINE_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

    from fakes.file_server import FileServer
    from fakes.request_server import RequestServer
    from fakes.scripted_server import Step
    from idefics2_client import AsyncClient

URL = "https://example.com/cat.png"
STORY = number(
    attempt(1), stage("RESOLVING"), log_line("hello"), stage("DECODE"), text("A cat."), finished("A cat.")
)


class Ears:
    """Callbacks that keep what they heard."""

    def __init__(self) -> None:
        self.places: list[QueueUpdate] = []
        self.lines: list[str] = []
        self.texts: list[TextUpdate] = []
        self.callbacks: dict[str, Any] = {
            "on_queue_update": self.places.append,
            "on_log": lambda line: self.lines.append(line.message),
            "on_text": self.texts.append,
        }


def delta(piece: str, num_generated_tokens: int) -> Event:
    """Write a piece of the answer, with which it has so many tokens."""
    return Event(text_delta=TextDelta(text=piece, num_generated_tokens=num_generated_tokens))


def name_of(server: RequestServer) -> str:
    """Return the name that the request was submitted by, each time it was."""
    (name,) = {request.request_id for request in server.requests}
    return str(name)


def raising(error: BaseException) -> Callable[[object], None]:
    """Make a callback that raises."""

    def raise_it(_: object) -> None:
        raise error

    return raise_it


async def test_subscribe_returns_the_answer_and_tells_what_happens(
    server: RequestServer, caller: AsyncClient
) -> None:
    ears = Ears()
    server.expect(make_request("QUEUED", queue_position=3))
    server.expect(queue_position(3), queue_position(1), *STORY)
    answer = await caller.subscribe(URL, "What?", request_id="r-1", **ears.callbacks)
    assert answer == make_response("A cat.")
    assert ears.places == [
        QueueUpdate("r-1", "queued", position=3),
        QueueUpdate("r-1", "queued", position=1),
        QueueUpdate("r-1", "running", attempt=1),
        QueueUpdate("r-1", "running", stage="resolving", attempt=1),
        QueueUpdate("r-1", "running", stage="decode", attempt=1),
        QueueUpdate("r-1", "succeeded", attempt=1),
    ]
    assert ears.lines == ["hello"]
    assert ears.texts == [TextUpdate("A cat.", "A cat.", attempt=1)]


async def test_subscribe_needs_no_callbacks(server: RequestServer, caller: AsyncClient) -> None:
    server.expect(make_request())
    server.expect(*number(Event(), *STORY))
    assert await caller.subscribe(URL, "What?") == make_response("A cat.")


async def test_callbacks_of_the_asyncio_client_may_be_awaited(server: RequestServer) -> None:
    heard: list[str] = []

    async def hear(update: TextUpdate) -> None:
        await asyncio.sleep(0)
        heard.append(update.delta)

    server.expect(make_request())
    server.expect(*STORY)
    async with make_caller("asyncio", server.target) as caller:
        await caller.subscribe(URL, "What?", on_text=hear)
    assert heard == ["A cat."]


async def test_another_attempt_begins_the_text_anew(server: RequestServer, caller: AsyncClient) -> None:
    ears = Ears()
    server.expect(make_request())
    first = number(attempt(1), delta("A ", 1), delta("do", 2))
    second = number(attempt(2), delta("A ", 1), delta("cat.", 3), finished("A cat."), after=3)
    server.expect(*first, queue_position(0), *second)
    await caller.subscribe(URL, "What?", **ears.callbacks)
    assert ears.texts == [
        TextUpdate("A ", "A ", 1, attempt=1),
        TextUpdate("do", "A do", 2, attempt=1),
        TextUpdate("", "", 0, attempt=2),
        TextUpdate("A ", "A ", 1, attempt=2),
        TextUpdate("cat.", "A cat.", 3, attempt=2),
    ]
    states = [(update.state, update.attempt) for update in ears.places]
    assert states == [("queued", 0), ("running", 1), ("queued", 1), ("running", 2), ("succeeded", 2)]


async def test_a_submit_that_may_be_lost_is_sent_again_by_the_same_name(
    server: RequestServer, caller: AsyncClient, losses: list[Idefics2Error]
) -> None:
    server.expect(grpc.StatusCode.UNAVAILABLE)
    server.expect(make_status("UNAVAILABLE", "STORE_UNAVAILABLE", "why"))
    server.expect(make_request())
    server.expect(*STORY)
    assert await caller.subscribe(URL, "What?") == make_response("A cat.")
    one, two, three, watched = server.requests
    assert one == two == three
    assert isinstance(one, SubmitRequest)
    assert watched == WatchRequestRequest(request_id=name_of(server))
    assert len(losses) == 2


async def test_each_request_without_a_name_gets_its_own(server: RequestServer, caller: AsyncClient) -> None:
    for _ in range(2):
        server.expect(make_request())
        server.expect(*STORY)
        await caller.subscribe(URL, "What?")
    assert len({request.request_id for request in server.requests} - {""}) == 2


@pytest.mark.parametrize("kind", KINDS)
async def test_subscribe_outlives_a_server_that_is_started_anew_at_every_step(
    server: RequestServer, kind: str
) -> None:
    server.go_away()
    server.expect(make_request())
    for event in STORY[:-1]:
        server.expect(event, Hang())
    server.expect(STORY[-1])
    async with make_caller(kind, server.target, lambda _: server.come_back()) as caller:
        answer = await caller.subscribe(
            URL,
            "What?",
            on_queue_update=lambda _: server.go_away(),
            on_log=lambda _: server.go_away(),
            on_text=lambda _: server.go_away(),
        )
    assert answer == make_response("A cat.")
    assert [request.after for request in server.requests[1:]] == [0, 1, 2, 3, 4, 5]


async def test_a_request_that_fails_raises_its_own_error_and_is_not_cancelled(
    server: RequestServer, caller: AsyncClient
) -> None:
    ears = Ears()
    server.expect(make_request())
    server.expect(*number(attempt(1), failed("INTERNAL", "INTERNAL_ERROR")))
    with pytest.raises(ServiceFailed, match="why") as caught:
        await caller.subscribe(URL, "What?", **ears.callbacks)
    assert caught.value.request_id == name_of(server)
    assert ears.places[-1].state == "failed"


async def test_a_request_that_somebody_cancelled_says_so(server: RequestServer, caller: AsyncClient) -> None:
    ears = Ears()
    server.expect(make_request())
    server.expect(*number(failed("CANCELLED", "REQUEST_CANCELLED")))
    with pytest.raises(Cancelled, match="why"):
        await caller.subscribe(URL, "What?", **ears.callbacks)
    assert ears.places[-1].state == "cancelled"


@pytest.mark.parametrize(
    ("code", "reason", "kind"),
    [
        ("ALREADY_EXISTS", "REQUEST_ID_TAKEN", AlreadyExists),
        ("RESOURCE_EXHAUSTED", "QUEUE_FULL", Overloaded),
    ],
)
async def test_a_request_that_is_refused_is_not_cancelled(
    server: RequestServer, caller: AsyncClient, code: str, reason: str, kind: type[Idefics2Error]
) -> None:
    server.expect(make_status(code, reason, "why"))
    with pytest.raises(kind):
        await caller.subscribe(URL, "What?", request_id="r-1")


async def test_a_request_that_is_refused_after_a_loss_may_have_been_taken_and_is_cancelled(
    server: RequestServer, caller: AsyncClient
) -> None:
    server.expect(grpc.StatusCode.UNAVAILABLE)
    server.expect(make_status("RESOURCE_EXHAUSTED", "QUEUE_FULL", "why"))
    server.expect(make_request("CANCELLED"))
    with pytest.raises(Overloaded, match="why"):
        await caller.subscribe(URL, "What?")
    assert server.requests[-1] == CancelRequestRequest(request_id=name_of(server))


async def test_a_request_whose_upload_alone_was_lost_is_not_cancelled_when_it_is_refused(
    server: FileServer, caller: AsyncClient
) -> None:
    picture = b"BM" + bytes(INLINE_BYTES)
    for upload in ((grpc.StatusCode.UNAVAILABLE,), (Take(), make_file(picture))):
        server.expect(make_status("NOT_FOUND", "FILE_NOT_UPLOADED", "why"))
        server.expect(make_status("NOT_FOUND", "UPLOAD_NOT_FOUND", "why"))
        server.expect(*upload)
    server.expect(make_status("RESOURCE_EXHAUSTED", "RATE_LIMITED", "why"))
    with pytest.raises(Overloaded, match="why"):
        await caller.subscribe(picture, "What?")
    assert server.methods[-2:] == ["Upload", "Submit"]


@pytest.mark.parametrize("callback", ["on_queue_update", "on_log", "on_text"])
@pytest.mark.parametrize("error", [ZeroDivisionError("x"), Overloaded("x"), KeyboardInterrupt()])
async def test_leaving_by_a_callback_cancels_the_request(
    server: RequestServer, caller: AsyncClient, callback: str, error: BaseException
) -> None:
    server.expect(make_request())
    if callback != "on_queue_update":
        server.expect(*STORY[:-1], Hang())
    server.expect(make_request("CANCELLED"))
    callbacks: dict[str, Any] = {callback: raising(error)}
    with pytest.raises(type(error)) as caught:
        await caller.subscribe(URL, "What?", **callbacks)
    assert caught.value is error
    assert server.requests[-1] == CancelRequestRequest(request_id=name_of(server))


async def test_a_callback_that_raises_at_the_end_cancels_nothing(
    server: RequestServer, caller: AsyncClient
) -> None:
    def hear(update: QueueUpdate) -> None:
        assert update.state != "succeeded"

    server.expect(make_request())
    server.expect(*STORY)
    with pytest.raises(AssertionError):
        await caller.subscribe(URL, "What?", on_queue_update=hear)


@pytest.mark.parametrize("steps", [[], [make_request()]])
async def test_a_timeout_cancels_what_was_or_may_have_been_taken(
    server: RequestServer, caller: AsyncClient, steps: list[Step]
) -> None:
    for step in steps:
        server.expect(step)
    server.expect(Hang())
    server.expect(make_request("CANCELLED"))
    with pytest.raises(DeadlineExceeded):
        await caller.subscribe(URL, "What?", timeout_seconds=0.3)
    assert server.requests[-1] == CancelRequestRequest(request_id=name_of(server))


async def test_a_cancel_that_fails_does_not_hide_why_it_was_sent(
    server: RequestServer, caller: AsyncClient
) -> None:
    server.expect(make_request())
    server.expect(make_status("NOT_FOUND", "REQUEST_NOT_FOUND", "why"))
    with pytest.raises(ZeroDivisionError):
        await caller.subscribe(URL, "What?", on_queue_update=raising(ZeroDivisionError()))


@pytest.mark.parametrize("kind", KINDS)
async def test_closing_the_client_ends_a_subscription(server: RequestServer, kind: str) -> None:
    server.expect(make_request())
    server.expect(STORY[0], Hang())
    begun = asyncio.Event()
    loop = asyncio.get_running_loop()

    def hear(update: QueueUpdate) -> None:
        if update.state == "running":
            loop.call_soon_threadsafe(begun.set)

    async with make_caller(kind, server.target) as caller:
        waiting = asyncio.create_task(caller.subscribe(URL, "What?", on_queue_update=hear))
        await begun.wait()
    with pytest.raises(Cancelled):
        await waiting


async def test_cancelling_the_task_cancels_the_request(server: RequestServer) -> None:
    server.expect(make_request())
    server.expect(STORY[0], Hang())
    server.expect(make_request("CANCELLED"))
    async with make_caller("asyncio", server.target) as caller:
        task = asyncio.create_task(
            caller.subscribe(URL, "What?", on_queue_update=lambda now: now.attempt and task.cancel())
        )
        with pytest.raises(asyncio.CancelledError):
            await task
    assert server.requests[-1] == CancelRequestRequest(request_id=name_of(server))


@pytest.mark.parametrize("way", ["twice", "by a scope that cancels whatever is awaited"])
async def test_being_cancelled_again_meanwhile_changes_nothing(server: RequestServer, way: str) -> None:
    asked = asyncio.Event()
    server.expect(make_request())
    server.expect(STORY[0], Hang())
    server.expect(make_request("CANCELLED"))
    async with make_caller("asyncio", server.target) as caller:

        def hear(update: QueueUpdate) -> None:
            if update.attempt:
                asked.set()

        waiting = caller.subscribe(URL, "What?", on_queue_update=hear)
        if way == "twice":
            task = asyncio.create_task(waiting)
            await asked.wait()
            task.cancel()
            await asyncio.sleep(0)  # the first is on its way
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        else:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(partial(asyncio.wait_for, waiting, None))
                await asked.wait()
                tasks.cancel_scope.cancel()
    assert server.requests[-1] == CancelRequestRequest(request_id=name_of(server))


def test_ctrl_c_cancels_the_request(server: RequestServer) -> None:
    program = (
        "import signal; from idefics2_client import Client\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "with Client() as client:\n"
        f"    client.subscribe({URL!r}, 'What?', on_log=lambda line: print(line.message, flush=True))\n"
    )
    server.expect(make_request())
    server.expect(*STORY[:3], Hang())
    server.expect(make_request("CANCELLED"))
    environment = os.environ | {"IDEFICS2_CLIENT_TARGET": server.target}
    arguments = [sys.executable, "-W", "error", "-c", program]
    with subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    ) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == b"hello\n"
        running.send_signal(signal.SIGINT)
        _, err = running.communicate(timeout=PATIENCE_SECONDS)
    assert err.endswith(b"KeyboardInterrupt\n")
    assert server.requests[-1] == CancelRequestRequest(request_id=name_of(server))
