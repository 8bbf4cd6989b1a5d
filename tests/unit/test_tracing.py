"""What sends traces: bounded in all it does, quiet, and not there where nobody asked for it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from fakes.collector import Collector
from idefics2_service.settings import TraceSettings
from idefics2_service.tracing import otlp
from idefics2_service.tracing.otlp import OtlpTracer
from idefics2_service.tracing.spans import NO_TRACER, Kind, current_span
from ports import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

CALLER = {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "tracestate": "a=1,b=2"}


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


@pytest.mark.parametrize(
    "traceparent",
    [
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
    ],
)
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


async def test_what_nobody_takes_holds_up_no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otlp, "_MAX_SEND_SECONDS", 3_600.0)
    monkeypatch.setattr(otlp, "_MAX_CLOSE_SECONDS", 0.1)
    tracer = OtlpTracer(TraceSettings(endpoint=f"http://127.0.0.1:{free_port()}"))
    for _ in range(1_000):
        with tracer.begin("call", Kind.SERVER, {}):
            pass
    async with asyncio.timeout(30):
        await tracer.close()


def test_where_nobody_collects_nothing_is_kept_or_told_on() -> None:
    with NO_TRACER.begin("call", Kind.SERVER, CALLER) as span:
        assert span is span.begin("part") is current_span()
        assert (span.trace_id, dict(span.headers)) == ("", {})
