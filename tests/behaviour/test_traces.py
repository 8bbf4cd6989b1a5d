"""One trace from the caller to the model: over both faces, through the store, to webhooks, and in the log."""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from contextlib import AsyncExitStack
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from faces.face import Picture, ask, read, refusal_of
from faces.places import FACES
from faces.rest import APP
from faces.rpc import RpcFace
from fakes.backend import FakeBackend
from fakes.collector import Collector
from fakes.hook import run_hook
from fakes.script import Answer, Script
from fakes.triton import FakeTriton
from harness import PATIENCE_SECONDS, red_circle_answer, run_harness
from idefics2_service.app import App
from idefics2_service.errors import BackendUnavailable
from idefics2_service.events import StageEntered
from idefics2_service.requests import Stage
from idefics2_service.tracing import otlp
from pictures import DESCRIBE, RED_CIRCLE, red_circle
from ports import free_port
from store.servers import Server

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from faces.face import Face
    from fakes.collector import ToldSpan
    from harness import Harness, MakeSettings
    from idefics2_service.backend import BackendEvent
    from idefics2_service.requests import ResolvedRequest

STAGES = ("RESOLVING", "QUEUED", "PREFILL", "DECODE")
ENGINE = tuple(f"engine {stage}" for stage in ("preprocess", "queue", "vision", "prefill", "decode"))
RUN = "generate_content idefics2"
TO_TRITON = "inference.GRPCInferenceService/ModelStreamInfer"
PLACES = {"rpc": "idefics2.v1.GenerationService/Generate", "rest": "POST /run/{owner}/{alias}"}
PARENT_ID = "00f067aa0ba902b7"
SECRET = "4711-secret"
RED_CIRCLE_BASE64 = b64encode(red_circle()).decode()


class LostBackend(FakeBackend):
    """Is lost with the first request."""

    async def generate(self, request: ResolvedRequest) -> AsyncGenerator[BackendEvent, None]:
        """As Backend.generate."""
        yield StageEntered(Stage.PREFILL)
        await self.set_healthy(healthy=False)
        raise BackendUnavailable("the model's server was lost")


@pytest.fixture(scope="module")
async def collector() -> AsyncIterator[Collector]:
    """A listening one, to which spans are sent as soon as they are over."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(otlp, "_SEND_MILLISECONDS", 10.0)
        async with Collector() as collector:
            yield collector


@pytest.fixture(scope="module")
async def triton() -> AsyncIterator[tuple[FakeTriton, Script]]:
    """A fake of Triton, and what it answers."""
    script = Script()
    async with FakeTriton(script) as triton:
        yield triton, script


@pytest.fixture(scope="module")
async def traced(
    make_settings: MakeSettings, collector: Collector, triton: tuple[FakeTriton, Script]
) -> AsyncIterator[Harness]:
    """A service that is traced, over a fake of Triton."""
    settings = make_settings(
        triton__url=triton[0].url, trace__endpoint=collector.url, fetch__allowed_networks="127.0.0.0/8"
    )
    async with run_harness(App(settings), triton[1], is_real=False) as harness:
        yield harness


@pytest.fixture(scope="module")
async def untraced(make_settings: MakeSettings, triton: tuple[FakeTriton, Script]) -> AsyncIterator[Harness]:
    """A service of which nobody collects traces, over a fake of Triton."""
    settings = make_settings(triton__url=triton[0].url, fetch__allowed_networks="127.0.0.0/8")
    async with run_harness(App(settings), triton[1], is_real=False) as harness:
        yield harness


@pytest.fixture
def trace_id() -> str:
    """One of the caller's own."""
    return uuid4().hex


@pytest.fixture(params=FACES)
def kind(request: pytest.FixtureRequest) -> str:
    """The name of each face."""
    return str(request.param)


def call_in(trace_id: str, face: Face, flags: str = "01", **more: str) -> Face:
    """Let a face call in a trace."""
    headers = {"traceparent": f"00-{trace_id}-{PARENT_ID}-{flags}", **more}
    if isinstance(face, RpcFace):
        face._metadata = (*face._metadata, *headers.items())
    else:
        vars(face)["_headers"].update(headers)
    return face


def check_tree(spans: dict[str, ToldSpan], *way: str) -> None:
    """Check that each is a stretch of the one before."""
    for parent, child in pairwise(way):
        assert spans[child].parent_id == spans[parent].span_id, f"{child} is no stretch of {parent}"


def trace_ids_of_ends(caplog: pytest.LogCaptureFixture) -> list[str | None]:
    """Return the trace of each line about a request: there is one, at its end."""
    told: list[Any] = [record.msg for record in caplog.records if isinstance(record.msg, dict)]
    lines = [line for line in told if "request_id" in line]
    assert {line["event"] for line in lines} == {"request ended"}
    return [line.get("trace_id") for line in lines]


async def test_a_call_and_all_that_it_takes_stand_in_the_callers_trace(
    traced: Harness, collector: Collector, trace_id: str, kind: str
) -> None:
    traced.expect(red_circle_answer())
    face = call_in(trace_id, FACES[kind](traced), tracestate="vendor=1")
    assert await face.run(ask()) == RED_CIRCLE
    spans = await collector.trace(trace_id, PLACES[kind], RUN, TO_TRITON, *STAGES, *ENGINE)
    call, run = spans[PLACES[kind]], spans[RUN]
    assert call.parent_id == PARENT_ID
    for stage in STAGES:
        check_tree(spans, PLACES[kind], RUN, stage)
    for stage in ENGINE:
        check_tree(spans, RUN, TO_TRITON, stage)
    assert {span.trace_state for span in spans.values()} == {"vendor=1"}
    ends = [run.start, *(spans[stage].end for stage in STAGES)]
    assert ends == sorted(ends)
    assert [spans[stage].start >= end for stage, end in zip(STAGES, ends, strict=False)] == [True] * 4
    assert call.start <= run.start <= run.end <= call.end
    assert run.attributes["gen_ai.request.model"] == "idefics2"
    assert run.attributes["gen_ai.usage.input_tokens"] > 0
    assert run.attributes["gen_ai.usage.output_tokens"] > 0
    assert run.attributes["gen_ai.response.id"] == call.attributes["idefics2.request_id"]
    assert not any(span.has_failed for span in spans.values())


async def test_the_faces_say_what_was_called_and_how_it_ended(
    traced: Harness, collector: Collector, trace_id: str, kind: str
) -> None:
    traced.expect(red_circle_answer())
    await call_in(trace_id, FACES[kind](traced)).run(ask())
    refusal = await refusal_of(call_in(trace_id, FACES[kind](traced)).run(ask(prompt="")))
    assert refusal.reason == "PROMPT_MISSING"
    good, bad = await collector.find_all(PLACES[kind], trace_id, 2)
    if kind == "rpc":
        assert good.attributes["rpc.system.name"] == "grpc"
        assert good.attributes["rpc.method"] == PLACES["rpc"]
        statuses = [span.attributes["rpc.response.status_code"] for span in (good, bad)]
        assert statuses == ["OK", "INVALID_ARGUMENT"]
    else:
        assert good.attributes["http.request.method"] == "POST"
        assert good.attributes["http.route"] == "/run/{owner}/{alias}"
        assert [span.attributes["http.response.status_code"] for span in (good, bad)] == [200, 422]
    assert (good.has_failed, bad.has_failed) == (False, True)
    assert bad.attributes["error.type"] == "PROMPT_MISSING"


async def test_a_failure_is_told_by_its_reason_where_it_happened(
    traced: Harness, collector: Collector, trace_id: str, kind: str
) -> None:
    traced.expect(Answer(failure=("FILE_UNDECODABLE", "images[0] is damaged", "images[0]")))
    assert (await refusal_of(call_in(trace_id, FACES[kind](traced)).run(ask()))).reason == "FILE_UNDECODABLE"
    spans = await collector.trace(trace_id, PLACES[kind], RUN, TO_TRITON, "QUEUED")
    assert {name for name, span in spans.items() if span.has_failed} == {
        PLACES[kind],
        RUN,
        TO_TRITON,
        "QUEUED",
    }
    assert {span.attributes["error.type"] for span in spans.values() if span.has_failed} == {
        "FILE_UNDECODABLE"
    }


async def test_who_leaves_ends_all_spans(traced: Harness, collector: Collector, trace_id: str) -> None:
    traced.expect(Answer(("A",), holds=True))
    async with asyncio.timeout(30):
        async for _ in call_in(trace_id, RpcFace(traced)).stream(ask()):
            break
    spans = await collector.trace(trace_id, RUN, TO_TRITON, "DECODE")
    assert {spans[name].attributes["error.type"] for name in (RUN, TO_TRITON, "DECODE")} == {
        "REQUEST_CANCELLED"
    }


async def test_triton_is_told_of_the_trace_in_a_header_and_in_a_parameter(
    traced: Harness, collector: Collector, triton: tuple[FakeTriton, Script], trace_id: str
) -> None:
    traced.expect(red_circle_answer())
    await call_in(trace_id, RpcFace(traced), tracestate="vendor=1").run(ask())
    span = (await collector.trace(trace_id, TO_TRITON))[TO_TRITON]
    traceparent = f"00-{trace_id}-{span.span_id}-01"
    headers = triton[0].generate_headers[-1]
    assert (headers["traceparent"], headers["tracestate"]) == (traceparent, "vendor=1")
    assert triton[0].generate_requests[-1].parameters["traceparent"].string_param == traceparent


async def test_a_call_that_shall_not_be_kept_is_told_on_and_not_kept(
    traced: Harness, collector: Collector, triton: tuple[FakeTriton, Script], trace_id: str, kind: str
) -> None:
    traced.expect(red_circle_answer(), red_circle_answer())
    await call_in(trace_id, FACES[kind](traced), flags="00").run(ask())
    assert triton[0].generate_headers[-1]["traceparent"] == f"00-{trace_id}-{PARENT_ID}-00"
    await call_in(later := uuid4().hex, FACES[kind](traced)).run(ask())
    await collector.trace(later, PLACES[kind])  # what comes later is sent later
    assert not [span for span in collector.spans if span.trace_id == trace_id]


async def test_a_trace_that_cannot_be_read_is_begun_anew(
    traced: Harness, collector: Collector, kind: str, trace_id: str
) -> None:
    for headers in ({"traceparent": f"00-{trace_id}-1-01"}, {"traceparent": "x"}):
        traced.expect(red_circle_answer())
        answer = await call_in(trace_id, FACES[kind](traced), **headers).generate(ask())
        run = await collector.find(RUN, gen_ai__response__id=answer.request_id)
        assert run.trace_id != trace_id


async def test_a_trace_that_is_named_twice_over_http_is_none(
    traced: Harness, collector: Collector, trace_id: str
) -> None:
    traced.expect(red_circle_answer())
    twice = [("traceparent", f"00-{trace_id}-{PARENT_ID}-01")] * 2  # of two, gRPC itself shows the last one
    body = {"prompt": DESCRIBE, "image_url": f"data:image/png;base64,{RED_CIRCLE_BASE64}"}
    told = await traced.http.post(f"/run/{APP}", json=body, headers=[*traced.metadata, *twice])
    request_id = told.raise_for_status().headers["x-fal-request-id"]
    call = await collector.find(PLACES["rest"], idefics2__request_id=request_id)
    assert call.parent_id == ""
    assert call.trace_id != trace_id


async def test_a_fetched_image_is_a_span_without_what_may_be_a_secret(
    make_settings: MakeSettings, collector: Collector, trace_id: str
) -> None:
    script = Script()
    script.add(red_circle_answer())
    async with run_hook() as host:
        settings = make_settings(
            fetch__allowed_networks="127.0.0.0/8", fetch__ports=str(host.port), trace__endpoint=collector.url
        )
        async with run_harness(App(settings, FakeBackend(script)), script, is_real=False) as harness:
            url = f"{host.picture_url}?token={SECRET}"
            await call_in(trace_id, RpcFace(harness)).run(ask(image_url=url, images=[]))
    spans = await collector.trace(trace_id, "GET")
    assert spans["GET"].attributes == {
        "http.request.method": "GET",
        "http.response.status_code": 200,
        "server.address": "127.0.0.1",
        "server.port": host.port,
        "url.scheme": "http",
    }
    sent = b"".join(collector.raw)
    assert SECRET.encode() not in sent
    assert b"picture.png" not in sent


async def test_each_attempt_on_whatever_replica_stands_in_the_trace_of_who_submitted(
    make_settings: MakeSettings, collector: Collector, trace_id: str
) -> None:
    async with AsyncExitStack() as stack:
        place = {"store__url": stack.enter_context(Server("valkey")).url, "trace__endpoint": collector.url}

        async def start(backend: FakeBackend) -> Harness:
            app = App(make_settings(**place), backend)
            return await stack.enter_async_context(run_harness(app, Script(), is_real=False))

        script = Script()
        script.add(red_circle_answer())
        first = await start(LostBackend(Script()))
        request_id = await call_in(trace_id, RpcFace(first)).submit(ask())
        lost = await collector.find("attempt", idefics2__attempt=1, messaging__message__id=request_id)
        second = await start(FakeBackend(script))
        await read(RpcFace(second), request_id)
        answered = await collector.find("attempt", idefics2__attempt=2, messaging__message__id=request_id)
    (submit,) = await collector.find_all("idefics2.v1.RequestService/Submit", trace_id, 1)
    assert submit.parent_id == PARENT_ID
    assert {lost.parent_id, answered.parent_id} == {submit.span_id}
    assert {lost.trace_id, answered.trace_id} == {trace_id}
    assert (lost.has_failed, lost.attributes["error.type"]) == (True, "BACKEND_UNAVAILABLE")
    assert not answered.has_failed
    assert lost.service["service.instance.id"] != answered.service["service.instance.id"]
    runs = await collector.find_all("generate_content fake", trace_id, 2)
    assert [run.parent_id for run in runs] == [lost.span_id, answered.span_id]


async def test_who_is_told_of_the_end_is_told_of_the_trace(
    make_settings: MakeSettings, collector: Collector, trace_id: str
) -> None:
    script = Script()
    script.add(red_circle_answer())
    async with run_hook() as hook:
        hook.statuses = [500]
        settings = make_settings(
            fetch__allowed_networks="127.0.0.0/8",
            fetch__ports=str(hook.port),
            webhook__first_retry_seconds=0.01,
            trace__endpoint=collector.url,
        )
        async with run_harness(App(settings, FakeBackend(script)), script, is_real=False) as harness:
            url = f"{hook.url}?token={SECRET}"
            await call_in(trace_id, RpcFace(harness)).submit(ask(), webhook_url=url)
            told = [(await hook.next_call())[1]["traceparent"] for _ in range(2)]
            spans = await collector.find_all("webhook", trace_id, 2)
    assert told == [f"00-{trace_id}-{span.span_id}-01" for span in spans]
    assert [(span.attributes["idefics2.attempt"], span.has_failed) for span in spans] == [
        (1, True),
        (2, False),
    ]
    assert SECRET.encode() not in b"".join(collector.raw)


@pytest.mark.parametrize("is_collected", [True, False])
async def test_lines_of_a_request_name_its_trace(
    make_settings: MakeSettings,
    collector: Collector,
    trace_id: str,
    kind: str,
    caplog: pytest.LogCaptureFixture,
    *,
    is_collected: bool,
) -> None:
    script = Script()
    script.add(red_circle_answer(), red_circle_answer())
    settings = make_settings(trace__endpoint=collector.url if is_collected else "")
    async with run_harness(App(settings, FakeBackend(script)), script, is_real=False) as harness:
        face = call_in(trace_id, FACES[kind](harness))
        await face.run(ask())
        await read(face, await face.submit(ask()))
    assert trace_ids_of_ends(caplog) == [trace_id] * 2


async def test_where_nobody_collects_triton_is_told_what_the_caller_told(
    untraced: Harness, triton: tuple[FakeTriton, Script], trace_id: str, kind: str
) -> None:
    untraced.expect(red_circle_answer())
    await call_in(trace_id, FACES[kind](untraced), tracestate="vendor=1").run(ask())
    traceparent = f"00-{trace_id}-{PARENT_ID}-01"
    headers = triton[0].generate_headers[-1]
    assert (headers["traceparent"], headers["tracestate"]) == (traceparent, "vendor=1")
    assert triton[0].generate_requests[-1].parameters["traceparent"].string_param == traceparent


@pytest.mark.parametrize("headers", [{}, {"traceparent": "x", "tracestate": "vendor=1"}])
async def test_where_nobody_collects_and_a_caller_tells_of_no_trace_triton_is_told_of_none(
    untraced: Harness,
    triton: tuple[FakeTriton, Script],
    kind: str,
    headers: dict[str, str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    untraced.expect(red_circle_answer())
    face = FACES[kind](untraced)
    await (call_in("", face, **headers) if headers else face).run(ask())
    assert not triton[0].generate_headers[-1].keys() & {"traceparent", "tracestate"}
    assert "traceparent" not in triton[0].generate_requests[-1].parameters
    assert trace_ids_of_ends(caplog) == [None]


async def test_where_nobody_collects_a_trace_goes_through_the_store_to_who_works_and_who_is_told(
    make_settings: MakeSettings, triton: tuple[FakeTriton, Script], trace_id: str, kind: str
) -> None:
    traceparent = f"00-{trace_id}-{PARENT_ID}-01"
    async with run_hook() as hook:
        settings = make_settings(
            triton__url=triton[0].url, fetch__allowed_networks="127.0.0.0/8", fetch__ports=str(hook.port)
        )
        async with run_harness(App(settings), triton[1], is_real=False) as harness:
            for face, told in (
                (call_in(trace_id, FACES[kind](harness)), traceparent),
                (FACES[kind](harness), None),
            ):
                harness.expect(red_circle_answer())
                await face.submit(ask(), webhook_url=hook.url)
                assert (await hook.next_call())[1].get("traceparent") == told
                assert triton[0].generate_headers[-1].get("traceparent") == told


async def test_a_call_that_comes_behind_another_one_is_not_in_its_trace(
    untraced: Harness, trace_id: str, caplog: pytest.LogCaptureFixture
) -> None:
    body = json.dumps({"prompt": DESCRIBE, "image_url": f"data:image/png;base64,{RED_CIRCLE_BASE64}"})
    head = f"POST /run/{APP} HTTP/1.1\r\nhost: x\r\nauthorization: Key {untraced.app.api_key}\r\n"
    more = f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
    traced = f"traceparent: 00-{trace_id}-{PARENT_ID}-01\r\n"
    untraced.expect(red_circle_answer(), red_circle_answer())
    reader, writer = await asyncio.open_connection(*untraced.app.http_address.split(":"))
    writer.write(f"{head}{more}{traced}\r\n{body}{head}{more}connection: close\r\n\r\n{body}".encode())
    async with asyncio.timeout(PATIENCE_SECONDS):
        answers = await reader.read()
    writer.close()
    await writer.wait_closed()
    assert answers.count(b"HTTP/1.1 200") == 2
    assert trace_ids_of_ends(caplog) == [trace_id, None]


async def test_a_collector_that_is_away_holds_up_and_fills_nothing(
    make_settings: MakeSettings, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(otlp, "_SEND_MILLISECONDS", 1.0)
    monkeypatch.setattr(otlp, "_MAX_CLOSE_SECONDS", 0.1)
    script = Script()
    script.add(*[red_circle_answer()] * 20)
    settings = make_settings(trace__endpoint=f"http://127.0.0.1:{free_port()}")
    async with run_harness(App(settings, FakeBackend(script)), script, is_real=False) as harness:
        answers = await asyncio.gather(*(RpcFace(harness).run(ask()) for _ in range(20)))
    assert answers == [RED_CIRCLE] * 20
    assert sum("traces" in record.getMessage() for record in caplog.records) <= 1
    assert not [record for record in caplog.records if record.name.startswith("opentelemetry")]


async def test_the_engine_tells_how_long_each_of_its_stages_took(
    on_real_triton: Harness, make_settings: MakeSettings, collector: Collector, trace_id: str
) -> None:
    settings = make_settings(trace__endpoint=collector.url)
    app = App(settings, on_real_triton.app._triton)
    async with run_harness(app, on_real_triton.script, is_real=True) as harness:
        picture = Picture(data=red_circle() + trace_id.encode())  # else what the engine saw before is known
        answer = await call_in(trace_id, RpcFace(harness)).generate(ask(seed=5, images=[picture]))
        spans = await collector.trace(trace_id, RUN, TO_TRITON, *STAGES, *ENGINE)
    call = spans[TO_TRITON]
    for stage in ENGINE:
        check_tree(spans, RUN, TO_TRITON, stage)
    for before, after in pairwise(ENGINE):
        assert spans[before].end == spans[after].start
    assert call.start <= spans[ENGINE[0]].start
    assert spans[ENGINE[-1]].end <= call.end
    assert 0 < spans["engine decode"].seconds <= call.seconds
    assert spans["engine preprocess"].seconds == pytest.approx(
        answer.stage_seconds["preprocessing"], abs=1e-5
    )
    assert spans["engine vision"].seconds == pytest.approx(answer.stage_seconds["vision"], abs=1e-5)
