"""What callers are promised of a replica that is told to end. Of two, behind a balancer: tests/load."""

from __future__ import annotations

import asyncio
import threading
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING

import grpc
import pytest
from fakes.backend import FakeBackend
from fakes.script import Answer, Script
from grpc_health.v1 import health_pb2, health_pb2_grpc
from harness import MakeSettings, describe_red_circle, read_refusal, red_circle_answer, run_harness
from idefics2.v1 import requests_pb2, requests_pb2_grpc
from idefics2_service.app import App
from pictures import RED_CIRCLE

if TYPE_CHECKING:
    from typing import Any

PATIENCE_SECONDS = 10
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


async def test_while_balancers_hear_that_it_goes_a_replica_answers_as_ever(
    make_settings: MakeSettings, script: Script
) -> None:
    settings = make_settings(grpc__drain_delay_seconds=60)
    script.add(red_circle_answer())
    async with AsyncExitStack() as stack:
        app = App(settings, FakeBackend(script))
        harness = await stack.enter_async_context(run_harness(app, script, is_real=False))
        health: Any = health_pb2_grpc.HealthStub(harness.channel)
        watch = health.Watch(health_pb2.HealthCheckRequest())
        await watch.read()
        stopping = asyncio.create_task(app.__aexit__(None, None, None))
        assert (await watch.read()).status == NOT_SERVING
        ready = await harness.http.get("/healthz/ready")
        assert (ready.status_code, ready.headers["connection"]) == (503, "close")
        assert (await harness.generate(describe_red_circle())).output == RED_CIRCLE
        stopping.cancel()  # as a second signal would
        with suppress(asyncio.CancelledError):
            await stopping


async def test_a_replica_that_has_ended_leaves_no_thread(make_settings: MakeSettings, script: Script) -> None:
    before = set(threading.enumerate())
    async with run_harness(App(make_settings(), FakeBackend(script)), script, is_real=False):
        threads = [thread for thread in set(threading.enumerate()) - before if "blobs" in thread.name]
    assert threads
    for thread in threads:
        await asyncio.to_thread(thread.join, PATIENCE_SECONDS)
        assert not thread.is_alive()


async def test_a_watch_that_the_drain_does_not_wait_for_is_told_to_go_on_elsewhere(
    make_settings: MakeSettings, script: Script
) -> None:
    settings = make_settings(grpc__drain_timeout_seconds=0.05)
    script.add(Answer(("A",), holds=True))
    async with AsyncExitStack() as stack:
        app = App(settings, FakeBackend(script))
        harness = await stack.enter_async_context(run_harness(app, script, is_real=False))
        stub: Any = requests_pb2_grpc.RequestServiceStub(harness.channel)
        submission = requests_pb2.SubmitRequest(request_id="long", input=describe_red_circle())
        await stub.Submit(submission, metadata=harness.metadata)
        question = requests_pb2.WatchRequestRequest(request_id="long")
        events = aiter(stub.WatchRequest(question, metadata=harness.metadata))
        await anext(events)
        stopping = asyncio.create_task(app.__aexit__(None, None, None))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for _ in events:
                pass
        refusal = read_refusal(caught.value)
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "SERVICE_STOPPING")
        await stopping
