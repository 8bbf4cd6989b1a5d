"""What the service promises around a call: keys, health, queue, metrics."""

from __future__ import annotations

import asyncio
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from faces.face import ask, read, read_to_end, refusal_of
from faces.places import FACES, USUAL_PLACES
from fakes.backend import FakeBackend
from fakes.script import Answer, Script
from grpc_health.v1 import health_pb2, health_pb2_grpc
from harness import (
    Harness,
    MakeSettings,
    describe_red_circle,
    read_refusal,
    red_circle_answer,
    run_harness,
    talk_without_end,
)
from idefics2_service.app import App
from idefics2_service.events import StageEntered
from idefics2_service.requests import Stage
from pictures import RED_CIRCLE
from streams import read_until

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable

    from faces.face import Face
    from idefics2_service.backend import BackendEvent
    from idefics2_service.requests import ResolvedRequest

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


async def watch_health(service: Harness, name: str = "") -> AsyncIterator[int]:
    """Yield each status as it changes."""
    stub: Any = health_pb2_grpc.HealthStub(service.channel)
    async for answer in stub.Watch(health_pb2.HealthCheckRequest(service=name)):
        yield answer.status


CODES_OF_BOTH = ("OK", "INVALID_ARGUMENT")
PATIENCE_SECONDS = 30


async def fetch(service: Harness, path: str) -> tuple[int, str]:
    """GET a path of the HTTP port; return status and text."""

    def get() -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://{service.app.http_address}{path}") as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    return await asyncio.to_thread(get)


@pytest.mark.parametrize(
    ("authorization", "reason"),
    [
        ("", "API_KEY_MISSING"),
        ("Key nobody.0123456789abcdef", "API_KEY_INVALID"),
        ("Key test.00000000000000000000000000000000", "API_KEY_INVALID"),
        ("Basic dGVzdA==", "API_KEY_INVALID"),
        ("Key", "API_KEY_INVALID"),
    ],
)
async def test_nobody_calls_without_a_key(face: Face, authorization: str, reason: str) -> None:
    stranger = type(face)(face.service, authorization)
    for call in (
        stranger.run(ask()),
        read_to_end(stranger.stream(ask())),
        stranger.submit(ask()),
        stranger.get("one"),
        read(stranger, "one"),
        stranger.result("one"),
        stranger.cancel("one"),
    ):
        refusal = await refusal_of(call)
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAUTHENTICATED, reason)


async def test_bearer_is_as_good_as_key(face: Face) -> None:
    face.service.expect(red_circle_answer())
    bearer = type(face)(face.service, f"Bearer {face.service.app.api_key}")
    assert await bearer.run(ask()) == RED_CIRCLE


async def test_a_method_that_does_not_exist_is_refused_with_details(service: Harness) -> None:
    call = service.channel.unary_unary("/idefics2.v1.GenerationService/Paint", None, None)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(b"", metadata=service.metadata)
    refusal = read_refusal(caught.value)
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNIMPLEMENTED, "METHOD_UNKNOWN")


@pytest.mark.parametrize("name", ["", "idefics2.v1.GenerationService"])
async def test_health_is_served_without_a_key(service: Harness, name: str) -> None:
    async for status in watch_health(service, name):
        if status == SERVING:
            break
    assert (await fetch(service, "/healthz/live"))[0] == 200
    assert (await fetch(service, "/healthz/ready"))[0] == 200


async def test_a_service_that_is_not_here_is_not_found_however_long_its_name(
    on_fake_backend: Harness,
) -> None:
    stub: Any = health_pb2_grpc.HealthStub(on_fake_backend.channel)
    with pytest.raises(grpc.aio.AioRpcError, match="no service 'xxx") as caught:
        await stub.Check(health_pb2.HealthCheckRequest(service="x" * 4_000))
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND


async def test_metrics_tell_of_answers_and_refusals(service: Harness) -> None:
    service.expect(red_circle_answer())
    await service.generate(describe_red_circle())
    with pytest.raises(grpc.aio.AioRpcError):
        await service.generate(describe_red_circle(prompt=""))
    labels = 'grpc_method="Generate",grpc_service="idefics2.v1.GenerationService"'
    handled = {f'grpc_server_handled_total{{grpc_code="{code}",{labels}}}' for code in CODES_OF_BOTH}
    samples: set[str] = set()
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not handled <= samples:  # a call is counted once its status is out
            status, text = await fetch(service, "/metrics")
            assert status == 200
            samples = {line.rsplit(" ", 1)[0] for line in text.splitlines() if not line.startswith("#")}
    assert 'idefics2_requests_total{reason="OK"}' in samples
    assert "idefics2_time_to_first_token_seconds_count" in samples
    assert 'idefics2_stage_seconds_count{stage="prefill"}' in samples
    assert 'idefics2_requests_total{reason="PROMPT_MISSING"}' in samples


async def test_who_waits_is_told_how_many_are_before_and_gets_the_next_turn(
    make_settings: MakeSettings,
) -> None:
    script = Script()
    endless = Answer(("x",), holds=True)
    script.add(endless, endless, red_circle_answer())
    app = App(make_settings(queue__max_running=1), FakeBackend(script))
    async with run_harness(app, script, is_real=False) as service:
        first = service.stream(talk_without_end())
        await read_until(first, "text_delta")
        second = service.stream(describe_red_circle())
        assert (await read_until(second, "queue_position")).queue_position.position == 0
        third = service.stream(describe_red_circle())
        assert (await read_until(third, "queue_position")).queue_position.position == 1
        first.cancel()
        await read_until(second, "text_delta")
        assert (await read_until(third, "queue_position")).queue_position.position == 0
        second.cancel()
        assert (await read_until(third, "finished")).finished.response.output == RED_CIRCLE
        script.check_used_up()


async def test_one_more_than_may_wait_is_refused_with_a_time_to_come_back(
    make_settings: MakeSettings, make_face: Callable[..., Face]
) -> None:
    script = Script()
    script.add(Answer(("x",), holds=True))
    app = App(make_settings(queue__max_running=1, queue__max_waiting=1), FakeBackend(script))
    async with run_harness(app, script, is_real=False) as service:
        running = service.stream(talk_without_end())
        await read_until(running, "text_delta")
        waiting = service.stream(talk_without_end())
        await read_until(waiting, "queue_position")
        refusal = await refusal_of(make_face(service).run(ask()))
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "QUEUE_FULL")
        assert refusal.retry_seconds == 1
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await service.generate(describe_red_circle())
        trailing: dict[str, Any] = dict(caught.value.trailing_metadata())  # type: ignore[arg-type]
        assert trailing["grpc-retry-pushback-ms"] == "1000"
        waiting.cancel()
        running.cancel()


async def test_a_lost_backend_makes_health_say_so_and_calls_unavailable(make_settings: MakeSettings) -> None:
    script = Script()
    script.add(red_circle_answer())
    backend = FakeBackend(script)
    async with run_harness(App(make_settings(), backend), script, is_real=False) as service:
        statuses = watch_health(service)
        while await anext(statuses) != SERVING:
            pass
        await backend.set_healthy(healthy=False)
        while await anext(statuses) != NOT_SERVING:
            pass
        assert (await fetch(service, "/healthz/ready"))[0] == 503
        for make_face in FACES.values():
            refusal = await refusal_of(make_face(service).run(ask()))
            assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "BACKEND_UNAVAILABLE")
            assert refusal.retry_seconds == 1
        await backend.set_healthy(healthy=True)
        while await anext(statuses) != SERVING:
            pass
        assert (await service.generate(describe_red_circle())).output == RED_CIRCLE


@pytest.mark.parametrize("face", [place for place in USUAL_PLACES if "fake" in place], indirect=True)
async def test_a_backend_that_is_lost_on_the_way_is_unavailable(face: Face) -> None:
    lost = Answer(("A", " red"), is_lost=True)
    face.service.script.add(lost, lost, red_circle_answer())
    assert (await refusal_of(face.run(ask()))).reason == "BACKEND_UNAVAILABLE"
    assert (await refusal_of(read_to_end(face.stream(ask())))).reason == "BACKEND_UNAVAILABLE"
    assert await face.run(ask()) == RED_CIRCLE


async def test_a_fault_of_ours_says_no_more_than_the_requests_id(make_settings: MakeSettings) -> None:
    class Broken(FakeBackend):
        async def generate(self, _: ResolvedRequest) -> AsyncGenerator[BackendEvent, None]:
            yield StageEntered(Stage.PREFILL)
            raise ZeroDivisionError("a secret")

    app = App(make_settings(), Broken(Script()))
    async with run_harness(app, Script(), is_real=False) as service:
        metadata = (*service.metadata, ("x-request-id", "order-66"))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await service.generate(describe_red_circle(), metadata=metadata)
        refusal = read_refusal(caught.value)
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.INTERNAL, "INTERNAL_ERROR")
        assert "order-66" in refusal.message
        assert "secret" not in refusal.message
