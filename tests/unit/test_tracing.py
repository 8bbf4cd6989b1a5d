"""What sends traces: bounded in all it does, quiet, and not there where nobody asked for it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import grpc
import pytest
from fakes.cable import lay_cable
from fakes.collector import Collector
from idefics2_service.errors import SettingInvalid
from idefics2_service.settings import TraceSettings
from idefics2_service.tracing import otlp
from idefics2_service.tracing.otlp import OtlpTracer
from idefics2_service.tracing.spans import NO_TRACER, Kind, current_span
from ports import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

CALLER = {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "tracestate": "a=1,b=2"}

UNREADABLE = [
    "",
    "hello",
    "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
    "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
    "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
    "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
    "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
    f"{CALLER['traceparent']},{CALLER['traceparent']}",
    "0" * 10_000,
]
STATES = {
    "": "",
    "a=1,b=2": "a=1,b=2",
    " a=1 ,\t, b=2,": "a=1,b=2",
    "tenant@vendor=x y,0tenant@vendor=!,a_-*/=<>": "tenant@vendor=x y,0tenant@vendor=!,a_-*/=<>",
    ",".join(f"a{number}=1" for number in range(32)): ",".join(f"a{number}=1" for number in range(32)),
    ",".join(f"a{number}=1" for number in range(33)): "",
    ",".join(f"a{number}={'x' * 250}" for number in range(20)): "",  # more than gRPC would take
    f"a={'x' * 256}": f"a={'x' * 256}",
    f"a={'x' * 257}": "",
    "a=1,a=2": "",
    "a=1,A=2": "",
    "a=1,b": "",
    "a=1,b=": "",
    "a=1,b=\xe4": "",
    "a=1,b=1=2": "",
    "a=1,b=\n": "",
}
"""What may come, and what is told on of it."""


@pytest.fixture(autouse=True)
def nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Send until it is sent, on a slow machine, too."""
    monkeypatch.setattr(otlp, "_MAX_CLOSE_SECONDS", 60.0)


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    """A listening one."""
    async with Collector() as collector:
        yield collector


async def test_spans_stand_in_the_callers_trace_and_in_each_other(collector: Collector) -> None:
    tracer = OtlpTracer(TraceSettings(endpoint=collector.url, service_name="ours"))
    with tracer.begin("call", Kind.SERVER, CALLER, {"a": 1}), current_span().begin("part") as part:
        part.describe({"b": "two", "c": ("x", "y"), "d": 0.5})
    await tracer.close()
    call, part_told = await collector.find("call"), await collector.find("part")
    assert (call.trace_id, call.parent_id) == tuple(CALLER["traceparent"].split("-")[1:3])
    assert (part_told.trace_id, part_told.parent_id) == (call.trace_id, call.span_id)
    assert (call.trace_state, part_told.trace_state) == (CALLER["tracestate"],) * 2
    assert call.attributes == {"a": 1}
    assert part_told.attributes == {"b": "two", "c": ("x", "y"), "d": 0.5}
    assert call.start <= part_told.start <= part_told.end <= call.end
    assert call.service["service.name"] == "ours"
    assert not call.has_failed


async def test_what_is_raised_fails_each_span_that_it_leaves(collector: Collector) -> None:
    tracer = OtlpTracer(TraceSettings(endpoint=collector.url))
    with pytest.raises(LookupError), tracer.begin("call", Kind.SERVER, {}) as call, call.begin("part"):
        raise LookupError("a secret")
    await tracer.close()
    for span in (await collector.find("call"), await collector.find("part")):
        assert span.has_failed
        assert span.attributes == {"error.type": "LookupError"}
    assert b"a secret" not in b"".join(collector.raw)


async def test_a_span_tells_others_of_itself_as_w3c_has_it(collector: Collector) -> None:
    tracer = OtlpTracer(TraceSettings(endpoint=collector.url))
    with tracer.begin("call", Kind.SERVER, CALLER) as span:
        assert current_span() is span
        headers = dict(span.headers)
    assert current_span().trace_id == ""
    await tracer.close()
    told = await collector.find("call")
    assert headers == {
        "traceparent": f"00-{told.trace_id}-{told.span_id}-01",
        "tracestate": CALLER["tracestate"],
    }


async def test_stretches_that_are_over_end_now_one_after_the_other(collector: Collector) -> None:
    tracer = OtlpTracer(TraceSettings(endpoint=collector.url))
    with tracer.begin("call", Kind.SERVER, {}) as span:
        span.add_ended([("first", 0.5), ("second", 0.25)])
    await tracer.close()
    spans = await collector.trace(span.trace_id, "call", "first", "second")
    first, second = spans["first"], spans["second"]
    assert (first.seconds, second.seconds) == pytest.approx((0.5, 0.25), abs=1e-6)
    assert first.end == second.start
    assert spans["call"].start <= second.end <= spans["call"].end


async def test_a_part_of_new_traces_is_kept_and_callers_decide_on_theirs(collector: Collector) -> None:
    tracer = OtlpTracer(TraceSettings(endpoint=collector.url, ratio=0))
    unwanted = {"traceparent": CALLER["traceparent"][:-1] + "0", "tracestate": "a=1"}
    with tracer.begin("new", Kind.SERVER, {}) as new, new.begin("part of new"):
        assert new.headers["traceparent"].endswith("-00")
    with tracer.begin("unwanted", Kind.SERVER, unwanted) as passed:
        assert passed.headers == unwanted
        assert passed.trace_id == unwanted["traceparent"].split("-")[1]
    with tracer.begin("wanted", Kind.SERVER, CALLER):
        pass
    await tracer.close()
    assert [span.name for span in collector.spans] == ["wanted"]


@pytest.mark.parametrize("traceparent", UNREADABLE)
async def test_a_header_that_cannot_be_read_begins_a_new_trace(
    collector: Collector, traceparent: str
) -> None:
    tracer = OtlpTracer(TraceSettings(endpoint=collector.url))
    with tracer.begin("call", Kind.SERVER, {**CALLER, "traceparent": traceparent}):
        pass
    await tracer.close()
    call = await collector.find("call")
    assert (call.parent_id, call.trace_state) == ("", "")
    assert call.trace_id != CALLER["traceparent"].split("-")[1]


async def test_a_collector_that_is_away_is_told_of_once_and_so_is_its_return(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    monkeypatch.setattr(otlp, "_MAX_SEND_SECONDS", 0.5)  # less than the pause before a second attempt
    exporter = otlp._Exporter(f"http://127.0.0.1:{port}")
    for _ in range(3):
        await asyncio.to_thread(exporter.export, [])
    async with Collector(port) as collector:
        while not collector.raw:  # to connect takes a moment
            await asyncio.to_thread(exporter.export, [])
        await asyncio.to_thread(exporter.export, [])
    exporter.shutdown()
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


async def test_a_collector_that_refuses_is_quoted(
    collector: Collector, caplog: pytest.LogCaptureFixture
) -> None:
    collector.refusal = (grpc.StatusCode.UNAUTHENTICATED, "who are you?")
    exporter = otlp._Exporter(f"http://127.0.0.1:{collector.port}")
    await asyncio.to_thread(exporter.export, [])
    exporter.shutdown()
    (told,) = [record.getMessage() for record in caplog.records if record.name == otlp.__name__]
    assert "UNAUTHENTICATED" in told
    assert "who are you?" in told


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "zstd"),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/nowhere/ca.pem"),
        ("OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "/"),
        ("OTEL_PYTHON_EXPORTER_OTLP_GRPC_CREDENTIAL_PROVIDER", "nobody"),
    ],
)
def test_what_opentelemetry_is_told_and_cannot_do_is_a_bad_setting(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingInvalid, match=value):
        OtlpTracer(TraceSettings(endpoint="https://127.0.0.1:1"))


async def test_a_connection_that_died_without_a_word_is_replaced(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(otlp, "_MAX_SEND_SECONDS", 0.5)
    async with lay_cable(f"127.0.0.1:{collector.port}") as (cable, address):
        exporter = otlp._Exporter(f"http://{address}")
        for num_taken in (1, 2):
            async with asyncio.timeout(30):
                while len(collector.raw) < num_taken:
                    await asyncio.to_thread(exporter.export, [])
            cable.strand()
        exporter.shutdown()


async def test_what_nobody_takes_holds_up_no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otlp, "_MAX_SEND_SECONDS", 3_600.0)
    monkeypatch.setattr(otlp, "_MAX_CLOSE_SECONDS", 0.1)
    tracer = OtlpTracer(TraceSettings(endpoint=f"http://127.0.0.1:{free_port()}"))
    for _ in range(1_000):
        with tracer.begin("call", Kind.SERVER, {}):
            pass
    async with asyncio.timeout(30):
        await tracer.close()


def test_where_nobody_collects_a_callers_trace_is_told_on_as_it_came() -> None:
    with NO_TRACER.begin("call", Kind.SERVER, CALLER) as span, span.begin("part") as part:
        assert current_span() is part
        for each in (span, part):
            assert each.trace_id == CALLER["traceparent"].split("-")[1]
            assert each.headers == CALLER
    assert current_span().headers == {}


@pytest.mark.parametrize(
    "headers", [{}, {"tracestate": "a=1"}, *({"traceparent": each} for each in UNREADABLE)]
)
def test_where_nobody_collects_no_trace_is_begun(headers: dict[str, str]) -> None:
    with NO_TRACER.begin("call", Kind.SERVER, headers) as span:
        assert span is span.begin("part") is current_span()
        assert (span.trace_id, dict(span.headers)) == ("", {})


def test_of_a_later_version_is_told_on_what_this_one_knows() -> None:
    later = "cc" + CALLER["traceparent"][2:] + "-what.comes.later"
    assert NO_TRACER.begin("call", Kind.SERVER, {**CALLER, "traceparent": later}).headers == CALLER


@pytest.mark.parametrize("given", STATES)
async def test_a_state_is_told_on_whole_or_not_at_all_whether_somebody_collects_or_not(
    collector: Collector, given: str
) -> None:
    parent = CALLER["traceparent"][:-1] + "0"
    kept = {"tracestate": STATES[given]} if STATES[given] else {}
    tracer = OtlpTracer(TraceSettings(endpoint=collector.url))
    for each in (NO_TRACER, tracer):
        span = each.begin("call", Kind.SERVER, {"traceparent": f" {parent}\t", "tracestate": given})
        assert span.headers == {"traceparent": parent, **kept}
    await tracer.close()
