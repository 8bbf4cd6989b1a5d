"""What callers are promised of a replica that is told to end. Of two, behind a balancer: tests/load."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING

import grpc
import httpx
import pytest
from faces.web import QUEUE, RUN, Web
from fakes.backend import FakeBackend
from fakes.script import Answer, Script
from grpc_health.v1 import health_pb2, health_pb2_grpc
from harness import (
    Harness,
    MakeSettings,
    describe_red_circle,
    read_refusal,
    red_circle_answer,
    refuse,
    run_harness,
    run_while_triton_starts,
)
from idefics2.v1 import files_pb2, files_pb2_grpc, requests_pb2, requests_pb2_grpc
from idefics2_service.app import App
from pictures import RED_CIRCLE, red_circle
from streams import read_to_end, read_until

if TYPE_CHECKING:
    from typing import Any

PATIENCE_SECONDS = 10
DRAIN_SECONDS = 0.05
HELD_SECONDS = 1.0
"""Longer than calls that were ended may take to say so."""
PIECE_BYTES, CHUNK_BYTES = 2**22, 2**20
PARTS = {"store", "blobs-writing", "blobs-reading", "hashing", "lookout"}
"""With threads of their own, for as long as the service runs; that of a look-up ends with its answer."""
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


async def begin_to_stop(app: App, harness: Harness) -> asyncio.Task[None]:
    """Stop a service as a signal does; return when it has said so to those who ask for its health."""
    health: Any = health_pb2_grpc.HealthStub(harness.channel)
    watch = health.Watch(health_pb2.HealthCheckRequest())
    await watch.read()
    stopping = asyncio.create_task(app.__aexit__(None, None, None))
    assert (await watch.read()).status == NOT_SERVING
    return stopping


async def break_off(stopping: asyncio.Task[None]) -> None:
    """Do as a second signal does."""
    stopping.cancel()
    with suppress(asyncio.CancelledError):
        await stopping


async def submit_long(harness: Harness) -> None:
    """Submit a request by the name `long`."""
    stub: Any = requests_pb2_grpc.RequestServiceStub(harness.channel)
    submission = requests_pb2.SubmitRequest(request_id="long", input=describe_red_circle())
    await stub.Submit(submission, metadata=harness.metadata)


def watch_long(harness: Harness) -> Any:
    """Watch that request from its beginning."""
    stub: Any = requests_pb2_grpc.RequestServiceStub(harness.channel)
    question = requests_pb2.WatchRequestRequest(request_id="long")
    return stub.WatchRequest(question, metadata=harness.metadata)


async def test_while_balancers_hear_that_it_goes_a_replica_answers_as_ever(
    make_settings: MakeSettings, script: Script
) -> None:
    settings = make_settings(grpc__drain_delay_seconds=60)
    script.add(red_circle_answer())
    async with AsyncExitStack() as stack:
        app = App(settings, FakeBackend(script))
        harness = await stack.enter_async_context(run_harness(app, script, is_real=False))
        stopping = await begin_to_stop(app, harness)
        ready = await harness.http.get("/healthz/ready")
        assert (ready.status_code, ready.headers["connection"]) == (503, "close")
        assert (await harness.generate(describe_red_circle())).output == RED_CIRCLE
        await break_off(stopping)


async def test_a_second_signal_hands_back_what_runs_as_the_end_of_the_drain_does(
    make_settings: MakeSettings, script: Script
) -> None:
    settings = make_settings(grpc__drain_timeout_seconds=60)
    script.add(Answer(("A",), holds=True))
    async with AsyncExitStack() as stack:
        app = App(settings, FakeBackend(script))
        harness = await stack.enter_async_context(run_harness(app, script, is_real=False))
        await submit_long(harness)
        await read_until(watch_long(harness), "text_delta")
        stopping = await begin_to_stop(app, harness)
        await break_off(stopping)
    script = Script()
    script.add(red_circle_answer())
    async with run_harness(App(settings, FakeBackend(script)), script, is_real=False) as harness:
        events = [event async for event in watch_long(harness)]
        assert events[-1].finished.response.output == RED_CIRCLE
        lines = [event.log_line.message for event in events if event.HasField("log_line")]
        assert "handed back: this replica is shutting down" in lines


def find_threads() -> set[threading.Thread]:
    """Find all but those of the loop's own pool and of grpc, which the next replica here takes over."""
    return {
        thread
        for thread in threading.enumerate()
        if not thread.name.startswith("asyncio_") and "_poll_wrapper" not in thread.name
    }


def name_parts(threads: set[threading.Thread]) -> set[str]:
    """Name the parts of a replica that threads belong to."""
    return {thread.name.partition("_")[0] for thread in threads}


async def begin_upload(service: Harness) -> Any:
    """Upload the first piece of a file, and leave the call open."""
    stub: Any = files_pb2_grpc.FileServiceStub(service.channel)
    call = stub.Upload(metadata=service.metadata)
    start = files_pb2.UploadStart(size_bytes=2 * PIECE_BYTES)
    await call.write(files_pb2.UploadRequest(start=start))
    for _ in range(PIECE_BYTES // CHUNK_BYTES):
        await call.write(files_pb2.UploadRequest(chunk=red_circle().ljust(CHUNK_BYTES)))
    return call


async def test_a_replica_that_has_ended_leaves_no_thread(make_settings: MakeSettings, script: Script) -> None:
    before = find_threads()
    async with run_harness(App(make_settings(), FakeBackend(script)), script, is_real=False) as harness:
        with pytest.raises(grpc.aio.AioRpcError, match="no public address"):
            await harness.generate(describe_red_circle(images=[{"url": "http://nobody.invalid/"}]))
        call = await begin_upload(harness)
        async with asyncio.timeout(PATIENCE_SECONDS):
            while name_parts(find_threads() - before) != PARTS:  # noqa: ASYNC110  # nothing tells of a thread
                await asyncio.sleep(0)
    for thread in find_threads() - before:
        await asyncio.to_thread(thread.join, PATIENCE_SECONDS)
        assert not thread.is_alive()
    assert call.done()


async def test_a_call_over_http_may_go_on_for_as_long_as_one_over_grpc(
    make_settings: MakeSettings, script: Script
) -> None:
    settings = make_settings(grpc__drain_timeout_seconds=0.05, http__drain_timeout_seconds=60)
    script.add(Answer(("A",), holds=True))
    async with AsyncExitStack() as stack:
        app = App(settings, FakeBackend(script))
        harness = await stack.enter_async_context(run_harness(app, script, is_real=False))
        calling = asyncio.create_task(Web(harness).post(RUN))
        async with asyncio.timeout(PATIENCE_SECONDS):
            await script.asked.wait()
            stopping = asyncio.create_task(app.__aexit__(None, None, None))
            answer = await calling
            await stopping
        assert (answer.status_code, answer.json()["reason"]) == (503, "SERVICE_STOPPING")


async def test_a_watch_that_the_drain_does_not_wait_for_is_told_to_go_on_elsewhere(
    make_settings: MakeSettings, script: Script
) -> None:
    settings = make_settings(grpc__drain_timeout_seconds=0.05)
    script.add(Answer(("A",), holds=True))
    async with AsyncExitStack() as stack:
        app = App(settings, FakeBackend(script))
        harness = await stack.enter_async_context(run_harness(app, script, is_real=False))
        await submit_long(harness)
        events = aiter(watch_long(harness))
        await anext(events)
        stopping = asyncio.create_task(app.__aexit__(None, None, None))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for _ in events:
                pass
        refusal = read_refusal(caught.value)
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "SERVICE_STOPPING")
        await stopping


async def test_watches_are_told_to_go_on_elsewhere_also_where_triton_was_still_starting(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = App(make_settings(http__drain_timeout_seconds=60))  # for which no watch holds it up
    has_begun = asyncio.Event()

    async def watch_over_http(web: Web, request_id: str) -> None:
        with suppress(httpx.RemoteProtocolError):  # what ends before its time is broken off
            async with web.stream("GET", f"{QUEUE}/requests/{request_id}/status/stream") as response:
                async for _ in response.aiter_lines():
                    has_begun.set()

    async with (
        asyncio.timeout(PATIENCE_SECONDS),
        asyncio.TaskGroup() as watches,
        run_while_triton_starts(app, monkeypatch) as service,
    ):
        web = Web(service)
        request_id = (await web.submit())["request_id"]
        watches.create_task(watch_over_http(web, request_id))
        await has_begun.wait()
        stub: Any = requests_pb2_grpc.RequestServiceStub(service.channel)
        question = requests_pb2.WatchRequestRequest(request_id=request_id)
        watch = stub.WatchRequest(question, metadata=service.metadata)
        await watch.read()
        watching = watches.create_task(refuse(read_to_end(watch)))
    assert watching.result().reason == "SERVICE_STOPPING"


async def test_who_is_cut_off_hears_why_however_late_the_loop_is_when_the_drain_ends(
    make_settings: MakeSettings, script: Script
) -> None:
    script.add(*[Answer(("A",), holds=True)] * 3)
    async with AsyncExitStack() as stack:
        app = App(make_settings(grpc__drain_timeout_seconds=DRAIN_SECONDS), FakeBackend(script))
        harness = await stack.enter_async_context(run_harness(app, script, is_real=False))
        calling = asyncio.create_task(harness.generate(describe_red_circle()))
        await script.asked.wait()
        stream = harness.stream(describe_red_circle())
        await read_until(stream, "text_delta")
        requests: Any = requests_pb2_grpc.RequestServiceStub(harness.channel)
        submission = requests_pb2.SubmitRequest(request_id="long", input=describe_red_circle())
        await requests.Submit(submission, metadata=harness.metadata)
        question = requests_pb2.WatchRequestRequest(request_id="long")
        watch = requests.WatchRequest(question, metadata=harness.metadata)
        await read_until(watch, "text_delta")
        asyncio.get_running_loop().call_later(DRAIN_SECONDS, time.sleep, HELD_SECONDS)
        stopping = asyncio.create_task(app.__aexit__(None, None, None))
        for call in (calling, read_to_end(stream), read_to_end(watch)):
            assert (await refuse(call)).reason == "SERVICE_STOPPING"
        await stopping
